"""Says what a home has: devices, their live properties, and the names of their private settings.

It knows Home Assistant's domains and units, not what anybody asks. `traits` is the one place that says what
an entity's live properties are and how their values are read; `observe` takes the values from it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast

from llmtwin.errors import TooLarge
from llmtwin.records import Description, Device, Property, Value
from llmtwin.twins.home.sources import Entity

DEVICES_MAX = 5000
PROPERTIES_MAX = 256
_UNKNOWN_STATES = frozenset({"", "unknown", "unavailable"})

ROOMS = (
    "attic", "back garden", "balcony", "basement", "bathroom", "bedroom", "cellar", "conservatory",
    "corridor", "den", "dining room", "downstairs bathroom", "driveway", "en suite", "entrance", "entryway",
    "family room", "front garden", "garage", "garden", "guest bathroom", "guest bedroom", "guest room",
    "gym", "hall", "hallway", "home office", "kids bedroom", "kids room", "kitchen", "landing", "laundry",
    "laundry room", "living room", "lobby", "loft", "lounge", "main bedroom", "master bathroom",
    "master bedroom", "nursery", "office", "pantry", "patio", "playroom", "porch", "shed", "sitting room",
    "stairs", "study", "terrace", "toilet", "upstairs bathroom", "utility room", "workshop", "yard",
)  # fmt: skip

# What people call the colours of a lamp; the value seen is the nearest of these.
COLORS: Mapping[str, tuple[int, int, int]] = {
    "red": (255, 0, 0), "orange": (255, 128, 0), "yellow": (255, 255, 0), "lime": (128, 255, 0),
    "green": (0, 255, 0), "turquoise": (0, 255, 160), "cyan": (0, 255, 255), "blue": (0, 0, 255),
    "purple": (128, 0, 255), "magenta": (255, 0, 255), "pink": (255, 128, 192), "white": (255, 255, 255),
}  # fmt: skip

# What a person says for on and off, by the binary sensor's device class.
_DETECTED = ("detected", "clear")
_OPEN = ("open", "closed")
BINARY_WORDS: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("door", "garage_door", "opening", "window"), _OPEN),
    **dict.fromkeys(
        ("carbon_monoxide", "gas", "motion", "occupancy", "smoke", "sound", "tamper", "vibration"), _DETECTED
    ),
    "battery": ("low", "normal"),
    "battery_charging": ("charging", "not charging"),
    "cold": ("cold", "normal"),
    "connectivity": ("connected", "disconnected"),
    "heat": ("hot", "normal"),
    "lock": ("unlocked", "locked"),
    "moisture": ("wet", "dry"),
    "moving": ("moving", "still"),
    "plug": ("plugged in", "unplugged"),
    "presence": ("home", "away"),
    "problem": ("problem", "ok"),
    "running": ("running", "not running"),
    "safety": ("unsafe", "safe"),
    "update": ("update available", "up to date"),
}

# The states one can order a device of a domain into.
_ORDERS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("fan", "humidifier", "light", "switch"), ("on", "off")),
    **dict.fromkeys(("cover", "valve"), _OPEN),
    "lock": ("locked", "unlocked"),
    "media_player": ("on", "off", "playing", "paused"),
    "vacuum": ("cleaning", "paused", "docked"),
}
_SENSOR_NAMES = {"carbon_dioxide": "CO2", "pm25": "PM2.5", "pm10": "PM10", "pm1": "PM1"}
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Trait:
    """One live property of an entity, and its value now; None where the home does not know it."""

    property: Property
    value: Value | None


# ---- devices -------------------------------------------------------------------------------------


def describe(entities: Collection[Entity], sealed: Collection[str] = ()) -> Description:
    """What there is to ask of a home and to order from it.

    `sealed` are glob patterns over entity ids; sealed settings are left out altogether. Raises TooLarge
    over 5000 devices, or 256 properties of one.
    """
    names = Names(entities)
    properties: dict[str, list[Property]] = defaultdict(list)
    for entity in entities:
        if names.is_live(entity):
            properties[entity.entity_id] += (trait.property for trait in traits(entity))
    for entity in entities:
        if names.is_setting(entity) and not is_sealed(entity, sealed):
            properties[names.owner(entity).entity_id].append(_setting(entity, names))
    if len(properties) > DEVICES_MAX:
        raise TooLarge(f"the home has {len(properties)} devices; at most {DEVICES_MAX} are described")
    by_id = {entity.entity_id: entity for entity in entities}
    return Description(devices=tuple(_device(by_id[key], found) for key, found in properties.items()))


def _device(entity: Entity, properties: list[Property]) -> Device:
    if len(properties) > PROPERTIES_MAX:
        raise TooLarge(
            f"{entity.name} has {len(properties)} properties; at most {PROPERTIES_MAX} are described"
        )
    return Device(
        id=entity.entity_id,
        name=entity.name,
        domain=entity.domain,
        device_class=device_class(entity),
        area=area(entity),
        floor=_text(entity.attributes, "floor", 100),
        properties=tuple(properties),
    )


def _setting(entity: Entity, names: Names) -> Property:
    """The name of a private setting. Its range and options stay at home: they would say much of its value."""
    return Property(
        name=names.property_name(entity), path=f"{entity.entity_id}/value", unit=unit(entity), private=True
    )


def area(entity: Entity) -> str | None:
    """The room an entity is in: its `area` attribute, else a known room that its name or id starts with."""
    given = _text(entity.attributes, "area", 100)
    if given:
        return given
    for name in (entity.name.lower(), entity.entity_id.partition(".")[2].replace("_", " ")):
        rooms = [room for room in ROOMS if f"{name} ".startswith(f"{room} ")]
        if rooms:
            return max(rooms, key=len).capitalize()
    return None


def device_class(entity: Entity) -> str | None:
    """The device class, such as `door` or `temperature`; None where there is none of sane length."""
    return _text(entity.attributes, "device_class", 64)


# ---- what is a setting, and whose ----------------------------------------------------------------

_SETTING_DOMAINS = frozenset(
    {"number", "select", "text", "time", "datetime", "date"}
    | {f"input_{kind}" for kind in ("boolean", "number", "select", "text", "datetime")}
)


# A switch is a setting when its name says that it is part of one of these.
_OWNERS_OF_SWITCHES = frozenset(
    {"climate", "cover", "fan", "humidifier", "light", "lock", "media_player", "vacuum", "valve"}
)


class Names:
    """Tells devices from settings, and whose a setting is: the device whose name is the longest start of its.

    Matched by whole words, whatever their case.
    """

    def __init__(self, entities: Collection[Entity]) -> None:
        self._devices: dict[tuple[str, ...], Entity] = {}
        # Of two of one name, a setting belongs to what can be controlled, not to its sensor; a switch comes
        # last, when it is known whether it is a device.
        for entity in sorted(entities, key=_rank):
            if self.is_live(entity):
                self._devices.setdefault(_words(entity), entity)

    def owner(self, entity: Entity) -> Entity:
        """The device a setting belongs to; the setting itself where there is none."""
        words = _words(entity)
        starts = (words[:count] for count in range(len(words) - 1, 0, -1))
        return next((self._devices[start] for start in starts if start in self._devices), entity)

    def property_name(self, entity: Entity) -> str:
        """What is left of a setting's name after its device's; `value` where it is a device of its own."""
        owner = self.owner(entity)
        return "value" if owner is entity else " ".join(entity.name.split()[len(_words(owner)) :])

    def is_setting(self, entity: Entity) -> bool:
        """Whether an entity is private: a helper, a number, a text, ..., or a switch that is part of another.

        A switch named after a room alone ("Kitchen kettle" beside the light group "Kitchen") is a device.
        """
        if entity.domain != "switch":
            return entity.domain in _SETTING_DOMAINS
        owner = self.owner(entity)
        return owner.domain in _OWNERS_OF_SWITCHES and owner.name.lower() not in ROOMS

    def is_live(self, entity: Entity) -> bool:
        """Whether an entity is a device whose state may be shared. Other domains (people, places) are not."""
        return entity.domain in _TRAITS and not self.is_setting(entity)


def _words(entity: Entity) -> tuple[str, ...]:
    return tuple(entity.name.lower().split())


def _rank(entity: Entity) -> int:
    if entity.domain == "switch":
        return 2
    return int(entity.domain in ("sensor", "binary_sensor"))


def is_sealed(entity: Entity, patterns: Collection[str]) -> bool:
    """Whether a private setting is a secret: a password text, marked `sealed`, or named by a glob pattern."""
    password = entity.domain in ("text", "input_text") and entity.attributes.get("mode") == "password"
    marked = entity.attributes.get("sealed") is True
    return password or marked or any(fnmatchcase(entity.entity_id, pattern) for pattern in patterns)


# ---- live properties, by domain ------------------------------------------------------------------


def traits(entity: Entity) -> list[Trait]:
    """The live properties of an entity with their values; temperatures in °C, shares in percent."""
    found = _TRAITS[entity.domain](entity)
    return found if _is_known(entity) else [Trait(trait.property, None) for trait in found]


def _is_known(entity: Entity) -> bool:
    return entity.state is not None and entity.state.lower() not in _UNKNOWN_STATES


def _light(entity: Entity) -> list[Trait]:
    attributes = entity.attributes
    modes = set(_texts(attributes, "supported_color_modes"))
    colored = bool(modes & {"hs", "xy", "rgb", "rgbw", "rgbww"})
    brightness = _percent(attributes, "brightness", 255)
    found = [_state(entity)]
    if modes - {"onoff", "unknown"} or brightness is not None:
        # A light that is off gives null, but it shines with 0 %: the value from before must not stand.
        value = 0 if entity.state == "off" else brightness
        found.append(_trait(entity, "brightness", value, "%", minimum=0, maximum=100))
    if "color_temp" in modes:
        limits = (_number(attributes, "min_color_temp_kelvin"), _number(attributes, "max_color_temp_kelvin"))
        kelvin = _number(attributes, "color_temp_kelvin")
        found.append(_trait(entity, "color temperature", kelvin, "K", minimum=limits[0], maximum=limits[1]))
    if colored:
        found.append(_trait(entity, "color", _color(attributes), options=tuple(COLORS)))
    return found


def _climate(entity: Entity) -> list[Trait]:
    attributes = entity.attributes
    modes = _texts(attributes, "hvac_modes")
    found = [_trait(entity, "mode", entity.state, options=modes, writable=bool(modes))]
    low, high, target, current = (
        _celsius(entity, attributes.get(key))
        for key in ("min_temp", "max_temp", "temperature", "current_temperature")
    )
    found.append(_trait(entity, "target temperature", target, "°C", minimum=low, maximum=high))
    if "current_temperature" in attributes:
        found.append(_trait(entity, "temperature", current, "°C", writable=False))
    if "current_humidity" in attributes:
        humidity = _number(attributes, "current_humidity")
        found.append(_trait(entity, "humidity", humidity, "%", writable=False))
    return found


def _fan(entity: Entity) -> list[Trait]:
    found = [_state(entity)]
    if "percentage" in entity.attributes:
        speed = 0 if entity.state == "off" else _number(entity.attributes, "percentage")
        found.append(_trait(entity, "speed", speed, "%", minimum=0, maximum=100))
    return found


def _cover(entity: Entity) -> list[Trait]:
    found = [_state(entity)]
    if "current_position" in entity.attributes:
        position = _number(entity.attributes, "current_position")
        found.append(_trait(entity, "position", position, "%", minimum=0, maximum=100))
    return found


def _media_player(entity: Entity) -> list[Trait]:
    attributes = entity.attributes
    found = [_state(entity)]
    if "volume_level" in attributes:
        volume = _percent(attributes, "volume_level", 1)
        found.append(_trait(entity, "volume", volume, "%", minimum=0, maximum=100))
    sources = _texts(attributes, "source_list")
    if sources:
        found.append(_trait(entity, "source", _text(attributes, "source", 255), options=sources))
    return found


def _vacuum(entity: Entity) -> list[Trait]:
    found = [_state(entity)]
    if "battery_level" in entity.attributes:
        battery = _number(entity.attributes, "battery_level")
        found.append(_trait(entity, "battery", battery, "%", writable=False))
    return found


def _humidifier(entity: Entity) -> list[Trait]:
    attributes = entity.attributes
    low, high = (_number(attributes, key) for key in ("min_humidity", "max_humidity"))
    target = _number(attributes, "humidity")
    found = [_state(entity), _trait(entity, "target humidity", target, "%", minimum=low, maximum=high)]
    if "current_humidity" in attributes:
        humidity = _number(attributes, "current_humidity")
        found.append(_trait(entity, "humidity", humidity, "%", writable=False))
    return found


def _sensor(entity: Entity) -> list[Trait]:
    kind = device_class(entity)
    name = _SENSOR_NAMES.get(kind or "", (kind or "value").replace("_", " "))
    measure = f"sensor.{kind}" if kind else None
    numeric = "unit_of_measurement" in entity.attributes or "state_class" in entity.attributes
    value = scalar(entity) if numeric else entity.state
    if numeric and isinstance(value, str):
        value = None
    return [_trait(entity, name, value, unit(entity), measure=measure, writable=False)]


def _binary_sensor(entity: Entity) -> list[Trait]:
    kind = device_class(entity)
    on, off = BINARY_WORDS.get(kind or "", ("on", "off"))
    value = {"on": on, "off": off}.get(entity.state or "")
    measure = f"binary_sensor.{kind}" if kind else None
    return [_trait(entity, "state", value, measure=measure, options=(on, off), writable=False)]


_TRAITS: Mapping[str, Callable[[Entity], list[Trait]]] = {
    "binary_sensor": _binary_sensor,
    "climate": _climate,
    "cover": _cover,
    "fan": _fan,
    "humidifier": _humidifier,
    "light": _light,
    "lock": lambda entity: [_state(entity)],
    "media_player": _media_player,
    "sensor": _sensor,
    "switch": lambda entity: [_state(entity)],
    "vacuum": _vacuum,
    "valve": _cover,
}


def _state(entity: Entity) -> Trait:
    return _trait(entity, "state", entity.state, options=_ORDERS[entity.domain])


def _trait(
    entity: Entity,
    name: str,
    value: Value | None,
    unit: str | None = None,
    *,
    measure: str | None = "",
    minimum: float | None = None,
    maximum: float | None = None,
    options: tuple[str, ...] = (),
    writable: bool = True,
) -> Trait:
    """`measure` is `<domain>.<name>` unless given."""
    return Trait(
        Property(
            name=name,
            path=f"{entity.entity_id}/{name}",
            unit=unit,
            measure=f"{entity.domain}.{name}" if measure == "" else measure,
            writable=writable,
            minimum=minimum,
            maximum=maximum,
            options=options,
        ),
        value,
    )


# ---- values as they are found in a home ----------------------------------------------------------


def scalar(entity: Entity) -> int | float | str | None:
    """An entity's state as a number where it is one (°F as °C), else as text; None where it is not known."""
    if not _is_known(entity):
        return None
    number = _celsius(entity, entity.state)
    return entity.state if number is None else number


def unit(entity: Entity) -> str | None:
    """The unit of an entity's state, with °C for °F; None where there is none of sane length."""
    given = _text(entity.attributes, "unit_of_measurement", 32)
    return "°C" if given == "°F" else given


def _celsius(entity: Entity, value: object) -> int | float | None:
    """A temperature in °C. A thermostat names no unit: one that goes to 60 or more counts in °F."""
    number = _as_number(value)
    if number is None:
        return None
    given = entity.attributes.get("unit_of_measurement") or entity.attributes.get("temperature_unit")
    highest = _number(entity.attributes, "max_temp") or 0
    if given == "°F" or (given is None and highest >= 60):
        return _tidy(round((number - 32) / 1.8, 1))
    return number


def _percent(attributes: Mapping[str, Any], key: str, whole: int) -> int | None:
    number = _number(attributes, key)
    return None if number is None else round(100 * min(max(number / whole, 0), 1))


def _color(attributes: Mapping[str, Any]) -> str | None:
    """The nearest named colour; a light that shines in a colour temperature is white."""
    if attributes.get("color_mode") in ("color_temp", "white"):
        return "white"
    rgb = attributes.get("rgb_color")
    if not isinstance(rgb, list) or len(rgb) != 3:
        return None
    seen = [_as_number(part) for part in rgb]
    if any(part is None for part in seen):
        return None
    parts = cast(list[float], seen)

    def distance(name: str) -> float:
        return sum((part - wanted) ** 2 for part, wanted in zip(parts, COLORS[name], strict=True))

    return min(COLORS, key=distance)


def _number(attributes: Mapping[str, Any], key: str) -> int | float | None:
    return _as_number(attributes.get(key))


def _as_number(value: object) -> int | float | None:
    """A finite number of sane size, also where the home wrote it as text."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        return None
    return _tidy(value)


def _tidy(number: float) -> int | float:
    return int(number) if number == int(number) else number


def _text(attributes: Mapping[str, Any], key: str, chars_max: int) -> str | None:
    value = attributes.get(key)
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return text if 0 < len(text) <= chars_max else None


def _texts(attributes: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = attributes.get(key)
    found = [value for value in values if isinstance(value, str)] if isinstance(values, list) else []
    return tuple(found[:256])
