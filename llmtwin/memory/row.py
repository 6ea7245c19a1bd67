"""A fact as a row of the database, and its way back. It knows no SQL."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from llmtwin.errors import InputError
from llmtwin.records import Fact, Prompt, State, Value

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Row(NamedTuple):
    """A fact as the tables `facts` and `latest` hold it: time in microseconds since 1970, value in JSON."""

    twin: str
    path: str
    at: int
    prompt: str
    position: int
    json: str
    unit: str | None
    measure: str | None
    area: str | None

    @property
    def value(self) -> Value:
        """The fact's value, with its type."""
        value: Value = json.loads(self.json)
        return value

    def fact(self) -> Fact:
        """The fact itself, its time in UTC."""
        return Fact(
            path=self.path,
            value=self.value,
            unit=self.unit,
            at=time(self.at),
            measure=self.measure,
            area=self.area,
        )

    def state(self) -> State:
        """The fact, with its twin and the prompt that brought it."""
        return State(twin=self.twin, fact=self.fact(), prompt_id=self.prompt)


def rows_of(prompt: Prompt) -> list[Row]:
    """The rows of a prompt's facts, in its order. Raises InputError for a time that UTC cannot hold."""
    return [
        Row(
            twin=prompt.twin,
            path=fact.path,
            at=micros(fact.at),
            prompt=prompt.id,
            position=position,
            json=json.dumps(fact.value, ensure_ascii=False),
            unit=fact.unit,
            measure=fact.measure,
            area=fact.area,
        )
        for position, fact in enumerate(prompt.facts)
    ]


def micros(at: datetime) -> int:
    """Microseconds since 1970. Raises InputError for a time that UTC cannot hold."""
    try:
        return (at.astimezone(UTC) - EPOCH) // timedelta(microseconds=1)
    except OverflowError:
        raise InputError(f"the time {at.isoformat()} is outside the years 1 to 9999 of UTC") from None


def time(micros: int) -> datetime:
    """The time, in UTC, of so many microseconds since 1970."""
    return EPOCH + timedelta(microseconds=micros)
