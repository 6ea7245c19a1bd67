"""A kind of twin for tests, found as any third party's kind is: by its entry point. It understands JSON.

`{"order": {"path": …, "value": …}}` is an order; anything else is answered by the engine's completion.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from llmtwin.errors import InputError
from llmtwin.models.engine.api import Request
from llmtwin.models.tune import TuneOptions
from llmtwin.records import (
    AdapterUse,
    Answer,
    CohortUse,
    Command,
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


class EchoKind:
    """Answers with what was asked, and with receipts of what it could have used."""

    name = "echo"

    def read(self, sources: Sequence[str], known: Known) -> Reading:
        """It is made of nothing."""
        raise InputError("an echo is not made of files")

    def unrecord(self, folder: Path, documents: Sequence[Document]) -> None:
        """No proxy records it."""

    def skill(self, base_hash: str) -> Path | None:
        """It needs none."""
        return None

    def example(self, observation: Observation) -> Example:
        """What it is asked is what it says."""
        return Example(prompt=observation.property, completion=observation.property)

    def lessons(self, known: Known, voice: Voice, count_tokens: Callable[[str], int], key: bytes) -> Lessons:
        """It learns no documents."""
        return Lessons()

    def written(self, said: Sequence[str], by_base: Sequence[str], lessons: Lessons) -> dict[str, float]:
        """It learned no texts."""
        return {}

    def teaches(self, document: Document) -> bool:
        """It learns none."""
        return False

    def correction(self, question: str, answer: Answer, text: str) -> Correction:
        """As it was said."""
        return Correction(prompt=question, chosen=text, rejected=answer.text)

    def tuning(self, count: int = 0) -> TuneOptions:
        """As usual."""
        return TuneOptions()

    def material(self, source: str) -> Material:
        """What it is given is the source's own name."""
        return Material(text=source, address=source)

    def veil(self, question: str, key: bytes) -> Veiled:
        """As it is."""
        return Veiled(question)

    def answer(self, question: Question, view: View) -> Answer:
        """Obey an order, or echo what was asked, and below it what was given."""
        given = question.material
        said = f"{question.text}\n{given.text}" if given else question.text
        prompt = view.engine.chat([{"role": "user", "content": said}])
        made = view.engine.generate([Request(prompt=prompt, adapters=view.adapters)])[0]
        if made.text.startswith("{"):
            command = Command(
                twin=question.twin,
                created_at=question.at,
                expires_at=question.at + timedelta(minutes=1),
                **json.loads(made.text)["order"],
            )
            return Answer(text="ordered", outcome=Outcome.ORDERED, commands=(view.order(command),))
        used = None
        if view.adapter:
            manifest = view.adapter.manifest
            used = AdapterUse(
                version=manifest.version, weights=manifest.weights, probability=made.probability
            )
        cohort = CohortUse(size=len(view.cohort), oldest_at=None, newest_at=None)
        receipts = Receipts(adapter=used, cohort=cohort)
        return Answer(text=made.text, outcome=Outcome.ANSWERED, receipts=receipts)
