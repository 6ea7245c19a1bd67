"""Training examples of the home skill: sentences from written wordings and a vocabulary, with their plans.

It knows no real home and reads no test file; `make skill` is the one command that tunes the skill on them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import yaml

from llmtwin.records import Example
from llmtwin.twins.home.plan import Plan, PlanKind, allows

SLOT = re.compile(r"\{(\w+)\}|\[([^\]]+)\]\((\w+)\)")
FIELD = {"device": "name", "group": "name", "person": "name", "floor": "area"}
LEAD_SHARE, TAIL_SHARE, CAPITAL_SHARE, TITLE_SHARE = 0.2, 0.2, 0.3, 0.1
FREQUENT_SHARE, MADE_UP_SHARE, MIDDLE_SHARE, AGO_SHARE = 0.5, 0.4, 0.5, 0.15


@cache
def _read(name: str) -> Any:
    return yaml.safe_load((resources.files(__package__) / name).read_text(encoding="utf-8"))


def examples(count: int, seed: int, without: frozenset[str] = frozenset()) -> list[Example]:
    """`count` different examples; sentences in `without` (normalised by `normal`) are left out."""
    rng = random.Random(seed)
    found: dict[str, Example] = {}
    while len(found) < count:
        for group, text in _wordings(rng):
            sentence, plan = _fill(rng, group, text)
            if normal(sentence) not in without and allows(sentence, plan):
                found[sentence] = Example(prompt=sentence, completion=plan.to_json())
    return list(found.values())[:count]


def normal(sentence: str) -> str:
    """A sentence reduced to what matters for telling whether two are the same."""
    return " ".join(re.findall(r"[\w°%]+", sentence.casefold()))


def _wordings(rng: random.Random) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Every wording once, in random order."""
    every = [(group, text) for group in _read("phrasings.yaml") for text in group["texts"]]
    rng.shuffle(every)
    yield from every


def _fill(rng: random.Random, group: Mapping[str, Any], text: str) -> tuple[str, Plan]:
    prop, values = _property(rng, group)
    chosen: dict[str, str] = {}
    titled = rng.random() < TITLE_SHARE

    def put(match: re.Match[str]) -> str:
        slot, literal, field = match.groups()
        if literal is None:
            literal, field = _word(rng, group, slot, prop, values), FIELD.get(slot, slot)
            literal = literal.title() if titled and field in ("name", "area") else literal
        chosen[field] = literal
        return literal

    sentence = _dress(rng, group["kind"], SLOT.sub(put, text), chosen)
    labels = {label: group[label] for label in ("kind", "act", "statistic") if label in group}
    return sentence, Plan.model_validate(labels | chosen)


def _property(rng: random.Random, group: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
    words = _read("vocabulary.yaml")
    source = group.get("properties")
    if source == "levels":
        return rng.choice(words["levels"]), words["live"]["brightness"]
    if source == "live" or rng.random() < 0.4:
        frequent = group["kind"] != PlanKind.ORDER and rng.random() < FREQUENT_SHARE
        prop = rng.choice(words["frequent"] if frequent else list(words["live"]))
        return prop, words["live"][prop]
    prop = rng.choice(list(words["settings"]))
    values = words["settings"][prop]
    if rng.random() < MADE_UP_SHARE:
        prop = f"{rng.choice(words['setting_firsts'])} {rng.choice(words['setting_lasts'])}"
    return prop, values


def _word(rng: random.Random, group: Mapping[str, Any], slot: str, prop: str, values: Sequence[str]) -> str:
    words = _read("vocabulary.yaml")
    if slot == "property":
        return prop
    if slot == "value":
        source = group.get("values", "own")
        return str(rng.choice(values if source == "own" else words[source]))
    if slot == "time":
        source = group.get("times")
        return str(_clock(rng) if source == "at" and rng.random() < 0.4 else rng.choice(words["times"]))
    if slot == "device":
        return _device(rng)
    plural = {"group": "groups", "area": "areas", "floor": "floors", "person": "persons"}
    return str(rng.choice(words[plural[slot]]))


def _device(rng: random.Random) -> str:
    """A device as listed, or one made up of a room and a noun: names are endless, so the model must copy."""
    words = _read("vocabulary.yaml")
    if rng.random() < 0.5:
        return str(rng.choice(words["devices"]))
    noun = rng.choice(words["devices"]).split()[-1]
    first = rng.choice([*words["areas"], *words["persons"]])
    middle = [rng.choice(words["middles"])] if rng.random() < MIDDLE_SHARE else []
    name = " ".join([first, *middle, noun])
    return name.lower() if rng.random() < 0.7 else name


def _clock(rng: random.Random) -> str:
    if rng.random() < AGO_SHARE:
        return f"{rng.randrange(2, 60)} {rng.choice(['hours', 'hours', 'minutes', 'days'])} ago"
    hour, minute = rng.randrange(24), rng.choice([0, 5, 10, 15, 20, 30, 40, 45, 50])
    twelve = f"{hour % 12 or 12} {'ap'[hour // 12]}m"
    clock = rng.choice([f"{hour}:{minute:02d}", f"{hour:02d}:{minute:02d}", twelve])
    day = rng.choice(["today", "yesterday", "", "this morning", "on Tuesday", "last Friday", "on 3 May"])
    return rng.choice([f"at {clock} {day}", f"{day} at {clock}"]).strip()


def _dress(rng: random.Random, kind: PlanKind, sentence: str, chosen: dict[str, str]) -> str:
    """Put a lead-in or a tail around a sentence, and a capital at its start, as people type."""
    words = _read("vocabulary.yaml")
    if rng.random() < TAIL_SHARE and kind != PlanKind.OTHER:
        sentence = sentence.rstrip("?.! ") + rng.choice(words["tails"]["any"] + words["tails"].get(kind, []))
    if rng.random() < LEAD_SHARE and kind != PlanKind.OTHER:
        lead = rng.choice(words["leads"]["any"] + words["leads"].get(kind, []))
        starts_with_span = any(sentence.startswith(span) for span in chosen.values())
        sentence = lead + (sentence if starts_with_span else sentence[0].lower() + sentence[1:])
    if rng.random() < CAPITAL_SHARE:
        capital = sentence[0].upper() + sentence[1:]
        for field, span in chosen.items():
            if sentence.startswith(span):
                chosen[field] = span[0].upper() + span[1:]
        sentence = capital
    return sentence
