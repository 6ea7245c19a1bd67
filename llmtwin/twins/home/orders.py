"""What an order means for one device: which property, which value. It checks nothing and sends nothing.

Whether the home allows it is for the check against the description to say.
"""

from __future__ import annotations

import math

from llmtwin.errors import InputError
from llmtwin.records import Device, Property, Value
from llmtwin.twins.home.plan import Act
from llmtwin.twins.home.words import Amount, amount, kelvin, words

LEVELS = {
    "light": "brightness", "climate": "target temperature", "cover": "position", "valve": "position",
    "media_player": "volume", "fan": "speed", "humidifier": "target humidity",
}  # fmt: skip
STATES = {
    Act.ON: ("on", "open", "locked", "heat", "auto", "cool", "cleaning", "playing"),
    Act.OFF: ("off", "closed", "unlocked", "docked", "paused"),
    Act.OPEN: ("open", "unlocked"),
    Act.CLOSE: ("closed", "locked"),
    Act.LOCK: ("locked",),
    Act.UNLOCK: ("unlocked",),
}
STEPS = {"°C": 1.0, "K": 500.0}
STEP = 10.0


def state(device: Device, act: Act) -> tuple[Property, Value]:
    """The property and value of "turn on", "close", "lock". InputError where the device has no such state."""
    for property in device.properties:
        if property.writable and property.name in ("state", "mode"):
            for option in STATES[act]:
                if option in property.options:
                    return property, option
    raise InputError(f"the {device.name} cannot be ordered to {act.value}")


def level(device: Device, property: str | None, text: str = "") -> Property:
    """The adjustable property that was meant; with none said, the one its kind of device has.

    One whose name is all in `text` is meant where `property` names none. InputError where the device has
    none, or where it is a private setting.
    """
    heard = words(text) - words(device.name)
    wanted = words(property or LEVELS.get(device.domain, "state"))
    fits = [p for p in device.properties if wanted and wanted <= words(p.name)]
    fits = fits or [p for p in device.properties if p.writable and words(p.name) <= heard]
    writable = sorted((p for p in fits if p.writable), key=lambda p: len(words(p.name)))
    if writable:
        return writable[0]
    if any(p.private for p in fits):
        raise InputError(f"the {fits[0].name} of the {device.name} is a private setting: change it at home")
    raise InputError(f"the {device.name} has no {property or 'level'} that can be set")


def setting(device: Device, property: str | None, said: str, text: str = "") -> tuple[Property, Value]:
    """The property and value of "set … to …". InputError where the value means nothing for the device."""
    meant = property or _implied(device, said)
    chosen = level(device, meant, text)
    return chosen, value(chosen, said)


def value(property: Property, said: str) -> Value:
    """What was said as a value of `property`. InputError where it is none."""
    if property.options:
        option = _option(property, said)
        return said.strip().casefold() if option is None else option
    if property.unit == "K" and (tone := kelvin(said)):
        return tone
    read = amount(said)
    if read is None:
        raise InputError(f"{said!r} is no value for {property.name}")
    return _number(property, read)


def _number(property: Property, read: Amount) -> float:
    if read.extreme is not None:
        bound = property.maximum if read.extreme == "maximum" else property.minimum
        if bound is None:
            raise InputError(f"{property.name} has no {read.extreme}")
        return bound
    assert read.number is not None
    if read.unit == "°F" and property.unit == "°C":
        return round((read.number - 32) / 1.8, 1)
    if read.unit not in (None, property.unit):
        raise InputError(f"{property.name} is set in {property.unit or 'no unit'}, not in {read.unit}")
    return read.number


def step(property: Property, said: str | None) -> float:
    """How much "a bit more" or "by 5 %" is. InputError for more than the property's whole range."""
    read = amount(said) if said else None
    size = read.number if read and read.number is not None else STEPS.get(property.unit or "", STEP)
    low, high = property.minimum, property.maximum
    if low is not None and high is not None and abs(size) > high - low:
        raise InputError(f"{property.name} goes from {low:g} to {high:g}")
    return size


def is_value(device: Device, said: str) -> bool:
    """Whether something can be set to what was said: a number, a time, on or off, or an option."""
    options = {"on", "off"}.union(*(one.options for one in device.properties))
    return amount(said) is not None or said.strip().casefold() in {option.casefold() for option in options}


def can_set(device: Device, property: str) -> bool:
    """Whether the device has a property of that name that can be set."""
    try:
        return level(device, property).writable
    except InputError:
        return False


def can_be(property: Property, said: str | None) -> bool:
    """Whether a property can have the value that was said: a number's must be one."""
    return said is not None and (bool(property.options) or amount(said) is not None)


def as_value(property: Property, said: str) -> Value:
    """What was said as a value of `property`, in the words that were said where it is none."""
    try:
        return value(property, said)
    except InputError:
        return said


def within(property: Property, value: float) -> float:
    """The nearest value in the property's range."""
    low = -math.inf if property.minimum is None else property.minimum
    high = math.inf if property.maximum is None else property.maximum
    return min(max(value, low), high)


def _implied(device: Device, said: str) -> str | None:
    """The property that a bare value speaks of: "red" is a colour, "2700 K" a colour temperature."""
    read = amount(said)
    if read is None:
        for property in device.properties:
            if property.writable and _option(property, said) is not None:
                return property.name
    if kelvin(said) or (read and read.unit == "K"):
        return "color temperature"
    return LEVELS.get(device.domain)


def _option(property: Property, said: str) -> str | None:
    """The option that was said, perhaps with the property's name: "cool mode" is `cool`."""
    wanted = words(said)
    named = [one for one in property.options if words(one) in (wanted, wanted - words(property.name))]
    return named[0] if named else None
