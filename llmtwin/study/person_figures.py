"""Makes figures of what the study of persons measured. It runs no model and draws nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean, median
from typing import Any

from llmtwin.models.likelihood import Bits
from llmtwin.study.attribution import (
    CHUNK_WORDS,
    Attribution,
    CosineDelta,
    Ngrams,
    Texts,
    Verifier,
    attribution,
    chunks,
    mean,
)
from llmtwin.twins.person.copying import Copied, copied
from llmtwin.twins.person.style import Style, divergence, tells
from llmtwin.twins.person.writing import COPIED_SHARE_MAX, without_copies

BASE = "base"
LABELS = {BASE: "floor", "memory": "memory", "adapter": "adapter", "twin": "twin"}
"""Who wrote a text, and what its attribution is called: the four ablations, `twin` being both."""

Figures = dict[str, Any]
Read = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
"""For each way of scoring, under each name (the base or an author's twin), the bits of each document."""


def tuned(tunings: Mapping[str, Mapping[str, Any]]) -> Figures:
    """What tuning took: of the slowest, the middle and the largest author."""
    return {
        "tune_seconds": max(one["seconds"] for one in tunings.values()),
        "tune_tokens_per_s": median(one["tokens_per_s"] for one in tunings.values()),
        "tune_peak_rss_mb": max(one["peak_rss_mb"] for one in tunings.values()),
        "tunings": dict(tunings),
    }


# ---- bits a character ----------------------------------------------------------------------------


def bits(groups: Mapping[str, str], read: Mapping[str, Read]) -> Figures:
    """How much less held-out text costs under the author's own twin than under the base and others' twins."""
    by_author = {author: _bits_of(author, groups, read[author]) for author in groups}
    gains: dict[str, list[float]] = {}
    for author, group in groups.items():
        gains.setdefault(group, []).append(by_author[author]["gain"])
    figures: Figures = {
        "bits_per_char_gain": {group: fmean(found) for group, found in gains.items()},
        "bits_per_char": by_author,
    }
    if len(groups) > 1:
        best = [own for author in groups for own in _own_best(author, read[author])]
        figures["own_twin_best_rate"] = fmean(best)
        figures["own_twin_best_rate_n"] = len(best)
        figures["own_twin_best_rate_by_author"] = fmean(one["own_best"] for one in by_author.values())
    return figures


def _bits_of(author: str, groups: Mapping[str, str], read: Read) -> Figures:
    documents = {name: [Bits(**one) for one in found] for name, found in read["raw"].items()}
    total = {name: Bits.total(found).per_character for name, found in documents.items()}
    answers = {name: Bits.total([Bits(**one) for one in found]) for name, found in read["answered"].items()}
    pairs = zip(documents[BASE], documents[author], strict=True)
    by_document = mean([1 - own.bits / base.bits for base, own in pairs])
    others = {name: cost for name, cost in total.items() if name not in (BASE, author)}
    kin = [cost for name, cost in others.items() if groups[name] == groups[author]]
    figures = {
        "documents": len(documents[BASE]),
        "characters": sum(one.characters for one in documents[BASE]),
        "base": total[BASE],
        "own": total[author],
        "others": others,
        "gain": 1 - total[author] / total[BASE],
        "gain_by_document": asdict(by_document),
        "answered_base": answers[BASE].per_character,
        "answered_own": answers[author].per_character,
        "answered_gain": 1 - answers[author].per_character / answers[BASE].per_character,
    }
    if others:
        figures["gain_of_others"] = 1 - fmean(others.values()) / total[BASE]
        figures["gain_over_others"] = 1 - total[author] / fmean(others.values())
        figures["own_best"] = fmean(_own_best(author, read))
    if kin:
        figures["gain_over_kin"] = 1 - total[author] / fmean(kin)
    return figures


def _own_best(author: str, read: Read) -> list[bool]:
    """Of each held-out document whether no other author's twin needs as few bits."""
    twins = {name: [one["bits"] for one in found] for name, found in read["raw"].items() if name != BASE}
    own = twins.pop(author)
    return [all(own[place] < found[place] for found in twins.values()) for place in range(len(own))]


# ---- attribution ---------------------------------------------------------------------------------


def attributed(
    learned: Texts, held_out: Texts, written: Mapping[str, Mapping[str, Sequence[str]]], chunks_max: int
) -> Figures:
    """How often a verifier of `learned` finds who is imitated: floor (base), twin, ceiling (held-out text).

    Where there are texts by the base with the memory, or with the adapter alone, these stand between.
    """
    known = {author: chunks(texts)[:chunks_max] for author, texts in learned.items()}
    judged = {
        author: {
            **{LABELS[who]: chunks(found) for who, found in texts.items() if who in LABELS},
            "ceiling": chunks(held_out[author])[:chunks_max],
        }
        for author, texts in written.items()
    }
    grams, delta = _judge(Ngrams(known), judged), _judge(CosineDelta(known), judged)
    rates = {author: {name: one.rate.value for name, one in found.items()} for author, found in grams.items()}
    return {
        "attribution": rates,
        "attribution_halfway_share": fmean(map(_is_halfway, rates.values())),
        "attribution_detail": _detail(grams),
        "attribution_delta": _detail(delta),
        "verifier": {
            "authors": len(known),
            "chunk_words": CHUNK_WORDS,
            "chunks": {author: len(found) for author, found in known.items()},
        },
    }


def _judge(
    verifier: Verifier, judged: Mapping[str, Mapping[str, Sequence[str]]]
) -> dict[str, dict[str, Attribution]]:
    return {
        author: {name: attribution(verifier, author, found) for name, found in texts.items() if found}
        for author, texts in judged.items()
    }


def _is_halfway(rates: Mapping[str, float]) -> bool:
    floor, twin, ceiling = (rates.get(name, 0.0) for name in ("floor", "twin", "ceiling"))
    return twin >= (floor + ceiling) / 2


def _detail(found: Mapping[str, Mapping[str, Attribution]]) -> Figures:
    return {author: {name: asdict(one) for name, one in texts.items()} for author, texts in found.items()}


# ---- style ---------------------------------------------------------------------------------------


def styles(written: Mapping[str, Mapping[str, Sequence[str]]], held_out: Texts) -> Figures:
    """How far base and twin are from the author's held-out prose, and what still tells the twin from it."""
    return {"style": {author: _style(written[author], held_out[author]) for author in written}}


def _style(written: Mapping[str, Sequence[str]], held_out: Iterable[str]) -> Figures:
    own, base, twin = Style(held_out), Style(written["base"]), Style(written["twin"])
    return {
        "base": asdict(divergence(base, own)),
        "twin": asdict(divergence(twin, own)),
        "tells_of_base": tells(base, own),
        "tells_of_twin": tells(twin, own),
    }


# ---- copying -------------------------------------------------------------------------------------


def copies(written: Mapping[str, Mapping[str, Sequence[str]]], learned: Texts) -> Figures:
    """How much of a text was copied from what its twin learned, at most, and the longest run of words.

    A twin does not answer with a text of which more than COPIED_SHARE_MAX is copied: its most copied
    sentences are left out. Both are told, as generated and as answered.
    """
    found: dict[str, dict[str, list[Copied]]] = {}
    for author, texts in written.items():
        answered = [without_copies(text, learned[author]) for text in texts["twin"]]
        found[author] = {
            who: [copied(text, learned[author]) for text in some]
            for who, some in ((BASE, texts[BASE]), ("twin", texts["twin"]), ("answered", answered))
        }
    generated, answers = (
        [one for texts in found.values() for one in texts[who]] for who in ("twin", "answered")
    )
    return {
        "copied_share_max": max(one.share for one in answers),
        "copied_words_max": max(one.longest_words for one in answers),
        "copied_generated_share_max": max(one.share for one in generated),
        "copied_generated_words_max": max(one.longest_words for one in generated),
        "copied_generated_over": sum(one.share > COPIED_SHARE_MAX for one in generated),
        "copied_generated": len(generated),
        "copied": {
            author: {
                who: {
                    "share_max": max(one.share for one in texts),
                    "share_mean": fmean(one.share for one in texts),
                    "words_max": max(one.longest_words for one in texts),
                    "longest": max((one.longest for one in texts), key=len),
                }
                for who, texts in of_author.items()
            }
            for author, of_author in found.items()
        },
    }


# ---- retrieval -----------------------------------------------------------------------------------


def found(retrieved: Mapping[str, Mapping[str, Any]]) -> Figures:
    """How often the right passage is found, and nothing is said where there is none: means over authors."""
    every = list(retrieved.values())
    modes = every[0]["recall_at_5"]
    return {
        "recall_at_5": {mode: fmean(one["recall_at_5"][mode] for one in every) for mode in modes},
        "abstain_unknown": fmean(one["abstain_unknown"] for one in every),
        "abstain_near_miss": fmean(one["abstain_near_miss"] for one in every),
        "abstain_known": fmean(one["abstain_known"] for one in every),
        "questions": sum(one["questions"] for one in every),
        "retrieval": {
            author: {name: value for name, value in one.items() if not name.startswith("scores")}
            for author, one in retrieved.items()
        },
    }
