"""A seeded home that speaks Home Assistant's state format: people live in it, and its devices follow them.

It knows nothing of twins or of what is sent. Nothing in it is measured: rooms, people, devices, settings and
the weather are made from the seed, and a day is told minute by minute so that everything agrees. The home
lives in UTC.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache, partial
from hashlib import sha256
from itertools import pairwise
from random import Random
from typing import Any

from llmtwin.errors import InputError
from llmtwin.records import Value
from llmtwin.twins.home.describe import COLORS, describe
from llmtwin.twins.home.sources import read_states

Levels = dict[str, Any]  # what a device is set to, in a person's terms: {"state": "on", "brightness": 60}
_DAY = timedelta(days=1)
_BUILT = datetime(2024, 1, 1, tzinfo=UTC)


# ---- people and their days -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Stay:
    """From a minute of the day on, somebody is in a room, or out (None)."""

    start: int
    room: str | None
    asleep: bool = False


@dataclass(frozen=True)
class _Rooms:
    """The rooms that days are told with, by the home's own names; `floors` holds all rooms."""

    hall: str
    kitchen: str
    living: str
    bathroom: str
    bedrooms: tuple[str, str]
    floors: dict[str, str]


@dataclass(frozen=True)
class _Person:
    name: str
    bedroom: str
    desk: str | None  # where who works at home does; None for who works or learns elsewhere


class _People:
    """Who lives in a home and where each of them is, day by day."""

    def __init__(self, seed: str, rooms: _Rooms) -> None:
        rng = Random(f"{seed}/people")
        self._seed = seed
        self._rooms = rooms
        count = rng.randint(3, 4)
        works_at_home = rng.random() < 0.5
        desk = next((room for room in rooms.floors if room in _DESKS), rooms.living)
        self.members = tuple(
            _Person(name, rooms.bedrooms[index // 2], desk if works_at_home and index == 1 else None)
            for index, name in enumerate(rng.sample(_PEOPLE, count))
        )
        self.stays = lru_cache(256)(self._stays)

    def stay(self, person: _Person, day: date, minute: int, wake: int) -> _Stay:
        """Where somebody is."""
        stays = self.stays(person, day, wake)
        return stays[bisect_right(stays, minute, key=lambda stay: stay.start) - 1]

    def _stays(self, person: _Person, day: date, wake: int) -> tuple[_Stay, ...]:
        """One person's day from 0:00 to 24:00; the first person of a home wakes within minutes of `wake`."""
        rng = Random(f"{self._seed}/{person.name}/{day}")
        rooms, index = self._rooms, self.members.index(person)
        weekend = day.weekday() >= 5
        up = wake + 8 * index + rng.randint(0, 5) + (75 if weekend else 0)
        bed = rng.randint(1320, 1410)
        if weekend:
            daytime = self._weekend(person, day, up)
        elif person.desk:
            errand = rng.randint(715, 725)
            daytime = [(up + 55, person.desk), *self._out(errand, errand + rng.randint(50, 80), person.desk)]
        else:
            leave = up + rng.randint(55, 70)
            daytime = self._out(leave, rng.randint(985, 1050), rooms.living)
        dinner = rng.randint(1095, 1115)
        evening = [(dinner, rooms.kitchen), (dinner + 45, rooms.living), (bed - 20, rooms.bathroom)]
        awake = [(up, rooms.bathroom), (up + 20, rooms.kitchen), *daytime, *evening]
        return (
            _Stay(0, person.bedroom, asleep=True),
            *(_Stay(start, room) for start, room in awake),
            _Stay(bed, person.bedroom, asleep=True),
        )

    def _out(self, leave: int, back: int, then: str) -> list[tuple[int, str | None]]:
        return [(leave - 3, self._rooms.hall), (leave, None), (back, self._rooms.hall), (back + 3, then)]

    def _weekend(self, person: _Person, day: date, up: int) -> list[tuple[int, str | None]]:
        family = Random(f"{self._seed}/outing/{day}")
        leave = max(family.randint(660, 740), up + 80)
        back = leave + family.randint(100, 200)
        outing = family.random() < 0.75
        return [
            (up + 50, self._rooms.living),
            *(self._out(leave, back, self._rooms.living) if outing else ()),
        ]


# ---- weather -------------------------------------------------------------------------------------


class _Weather:
    """Sun and outside temperature, smooth over days."""

    def __init__(self, seed: str) -> None:
        self._seed = seed

    def sun(self, day: date) -> tuple[int, int]:
        """Minutes of sunrise and sunset, about those of 50° north."""
        half = 60 * (6.1 + 2.1 * math.sin(2 * math.pi * (day.timetuple().tm_yday - 80) / 365))
        return round(730 - half), round(730 + half)

    def is_dark(self, day: date, minute: int) -> bool:
        """Whether rooms need light."""
        sunrise, sunset = self.sun(day)
        return not sunrise + 40 <= minute < sunset - 40

    def daylight(self, at: datetime) -> float:
        """From 0 at night to about 1 at a bright noon."""
        sunrise, sunset = self.sun(at.date())
        height = math.sin(math.pi * (_minute(at) - sunrise) / (sunset - sunrise))
        return max(0.0, height) * (0.7 + 0.02 * self._drift(at))

    def outside(self, at: datetime) -> float:
        """Temperature in °C."""
        season = -9 * math.cos(2 * math.pi * (at.timetuple().tm_yday - 20) / 365)
        hour = _minute(at) / 60
        return 11 + season + 4 * math.sin(2 * math.pi * (hour - 9) / 24) + self._drift(at)

    def _drift(self, at: datetime) -> float:
        share = _minute(at) / 1440
        today, tomorrow = (
            Random(f"{self._seed}/{day}").uniform(-4, 4) for day in (at.date(), at.date() + _DAY)
        )
        return today + (tomorrow - today) * share


# ---- what stands in a home -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Device:
    """A device: `routine` says what it is set to at a minute of a day if nobody orders otherwise."""

    entity_id: str
    name: str
    room: str
    attributes: dict[str, Any]
    routine: Callable[[date, int], Levels]
    watts: float = 0.0

    @property
    def domain(self) -> str:
        return self.entity_id.partition(".")[0]


@dataclass(frozen=True)
class _Sensor:
    """A sensor that reports a rounded reading at every `period`."""

    entity_id: str
    name: str
    room: str
    attributes: dict[str, Any]
    read: Callable[[datetime], float]
    period: timedelta = timedelta(minutes=5)
    digits: int | None = 1


@dataclass(frozen=True)
class _Setting:
    entity_id: str
    attributes: dict[str, Any]
    state: str
    changed_at: datetime


_PEOPLE = (
    "Ana", "Ben", "Carla", "David", "Elena", "Felix", "Greta", "Hugo", "Ines", "Jonas", "Klara", "Liam",
    "Maya", "Nora", "Oscar", "Paula", "Rosa", "Samir", "Tara", "Viktor", "Wanda", "Yusuf", "Zoe",
)  # fmt: skip
_DESKS = ("Office", "Study")
_MORE_ROOMS = (
    ("Office", "Study"),
    ("Dining room",),
    ("Laundry room", "Utility room"),
    ("Garage",),
    ("Attic",),
)
_LIGHTS = ("ceiling light", "lamp", "pendant", "spotlights", "wall light", "chandelier", "light strip")
_SECOND_LIGHTS = ("floor lamp", "reading lamp", "table lamp", "corner lamp")
_SECRETS = 55
_SOURCES = ("HDMI 1", "HDMI 2", "Radio", "Bluetooth", "Spotify", "Netflix", "YouTube", "Antenna", "AUX")
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?", re.ASCII)


class Home:
    """A simulated home. Its states depend on seed, name, time, and the orders and changes so far, alone.

    An order holds from the `at` of the latest `states` call on (from the beginning, if there was none) until
    another order; a changed setting holds at every time.
    """

    def __init__(self, seed: int, name: str) -> None:
        self._seed = f"{seed}/{name}"
        self._rng = Random(self._seed)
        self._now: datetime | None = None
        self._devices: dict[str, _Device] = {}
        self._sensors: list[_Sensor] = []
        self._settings: dict[str, _Setting] = {}
        self._setting_ids: dict[str, str] = {}
        self._orders: dict[str, list[tuple[datetime, Levels]]] = {}
        self._rooms = self._make_rooms()
        self._weather = _Weather(self._seed)
        self._people = _People(self._seed, self._rooms)
        self._where = lru_cache(8192)(self._find)
        self._passes = lru_cache(64)(self._find_passes)
        self._runs = lru_cache(4096)(self._make_runs)
        self._equilibrium = lru_cache(8192)(self._make_equilibrium)
        self._warmth = lru_cache(4096)(self._make_warmth)
        self._crowd = lru_cache(4096)(self._make_crowd)
        self._furnish()
        self._lock_away()
        dump = read_states(json.dumps(list(self._entities(_BUILT))).encode())
        devices = describe(dump.entities).devices
        self._properties = {known.path: known for device in devices for known in device.properties}

    # -- what one can do with a home --

    def states(self, at: datetime) -> list[dict[str, Any]]:
        """All entities at `at` (aware, to the minute), as `GET /api/states` gives them."""
        self._now = at.astimezone(UTC)
        return list(self._entities(self._now))

    def apply(self, path: str, value: Value) -> None:
        """Executes an order; later states show it. Raises InputError where the device refuses it."""
        known = self._properties.get(path)
        if known is None or not known.writable:
            raise InputError(f"{path} cannot be set in this home")
        if known.options and value not in known.options:
            raise InputError(f"{path} cannot be {value}; it can be {', '.join(known.options)}")
        if not known.options:
            _check_range(path, value, known.minimum, known.maximum)
        entity_id, _, name = path.partition("/")
        change = _effect(entity_id.partition(".")[0], name, value)
        moment = self._now or datetime.min.replace(tzinfo=UTC)
        self._orders.setdefault(entity_id, []).append((moment, change))
        # Only a floor's warmth is computed from what was ordered.
        self._equilibrium.cache_clear()
        self._warmth.cache_clear()

    def change_setting(self, entity_id: str, value: str | int | float) -> None:
        """Changes a private setting. Raises InputError where there is none, or it does not take the value."""
        setting = self._settings.get(entity_id)
        if setting is None:
            raise InputError(f"there is no setting {entity_id} in this home")
        state = _setting_state(setting, value)
        self._settings[entity_id] = replace(setting, state=state, changed_at=self._now or setting.changed_at)
        # All that was computed may hang on the setting.
        for computed in (self._where, self._passes, self._runs, self._equilibrium, self._warmth, self._crowd):
            computed.cache_clear()

    # -- how it is built --

    def _make_rooms(self) -> _Rooms:
        choose = self._rng.choice
        hall, kitchen = choose(("Hallway", "Entrance", "Hall")), "Kitchen"
        living = choose(("Living room", "Lounge", "Family room"))
        bathroom = choose(("Bathroom", "Upstairs bathroom"))
        bedrooms = (choose(("Bedroom", "Main bedroom")), choose(("Kids room", "Guest room", "Nursery")))
        more = [choose(names) for names in self._rng.sample(_MORE_ROOMS, self._rng.randint(0, 3))]
        upstairs = {bathroom, *bedrooms, "Attic"}
        rooms = (living, kitchen, hall, bathroom, *bedrooms, *more)
        floors = {room: "Upstairs" if room in upstairs else "Downstairs" for room in rooms}
        return _Rooms(hall, kitchen, living, bathroom, bedrooms, floors)

    def _furnish(self) -> None:
        rooms, choose = self._rooms, self._rng.choice
        for room in rooms.floors:
            self._add_light(f"{room} {choose(_LIGHTS)}", room, late=False)
        for room in (rooms.living, rooms.bedrooms[0]):
            self._wake_up_light = self._add_light(f"{room} {choose(_SECOND_LIGHTS)}", room, late=True)
        self._time(self._wake_up_light, "wake-up time", 6, 7)
        kind = choose(("thermostat", "heating", "climate control"))
        for floor, room in (("Downstairs", rooms.living), ("Upstairs", rooms.bedrooms[0])):
            self._add_climate(f"{floor} {kind}", room)
        self._add_lock(choose(("Front door", "Front door lock", "Main door")), rooms.hall)
        self._add_lock(choose(("Back door", "Back door lock", "Garden door")), rooms.kitchen)
        self._add_lock(choose(("Wall safe", "Family safe", "Steel safe")), rooms.bedrooms[0])
        for room in (rooms.living, rooms.kitchen, rooms.bedrooms[0]):
            self._add_cover(f"{room} {choose(('blinds', 'shutters', 'curtains', 'shades'))}", room)
        for room, kinds in (
            (rooms.bathroom, ("extractor fan", "ventilator")),
            (rooms.bedrooms[0], ("ceiling fan", "fan")),
        ):
            self._add_fan(f"{room} {choose(kinds)}", room)
        self._add_media_player(f"{rooms.living} {choose(('TV', 'projector', 'television'))}", rooms.living)
        self._add_media_player(f"{rooms.kitchen} {choose(('speaker', 'radio'))}", rooms.kitchen)
        self._add_switches()
        self._add_binary_sensors()
        self._add_sensors()

    def _add(
        self, domain: str, name: str, room: str, routine: Callable[[date, int], Levels], **more: Any
    ) -> None:
        watts = more.pop("watts", 0.0)
        device = _Device(_id(domain, name), name, room, self._labels(name, room) | more, routine, watts)
        self._devices[device.entity_id] = device

    def _labels(self, name: str, room: str) -> dict[str, Any]:
        return {"friendly_name": name, "area": room, "floor": self._rooms.floors[room]}

    def _number(self, device: str, name: str, unit: str, low: float, high: float, step: float = 1) -> None:
        domain = self._rng.choice(("number", "input_number"))
        value = low + step * self._rng.randint(0, round((high - low) / step))
        limits = {"min": min(low, 0), "max": max(high, 100 if unit == "%" else high), "step": step}
        attributes = limits | {"mode": "slider", "unit_of_measurement": unit}
        self._set(domain, device, name, f"{value:g}", attributes)

    def _time(self, device: str, name: str, earliest: int, latest: int) -> None:
        minute = self._rng.randrange(earliest * 60, latest * 60, 5)
        helper = {"has_date": False, "has_time": True, "editable": True}
        domain, attributes = self._rng.choice((("time", {}), ("input_datetime", helper)))
        self._set(domain, device, name, f"{minute // 60:02}:{minute % 60:02}:00", attributes)

    def _set(self, domain: str, device: str, name: str, state: str, attributes: dict[str, Any]) -> None:
        friendly = f"{device} {name}"
        changed_at = _BUILT - timedelta(minutes=self._rng.randint(1, 200_000))
        labels = {"friendly_name": friendly}
        setting = _Setting(_id(domain, friendly), attributes | labels, state, changed_at)
        self._settings[setting.entity_id] = setting
        self._setting_ids[friendly] = setting.entity_id

    def _value(self, device: str, name: str) -> float:
        """A number, or the minute of a time, that is set for a device."""
        state = self._settings[self._setting_ids[f"{device} {name}"]].state
        return _clock(state) if ":" in state else float(state)

    # -- the devices, each with its settings --

    def _add_light(self, name: str, room: str, late: bool) -> str:
        usual = self._rng.randint(55, 100)
        warm = self._rng.choice((2200, 2700))
        # What shows every colour, what shows white tones, and what can only be dimmed.
        modes = self._rng.choice((["color_temp", "hs"], ["color_temp"], ["color_temp"], ["brightness"]))
        more: dict[str, Any] = {"supported_color_modes": modes, "supported_features": 44}
        if "color_temp" in modes:
            more |= {"min_color_temp_kelvin": 2000, "max_color_temp_kelvin": 6500}

        def routine(day: date, minute: int) -> Levels:
            lit = self._awake_in(room, day, minute) and self._weather.is_dark(day, minute)
            night = minute >= 1260
            brightness = usual * (0.6 if night else 1)
            brightness = min(
                max(brightness, self._value(name, "minimum brightness")),
                self._value(name, "maximum brightness"),
            )
            levels: Levels = {
                "state": _on(lit and (not late or minute >= 1080)),
                "brightness": round(brightness),
            }
            return levels | ({"color temperature": warm if night else warm + 800} if len(more) > 2 else {})

        self._add("light", name, room, routine, watts=self._rng.choice((7.0, 9.0, 14.0)), **more)
        self._number(name, "maximum brightness", "%", 60, 100)
        self._number(name, "minimum brightness", "%", 1, 20)
        self._number(name, "fade time", "s", 0.5, 8, 0.5)
        return name

    def _add_climate(self, name: str, room: str) -> None:
        def routine(day: date, minute: int) -> Levels:
            stays = self._where(day, minute)
            awake = any(stay.room and not stay.asleep for stay in stays)
            asleep = any(stay.asleep for stay in stays)
            setting = "comfort" if awake else "night" if asleep else "away"
            mode = "off" if 121 <= day.timetuple().tm_yday < 274 else "heat"
            return {"mode": mode, "target temperature": self._value(name, f"{setting} temperature")}

        modes = ["off", "heat", "cool", "heat_cool"]
        limits = {"min_temp": 7, "max_temp": 30, "target_temp_step": 0.5}
        self._add("climate", name, room, routine, hvac_modes=modes, supported_features=401, **limits)
        self._number(name, "comfort temperature", "°C", 19, 23, 0.5)
        self._number(name, "night temperature", "°C", 15, 18.5, 0.5)
        self._number(name, "away temperature", "°C", 10, 14.5, 0.5)
        self._time(name, "schedule start", 4, 9)
        self._number(name, "window pause", "min", 2, 30)

    def _add_lock(self, name: str, room: str) -> None:
        is_front = room == self._rooms.hall
        is_safe = room == self._rooms.bedrooms[0]

        def routine(day: date, minute: int) -> Levels:
            delay = self._value(name, "auto-lock delay")
            passes = self._passes(day) if is_front else () if is_safe else self._airings(day)
            unlocked = any(opened - 1 <= minute < opened + delay for opened in passes)
            return {"state": "unlocked" if unlocked else "locked"}

        self._add("lock", name, room, routine, supported_features=0)
        self._number(name, "auto-lock delay", "min", 2, 9)
        self._time(name, "lock-up time", 20, 24)

    def _add_cover(self, name: str, room: str) -> None:
        def routine(day: date, minute: int) -> Levels:
            is_open = self._value(name, "opening time") <= minute < self._value(name, "closing time")
            return {"state": "open" if is_open else "closed", "position": 100 if is_open else 0}

        self._add("cover", name, room, routine, device_class="shade", supported_features=15)
        self._time(name, "opening time", 6, 10)
        self._time(name, "closing time", 17, 22)
        self._number(name, "sun position", "%", 10, 80)

    def _add_fan(self, name: str, room: str) -> None:
        usual = self._rng.randrange(30, 90, 5)
        in_bathroom = room == self._rooms.bathroom

        def routine(day: date, minute: int) -> Levels:
            summer = 152 <= day.timetuple().tm_yday < 244
            if in_bathroom:
                # It runs on for less time than people stay, so two moments tell.
                run_on = math.ceil(self._value(name, "run-on time"))
                running = any(self._awake_in(room, day, max(0, minute - ago)) for ago in (0, run_on))
            else:
                running = summer and any(
                    stay.asleep and stay.room == room for stay in self._where(day, minute)
                )
            return {"state": _on(running), "speed": min(usual, round(self._value(name, "speed limit")))}

        self._add("fan", name, room, routine, percentage_step=1.0, supported_features=49, watts=25.0)
        self._number(name, "speed limit", "%", 40, 100)
        self._number(name, "run-on time", "min", 3, 15)

    def _add_media_player(self, name: str, room: str) -> None:
        sources = self._rng.sample(_SOURCES, 5)
        usual = self._rng.randint(15, 60)
        evening = room == self._rooms.living

        def routine(day: date, minute: int) -> Levels:
            at_its_time = minute >= 1140 if evening else minute < 600
            volume = min(usual, round(self._value(name, "volume limit")))
            playing = at_its_time and self._awake_in(room, day, minute)
            source = sources[(day.toordinal() + minute // 1260) % len(sources)]
            return {"state": "playing" if playing else "off", "volume": volume, "source": source}

        features = {"source_list": sources, "device_class": "tv" if evening else "speaker"}
        self._add("media_player", name, room, routine, supported_features=152461, watts=70.0, **features)
        self._number(name, "volume limit", "%", 30, 90)
        self._number(name, "start volume", "%", 5, 25)
        self._set("select", name, "default source", self._rng.choice(sources), {"options": sources})
        self._time(name, "quiet hours start", 20, 24)

    def _add_switches(self) -> None:
        rooms, choose = self._rooms, self._rng.choice

        def coffee(day: date, minute: int) -> Levels:
            breakfasts = (stay.start for stays in self._days(day) for stay in stays[2:3])
            return {"state": _on(any(start <= minute < start + 10 for start in breakfasts))}

        def laundry(day: date, minute: int) -> Levels:
            start = self._washing(day)
            return {"state": _on(start % 5 > 1 and start <= minute < start + 90)}

        def alarm(day: date, minute: int) -> Levels:
            return {"state": _on(all(stay.asleep or stay.room is None for stay in self._where(day, minute)))}

        kettle = choose(("coffee machine", "espresso machine", "kettle"))
        washer = choose(("washing machine", "dishwasher", "dryer"))
        for name, room, routine, watts in (
            (f"{rooms.kitchen} {kettle}", rooms.kitchen, coffee, 900.0),
            (washer.capitalize(), rooms.kitchen, laundry, 450.0),
            (choose(("House alarm", "Burglar alarm", "Alarm system")), rooms.hall, alarm, 3.0),
        ):
            self._add("switch", name, room, routine, watts=watts)
            self._number(name, "standby cutoff", "W", 2, 40)
            self._time(name, "earliest start", 5, 12)
            child_lock = self._rng.choice(("on", "off"))
            self._set("input_boolean", name, "child lock", child_lock, {"editable": True})

    def _add_binary_sensors(self) -> None:
        rooms = self._rooms

        def opened(moments: Callable[[date], tuple[int, ...]], minutes: int) -> Callable[[date, int], Levels]:
            def routine(day: date, minute: int) -> Levels:
                return {"state": _on(any(start <= minute < start + minutes for start in moments(day)))}

            return routine

        def moving(room: str) -> Callable[[date, int], Levels]:
            return lambda day, minute: {"state": _on(self._awake_in(room, day, minute))}

        def wakings(day: date) -> tuple[int, ...]:
            return tuple(stay.start for stay in self._days(day)[0][2:3])

        for name, room, kind, routine in (
            (f"{rooms.hall} door contact", rooms.hall, "door", opened(self._passes, 1)),
            (f"{rooms.kitchen} door contact", rooms.kitchen, "door", opened(self._airings, 2)),
            (f"{rooms.bedrooms[0]} window", rooms.bedrooms[0], "window", opened(wakings, 20)),
            (f"{rooms.kitchen} window", rooms.kitchen, "window", opened(self._airings, 20)),
            *(
                (f"{room} motion sensor", room, "motion", moving(room))
                for room in (rooms.hall, rooms.living, rooms.kitchen)
            ),
        ):
            self._add("binary_sensor", name, room, routine, device_class=kind)

    def _add_sensors(self) -> None:
        rooms = self._rooms
        for room in (rooms.kitchen, rooms.bathroom, rooms.bedrooms[1]):
            self._add_sensor(f"{room} thermometer", room, "temperature", "°C", self._room_temperature(room))
        for room in (rooms.bathroom, rooms.living):
            self._add_sensor(f"{room} humidity sensor", room, "humidity", "%", self._room_humidity(room))
        minute = timedelta(minutes=1)
        self._add_sensor("Home power meter", rooms.hall, "power", "W", self._power, period=minute)
        self._add_sensor(
            f"{rooms.living} daylight sensor",
            rooms.living,
            "illuminance",
            "lx",
            self._illuminance,
            digits=None,
        )
        self._add_sensor(
            f"{rooms.bedrooms[0]} air monitor",
            rooms.bedrooms[0],
            "carbon_dioxide",
            "ppm",
            self._co2,
            digits=None,
        )

    def _add_sensor(
        self, name: str, room: str, kind: str, unit: str, read: Callable[[datetime], float], **more: Any
    ) -> None:
        attributes = {"state_class": "measurement", "unit_of_measurement": unit, "device_class": kind}
        labels = self._labels(name, room) | attributes
        self._sensors.append(_Sensor(_id("sensor", name), name, room, labels, read, **more))

    def _lock_away(self) -> None:
        """The home's secrets: codes of locks and alarm for each person, and of each device."""
        guarded = [
            device.name
            for device in self._devices.values()
            if device.domain == "lock" or device.name.lower().startswith(("house", "burglar", "alarm"))
        ]
        ordered = [device.name for device in self._devices.values() if device.domain != "binary_sensor"]
        secrets = [
            (name, f"{kind} for {person.name}")
            for name in guarded
            for kind in ("code", "backup code", "duress code")
            for person in self._people.members
        ] + [(name, "pairing code") for name in ordered]
        secrets = secrets[:_SECRETS]
        codes = _codes(self._rng, len(secrets))
        for (name, secret), code in zip(secrets, codes, strict=True):
            self._set(
                "text", name, secret, code, {"mode": "password", "min": 5, "max": 5, "pattern": r"\d{5}"}
            )

    # -- what people do --

    def _wake(self) -> int:
        """The household wakes by the bedroom's wake-up light, from five to half past eight."""
        return round(min(max(self._value(self._wake_up_light, "wake-up time"), 300), 510))

    def _days(self, day: date) -> list[tuple[_Stay, ...]]:
        wake = self._wake()
        return [self._people.stays(person, day, wake) for person in self._people.members]

    def _find(self, day: date, minute: int) -> list[_Stay]:
        """Where everybody is."""
        wake = self._wake()
        return [self._people.stay(person, day, minute, wake) for person in self._people.members]

    def _awake_in(self, room: str, day: date, minute: int) -> bool:
        return any(stay.room == room and not stay.asleep for stay in self._where(day, minute))

    def _find_passes(self, day: date) -> tuple[int, ...]:
        """Minutes at which the front door opens: just before somebody leaves, and as somebody comes."""
        found: set[int] = set()
        for stays in self._days(day):
            for before, after in pairwise(stays):
                if after.room is None:
                    found.add(after.start - 1)
                elif before.room is None:
                    found.add(after.start)
        return tuple(sorted(found))

    def _washing(self, day: date) -> int:
        """The minute of the evening at which the household would wash; it does on three days of five."""
        return Random(f"{self._seed}/washing/{day}").randint(1115, 1135)

    def _airings(self, day: date) -> tuple[int, ...]:
        """Minutes at which the first person opens the kitchen to the outside, five minutes into dinner."""
        dinner = self._days(day)[0][-4]
        return (dinner.start + 5,)

    # -- what devices are set to --

    def _make_runs(self, entity_id: str, day: date) -> list[tuple[int, Levels]]:
        """A device's day by its routine: from which minute on it is set to what."""
        routine = self._devices[entity_id].routine
        runs: list[tuple[int, Levels]] = []
        for minute in self._breaks(day):
            levels = routine(day, minute)
            if not runs or runs[-1][1] != levels:
                runs.append((minute, levels))
        return runs

    def _breaks(self, day: date) -> list[int]:
        """Every minute of a day at which some routine may change."""
        sunrise, sunset = self._weather.sun(day)
        settings = self._settings.values()
        times = {_clock(setting.state) for setting in settings if ":" in setting.state}
        delays = {
            math.ceil(float(setting.state))
            for setting in settings
            if setting.attributes.get("unit_of_measurement") == "min"
        }
        # What routines add to the start of a stay: doors, airing, coffee, and locks and fans that wait.
        steps = {-2, -1, 0, 1, 4, 5, 7, 10, 20, 25} | {
            delay + late for delay in delays for late in (-1, 0, 5)
        }
        moves = {stay.start + step for stays in self._days(day) for stay in stays for step in steps}
        washing = self._washing(day)
        found = {*range(0, 1440, 60), sunrise + 40, sunset - 40, washing, washing + 90, *times, *moves}
        return sorted(minute for minute in found if 0 <= minute < 1440)

    def _levels(self, device: _Device, at: datetime) -> tuple[Levels, datetime]:
        """What a device is set to, orders included, and since when."""
        runs = self._runs(device.entity_id, at.date())
        index = bisect_right(runs, _minute(at), key=lambda run: run[0]) - 1
        start, levels = runs[index]
        since = _moment(at.date(), start)
        if index == 0:
            last, before = self._runs(device.entity_id, at.date() - _DAY)[-1]
            since = _moment(at.date() - _DAY, last) if before == levels else since
        for moment, change in self._orders.get(device.entity_id, ()):
            if moment <= at:
                levels, since = {**levels, **change}, max(since, moment)
        return levels, since

    # -- what sensors read --

    def _climate(self, room: str) -> _Device:
        floors = self._rooms.floors
        climates = [device for device in self._devices.values() if device.domain == "climate"]
        return next(device for device in climates if floors[device.room] == floors[room])

    def _make_equilibrium(self, entity_id: str, step: int) -> float:
        """The temperature that a floor tends to, at a step of 10 minutes since 1970."""
        at = datetime.fromtimestamp(step * 600, UTC)
        levels, _ = self._levels(self._devices[entity_id], at)
        idle, target = 8 + 0.6 * self._weather.outside(at), levels["target temperature"]
        aims = {"heat": max(idle, target), "cool": min(idle, target), "heat_cool": target}
        return float(aims.get(levels["mode"], idle))

    def _make_warmth(self, entity_id: str, step: int) -> float:
        """Where 16 hours of tending, with a time constant of 150 minutes, have brought a floor."""
        return _fade([self._equilibrium(entity_id, step - ago) for ago in range(1, 97)], 15)

    def _make_crowd(self, room: str, step: int) -> float:
        """How many people have been in a room lately, at a step of 5 minutes since 1970."""
        moments = (datetime.fromtimestamp((step - ago) * 300, UTC) for ago in range(36))
        stays = (self._where(moment.date(), _minute(moment)) for moment in moments)
        return _fade([sum(stay.room == room for stay in now) for now in stays], 8)

    def _temperature(self, device: _Device, at: datetime) -> float:
        step, rest = divmod(at.timestamp() / 600, 1)
        before, after = (self._warmth(device.entity_id, int(step) + more) for more in (0, 1))
        return before + (after - before) * rest

    def _room_temperature(self, room: str) -> Callable[[datetime], float]:
        offset = self._rng.uniform(-1.2, 1.2)
        return lambda at: self._temperature(self._climate(room), at) + offset

    def _room_humidity(self, room: str) -> Callable[[datetime], float]:
        usual = self._rng.uniform(38, 50)
        wet = 18 if room == self._rooms.bathroom else 2
        return lambda at: usual + wet * self._crowd(room, int(at.timestamp() // 300)) + _ripple(at)

    def _co2(self, at: datetime) -> float:
        return 430 + 260 * self._crowd(self._rooms.bedrooms[0], int(at.timestamp() // 300)) + 4 * _ripple(at)

    def _illuminance(self, at: datetime) -> float:
        lit = 0.0
        for device in self._devices.values():
            if device.room == self._rooms.living and device.domain == "light":
                levels, _ = self._levels(device, at)
                lit += 1.5 * levels["brightness"] if levels["state"] == "on" else 0
        return 600 * self._weather.daylight(at) + lit

    def _power(self, at: datetime) -> float:
        """What everything that is on draws, and a fridge that runs 15 minutes of every 45."""
        total = 85.0 + (90 if (at.timestamp() // 60) % 45 < 15 else 0)
        for device in self._devices.values():
            levels, _ = self._levels(device, at)
            if device.watts and levels["state"] in ("on", "playing"):
                total += device.watts * levels.get("brightness", 100) / 100
        return total

    # -- how Home Assistant says it --

    def _entities(self, at: datetime) -> Iterator[dict[str, Any]]:
        for device in self._devices.values():
            levels, since = self._levels(device, at)
            if device.domain == "climate":
                reading, updated = _report(partial(self._temperature, device), at)
                levels, since = {**levels, "temperature": reading}, max(since, updated)
            state, shown = _SHOW.get(device.domain, _show_state)(levels)
            yield self._entity(device.entity_id, state, device.attributes | shown, since)
        for sensor in self._sensors:
            reading, updated = _report(sensor.read, at, sensor.period, sensor.digits)
            yield self._entity(sensor.entity_id, str(reading), sensor.attributes, updated)
        for person, stays, stay in zip(
            self._people.members, self._days(at.date()), self._where(at.date(), _minute(at)), strict=True
        ):
            start = max(known.start for known in stays if known.start <= stay.start)
            state = "home" if stay.room else "not_home"
            shown = {"friendly_name": person.name, "id": person.name.lower(), "editable": True}
            yield self._entity(f"person.{person.name.lower()}", state, shown, _moment(at.date(), start))
        for setting in self._settings.values():
            yield self._entity(setting.entity_id, setting.state, setting.attributes, setting.changed_at)

    def _entity(
        self, entity_id: str, state: str, attributes: dict[str, Any], updated: datetime
    ) -> dict[str, Any]:
        moment = updated.isoformat()
        context = sha256(f"{self._seed}/{entity_id}/{moment}".encode()).hexdigest()[:26].upper()
        return {
            "entity_id": entity_id,
            "state": state,
            "attributes": attributes,
            "last_changed": moment,
            "last_reported": moment,
            "last_updated": moment,
            "context": {"id": context, "parent_id": None, "user_id": None},
        }


# ---- orders and settings -------------------------------------------------------------------------


def _effect(domain: str, name: str, value: Value) -> Levels:
    """Everything that one order changes: a lamp that is given a colour goes on, too."""
    match domain, name:
        case "light", "brightness":
            return {"state": "on", "brightness": value} if value else {"state": "off"}
        case "light", "color temperature":
            return {"state": "on", name: value, "color": None}
        case "light", "color":
            return {"state": "on", name: value}
        case "fan", "speed":
            return {"state": "on", name: value} if value else {"state": "off"}
        case "cover", "position":
            return {"state": "open" if value else "closed", name: value}
        case "cover", "state":
            return {name: value, "position": 100 if value == "open" else 0}
    return {name: value}


def _check_range(path: str, value: Value, minimum: float | None, maximum: float | None) -> None:
    low, high = -math.inf if minimum is None else minimum, math.inf if maximum is None else maximum
    if isinstance(value, bool | str) or not low <= value <= high:
        raise InputError(f"{path} cannot be {value}; it takes numbers from {low:g} to {high:g}")


def _setting_state(setting: _Setting, value: str | int | float) -> str:
    """How Home Assistant writes the value. Raises InputError where the setting does not take it."""
    domain, attributes = setting.entity_id.partition(".")[0], setting.attributes
    refusal = f"{setting.entity_id} cannot be {value}"
    if domain in ("number", "input_number"):
        _check_range(setting.entity_id, value, attributes["min"], attributes["max"])
        return f"{float(value):g}"
    if not isinstance(value, str):
        raise InputError(f"{refusal}; it takes text")
    if domain in ("time", "input_datetime"):
        if not _TIME.fullmatch(value):
            raise InputError(f"{refusal}; it takes a time such as 06:30")
        return value if len(value) == 8 else f"{value}:00"
    options = {"select": attributes.get("options"), "input_boolean": ["on", "off"]}.get(domain)
    if options is not None and value not in options:
        raise InputError(f"{refusal}; it can be {', '.join(options)}")
    if domain == "text" and not re.fullmatch(attributes["pattern"], value):
        raise InputError(f"{refusal}; it takes a code of five digits")
    return value


def _codes(rng: Random, count: int) -> list[str]:
    """Distinct five-digit codes that nobody would try first: at least four digits differ."""
    plain = [str(code) for code in range(10_000, 100_000) if len(set(str(code))) >= 4]
    return rng.sample([code for code in plain if code not in "0123456789876543210"], count)


# ---- levels as Home Assistant shows them ---------------------------------------------------------


def _show_state(levels: Levels) -> tuple[str, dict[str, Any]]:
    return levels["state"], {}


def _show_light(levels: Levels) -> tuple[str, dict[str, Any]]:
    lit = levels["state"] == "on"
    color, kelvin = levels.get("color"), levels.get("color temperature")
    mode = "hs" if color else "color_temp" if kelvin else "brightness"
    return levels["state"], {
        "brightness": round(levels["brightness"] * 2.55) if lit else None,
        "color_mode": mode if lit else None,
        "color_temp_kelvin": kelvin if lit and not color else None,
        "rgb_color": list(COLORS[color]) if lit and color else None,
    }


def _show_climate(levels: Levels) -> tuple[str, dict[str, Any]]:
    mode, target, current = levels["mode"], levels["target temperature"], levels["temperature"]
    action = "off" if mode == "off" else "idle"
    if mode in ("heat", "heat_cool") and current < target:
        action = "heating"
    if mode in ("cool", "heat_cool") and current > target:
        action = "cooling"
    return mode, {"temperature": target, "current_temperature": current, "hvac_action": action}


def _show_fan(levels: Levels) -> tuple[str, dict[str, Any]]:
    return levels["state"], {"percentage": levels["speed"] if levels["state"] == "on" else 0}


def _show_cover(levels: Levels) -> tuple[str, dict[str, Any]]:
    return levels["state"], {"current_position": levels["position"]}


def _show_media_player(levels: Levels) -> tuple[str, dict[str, Any]]:
    return levels["state"], {"volume_level": levels["volume"] / 100, "source": levels["source"]}


_SHOW: dict[str, Callable[[Levels], tuple[str, dict[str, Any]]]] = {
    "light": _show_light,
    "climate": _show_climate,
    "fan": _show_fan,
    "cover": _show_cover,
    "media_player": _show_media_player,
}


def _report(
    read: Callable[[datetime], float],
    at: datetime,
    period: timedelta = timedelta(minutes=5),
    digits: int | None = 1,
) -> tuple[float, datetime]:
    """The latest reading, and when it came: a reading that stays the same is told again each hour."""
    moment = datetime.fromtimestamp(at.timestamp() // period.total_seconds() * period.total_seconds(), UTC)
    reading = round(read(moment), digits)
    while moment.minute and round(read(moment - period), digits) == reading:
        moment -= period
    return reading, moment


# ---- small mathematics ---------------------------------------------------------------------------


def _fade(values: list[float], steps: float) -> float:
    """The mean of values, newest first, each weighing less by 1/e every `steps`."""
    weights = [math.exp(-ago / steps) for ago in range(len(values))]
    return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)


def _ripple(at: datetime) -> float:
    return math.sin(at.timestamp() / 2000) + 0.5 * math.sin(at.timestamp() / 700)


def _minute(at: datetime) -> int:
    return at.hour * 60 + at.minute


def _clock(text: str) -> int:
    """The minute of the day that a time such as 06:30:00 says."""
    return int(text[:2]) * 60 + int(text[3:5])


def _moment(day: date, minute: int) -> datetime:
    return datetime.combine(day, time(minute // 60, minute % 60), UTC)


def _on(condition: bool) -> str:
    return "on" if condition else "off"


def _id(domain: str, name: str) -> str:
    return f"{domain}.{re.sub('[^a-z0-9]+', '_', name.lower())}"
