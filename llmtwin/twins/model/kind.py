"""Models: what a language model is asked and says goes in; a twin that answers as it does comes out.

The libraries that find what is private are an extra: they are imported when they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmtwin.errors import InputError, Unavailable
from llmtwin.models.engine.api import Request, conversation
from llmtwin.records import (
    AdapterUse,
    Answer,
    Correction,
    Document,
    Example,
    Material,
    Observation,
    Outcome,
    Question,
    Receipts,
)
from llmtwin.twins.kind import Known, Lessons, Reading, Veiled, View, Voice

if TYPE_CHECKING:
    from llmtwin.models.tune import TuneOptions

TOKENS_MAX = 256


class ModelKind:
    """A primary language model, or a language process, known by its traffic."""

    name = "model"

    def read(self, sources: Sequence[str], known: Known) -> Reading:
        """Read recorded traffic, a request and a response a line."""
        try:
            from llmtwin.twins.model.collect import read
        except ImportError as error:
            raise Unavailable(f"model twins need {error.name}: pip install 'llmtwin[model]'") from error
        return read(sources, known)

    def unrecord(self, folder: Path, documents: Sequence[Document]) -> None:
        """Exchanges, and what the twin answered beside them."""
        from llmtwin.twins.model.exchange import forget

        forget(folder, {one.id for one in documents})

    def skill(self, base_hash: str) -> Path | None:
        """It needs none: all that is learned is the primary's."""
        return None

    def example(self, observation: Observation) -> Example:
        """A single fact as it is."""
        return Example(prompt=observation.property, completion=str(observation.fact.value))

    def lessons(self, known: Known, voice: Voice, count_tokens: Callable[[str], int], key: bytes) -> Lessons:
        """The primary's replies, with how likely it found its tokens; every fifth session is held out."""
        from llmtwin.twins.model.collect import lessons

        return lessons(known)

    def written(self, said: Sequence[str], by_base: Sequence[str], lessons: Lessons) -> dict[str, float]:
        """Nothing: replies are compared with the primary's."""
        return {}

    def teaches(self, document: Document) -> bool:
        """A reply does that is not of a held-out session."""
        from llmtwin.twins.model.collect import teaches

        return teaches(document)

    def correction(self, question: str, answer: Answer, text: str) -> Correction:
        """What should have been said."""
        return Correction(prompt=question, chosen=text, rejected=answer.text)

    def tuning(self, count: int = 0) -> TuneOptions:
        """How replies are distilled."""
        from llmtwin.models.tune import TuneOptions

        return TuneOptions(
            rank=16,
            layers_share=0.6,
            epochs_max=4,
            epochs_falling=4,
            learning_rate=1e-3,
            batch_tokens=512,
            stop_when_complete=False,
        )

    def material(self, source: str) -> Material:
        """It makes no use of any."""
        raise InputError(
            "the twin of a model is asked what its primary is asked: put the text into the question"
        )

    def veil(self, question: str, key: bytes) -> Veiled:
        """As it is."""
        return Veiled(question)

    def answer(self, question: Question, view: View) -> Answer:
        """Say what the primary would say, at its likeliest."""
        prompt = view.engine.chat(conversation((*question.before, ("user", question.text))))
        (made,) = view.engine.generate([Request(prompt, view.adapters, TOKENS_MAX)])
        used = None
        if view.adapter:
            own = view.adapter.manifest
            used = AdapterUse(version=own.version, weights=own.weights, probability=made.probability)
        return Answer(text=made.text, outcome=Outcome.ANSWERED, receipts=Receipts(adapter=used))
