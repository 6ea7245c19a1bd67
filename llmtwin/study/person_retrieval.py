"""How often a twin finds the passage that a question was made of, and says so where there is none.

It generates nothing. Questions about what was never written are made of others' documents: of authors
of the same genre (near misses) and of other writing, half and half.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from llmtwin.memory import Memory
from llmtwin.memory.embed import Embedder
from llmtwin.records import Question, now
from llmtwin.study.person_questions import Asked, questions
from llmtwin.twins.person.chunks import Passage, passages
from llmtwin.twins.person.remember import TEXT_CHARS_MAX, prompt_of
from llmtwin.twins.person.retrieve import Found, Mode, embed_passages, retrieve, says_the_same
from llmtwin.twins.person.sources.items import Item

RECALL_AT = 5
TWIN = "person"


@dataclass(frozen=True)
class Figures:
    """Rates from 0 to 1; `recall_at_5` by mode. `scores` are the best of each question, to calibrate by."""

    recall_at_5: dict[str, float]
    abstain_known: float
    abstain_unknown: float
    abstain_near_miss: float
    questions: int
    scores_known: tuple[float, ...]
    scores_near_miss: tuple[float, ...]
    scores_other: tuple[float, ...]


def passages_of(items: Iterable[Item]) -> list[Passage]:
    """All passages of documents, as they would be remembered."""
    return [passage for item in items for passage in passages(item, len, TEXT_CHARS_MAX)]


def measure(
    own: Sequence[Passage],
    near: Sequence[Passage],
    other: Sequence[Passage],
    embedder: Embedder | None,
    count: int,
    seed: int,
) -> Figures:
    """Ask so many questions about an author's own passages, half as many about near and other ones."""
    with tempfile.TemporaryDirectory() as folder, Memory(Path(folder) / "memory.sqlite") as memory:
        at = now()
        memory.append([prompt_of(passage, TWIN, at) for passage in own])
        if embedder is not None:
            embed_passages(memory, TWIN, embedder)
        asked = questions(own, count, seed)
        modes = Mode if embedder is not None else (Mode.BM25,)
        by_mode = {mode.value: _found(memory, asked, embedder, mode) for mode in modes}
        recall = {mode: mean(map(_is_right, asked, found)) for mode, found in by_mode.items()}
        known = by_mode[Mode.HYBRID] if embedder is not None else _found(memory, asked, embedder)
        missed, far = (
            _found(memory, questions(those, count // 2, seed), embedder) for those in (near, other)
        )
    return Figures(
        recall_at_5=recall,
        abstain_known=_abstained(known),
        abstain_unknown=_abstained([*missed, *far]),
        abstain_near_miss=_abstained(missed),
        questions=len(asked),
        scores_known=_scores(known),
        scores_near_miss=_scores(missed),
        scores_other=_scores(far),
    )


def _found(
    memory: Memory, asked: Sequence[Asked], embedder: Embedder | None, mode: Mode = Mode.HYBRID
) -> list[Found]:
    return [retrieve(Question(twin=TWIN, text=one.text), memory, embedder, RECALL_AT, mode) for one in asked]


def _is_right(asked: Asked, found: Found) -> bool:
    # A person repeats themselves: the same words elsewhere are the passage, too.
    return any(says_the_same(hit.quote.text, asked.passage.text) for hit in found.hits)


def _abstained(founds: Sequence[Found]) -> float:
    return mean(not found.known for found in founds)


def _scores(founds: Sequence[Found]) -> tuple[float, ...]:
    """The best score of each; 0 where nothing was found."""
    return tuple(max((hit.score for hit in found.hits), default=0.0) for found in founds)
