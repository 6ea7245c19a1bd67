"""What follows from a plan and its sentence, and what an order means for a device."""

from __future__ import annotations

import pytest

from llmtwin.errors import InputError
from llmtwin.records import Device, Property
from llmtwin.twins.home import orders
from llmtwin.twins.home.judge import completed, orders_an_amount, orders_nothing
from llmtwin.twins.home.plan import Act, Plan, PlanKind
from llmtwin.twins.home.words import says_to_set

HEATING = Device(
    id="climate.hall",
    name="Hall heating",
    domain="climate",
    properties=(
        Property(name="mode", path="climate.hall/mode", writable=True, options=("cool", "heat", "off")),
        Property(
            name="target temperature",
            path="climate.hall/target temperature",
            unit="°C",
            writable=True,
            minimum=7,
            maximum=35,
        ),
    ),
)


def plan(text: str) -> Plan:
    return Plan.from_json(text)


@pytest.mark.parametrize(
    ("given", "text", "value"),
    [
        ('{"kind":"ask","name":"lights"}', "which lights are on in the hall", "on"),
        ('{"kind":"ask","name":"lights","value":"off"}', "which lights are on or off", "off"),
        ('{"kind":"ask","property":"color","name":"lights"}', "which color are the lights on show", None),
        ('{"kind":"order","act":"on","name":"lights"}', "are the lights on", None),
    ],
)
def test_a_question_gets_the_state_that_it_asks_about(given: str, text: str, value: str | None) -> None:
    assert completed(plan(given), text).value == value


@pytest.mark.parametrize(
    ("given", "text", "orders"),
    [
        ('{"kind":"ask","name":"hall","value":"21 °C"}', "21 °C for the hall please", True),
        ('{"kind":"ask","name":"hall","value":"21 °C"}', "is it 21 °C in the hall", False),
        ('{"kind":"ask","name":"hall","value":"21 °C"}', "the hall at 21 °C?", False),
        ('{"kind":"ask","name":"hall","value":"warm"}', "hall warm please", False),
        ('{"kind":"ask","name":"hall","value":"21 °C","time":"at 7"}', "hall 21 °C at 7", False),
    ],
)
def test_an_amount_without_a_question_is_an_order(given: str, text: str, orders: bool) -> None:
    assert orders_an_amount(plan(given), text) is orders


@pytest.mark.parametrize(
    ("value", "nothing"),
    [("live", True), ("configured", True), ("on", False), ("30", False), ("heat", False)],
)
def test_to_set_something_to_a_word_that_says_nothing_is_to_ask(value: str, nothing: bool) -> None:
    order = Plan(kind=PlanKind.ORDER, act=Act.SET, property="speed", name="hall fan", value=value)
    assert orders_nothing(order, f"{value} speed for the hall fan would be great") is nothing


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ("set the maximum brightness to 80 %", True),
        ("maximum brightness of the hall lamp, as saved", False),
        ("I'd like to know what was put in for the hall lamp", False),
    ],
)
def test_a_sentence_says_to_set_something_or_does_not(text: str, sets: bool) -> None:
    assert says_to_set(text) is sets


@pytest.mark.parametrize("said", ["cool", "cool mode", "Cool mode"])
def test_an_option_may_be_said_with_its_property(said: str) -> None:
    assert orders.setting(HEATING, None, said) == (HEATING.properties[0], "cool")


def test_no_step_is_larger_than_the_whole_range() -> None:
    assert orders.step(HEATING.properties[1], "two degrees") == 2
    with pytest.raises(InputError, match="from 7 to 35"):
        orders.step(HEATING.properties[1], "315 degrees")


@pytest.mark.parametrize(
    ("said", "is_one"), [("21.5 °C", True), ("heat", True), ("on", True), ("saved", False)]
)
def test_a_value_is_told_from_a_word(said: str, is_one: bool) -> None:
    assert orders.is_value(HEATING, said) is is_one
