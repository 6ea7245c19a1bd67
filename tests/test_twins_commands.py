"""The check of a command against a description: what is not described cannot be ordered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtwin.errors import InputError
from llmtwin.records import Description, Device, Property, Value
from llmtwin.twins.commands import check

HOME = Description(
    devices=(
        Device(
            id="light.bedroom",
            name="Bedroom lamp",
            domain="light",
            properties=(
                Property(name="power", path="light.bedroom/power", writable=True),
                Property(
                    name="brightness",
                    path="light.bedroom/brightness",
                    unit="%",
                    writable=True,
                    minimum=0,
                    maximum=100,
                ),
                Property(name="energy", path="light.bedroom/energy", unit="kWh", minimum=0),
            ),
        ),
        Device(
            id="climate.hall",
            name="Hall",
            domain="climate",
            properties=(
                Property(
                    name="mode", path="climate.hall/mode", writable=True, options=("off", "heat", "cool")
                ),
            ),
        ),
    )
)


@pytest.mark.parametrize(
    ("path", "value", "unit"),
    [
        ("light.bedroom/power", True, None),
        ("light.bedroom/brightness", 0, "%"),
        ("light.bedroom/brightness", 99.5, None),
        ("climate.hall/mode", "cool", None),
    ],
)
def test_what_is_described_is_allowed(path: str, value: Value, unit: str | None) -> None:
    assert check(HOME, path, value, unit) == value


@pytest.mark.parametrize(
    ("path", "value", "unit", "reason"),
    [
        ("light.cellar/power", True, None, "no device behind 'light.cellar/power'"),
        (
            "light.bedroom/colour",
            "red",
            None,
            "light.bedroom has no such property; it has light.bedroom/power",
        ),
        ("light.bedroom/energy", 5, None, "can be read only"),
        ("light.bedroom/brightness", 101, None, "takes 0 to 100 %"),
        ("light.bedroom/brightness", -0.1, None, "takes 0 to 100 %"),
        ("light.bedroom/brightness", float("nan"), None, "takes 0 to 100 %"),
        ("light.bedroom/brightness", "50", None, "takes a number"),
        ("light.bedroom/brightness", True, None, "takes a number"),
        ("light.bedroom/brightness", 50, "lx", "is set in %, not in lx"),
        ("light.bedroom/power", True, "%", "is set in no unit, not in %"),
        ("light.bedroom/power", "on", None, "takes true or false"),
        ("light.bedroom/power", 1, None, "takes true or false"),
        ("climate.hall/mode", "dry", None, "takes one of: off, heat, cool"),
        ("climate.hall/mode", False, None, "takes one of: off, heat, cool"),
    ],
)
def test_what_is_not_described_is_refused(path: str, value: Value, unit: str | None, reason: str) -> None:
    with pytest.raises(InputError) as refused:
        check(HOME, path, value, unit)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


@given(
    value=st.one_of(st.booleans(), st.integers(), st.floats(), st.text()),
    low=st.floats(-1e6, 1e6),
    high=st.floats(-1e6, 1e6),
)
def test_only_numbers_in_range_pass(value: Value, low: float, high: float) -> None:
    dial = Property(name="dial", path="a.b/dial", writable=True, minimum=low, maximum=high)
    home = Description(devices=(Device(id="a.b", name="A", domain="a", properties=(dial,)),))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    allowed = is_number and low <= value <= high  # type: ignore[operator]
    try:
        assert check(home, "a.b/dial", value) is value
        assert allowed
    except InputError:
        assert not allowed
