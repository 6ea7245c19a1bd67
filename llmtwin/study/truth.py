"""What is true of a simulated home, and what it said: its settings, what was sent of its states and when.

It knows no question and no answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from llmtwin.records import Description, Device, Fact, Observation, Property, Value
from llmtwin.twins.home.describe import describe
from llmtwin.twins.home.observe import observe
from llmtwin.twins.home.simulator import Home
from llmtwin.twins.home.sources import read_states


@dataclass(frozen=True)
class HomeTruth:
    """What is true of one home.

    `sent` are the facts of its prompts in the order in which they left; `seen` what each path was at each
    moment at which the edge looked.
    """

    twin: str
    description: Description
    settings: tuple[Observation, ...]
    sealed: tuple[Observation, ...]
    sent: tuple[Fact, ...]
    seen: Mapping[datetime, Mapping[str, Value]]

    @cached_property
    def latest(self) -> Mapping[str, Fact]:
        """What was sent last of each path."""
        return {fact.path: fact for fact in sorted(self.sent, key=lambda fact: fact.at)}

    def in_force(self, path: str, when: datetime) -> Fact | None:
        """What was sent last of a path among what was true by `when`."""
        known = sorted((fact for fact in self.sent if fact.path == path), key=lambda fact: fact.at)
        return next((fact for fact in reversed(known) if fact.at <= when), None)

    @cached_property
    def live(self) -> tuple[tuple[Device, Property], ...]:
        """Every shareable property."""
        return tuple((d, p) for d in self.description.devices for p in d.properties if not p.private)


def truth_of(twin: str, dump: str, at: datetime) -> HomeTruth:
    """What is true of a home of which one dump was collected; its moment is taken to be `at`."""
    entities = read_states(dump.encode()).entities
    seen = observe(entities)
    live = [one.fact for one in seen if not one.private]
    return HomeTruth(
        twin=twin,
        description=describe(entities),
        settings=tuple(one for one in seen if one.private and not one.sealed),
        sealed=tuple(one for one in seen if one.sealed),
        sent=tuple(live),
        seen={at: {fact.path: fact.value for fact in live}},
    )


def read_truth(seed: int, name: str, journal: Path, end: datetime) -> HomeTruth:
    """What is true of a home: from the simulator, and from the journal of what was seen and sent."""
    dump = json.dumps(Home(seed, name).states(end)).encode()
    entities = read_states(dump).entities
    private = [one for one in observe(entities) if one.private]
    entries = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    return HomeTruth(
        twin=name,
        description=describe(entities),
        settings=tuple(one for one in private if not one.sealed),
        sealed=tuple(one for one in private if one.sealed),
        sent=tuple(Fact.model_validate_json(json.dumps(fact)) for entry in entries for fact in entry["sent"]),
        seen={datetime.fromisoformat(entry["at"]): entry["seen"] for entry in entries},
    )
