"""Scores the home skill on the sentences of Home Assistant's intent tests. It knows no twin and no server.

Each sentence is planned as for a home; the plan is then said in Home Assistant's own words: an intent and
its slots. Sentences, home and expected slots: OHF-Voice/intents, CC BY 4.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llmtwin.errors import InputError
from llmtwin.models.engine.api import Engine, Request, turn
from llmtwin.twins.home.judge import completed
from llmtwin.twins.home.plan import Act, Plan, PlanKind, grammar
from llmtwin.twins.home.resolve import CLASSES, TYPES
from llmtwin.twins.home.words import Amount, amount, kelvin, words

FOLDERS = (
    "HassTurnOn", "HassTurnOff", "HassLightSet", "HassClimateSetTemperature", "HassClimateGetTemperature",
    "HassGetState",
)  # fmt: skip
ON = (Act.ON, Act.OPEN, Act.LOCK)
GRANTED = frozenset({"domain", "device_class"})
"""Slots that follow from the noun: the tests expect them in some files and leave them out in others."""

COVERS = ("window", "blind", "curtain", "shade", "shutter")
CALM = frozenset({"closed", "clear", "off", "dry", "shut", "empty", "unoccupied"})
LEVELS = words("color temperature brightness maximum minimum")
KINDS = words(" ".join(TYPES.values()))
KELVIN_MIN = 1000

Slots = dict[str, str | float]


@dataclass(frozen=True)
class Entity:
    """A device, person or scene of the home that the sentences speak about."""

    name: str
    domain: str

    @property
    def words(self) -> frozenset[str]:
        """The words of its name."""
        return words(self.name)


@dataclass(frozen=True)
class Place:
    """The home that the sentences of one file speak about."""

    entities: Sequence[Entity]
    areas: Mapping[frozenset[str], str]
    floors: Mapping[frozenset[str], str]


@dataclass(frozen=True)
class Sentence:
    """One test: a sentence, the home, and what is right."""

    text: str
    place: Place
    intent: str
    slots: Slots


def evaluate(engine: Engine, skill: str, folder: Path) -> tuple[int, int]:
    """How many sentences get the right intent and slots, of how many. `skill` is its name in the engine."""
    cases = list(sentences(folder))
    requests = [
        Request(engine.chat(turn(case.text)), (skill,), tokens_max=96, grammar=grammar(case.text))
        for case in cases
    ]
    made = zip(cases, engine.generate(requests), strict=True)
    right = (is_right(case, completed(Plan.from_json(one.text), case.text)) for case, one in made)
    return sum(right), len(cases)


def sentences(folder: Path) -> Iterator[Sentence]:
    """Every sentence of the six folders. Raises InputError where they are not there."""
    try:
        fixtures = yaml.safe_load((folder / "_fixtures.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{folder} holds no Home Assistant intent tests") from error
    for intent in FOLDERS:
        for file in sorted((folder / intent).glob("*.yaml")):
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
            place = _place(fixtures, content)
            for test in content["tests"]:
                for text in test["sentences"]:
                    yield Sentence(text, place, intent, test.get("slots", {}))


def _place(fixtures: Mapping[str, Any], content: Mapping[str, Any]) -> Place:
    def both(key: str) -> list[dict[str, Any]]:
        return [*content.get(key, []), *fixtures.get(key, [])]

    entities = [
        Entity(entity["name"], entity.get("domain") or entity["id"].split(".")[0])
        for entity in both("entities")
    ]
    areas = {words(area["name"]): area["name"] for area in both("areas")}
    return Place(entities, areas, {words(floor["name"]): floor["name"] for floor in both("floors")})


def is_right(case: Sentence, plan: Plan) -> bool:
    """Whether a plan says the expected intent with all expected slots and no slot that was not asked for."""
    intent, slots = said(plan, case)
    wanted = {name: _plain(value) for name, value in case.slots.items()}
    got = {name: _plain(value) for name, value in slots.items() if name in wanted or name not in GRANTED}
    return intent == case.intent and got == wanted


def _plain(value: object) -> object:
    return value.casefold() if isinstance(value, str) else value


def said(plan: Plan, case: Sentence) -> tuple[str | None, Slots]:
    """A plan as Home Assistant's intent and slots; no intent where there is none for it."""
    if plan.kind == PlanKind.ASK:
        return _asked(plan, case)
    if plan.kind != PlanKind.ORDER:
        return None, {}
    if plan.act in (Act.SET, Act.RAISE, Act.LOWER):
        return _set(plan, case)
    return ("HassTurnOn" if plan.act in ON else "HassTurnOff"), _target(plan, case)


def _set(plan: Plan, case: Sentence) -> tuple[str, Slots]:
    slots = _target(plan, case, words(plan.property or "") - LEVELS)
    wanted, value = words(plan.property or ""), plan.value or ""
    read = amount(value) or Amount()
    domain = _domain(slots, case.place)
    tone = kelvin(value) or (read.number if read.unit == "K" else None)
    if domain != "climate" and (tone or (read.number or 0) >= KELVIN_MIN):
        return "HassLightSet", {**slots, "temperature": tone or read.number or 0.0}
    if domain == "climate" or ("temperature" in wanted and domain != "light" and "color" not in wanted):
        return "HassClimateSetTemperature", {**slots, "temperature": read.number or 0.0}
    if read == Amount():
        return "HassLightSet", {**slots, "color": value}
    extremes = {"maximum": 100.0, "minimum": 1.0}
    return "HassLightSet", {**slots, "brightness": extremes.get(read.extreme or "", read.number or 0.0)}


def _asked(plan: Plan, case: Sentence) -> tuple[str, Slots]:
    wanted = words(plan.property or "")
    slots = _target(plan, case, wanted)
    if "name" not in slots or _domain(slots, case.place) is None:
        slots = _target(plan, case)
    domain = _domain(slots, case.place)
    if wanted == {"temperature"} and domain in (None, "climate"):
        return "HassClimateGetTemperature", {key: one for key, one in slots.items() if key != "domain"}
    if plan.value is not None:
        slots["state"] = _state(plan.value, domain)
    return "HassGetState", slots


def _state(value: str, domain: str | None) -> str:
    """A state as Home Assistant keeps it: a binary sensor is on or off, whatever people call that."""
    if domain == "binary_sensor":
        return "off" if value.casefold() in CALM else "on"
    return value


def _domain(slots: Slots, place: Place) -> str | None:
    """The domain of the named device, or of the kind that is meant."""
    named = next((entity.domain for entity in place.entities if entity.name == slots.get("name")), None)
    return named or (str(slots["domain"]) if "domain" in slots else None)


def _target(plan: Plan, case: Sentence, more: frozenset[str] = frozenset()) -> Slots:
    """Which device, or which kind of devices, in which room or on which floor.

    A device's or a room's name counts when all of it is in the sentence and some of it in the plan.
    """
    place, heard = case.place, words(case.text)
    thing, meant = words(plan.name or ""), words(f"{plan.name or ''} {plan.area or ''}") | more
    several = bool(plan.name) and (plan.name or "").casefold().endswith("s") and bool(thing & KINDS)
    named = [
        entity
        for entity in place.entities
        if entity.words & meant
        and entity.words <= heard
        and meant - KINDS <= entity.words | _places(place, heard)
        if entity.words - KINDS or not several
    ]
    named = [entity for entity in named if not (several and entity.words & KINDS)]
    best = max(named, key=lambda entity: len(entity.words), default=None)
    left = heard - best.words if best else heard
    slots = _where(place, left, meant)
    return {"name": best.name, **slots} if best else {**_kind(thing), **slots}


def _places(place: Place, heard: frozenset[str]) -> frozenset[str]:
    """The words of every room and floor that the sentence names."""
    return frozenset().union(*(name for name in (*place.areas, *place.floors) if name <= heard))


def _where(place: Place, heard: frozenset[str], meant: frozenset[str]) -> Slots:
    """The room, else the floor, that the sentence names; a place the home does not have, as it was said."""
    for slot, known in (("floor", place.floors), ("area", place.areas)):
        found = [name for name in known if name <= heard]
        if found:
            return {slot: known[max(found, key=len)]}
    strange = meant & heard - KINDS
    return {"area": " ".join(sorted(strange))} if strange else {}


def _kind(thing: frozenset[str]) -> Slots:
    """The kind of device a noun names."""
    for device_class in COVERS:
        if thing & words(CLASSES[device_class]):
            return {"domain": "cover", "device_class": device_class}
    return next(({"domain": domain} for domain, said in TYPES.items() if thing & words(said)), {})
