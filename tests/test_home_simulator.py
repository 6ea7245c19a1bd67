"""The simulated home: the same for the same seed, in Home Assistant's form, and it hangs together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from llmtwin.errors import InputError
from llmtwin.records import Description, Observation, Value
from llmtwin.twins.home.describe import describe
from llmtwin.twins.home.encode import Encoder
from llmtwin.twins.home.observe import observe
from llmtwin.twins.home.simulator import Home
from llmtwin.twins.home.sources import Entity, read_states

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)  # a Tuesday
SEEDS = range(3)


def entities(home: Home, at: datetime) -> tuple[Entity, ...]:
    """What a home says, through the reader of real dumps."""
    dump = read_states(json.dumps(home.states(at)).encode())
    assert not dump.skipped
    return dump.entities


def values(home: Home, at: datetime) -> dict[str, Value]:
    """Every value of a home by path."""
    return {one.fact.path: one.fact.value for one in observe(entities(home, at))}


def a_day(
    home: Home, minutes: int = 10, start: datetime = NOON, hours: tuple[int, int] = (0, 24)
) -> Iterator[tuple[datetime, dict[str, Any]]]:
    """A day, or some hours of it: raw states by entity id."""
    for minute in range(60 * hours[0], 60 * hours[1], minutes):
        at = start.replace(hour=0) + timedelta(minutes=minute)
        yield at, {state["entity_id"]: state for state in home.states(at)}


def path_of(home: Home, domain: str, name: str) -> str:
    """The first property of this name on a device of this domain."""
    devices = describe(entities(home, NOON)).devices
    return next(
        known.path
        for device in devices
        for known in device.properties
        if device.domain == domain and known.name == name and not known.private
    )


# ---- the same home -------------------------------------------------------------------------------


def test_a_home_is_the_same_for_the_same_seed_whatever_was_asked_before() -> None:
    first, second = Home(3, "home3"), Home(3, "home3")
    for hour in (-30, 2, 9):
        first.states(NOON + timedelta(hours=hour))
    assert first.states(NOON) == second.states(NOON)
    assert first.states(NOON) != Home(4, "home3").states(NOON)
    assert first.states(NOON) != Home(3, "home4").states(NOON)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_home_has_what_the_tests_of_twins_need(seed: int) -> None:
    found = entities(Home(seed, f"home{seed}"), NOON)
    seen, described = observe(found), describe(found)
    live = [device for device in described.devices if any(not known.private for known in device.properties)]
    plain = [one for one in seen if one.private and not one.sealed]
    sealed = [one for one in seen if one.sealed]
    assert 30 <= len(live) <= 42
    assert 6 <= len({device.area for device in live}) <= 9
    assert len(plain) >= 52 and len(sealed) >= 55
    codes = [str(one.fact.value) for one in sealed]
    assert all(len(code) == 5 and code.isdigit() and len(set(code)) >= 4 for code in codes)
    assert len(set(codes)) == len(codes)
    lights = {device.name for device in live if device.domain == "light"}
    for limit in ("maximum brightness", "minimum brightness"):
        assert {one.device for one in plain if one.property == limit} == lights
    assert len({one.fact.value for one in plain if one.property == "maximum brightness"}) > 3


@pytest.mark.parametrize("seed", SEEDS)
def test_names_are_unambiguous(seed: int) -> None:
    found = entities(Home(seed, f"home{seed}"), NOON)
    names = [entity.name.lower() for entity in found]
    assert len(set(names)) == len(names)
    live = sorted(f"{one.device.lower()} " for one in observe(found) if not one.private)
    assert not [pair for pair in pairwise(sorted(set(live))) if pair[1].startswith(pair[0])]
    # Every setting belongs to a device, and none is left on its own.
    assert not [one for one in observe(found) if one.private and one.property == "value"]


def test_sealed_objects_are_never_described() -> None:
    found = entities(Home(1, "home1"), NOON)
    text = describe(found).model_dump_json()
    sealed = [one for one in observe(found) if one.sealed]
    assert sealed and not [one for one in sealed if one.fact.path in text or str(one.fact.value) in text]
    assert Description.model_validate_json(text)


# ---- a day hangs together ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_moves_while_everybody_is_out(seed: int) -> None:
    home = Home(seed, f"home{seed}")
    away = 0
    before: dict[str, Any] | None = None
    for _, states in a_day(home):
        out = all(state["state"] == "not_home" for key, state in states.items() if key.startswith("person."))
        if out and before is not None:
            away += 1
            for key, state in states.items():
                if state["attributes"].get("device_class") == "door":
                    assert state["state"] == "off" and state["last_changed"] == before[key]["last_changed"]
                if state["attributes"].get("device_class") == "motion" or key.startswith("light."):
                    assert state["state"] == "off"
        before = states if out else None
    assert away > 3


def test_people_go_through_the_front_door() -> None:
    home = Home(2, "home2")
    door = next(
        state["entity_id"]
        for state in home.states(NOON)
        if state["attributes"].get("device_class") == "door" and "kitchen" not in state["entity_id"]
    )
    days = list(a_day(home, minutes=1, hours=(6, 10)))
    moves = 0
    for (_, before), (_, after), (_, later) in zip(days, days[1:], days[2:], strict=False):
        for person in (key for key in after if key.startswith("person.")):
            if before[person]["state"] != after[person]["state"]:
                moves += 1
                assert "on" in {before[door]["state"], after[door]["state"], later[door]["state"]}
    assert moves >= 2


@pytest.mark.parametrize("day", [NOON, NOON + timedelta(days=4), NOON + timedelta(days=140)])
def test_temperatures_move_smoothly_and_stay_in_bounds(day: datetime) -> None:
    home = Home(5, "home5")
    readings: dict[str, list[float]] = {}
    for _, states in a_day(home, 15, start=day):
        for key, state in states.items():
            if state["attributes"].get("device_class") == "temperature":
                readings.setdefault(key, []).append(float(state["state"]))
    assert readings
    for series in readings.values():
        assert max(abs(after - before) for before, after in pairwise(series)) <= 1
        assert 5 < min(series) < max(series) < 32


def test_lights_follow_presence_and_daylight() -> None:
    home = Home(6, "home6")
    lit = {at.hour: 0 for at, _ in a_day(home, 60)}
    for at, states in a_day(home, 20):
        lit[at.hour] += sum(
            state["state"] == "on" for key, state in states.items() if key.startswith("light.")
        )
    assert lit[2] == 0 and lit[12] == 0
    assert lit[19] + lit[20] > 0


def test_power_follows_devices() -> None:
    home = Home(7, "home7")
    night = NOON.replace(hour=2)
    meter = "sensor.home_power_meter/power"
    path = path_of(home, "media_player", "state")
    before = values(home, night)[meter]
    home.apply(path, "playing")
    after = values(home, night)[meter]
    assert isinstance(before, float | int) and isinstance(after, float | int) and after - before == 70


def test_routines_change_only_at_the_breaks_that_days_are_cut_at() -> None:
    home, day = Home(8, "home8"), NOON.date()
    for device in home._devices.values():
        runs = home._runs(device.entity_id, day)
        told = {minute: device.routine(day, minute) for minute in range(1440)}
        changes = [minute for minute in told if minute == 0 or told[minute] != told[minute - 1]]
        assert [start for start, _ in runs] == changes, device.name


def test_times_are_never_ahead() -> None:
    home = Home(9, "home9")
    for at, states in a_day(home, 60):
        assert all(datetime.fromisoformat(state["last_updated"]) <= at for state in states.values())


# ---- orders and changes --------------------------------------------------------------------------

ORDERS: list[tuple[str, str, Value, Value]] = [
    ("light", "brightness", 42, 42),
    ("light", "brightness", 0, 0),
    ("light", "state", "on", "on"),
    ("light", "color temperature", 3300, 3300),
    ("climate", "target temperature", 23.5, 23.5),
    ("climate", "mode", "cool", "cool"),
    ("lock", "state", "unlocked", "unlocked"),
    ("cover", "position", 35, 35),
    ("cover", "state", "closed", "closed"),
    ("fan", "speed", 65, 65),
    ("media_player", "volume", 22, 22),
    ("media_player", "state", "playing", "playing"),
    ("switch", "state", "on", "on"),
]


@pytest.mark.parametrize(("domain", "name", "ordered", "shown"), ORDERS)
def test_an_order_shows_from_then_on(domain: str, name: str, ordered: Value, shown: Value) -> None:
    home = Home(10, "home10")
    path = path_of(home, domain, name)
    before = values(home, NOON - timedelta(hours=1))
    home.states(NOON)
    home.apply(path, ordered)
    for hours in (0, 9):
        assert values(home, NOON + timedelta(hours=hours))[path] == shown
    assert values(home, NOON - timedelta(hours=1)) == before


def test_a_color_is_shown_by_its_name() -> None:
    home = next(
        home
        for home in (Home(seed, "h") for seed in range(20))
        if any("hs" in state["attributes"].get("supported_color_modes", ()) for state in home.states(NOON))
    )
    path = path_of(home, "light", "color")
    home.apply(path, "purple")
    assert values(home, NOON)[path] == "purple"


def test_heating_is_felt_slowly() -> None:
    home = Home(11, "home11")
    path = path_of(home, "climate", "target temperature")
    felt = path.replace("target temperature", "temperature")
    start = values(home, NOON)[felt]
    home.apply(path, 28.0)
    at_once, soon, later = (values(home, NOON + timedelta(minutes=after))[felt] for after in (5, 60, 400))
    assert start <= at_once < soon < later <= 28  # type: ignore[operator]
    assert at_once - start < 0.6  # type: ignore[operator]


@pytest.mark.parametrize(
    ("domain", "name", "value"),
    [
        ("light", "brightness", 101),
        ("light", "brightness", -1),
        ("light", "brightness", "bright"),
        ("light", "brightness", True),
        ("light", "state", "purple"),
        ("climate", "mode", "dry"),
        ("climate", "target temperature", 90),
        ("climate", "temperature", 21),
        ("sensor", "temperature", 21),
        ("lock", "state", "open"),
    ],
)
def test_what_a_device_cannot_do_is_refused_and_changes_nothing(domain: str, name: str, value: Value) -> None:
    home = Home(12, "home12")
    path = path_of(home, domain, name)
    before = home.states(NOON)
    with pytest.raises(InputError):
        home.apply(path, value)
    with pytest.raises(InputError):
        home.apply("light.that_is_not_there/state", "on")
    assert home.states(NOON) == before


def private_of(home: Home, domain: str, sealed: bool = False) -> Observation:
    """The first private setting of a domain."""
    return next(
        one
        for one in observe(entities(home, NOON))
        if one.private and one.sealed is sealed and one.fact.path.startswith(f"{domain}.")
    )


@pytest.mark.parametrize(
    ("domain", "value", "shown", "bad"),
    [
        ("number", 33, 33, 100_000),
        ("input_number", 7, 7, "seven"),
        ("time", "05:45", "05:45", "25:00"),
        ("input_datetime", "22:10", "22:10", 7),
        ("input_boolean", "off", "off", "maybe"),
        ("text", "90417", "90417", "1234"),
    ],
)
def test_a_setting_can_be_changed(domain: str, value: str | int, shown: Value, bad: str | int) -> None:
    home = next(home for home in (Home(seed, "h") for seed in range(20)) if _takes(home, domain, value))
    setting = private_of(home, domain, sealed=domain == "text")
    entity_id = setting.fact.path.partition("/")[0]
    with pytest.raises(InputError):
        home.change_setting(entity_id, bad)
    home.change_setting(entity_id, value)
    changed = next(one for one in observe(entities(home, NOON)) if one.fact.path == setting.fact.path)
    assert changed.fact.value == shown and changed.fact.at == NOON


def _takes(home: Home, domain: str, value: str | int) -> bool:
    """Whether the home's first setting of the domain has the value in its range."""
    try:
        entity_id = private_of(home, domain, sealed=domain == "text").fact.path.partition("/")[0]
        home.change_setting(entity_id, value)
    except (InputError, StopIteration):
        return False
    return True


def test_the_household_lives_by_its_wake_up_light() -> None:
    home = Home(13, "home13")
    wake_up = next(one for one in observe(entities(home, NOON)) if one.property == "wake-up time")
    home.change_setting(wake_up.fact.path.partition("/")[0], "05:00")
    early = next(at for at, states in a_day(home) if _moves(states))
    home.change_setting(wake_up.fact.path.partition("/")[0], "08:00")
    late = next(at for at, states in a_day(home) if _moves(states))
    assert timedelta(hours=2, minutes=30) < late - early < timedelta(hours=3, minutes=30)


def _moves(states: dict[str, Any]) -> bool:
    return any(
        state["state"] == "on"
        for state in states.values()
        if state["attributes"].get("device_class") in ("motion", "window")
    )


# ---- what travels --------------------------------------------------------------------------------


def test_prompts_are_far_smaller_than_raw_states_and_tell_the_same() -> None:
    home, encoder = Home(14, "home14"), Encoder()
    raw = sent = 0
    known: dict[str, Value] = {}
    for step in range(48):
        states = json.dumps(home.states(NOON + timedelta(minutes=30 * step))).encode()
        prompts = encoder.encode("home14", seen := observe(read_states(states).entities))
        raw += len(states)
        sent += sum(len(prompt.model_dump_json().encode()) for prompt in prompts)
        known |= {fact.path: fact.value for prompt in prompts for fact in prompt.facts}
        for one in seen:
            if not one.private and isinstance(one.fact.value, str):
                assert known[one.fact.path] == one.fact.value
    assert sent * 20 < raw
