"""From a question to the passages that may answer it: filters, several queries, two indexes, one rank.

It knows the memory and the embedder, and neither answers nor judges whether something is known.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from llmtwin.errors import Unavailable
from llmtwin.memory import Memory
from llmtwin.memory.embed import Embedder
from llmtwin.records import Prompt, Question
from llmtwin.twins.person.asked import Asked, take_apart
from llmtwin.twins.person.language import content_words, words
from llmtwin.twins.person.remember import quote_of
from llmtwin.twins.person.score import Hit, Scorer

LISTED_MAX = 50
RERANKED_MAX = 30
# The constant of reciprocal rank fusion: how little the first places count more than the next.
FUSION = 60
CONTEXT_CHARS_MAX = 4000
# What a question may wait for: passages that came since the last one.
EMBEDDED_AT_ONCE_MAX = 256
_EMBED_BATCH = 64
_SAME_SHARE_MIN = 0.5
_SHINGLE_WORDS = 5

_PARTS = re.compile(
    r"[?;]\s+|,?\s+(?:and|or|but) (?=(?:what|why|how|when|where|which|who|did|do|is|are|was)\b)"
)
_FRAME = re.compile(
    r"^\W*(?:(?:so|and|but|please|tell me|can you tell me|remind me),? )*"
    r"(?:what|how|why|when|where|which|who|did|do|does|is|are|was|were|have|has|can|could)\b.*?"
    r"\b(?:about|on|of|regarding|concerning)\b (?P<title>.+?)\W*$",
    re.IGNORECASE,
)


class Mode(StrEnum):
    """Which indexes are asked: both with rerank, or one alone, to compare."""

    HYBRID = "hybrid"
    DENSE = "dense"
    BM25 = "bm25"


@dataclass(frozen=True)
class Found:
    """The best passages, best first, and how they were found.

    `filters` are the parts of the question that narrowed the search, and `nothing` those of them that no
    passage fits. `note` says what was missing, such as embeddings.
    """

    hits: tuple[Hit, ...]
    scorer: Scorer
    filters: tuple[str, ...] = ()
    nothing: str | None = None
    note: str | None = None

    @property
    def known(self) -> bool:
        """Whether the best of the passages answers the question."""
        return self.scorer.is_known(self.hits)


def retrieve(
    question: Question, memory: Memory, embedder: Embedder | None, limit: int = 5, mode: Mode = Mode.HYBRID
) -> Found:
    """The twin's passages that fit the question best, whole, no two that say the same.

    Without an embedder words alone decide, and the note says so. Raises Unavailable for DENSE without one.
    """
    twin = question.twin
    note = None if embedder is None else _left(embed_passages(memory, twin, embedder, EMBEDDED_AT_ONCE_MAX))
    if embedder is None:
        if mode is Mode.DENSE:
            raise Unavailable("a dense search needs sentence embeddings: run `make person`")
        note = "found by words alone, with no sentence embeddings: run `make person` where the twin answers"
    asked = take_apart(question.text, memory, twin, question.at)
    scorer = Scorer(asked.subject, memory, twin, embedder)
    if nothing := asked.lacking or _without_any(asked, memory, twin):
        return Found((), scorer, asked.filters, nothing, note)
    candidates = _fused(_lists(asked, memory, twin, embedder, mode))[:RERANKED_MAX]
    hits = scorer.hits([quote_of(prompt) for prompt in candidates])
    if mode is Mode.HYBRID:
        hits = sorted(hits, key=lambda hit: -hit.score)
    return Found(tuple(within(hits, limit, CONTEXT_CHARS_MAX)), scorer, asked.filters, None, note)


def embed_passages(memory: Memory, twin: str, embedder: Embedder, passages_max: int | None = None) -> bool:
    """Embed the twin's passages that have no vector yet, at most so many; say whether all have one now."""
    done = 0
    while passages_max is None or done < passages_max:
        batch = memory.unembedded(twin, embedder.name, _EMBED_BATCH)
        if not batch:
            return True
        made = embedder.embed([quote_of(prompt).titled for prompt in batch])
        memory.embed(embedder.name, {prompt.id: vector for prompt, vector in zip(batch, made, strict=True)})
        done += len(batch)
    return not memory.unembedded(twin, embedder.name, 1)


def variants(text: str) -> list[str]:
    """A question in the forms in which it is looked for: whole, its content, its parts, as a title."""
    parts = [part for part in _PARTS.split(text) if part.strip()]
    title = _FRAME.match(text)
    forms = [text, " ".join(content_words(text)), *(parts if len(parts) > 1 else ())]
    forms += [title["title"]] if title else []
    return [form for form in dict.fromkeys(form.strip() for form in forms) if form]


def within(hits: Iterable[Hit], limit: int, chars_max: int) -> list[Hit]:
    """The first hits that fit together, whole; of those that say the same the first alone."""
    kept: list[Hit] = []
    chars = 0
    for hit in hits:
        text = hit.quote.text
        if len(kept) == limit or any(says_the_same(text, other.quote.text) for other in kept):
            continue
        if chars + len(text) <= chars_max:
            kept.append(hit)
            chars += len(text)
    return kept


def says_the_same(text: str, other: str) -> bool:
    """Whether half of the shorter one's runs of five words stand in the longer one."""
    one, two = _shingles(text), _shingles(other)
    return len(one & two) >= _SAME_SHARE_MIN * min(len(one), len(two))


def _without_any(asked: Asked, memory: Memory, twin: str) -> str | None:
    """The filters, if no passage fits them all."""
    return " ".join(asked.filters) if asked.filters and not memory.count(twin, asked.only) else None


def _lists(
    asked: Asked, memory: Memory, twin: str, embedder: Embedder | None, mode: Mode
) -> list[list[Prompt]]:
    """A rank list for each form of the question and each index."""
    forms = variants(asked.subject)
    lists: list[list[Prompt]] = []
    if mode is not Mode.DENSE:
        lists += [memory.search(twin, form, LISTED_MAX, asked.only) for form in forms]
    if embedder is not None and mode is not Mode.BM25:
        for vector in embedder.embed(forms):
            near = memory.nearest(twin, embedder.name, vector, LISTED_MAX, asked.only)
            lists.append([prompt for prompt, _ in near])
    return lists


def _fused(lists: Sequence[Sequence[Prompt]]) -> list[Prompt]:
    """All prompts of the lists, by the sum of their reciprocal ranks."""
    scores: defaultdict[str, float] = defaultdict(float)
    prompts: dict[str, Prompt] = {}
    for ranked in lists:
        for rank, prompt in enumerate(ranked, 1):
            scores[prompt.id] += 1 / (FUSION + rank)
            prompts[prompt.id] = prompt
    return [prompts[one] for one in sorted(scores, key=lambda one: (-scores[one], one))]


def _left(complete: bool) -> str | None:
    return None if complete else "some passages are not embedded yet: ask again to find them by meaning, too"


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    said = words(text)
    starts = range(max(1, len(said) - _SHINGLE_WORDS + 1))
    return frozenset(tuple(said[at : at + _SHINGLE_WORDS]) for at in starts)
