"""Persons: what somebody wrote goes in; their voice, and answers from their own words, come out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from llmtwin.errors import Unavailable
from llmtwin.memory.embed import Embedder
from llmtwin.records import Answer, Example, Observation, Question
from llmtwin.twins.kind import Known, Lessons, Reading, View, Voice
from llmtwin.twins.person import answer, collect
from llmtwin.twins.person.lessons import lessons

if TYPE_CHECKING:
    from llmtwin.models.tune import TuneOptions


class PersonKind:
    """Persons: passages that may be quoted, and a voice."""

    name = "person"

    def read(self, sources: Sequence[str], known: Known) -> Reading:
        """Read files, folders, archives, repositories and addresses."""
        return collect.read(sources, known)

    def skill(self, base_hash: str) -> Path | None:
        """It needs none: the voice is all that is learned."""
        return None

    def example(self, observation: Observation) -> Example:
        """A single fact as it is."""
        return Example(prompt=observation.property, completion=str(observation.fact.value))

    def lessons(self, known: Known, voice: Voice, count_tokens: Callable[[str], int], key: bytes) -> Lessons:
        """Pairs of prompt and verbatim text; the newest documents are held out."""
        return lessons(known, voice, count_tokens, key)

    def tuning(self) -> TuneOptions:
        """A voice is learned from long texts, each a few times; nothing is to be recalled by heart."""
        from llmtwin.models.tune import TuneOptions

        return TuneOptions(
            rank=16,
            layers_share=0.4,
            epochs_max=3,
            epochs_falling=3,
            learning_rate=1e-3,
            batch_tokens=512,
            stop_when_complete=False,
        )

    def answer(self, question: Question, view: View) -> Answer:
        """Quote what was written, or write in the person's voice."""
        return answer.answer(question, view, _embedder())


@cache
def _embedder() -> Embedder | None:
    """The embeddings of this machine; without any, words alone find passages."""
    try:
        return Embedder()
    except Unavailable:
        return None
