"""Homes: devices with live state, private settings, and orders. Each part of it knows more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmtwin.errors import InputError
from llmtwin.records import (
    Answer,
    Correction,
    Document,
    Example,
    Material,
    Observation,
    Question,
)
from llmtwin.twins.home import collect, facts
from llmtwin.twins.home.answer import answer
from llmtwin.twins.kind import Known, Lessons, Reading, Veiled, View, Voice

if TYPE_CHECKING:
    from llmtwin.models.tune import TuneOptions

NO_MATERIAL = "a home twin is asked about its home alone: nothing can be given with a question"


class HomeKind:
    """Homes: devices with live state, private settings, and orders."""

    name = "home"

    def skill(self, base_hash: str) -> Path | None:
        """The home skill that ships in the package, if it was tuned for that base."""
        folder = Path(__file__).parent / "skill" / "adapter"
        marker = folder / "base"
        return folder if marker.exists() and marker.read_text().strip() == base_hash else None

    def read(self, sources: Sequence[str], known: Known) -> Reading:
        """Read Home Assistant's state dumps."""
        return collect.read(sources, known)

    def unrecord(self, folder: Path, documents: Sequence[Document]) -> None:
        """No proxy records a home."""

    def example(self, observation: Observation) -> Example:
        """The one question that recalls a setting, and its value."""
        return facts.example(observation)

    def lessons(self, known: Known, voice: Voice, count_tokens: Callable[[str], int], key: bytes) -> Lessons:
        """None: a home learns single facts."""
        return Lessons()

    def written(self, said: Sequence[str], by_base: Sequence[str], lessons: Lessons) -> dict[str, float]:
        """Nothing: it learns no texts."""
        return {}

    def teaches(self, document: Document) -> bool:
        """It has no documents."""
        return False

    def correction(self, question: str, answer: Answer, text: str) -> Correction:
        """None: what a home twin says was collected."""
        raise InputError("a home twin says what was collected: put it right in the home and collect again")

    def tuning(self, count: int = 0) -> TuneOptions:
        """As so many facts are learned: until all are recalled."""
        return facts.tuning(count)

    def material(self, source: str) -> Material:
        """None: a home is asked about itself."""
        raise InputError(NO_MATERIAL)

    def veil(self, question: str, key: bytes) -> Veiled:
        """As it is: the edge asks for what is sealed in its own way."""
        return Veiled(question)

    def answer(self, question: Question, view: View) -> Answer:
        """Answer one question or take one order."""
        if question.material is not None:
            raise InputError(NO_MATERIAL)
        return answer(question, view)
