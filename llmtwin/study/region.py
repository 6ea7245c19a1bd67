"""A region of smart homes in one dump: system types, devices, properties and values. It knows no twin.

The paper's case has 1,600 state facts of one region. Here they are the settings of simulated homes, whose
devices bear the names of their houses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from llmtwin.errors import InputError
from llmtwin.records import Observation
from llmtwin.twins.home.observe import observe
from llmtwin.twins.home.simulator import Home
from llmtwin.twins.home.sources import read_states

FACTS = 1600
AT = datetime(2026, 1, 1, 19, tzinfo=UTC)
HOUSES = (
    *("Acacia", "Birch", "Cedar", "Dahlia", "Elm", "Fern", "Gorse", "Hazel", "Iris", "Juniper", "Laurel"),
    *("Maple", "Nettle", "Oak", "Poplar", "Quince", "Rowan", "Sorrel", "Thistle", "Willow", "Yarrow"),
    *("Alder", "Bramble", "Clover", "Elder", "Foxglove", "Heather", "Larch", "Myrtle", "Primrose"),
)

State = dict[str, Any]


@dataclass(frozen=True)
class House:
    """A simulated home whose devices bear its name."""

    name: str
    home: Home

    def states(self, at: datetime) -> list[State]:
        """Its dump at `at`."""
        return [_of(self.name, state) for state in self.home.states(at)]


def region(count: int = FACTS, seed: int = 0) -> list[State]:
    """A dump in which so many settings can be learned, none of them a secret, with the devices they are of.

    Raises InputError where all houses together have fewer.
    """
    kept: list[State] = []
    left = count
    for house in homes(count, seed):
        some = with_settings(house.states(AT), left)
        kept += some
        left -= len(settings(some))
    return kept


def homes(count: int = FACTS, seed: int = 0) -> list[House]:
    """The houses that have so many settings together, the last of them in part. Raises as `region`."""
    found: list[House] = []
    left = count
    for house in _houses(seed):
        found.append(house)
        left -= len(settings(house.states(AT)))
        if left <= 0:
            return found
    raise InputError(f"all {len(HOUSES)} houses have {count - left} settings, not {count}: ask for fewer")


def houses(count: int, facts: int, seed: int = 0) -> list[list[Observation]]:
    """The first so many settings of each of so many houses, none a secret. Raises InputError for too many."""
    found = [settings(house.states(AT))[:facts] for house in islice(_houses(seed), count)]
    if len(found) < count or any(len(house) < facts for house in found):
        raise InputError(f"the region has no {count} houses with {facts} settings each: ask for fewer")
    return found


def with_settings(states: Sequence[State], count: int) -> list[State]:
    """The dump of a home without its secrets, and with so many of its other settings at most."""
    entities = [one.fact.path.partition("/")[0] for one in settings(states)]
    unused = {one.fact.path.partition("/")[0] for one in _private(states)} - set(entities[:count])
    return [state for state in states if state["entity_id"] not in unused]


def settings(states: Sequence[State]) -> list[Observation]:
    """What is private in a dump and no secret."""
    return [one for one in _private(states) if not one.sealed]


def _private(states: Sequence[State]) -> list[Observation]:
    entities = read_states(json.dumps(states).encode()).entities
    return [one for one in observe(entities) if one.private]


def _houses(seed: int) -> Iterator[House]:
    for number, name in enumerate(HOUSES):
        house = f"{name} House"
        yield House(house, Home(seed + number, house))


def _of(house: str, state: State) -> State:
    domain, _, thing = state["entity_id"].partition(".")
    attributes = state["attributes"]
    return state | {
        "entity_id": f"{domain}.{house.lower().replace(' ', '_')}_{thing}",
        "attributes": attributes | {"friendly_name": f"{house} {_lower(attributes['friendly_name'])}"},
    }


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]
