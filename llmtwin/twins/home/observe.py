"""Turns a home's entities into observations: typed facts with the names a person uses, and how private.

It knows nothing of what was sent before (encode does), nor of where observations are kept.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from llmtwin.records import Fact, Observation, Value
from llmtwin.twins.home.describe import (
    Names,
    area,
    is_sealed,
    scalar,
    traits,
    unit,
)
from llmtwin.twins.home.sources import Entity

_MINUTE = re.compile(r"(\d\d:\d\d):00")


def observe(entities: Collection[Entity], sealed: Collection[str] = ()) -> list[Observation]:
    """What is known of a home now, each value at its `last_updated`.

    Live state may travel as prompts; settings are private; secrets among them (password texts, those marked
    `sealed`, those named by the glob patterns `sealed`) are sealed too. What is unknown gives nothing.
    """
    names = Names(entities)
    found: list[Observation] = []
    for entity in entities:
        if names.is_setting(entity):
            found += _setting(entity, names, is_sealed(entity, sealed))
        elif names.is_live(entity):
            found += _live(entity)
    return found


def _live(entity: Entity) -> list[Observation]:
    return [
        Observation(
            fact=Fact(
                path=trait.property.path,
                value=trait.value,
                unit=trait.property.unit,
                at=entity.last_updated,
                measure=trait.property.measure,
                area=area(entity),
            ),
            device=entity.name,
            property=trait.property.name,
        )
        for trait in traits(entity)
        if trait.value is not None
    ]


def _setting(entity: Entity, names: Names, sealed: bool) -> list[Observation]:
    value = _setting_value(entity, sealed)
    if value is None:
        return []
    owner = names.owner(entity)
    fact = Fact(
        path=f"{entity.entity_id}/value",
        value=value,
        unit=unit(entity),
        at=entity.last_updated,
        area=area(entity) or area(owner),
    )
    name = names.property_name(entity)
    return [Observation(fact=fact, device=owner.name, property=name, private=True, sealed=sealed)]


def _setting_value(entity: Entity, sealed: bool) -> Value | None:
    """Numbers of number helpers; anything else as text, a code such as `04821` too."""
    value = scalar(entity)
    if value is None or entity.state is None:
        return None
    if entity.domain in ("number", "input_number") and not sealed:
        return value if not isinstance(value, str) else None
    whole_minute = _MINUTE.fullmatch(entity.state)
    return whole_minute[1] if whole_minute and entity.domain in ("time", "input_datetime") else entity.state
