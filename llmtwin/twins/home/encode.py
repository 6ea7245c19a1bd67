"""Turns observations into prompts, only when they mean something new. It does not know how prompts travel."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import AwareDatetime

from llmtwin.records import Fact, Observation, Prompt, Record, Value

HEARTBEAT = timedelta(hours=1)


class Sent(Record):
    """The value of a path that was sent last, and when it was seen."""

    value: Value
    at: AwareDatetime


@dataclass(frozen=True)
class DeadBand:
    """How much a number must move to mean something: in its unit, or as a share of the value sent last."""

    absolute: float = 0.0
    relative: float = 0.0

    def holds(self, old: float, new: float) -> bool:
        """Whether the number has not moved enough."""
        band = max(self.absolute, self.relative * abs(old))
        return abs(new - old) < band - 1e-9


# By the last part of a measure; what is not here means something with every change.
DEAD_BANDS: Mapping[str, DeadBand] = {
    "temperature": DeadBand(absolute=0.2),
    "brightness": DeadBand(absolute=1),
    "humidity": DeadBand(absolute=1),
    "power": DeadBand(absolute=1, relative=0.05),
    "illuminance": DeadBand(absolute=5, relative=0.1),
    "carbon_dioxide": DeadBand(absolute=20, relative=0.05),
}


class Encoder:
    """Remembers what was sent of every path, so that only news is sent.

    `state` is that memory (path to what was sent last): give back the one of an earlier encoder to go on.
    """

    def __init__(self, state: Mapping[str, Sent] | None = None) -> None:
        self.state: dict[str, Sent] = dict(state or {})

    def encode(self, twin: str, observations: Iterable[Observation]) -> list[Prompt]:
        """A prompt for each entity with news, oldest first: one sentence with all its facts.

        Private observations never appear. News is a value that is new, that changed beyond its dead band, or
        that was reported again an hour after it was sent last. What is older than what was sent is left out.
        """
        entities: dict[tuple[datetime, str], list[Observation]] = defaultdict(list)
        for one in observations:
            if not one.private and not one.sealed:
                entities[one.fact.at, one.fact.path.partition("/")[0]].append(one)
        groups = (entities[key] for key in sorted(entities))
        return [
            self._prompt(twin, group) for group in groups if any(self._is_news(one.fact) for one in group)
        ]

    def _is_news(self, fact: Fact) -> bool:
        last = self.state.get(fact.path)
        if last is None:
            return True
        if fact.at < last.at:
            return False
        return fact.at - last.at >= HEARTBEAT or _changed(fact, last.value)

    def _prompt(self, twin: str, observations: list[Observation]) -> Prompt:
        facts = tuple(one.fact for one in observations)
        self.state.update({fact.path: Sent(value=fact.value, at=fact.at) for fact in facts})
        return Prompt(twin=twin, text=sentence(observations), facts=facts, at=facts[0].at)


def sentence(observations: list[Observation]) -> str:
    """What a person would say of one device: `Bedroom lamp: on, brightness 60 %.`"""
    said = ", ".join(_said(one) for one in observations)
    return f"{observations[0].device}: {said}."[:1000]


def _said(observation: Observation) -> str:
    fact = observation.fact
    value = f"{fact.value} {fact.unit}" if fact.unit else str(fact.value)
    return value if observation.property == "state" else f"{observation.property} {value}"


def _changed(fact: Fact, old: Value) -> bool:
    band = DEAD_BANDS.get((fact.measure or "").rpartition(".")[2])
    if band is None or isinstance(old, str | bool) or isinstance(fact.value, str | bool):
        return fact.value != old
    return not band.holds(old, fact.value) and fact.value != old
