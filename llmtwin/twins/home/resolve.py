"""What the spans of a plan mean in one home: its devices, rooms and properties. It knows no language model.

Everything that was said must be accounted for by what is found, so that a device or a property the home
does not have is noticed and never taken for another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llmtwin.records import Description, Device, Property
from llmtwin.twins.home.words import COHORT, named_before, words

TYPES: dict[str, str] = {
    "light": "light lamp bulb lighting illuminate illumination spotlight chandelier",
    "lock": "lock door",
    "cover": "cover shutter blind shade curtain drape awning roller",
    "climate": "thermostat heating heater climate radiator",
    "fan": "fan ventilator",
    "media_player": "speaker television music player media radio stereo",
    "switch": "switch plug outlet socket",
    "valve": "valve",
    "vacuum": "vacuum robot hoover cleaner",
    "humidifier": "humidifier",
    "sensor": "sensor",
    "binary_sensor": "sensor",
    "scene": "scene",
    "script": "script",
}
CLASSES: dict[str, str] = {
    "blind": "blind", "curtain": "curtain drape", "shade": "shade", "shutter": "shutter", "window": "window",
    "door": "door", "garage": "garage door", "garage_door": "garage door", "gate": "gate", "awning": "awning",
    "motion": "motion", "occupancy": "occupancy presence", "opening": "door window", "tv": "television",
    "speaker": "speaker", "outlet": "outlet socket plug",
}  # fmt: skip
MAIN = ("state", "mode", "position", "value")


@dataclass(frozen=True)
class Match:
    """A property of a device that a plan may mean."""

    device: Device
    property: Property


@dataclass(frozen=True)
class _Entry:
    device: Device
    name: frozenset[str]
    place: frozenset[str]
    type: frozenset[str]

    @property
    def all(self) -> frozenset[str]:
        return self.name | self.place | self.type


class Home:
    """A home's description, made ready for looking things up by what people say."""

    def __init__(self, description: Description) -> None:
        """Index the devices of `description`."""
        self._entries = [_entry(device) for device in description.devices]

    def properties(self, name: str | None, area: str | None, property: str | None, text: str) -> list[Match]:
        """The properties that were meant, the best matches only; several where several match as well.

        The spans say what must be accounted for, the whole `text` what else of a name was said beside them.
        With no property said, the main live one of each device. Empty where the home has no such thing.
        """
        said = words(" ".join(filter(None, (name, area))))
        wanted = words(property or "")
        heard = words(text) | said | wanted
        ranked: list[tuple[tuple[float, ...], Match]] = []
        for entry in self._entries:
            for candidate in _candidates(entry.device, property):
                rank = _rank(entry, candidate, said, wanted, heard)
                if rank is not None:
                    ranked.append((rank, Match(entry.device, candidate)))
        best = max((rank for rank, _ in ranked), default=())
        return [match for rank, match in ranked if rank == best]

    def named(self, text: str) -> list[Match]:
        """The property that a text names in full, of the device that it calls by its full name."""
        heard = words(text)
        found = [
            (len(words(p.name)), Match(entry.device, p))
            for entry in self._entries
            if _is_called(entry, text)
            for p in entry.device.properties
            if words(p.name) and words(p.name) <= heard - (entry.name - words(p.name))
        ]
        best = max((length for length, _ in found), default=0)
        return [match for length, match in found if length == best]

    def calls(self, name: str | None, text: str) -> bool:
        """Whether a name is the full one of a device that a text calls by it."""
        said = words(name or "")
        return any(said == entry.name and _is_called(entry, text) for entry in self._entries)

    def devices(self, name: str | None, area: str | None, text: str) -> list[Device]:
        """The devices that were meant: the named one, or all of a type in a place; empty for none."""
        said = words(" ".join(filter(None, (name, area))))
        heard = words(text) | said
        found = [entry for entry in self._entries if said and said <= entry.all]
        if called := [entry for entry in found if _is_called(entry, text)]:
            longest = max(len(entry.name) for entry in called)
            return [entry.device for entry in called if len(entry.name) == longest]
        if _plural(name):
            kind = words(name or "")
            whole = [entry for entry in found if kind <= entry.type]
            if whole:
                return [entry.device for entry in whole]
        best = max((_coverage(entry, heard) for entry in found), default=0)
        return [entry.device for entry in found if _coverage(entry, heard) == best]

    def another(self, name: str | None, devices: Sequence[Device], text: str) -> str | None:
        """The longer name that a text has for what was found by `name`, if some of it is not so named."""
        before = named_before(text, name) if name else ""
        for device in devices:
            known = _entry(device).all.union(*(words(property.name) for property in device.properties))
            if not words(before) <= known:
                return f"{before} {name}"
        return None

    def measures(self, name: str | None, property: str | None) -> list[Property]:
        """The live properties that can be compared between homes and fit what was said, commonest first."""
        said, wanted = words(name or "") - COHORT, words(property or "") - COHORT
        fits: dict[str, list[Property]] = {}
        for entry in self._entries:
            for candidate in _candidates(entry.device, property):
                own = words(candidate.name)
                whole = (said | wanted) <= entry.all | own and (own & wanted or not wanted)
                if candidate.measure is not None and not candidate.private and whole:
                    fits.setdefault(candidate.measure, []).append(candidate)
        ordered = sorted(fits.values(), key=lambda found: _preference(found[0], wanted, len(found)))
        return [found[0] for found in ordered]


def _entry(device: Device) -> _Entry:
    kinds = f"{TYPES.get(device.domain, device.domain)} {CLASSES.get(device.device_class or '', '')}"
    place = words(f"{device.area or ''} {device.floor or ''}")
    return _Entry(device, words(device.name), place, words(kinds))


def _candidates(device: Device, property: str | None) -> Sequence[Property]:
    if property is not None:
        return device.properties
    live = [p for p in device.properties if not p.private]
    main = [p for wanted in MAIN for p in live if p.name == wanted]
    return (main or live or list(device.properties))[:1]


def _rank(
    entry: _Entry, candidate: Property, said: frozenset[str], wanted: frozenset[str], heard: frozenset[str]
) -> tuple[float, ...] | None:
    """How well a property fits, None where a span is left over or nothing of the device was said."""
    own = words(candidate.name)
    everything = said | wanted
    if candidate.private and not own <= heard:
        return None
    if not everything <= entry.all | own:
        return None
    if (wanted and not own & heard) or (said - own and not said & entry.all):
        return None
    whole = entry.name <= heard
    return (-len(own - heard) if wanted else 0, whole, -len(entry.name - heard), len(own), len(entry.name))


def _preference(candidate: Property, wanted: frozenset[str], count: int) -> tuple[int, int, int]:
    """What is called exactly as was said comes first, then what sensors measure, then the commonest."""
    exact = words(candidate.name) == wanted
    return (not exact, not (candidate.measure or "").startswith("sensor."), -count)


def _is_called(entry: _Entry, text: str) -> bool:
    """Whether a text holds a device's full name, letter for letter but for case."""
    return re.search(rf"(?<!\w){re.escape(entry.device.name)}(?!\w)", text, re.IGNORECASE) is not None


def _plural(name: str | None) -> bool:
    return bool(name) and (name or "").casefold().split()[-1].endswith("s")


def _coverage(entry: _Entry, heard: frozenset[str]) -> int:
    """How many words of a device's name were said if all were, else none: its name beats its type or room."""
    return len(entry.name) if entry.name <= heard else 0


def names(devices: Iterable[Device], most: int = 4) -> str:
    """A few devices' names for a sentence."""
    listed = [device.name for device in devices]
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
