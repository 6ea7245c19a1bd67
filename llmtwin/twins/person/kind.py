"""Persons: what somebody wrote goes in; their voice, and answers from their own words, come out.

The libraries that read and find what people write are an extra: they are imported when they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from llmtwin.errors import Unavailable
from llmtwin.records import Answer, Correction, Document, Example, Material, Observation, Question
from llmtwin.twins.kind import Known, Lessons, Reading, Veiled, View, Voice

if TYPE_CHECKING:
    from llmtwin.memory.embed import Embedder
    from llmtwin.models.tune import TuneOptions


class PersonKind:
    """Persons: passages that may be quoted, and a voice."""

    name = "person"

    def read(self, sources: Sequence[str], known: Known) -> Reading:
        """Read files, folders, archives, repositories and addresses."""
        with _extra():
            from llmtwin.twins.person.collect import read
        return read(sources, known)

    def unrecord(self, folder: Path, documents: Sequence[Document]) -> None:
        """No proxy records a person."""

    def skill(self, base_hash: str) -> Path | None:
        """It needs none: the voice is all that is learned."""
        return None

    def example(self, observation: Observation) -> Example:
        """A single fact as it is."""
        return Example(prompt=observation.property, completion=str(observation.fact.value))

    def lessons(self, known: Known, voice: Voice, count_tokens: Callable[[str], int], key: bytes) -> Lessons:
        """Pairs of prompt and verbatim text, and plain text; the newest documents are held out."""
        with _extra():
            from llmtwin.twins.person.lessons import lessons
        return lessons(known, voice, count_tokens, key)

    def written(self, said: Sequence[str], by_base: Sequence[str], lessons: Lessons) -> dict[str, float]:
        """How they read beside held-out texts, and what of them is copied."""
        with _extra():
            from llmtwin.twins.person.carding import figures
        return figures(said, by_base, lessons)

    def teaches(self, document: Document) -> bool:
        """All that was written does."""
        return True

    def correction(self, question: str, answer: Answer, text: str) -> Correction:
        """What the person would have written."""
        with _extra():
            from llmtwin.twins.person.correct import correction
        return correction(answer, text)

    def tuning(self, count: int = 0) -> TuneOptions:
        """A voice is learned from texts that are read once, since a second time they are learned by heart.

        It takes all layers: over the upper two fifths alone a third of what is gained is lost. A mean of the
        steps' weights is the voice: so few texts, at a rate that learns much of each, leave the last step
        far off the middle.
        """
        from llmtwin.models.tune import TuneOptions

        return TuneOptions(
            rank=32,
            layers_share=1.0,
            epochs_max=1,
            epochs_falling=2,
            learning_rate=1e-3,
            average_share=0.5,
            batch_tokens=512,
            stop_when_complete=False,
        )

    def material(self, source: str) -> Material:
        """Read a document or a page, whoever wrote it."""
        with _extra():
            from llmtwin.twins.person.material import read
        return read(source)

    def veil(self, question: str, key: bytes) -> Veiled:
        """Without the name or address of whom it asks what was written to."""
        with _extra():
            from llmtwin.twins.person.addressed import veil
        return veil(question, key)

    def answer(self, question: Question, view: View) -> Answer:
        """Quote what was written, or write in the person's voice."""
        with _extra():
            from llmtwin.twins.person.answer import answer
        return answer(question, view, embedder())


@cache
def embedder() -> Embedder | None:
    """The embeddings of this machine; without any, words alone find passages."""
    from llmtwin.memory.embed import Embedder

    try:
        return Embedder()
    except Unavailable:
        return None


@contextmanager
def _extra() -> Iterator[None]:
    """Say what to install where a library of the extra is missing."""
    try:
        yield
    except ImportError as error:
        raise Unavailable(
            f"person twins need {error.name}: run `make person`, or pip install 'llmtwin[person]'"
        ) from error
