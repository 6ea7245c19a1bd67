"""What follows from a plan and its sentence, and what an order means for a device."""

from __future__ import annotations

import pytest

from llmtwin.errors import InputError
from llmtwin.twins.home import orders
from llmtwin.twins.home.judge import completed, orders_a_value, orders_nothing
from llmtwin.twins.home.plan import Act, Plan, PlanKind
from llmtwin.twins.home.words import Mood, mood
from tests.home_devices import HEATING


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
    ("act", "text", "meant"),
    [
        ("close", "it's stuffy in here, open the hall shutters", "open"),
        ("open", "please shut my hall shutters", "close"),
        ("unlock", "lock up the hall shutters", "lock"),
        ("close", "don't open the hall shutters", "close"),
        ("close", "the open hall shutters let the rain in", "close"),
        ("close", "why are the hall shutters open", "close"),
        ("on", "open the hall shutters", "on"),
    ],
)
def test_the_verb_right_before_a_device_is_what_is_done_to_it(act: str, text: str, meant: str) -> None:
    given = plan(f'{{"kind":"order","act":"{act}","name":"hall shutters"}}')
    assert completed(given, text).act == Act(meant)


@pytest.mark.parametrize(
    ("given", "text", "orders"),
    [
        ('{"kind":"ask","name":"hall","value":"21 °C"}', "21 °C for the hall please", True),
        ('{"kind":"ask","name":"hall","value":"21 °C"}', "is it 21 °C in the hall", False),
        ('{"kind":"ask","name":"hall","value":"21 °C"}', "the hall at 21 °C?", False),
        ('{"kind":"ask","name":"hall","value":"warm"}', "hall warm please", False),
        ('{"kind":"ask","name":"hall","value":"21 °C","time":"at 7"}', "hall 21 °C at 7", False),
        (
            '{"kind":"ask","property":"mode","name":"hall","value":"heat"}',
            "get the mode in the hall to Heat",
            True,
        ),
        ('{"kind":"ask","property":"mode","name":"hall","value":"heat"}', "the hall mode, heat", False),
        (
            '{"kind":"ask","property":"mode","name":"hall","value":"heat"}',
            "is the hall mode set to heat",
            False,
        ),
    ],
)
def test_a_value_without_a_question_is_an_order(given: str, text: str, orders: bool) -> None:
    assert orders_a_value(plan(given), text) is orders


@pytest.mark.parametrize(
    ("value", "nothing"),
    [("live", True), ("configured", True), ("on", False), ("30", False), ("heat", False)],
)
def test_to_set_something_to_a_word_that_says_nothing_is_to_ask(value: str, nothing: bool) -> None:
    order = Plan(kind=PlanKind.ORDER, act=Act.SET, property="speed", name="hall fan", value=value)
    assert orders_nothing(order, f"{value} speed for the hall fan would be great") is nothing


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("set the maximum brightness to 80 %", Mood.SETS),
        ("maximum brightness of the hall lamp, as saved", Mood.UNTOLD),
        ("I wonder which one the hall lamp has", Mood.MAY_ASK),
        ("could you set the hall lamp to 80 %, if it is dark?", Mood.MAY_ASK),
        ("tell me the brightness of the hall lamp", Mood.ASKS),
    ],
)
def test_a_sentence_says_what_it_is(text: str, told: Mood) -> None:
    assert mood(text) is told


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
