"""Reading a home's states, and saying what there is: bad rows, real dumps, the two ADL homes."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtwin.errors import InputError, TooLarge
from llmtwin.records import Observation, Property
from llmtwin.twins.home.describe import describe
from llmtwin.twins.home.observe import observe
from llmtwin.twins.home.sources import DUMP_BYTES_MAX, read_adl, read_states

ADL = Path(os.environ.get("LLMTWIN_ADL", Path(__file__).parents[2] / "shared/data/home/adl"))
AT = "2026-03-01T10:00:00+00:00"


def row(entity_id: str, state: Any = "on", **attributes: Any) -> dict[str, Any]:
    """One entity as Home Assistant writes it."""
    return {
        "entity_id": entity_id,
        "state": state,
        "attributes": attributes,
        "last_changed": AT,
        "last_updated": AT,
        "context": {"id": "01H", "parent_id": None, "user_id": None},
    }


def read(*rows: Any) -> tuple[list[str], list[str]]:
    """The ids of what was read and the names of what was skipped."""
    dump = read_states(json.dumps(rows).encode())
    return [entity.entity_id for entity in dump.entities], [skipped.name for skipped in dump.skipped]


def properties(*rows: dict[str, Any]) -> dict[str, Property]:
    """Every described property by path."""
    described = describe(read_states(json.dumps(rows).encode()).entities)
    return {known.path: known for device in described.devices for known in device.properties}


def observed(*rows: dict[str, Any], sealed: tuple[str, ...] = ()) -> dict[str, Observation]:
    """Every observation by path."""
    found = observe(read_states(json.dumps(rows).encode()).entities, sealed)
    return {one.fact.path: one for one in found}


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not json",
        b"{}",
        b'"light.a"',
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b"[1e999]",
        b"\xff\xfe\x00",
        b"[" * 200_000,
        b"[" + b"1" * 10_000 + b"]",
    ],
)
def test_a_dump_that_is_no_list_of_json_is_refused(data: bytes) -> None:
    with pytest.raises(InputError) as error:
        read_states(data)
    assert "\n" not in str(error.value)


def test_a_dump_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(TooLarge):
        read_states(b" " * (DUMP_BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("bad", "name", "reason"),
    [
        (row("light.b", picture="x" * 5_000_000), "light.b", "65536"),
        (row("light.a"), "light.a", "already"),
        (row("light.b", state=3), "light.b", "state"),
        (row("light.b", state="x" * 300), "light.b", "state"),
        (row("light.b", note="\ud800"), "light.b", "Unicode"),
        (row("light.b", friendly_name="x" * 300), "light.b", "name"),
        (row("../../etc/passwd"), "../../etc/passwd", "entity_id"),
        (row("light.b") | {"attributes": ["a"]}, "light.b", "attributes"),
        (row("light.b") | {"last_updated": "2026-03-01T10:00:00"}, "light.b", "last_updated"),
        (row("light.b") | {"last_updated": "0001-01-01T00:00:00+14:00"}, "light.b", "last_updated"),
        ({"state": "on"}, "item 1", "entity_id"),
        (None, "item 1", "object"),
    ],
)
def test_a_bad_entity_is_skipped_by_name_and_the_rest_is_kept(bad: Any, name: str, reason: str) -> None:
    dump = read_states(json.dumps([row("light.a"), bad, row("light.c")]).encode())
    assert [entity.entity_id for entity in dump.entities] == ["light.a", "light.c"]
    assert [skipped.name for skipped in dump.skipped] == [name]
    assert reason in dump.skipped[0].reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
KEYS = [
    "friendly_name", "unit_of_measurement", "device_class", "area", "floor", "mode", "sealed", "brightness",
    "supported_color_modes", "color_mode", "color_temp_kelvin", "min_color_temp_kelvin", "rgb_color",
    "hvac_modes", "min_temp", "max_temp", "temperature", "current_temperature", "current_humidity",
    "humidity", "percentage", "current_position", "volume_level", "source", "source_list",
    "battery_level", "state_class",
]  # fmt: skip
DOMAINS = [
    "binary_sensor", "climate", "cover", "fan", "humidifier", "light", "lock", "media_player", "sensor",
    "switch", "vacuum", "valve", "number", "text", "time", "input_boolean", "person", "camera",
]  # fmt: skip
ODD_ROWS = st.builds(
    lambda domain, state, attributes: row(f"{domain}.x", state) | {"attributes": attributes},
    st.sampled_from(DOMAINS),
    st.none() | st.sampled_from(["on", "off", "unknown", "21.5", "1e999", ""]) | st.text(max_size=20),
    st.dictionaries(st.sampled_from(KEYS), JSON | st.sampled_from([0, 1e300, "°F", "x" * 999]), max_size=9),
)


@settings(max_examples=150, deadline=None)
@given(st.binary() | JSON.map(lambda junk: json.dumps(junk).encode()))
def test_junk_is_refused_or_skipped(data: bytes) -> None:
    try:
        dump = read_states(data)
    except InputError:
        return
    assert len(dump.entities) + len(dump.skipped) == len(json.loads(data))


@settings(max_examples=200, deadline=None)
@given(st.lists(ODD_ROWS | JSON, max_size=5))
def test_odd_entities_never_break_description_or_observation(rows: list[Any]) -> None:
    dump = read_states(json.dumps(rows).encode())
    described = {known.path for device in describe(dump.entities).devices for known in device.properties}
    seen = observe(dump.entities)
    assert {one.fact.path for one in seen if not one.sealed} <= described
    assert not {one.fact.path for one in seen if one.sealed} & described


# ---- what is said of devices ---------------------------------------------------------------------


def test_a_lamp_has_percent_kelvin_and_a_named_color() -> None:
    lamp = row(
        "light.lamp",
        friendly_name="Bedroom lamp",
        supported_color_modes=["color_temp", "hs"],
        color_mode="hs",
        brightness=153,
        rgb_color=[250, 10, 5],
        min_color_temp_kelvin=2000,
        max_color_temp_kelvin=6500,
    )
    known, seen = properties(lamp), observed(lamp)
    brightness = known["light.lamp/brightness"]
    assert (brightness.unit, brightness.minimum, brightness.maximum) == ("%", 0, 100)
    assert brightness.measure == "light.brightness" and brightness.writable
    assert known["light.lamp/color temperature"].maximum == 6500
    assert known["light.lamp/state"].options == ("on", "off")
    assert seen["light.lamp/brightness"].fact.value == 60
    assert seen["light.lamp/color"].fact.value == "red"
    assert {one.fact.area for one in seen.values()} == {"Bedroom"}


def test_a_lamp_that_is_off_shines_with_nothing() -> None:
    lamp = row("light.lamp", "off", supported_color_modes=["brightness"], brightness=None)
    assert observed(lamp)["light.lamp/brightness"].fact.value == 0


def test_fahrenheit_becomes_celsius() -> None:
    climate = row("climate.t", "heat", hvac_modes=["off", "heat"], min_temp=45, max_temp=95, temperature=68)
    sensor = row("sensor.t", "77.0", device_class="temperature", unit_of_measurement="°F")
    known, seen = properties(climate, sensor), observed(climate, sensor)
    target = known["climate.t/target temperature"]
    assert (target.minimum, target.maximum, target.unit) == (7.2, 35, "°C")
    assert known["climate.t/mode"].options == ("off", "heat")
    assert seen["climate.t/target temperature"].fact.value == 20
    temperature = seen["sensor.t/temperature"].fact
    assert (temperature.value, temperature.unit, temperature.measure) == (25, "°C", "sensor.temperature")


def test_binary_sensors_speak_in_words() -> None:
    seen = observed(
        row("binary_sensor.a", "on", device_class="door"),
        row("binary_sensor.b", "off", device_class="motion"),
        row("binary_sensor.c", "on", device_class="lock"),
    )
    assert [one.fact.value for one in seen.values()] == ["open", "clear", "unlocked"]


@pytest.mark.parametrize("state", [None, "unknown", "unavailable", ""])
@pytest.mark.parametrize("domain", ["light", "sensor", "climate", "binary_sensor", "number", "text"])
def test_what_is_not_known_is_not_observed(domain: str, state: str | None) -> None:
    assert not observed(row(f"{domain}.x", state, brightness=20, temperature=20, volume_level=0.2))


def test_people_and_cameras_are_left_out() -> None:
    rows = [row("person.ana", "home"), row("camera.hall", "idle"), row("device_tracker.phone", "home")]
    assert not properties(*rows) and not observed(*rows)


def test_a_setting_belongs_to_the_device_with_the_longest_name() -> None:
    rows = [
        row("light.l", friendly_name="Bedroom lamp"),
        row("light.r", friendly_name="Bedroom lamp left"),
        row("switch.k", friendly_name="Bedroom lamp left child lock"),
        row(
            "number.m", "80.0", friendly_name="Bedroom Lamp left maximum brightness", unit_of_measurement="%"
        ),
        row("time.w", "06:30:00", friendly_name="Bedroom lamp wake-up time"),
        row("input_number.q", "3", friendly_name="Quiet nights"),
    ]
    seen = observed(*rows)
    names = {path: (one.device, one.property, one.fact.value) for path, one in seen.items() if one.private}
    assert names == {
        "switch.k/value": ("Bedroom lamp left", "child lock", "on"),
        "number.m/value": ("Bedroom lamp left", "maximum brightness", 80),
        "time.w/value": ("Bedroom lamp", "wake-up time", "06:30"),
        "input_number.q/value": ("Quiet nights", "value", 3),
    }
    private = {path for path, known in properties(*rows).items() if known.private}
    assert private == set(names)


def test_a_switch_named_after_a_room_stays_a_device() -> None:
    rows = [row("light.k", friendly_name="Kitchen"), row("switch.k", friendly_name="Kitchen kettle")]
    assert not observed(*rows)["switch.k/state"].private


def test_secrets_are_sealed_and_never_described() -> None:
    rows = [
        row("text.pin", "04821", friendly_name="Front door code", mode="password"),
        row("number.safe", "77", friendly_name="Safe", sealed=True),
        row("input_text.wifi", "guest", friendly_name="Wifi"),
        row("text.plain", "hello", friendly_name="Note"),
    ]
    seen = observed(*rows, sealed=("input_text.wi*",))
    sealed = {path for path, one in seen.items() if one.sealed}
    assert sealed == {"text.pin/value", "number.safe/value", "input_text.wifi/value"}
    assert seen["text.pin/value"].fact.value == "04821"
    described = describe(read_states(json.dumps(rows).encode()).entities, ("input_text.wi*",))
    assert [device.id for device in described.devices] == ["text.plain"]
    assert "04821" not in described.model_dump_json()


def test_a_description_names_private_settings_without_their_values() -> None:
    known = properties(row("number.x", "42.5", min=0, max=99, unit_of_measurement="%"))["number.x/value"]
    assert known.private and not known.writable
    assert (known.minimum, known.maximum, known.options) == (None, None, ())


# ---- real homes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("home", ["A", "B"])
def test_the_adl_homes_are_read(home: str) -> None:
    log = ADL / f"Ordonez{home}_Sensors.txt"
    if not log.exists():
        pytest.skip(f"{log} is not here")
    text = log.read_text()
    events = read_adl(text)
    assert len(events) == 2 * sum(1 for line in text.splitlines()[2:] if line.strip())
    assert all(before.last_updated <= after.last_updated for before, after in pairwise(events))
    seen = [one for event in events for one in observe([event])]
    assert {one.fact.area for one in seen} >= {"Kitchen", "Bathroom", "Bedroom", "Entrance", "Living"}
    assert {one.fact.measure for one in seen} >= {"binary_sensor.door", "binary_sensor.motion"}
    assert not any(one.private for one in seen)


def test_a_bad_row_of_a_log_is_named() -> None:
    with pytest.raises(InputError, match="row 4"):
        read_adl("header\n---\n2011-11-28 02:27:59 2011-11-28 10:18:11 Bed Pressure Bedroom\nnonsense\n")
