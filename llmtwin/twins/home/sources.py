"""Reads a home's states as its own system writes them. It does not know what they mean or who may see them.

Formats: the JSON of Home Assistant's `GET /api/states`, and the sensor logs of the UCI "ADLs Recognition
Using Binary Sensors" data set (Ordóñez et al., Sensors 13(5), 2013).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, StrictStr, StringConstraints, ValidationError

from llmtwin.errors import InputError, TooLarge
from llmtwin.records import Record
from llmtwin.twins.kind import Skipped

DUMP_BYTES_MAX = 64 * 2**20
ENTITY_BYTES_MAX = 64 * 2**10
NAME_CHARS_MAX = 200

EntityId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,32}\.[a-z0-9_]{1,96}$")]
# Any other year is a broken clock, and would overflow when zones are converted.
Time = Annotated[
    AwareDatetime,
    Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(2200, 1, 1, tzinfo=UTC)),
]


class Entity(Record):
    """One entity of Home Assistant at one time; `state` is None where the home gives null."""

    entity_id: EntityId
    state: Annotated[StrictStr, Field(max_length=255)] | None
    attributes: dict[str, Any]
    last_changed: Time
    last_updated: Time

    @property
    def domain(self) -> str:
        """What kind of thing it is: `light`, `sensor`, ..."""
        return self.entity_id.partition(".")[0]

    @property
    def name(self) -> str:
        """What a person calls it, in one line; made from the id where the home gives no name."""
        given = self.attributes.get("friendly_name")
        words = given.split() if isinstance(given, str) else []
        return " ".join(words) or self.entity_id.partition(".")[2].replace("_", " ").strip() or self.entity_id


@dataclass(frozen=True)
class Dump:
    """What a state dump holds, in its order."""

    entities: tuple[Entity, ...]
    skipped: tuple[Skipped, ...]


def read_states(data: bytes) -> Dump:
    """The entities of an `/api/states` dump; a bad entity is skipped by name, the rest is kept.

    Raises InputError when the whole is not a JSON list or holds NaN or Infinity, TooLarge over 64 MiB.
    """
    entities: dict[str, Entity] = {}
    skipped: list[Skipped] = []
    for index, item in enumerate(_json_list(data)):
        try:
            entity = _entity(item)
            if entity.entity_id in entities:
                raise InputError("there is an entity of this id already; the first one is kept")
            entities[entity.entity_id] = entity
        except InputError as error:
            skipped.append(Skipped(_name(item, index), str(error)))
    return Dump(tuple(entities.values()), tuple(skipped))


def _json_list(data: bytes) -> list[Any]:
    if len(data) > DUMP_BYTES_MAX:
        raise TooLarge(f"the state dump has {len(data)} bytes; at most {DUMP_BYTES_MAX} are read")
    try:
        items = json.loads(data, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the state dump is not JSON: {error}; give the output of /api/states") from error
    if not isinstance(items, list):
        raise InputError("the state dump is not a JSON list; give the output of /api/states")
    return items


def _refuse_constant(token: str) -> float:
    raise ValueError(f"{token} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]} is too large")
    return number


def _entity(item: object) -> Entity:
    if not isinstance(item, dict):
        raise InputError("it is not a JSON object")
    try:
        size = len(json.dumps(item, ensure_ascii=False).encode())
    except (UnicodeEncodeError, RecursionError) as error:
        raise InputError("it holds text that is not Unicode, or is nested too deeply") from error
    if size > ENTITY_BYTES_MAX:
        raise InputError(f"it has {size} bytes; at most {ENTITY_BYTES_MAX} are read")
    known = {key: item[key] for key in Entity.model_fields if key in item}
    if known.get("attributes") is None:
        known["attributes"] = {}
    try:
        entity = Entity.model_validate(known)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(f"its {field} is wrong: {first['msg']}") from error
    if len(entity.name) > NAME_CHARS_MAX:
        raise InputError(f"its name has {len(entity.name)} characters; at most {NAME_CHARS_MAX} are read")
    return entity


def _name(item: object, index: int) -> str:
    name = item.get("entity_id") if isinstance(item, dict) else None
    if not isinstance(name, str) or not name.strip():
        return f"item {index}"
    return name.encode(errors="replace").decode()[:NAME_CHARS_MAX]


# ---- the two ADL homes ---------------------------------------------------------------------------

_ADL_CLASSES = {"Pressure": "occupancy", "PIR": "motion", "Flush": "running", "Electric": "power"}


def read_adl(sensors: str) -> list[Entity]:
    """The events of a `*_Sensors.txt` log in time order: each row is one entity going on, then off.

    The log has no zone: its times are taken as UTC. Raises InputError with the number of a bad row.
    """
    rows = enumerate(sensors.splitlines(), start=1)
    events = [event for line, row in rows if line > 2 and row.strip() for event in _adl_events(line, row)]
    # Where one event ends as the next begins, off comes first.
    return sorted(events, key=lambda event: (event.last_updated, event.state == "on"))


def _adl_events(line: int, row: str) -> Iterable[Entity]:
    try:
        start_day, start_time, end_day, end_time, location, kind, place = row.split()
        start = datetime.fromisoformat(f"{start_day} {start_time}").replace(tzinfo=UTC)
        end = datetime.fromisoformat(f"{end_day} {end_time}").replace(tzinfo=UTC)
        device_class = "door" if "door" in location.lower() else "opening"
        attributes = {
            "friendly_name": f"{place} {location.lower()}",
            "device_class": _ADL_CLASSES.get(kind, device_class),
            "area": place,
        }
        entity_id = f"binary_sensor.{location}_{place}".lower()
        for at, state in ((start, "on"), (end, "off")):
            yield Entity(
                entity_id=entity_id, state=state, attributes=attributes, last_changed=at, last_updated=at
            )
    except ValueError as error:
        raise InputError(f"row {line} of the sensor log is not `start end location type place`") from error
