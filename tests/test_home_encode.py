"""Prompts say only what is new, in one sentence with its facts, and nothing private."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtwin.records import Fact, Observation, Value
from llmtwin.twins.home.encode import Encoder, Sent
from llmtwin.twins.home.observe import observe
from llmtwin.twins.home.sources import read_adl

ADL = Path(os.environ.get("LLMTWIN_ADL", Path(__file__).parents[2] / "shared/data/home/adl"))
START = datetime(2026, 3, 1, tzinfo=UTC)


def seen(
    value: Value, minutes: float = 0, measure: str = "sensor.temperature", private: bool = False
) -> Observation:
    """A reading of one thermometer."""
    fact = Fact(
        path="sensor.t/temperature",
        value=value,
        unit="°C",
        at=START + timedelta(minutes=minutes),
        measure=measure,
    )
    return Observation(fact=fact, device="Thermometer", property="temperature", private=private)


def test_a_lamp_is_said_in_one_sentence_with_all_its_facts() -> None:
    def lamp(name: str, value: Value, unit: str | None = None) -> Observation:
        fact = Fact(path=f"light.l/{name}", value=value, unit=unit, at=START, measure=f"light.{name}")
        return Observation(fact=fact, device="Bedroom lamp", property=name)

    parts = [lamp("state", "on"), lamp("brightness", 60, "%"), lamp("color temperature", 2700, "K")]
    [prompt] = Encoder().encode("home1", parts)
    assert prompt.text == "Bedroom lamp: on, brightness 60 %, color temperature 2700 K."
    assert [fact.value for fact in prompt.facts] == ["on", 60, 2700]
    assert prompt.at == START


def test_the_same_again_is_no_news_until_the_heartbeat() -> None:
    encoder = Encoder()
    counts = [len(encoder.encode("home1", [seen(20.0, minutes)])) for minutes in (0, 0, 30, 59, 60, 61)]
    assert counts == [1, 0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("measure", "old", "new", "sent"),
    [
        ("sensor.temperature", 20.0, 20.1, False),
        ("sensor.temperature", 20.0, 20.2, True),
        ("climate.target temperature", 20.0, 20.1, True),
        ("light.brightness", 50, 51, True),
        ("sensor.humidity", 50.0, 50.9, False),
        ("sensor.power", 1000, 1040, False),
        ("sensor.power", 1000, 1050, True),
        ("sensor.power", 0, 2, True),
        ("lock.state", "locked", "unlocked", True),
        ("sensor.temperature", 20.0, "broken", True),
    ],
)
def test_a_number_must_move_beyond_its_dead_band(measure: str, old: Value, new: Value, sent: bool) -> None:
    encoder = Encoder()
    encoder.encode("home1", [seen(old, 0, measure)])
    assert bool(encoder.encode("home1", [seen(new, 1, measure)])) is sent


def test_small_steps_add_up() -> None:
    encoder = Encoder()
    sent = [prompt for step in range(11) for prompt in encoder.encode("home1", [seen(20 + step / 10, step)])]
    assert [prompt.facts[0].value for prompt in sent] == [20, 20.2, 20.4, 20.6, 20.8, 21.0]


def test_what_is_older_than_what_was_sent_is_left_out() -> None:
    encoder = Encoder()
    encoder.encode("home1", [seen(20.0, 10)])
    assert not encoder.encode("home1", [seen(25.0, 5)])


def test_private_and_sealed_never_travel() -> None:
    encoder = Encoder()
    assert not encoder.encode("home1", [seen(20.0, private=True)])
    assert not encoder.encode("home1", [seen(20.0).model_copy(update={"sealed": True})])
    assert not encoder.state


def test_the_state_can_be_stored_and_given_back() -> None:
    first = Encoder()
    first.encode("home1", [seen(20.0)])
    stored = {path: sent.model_dump_json() for path, sent in first.state.items()}
    second = Encoder({path: Sent.model_validate_json(text) for path, text in stored.items()})
    assert not second.encode("home1", [seen(20.1, 1)])
    assert second.encode("home1", [seen(21.0, 2)])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(-50, 50), st.integers(0, 300)), max_size=30))
def test_what_was_sent_last_is_never_far_from_what_is(readings: list[tuple[float, int]]) -> None:
    encoder = Encoder()
    for value, minute in sorted(readings, key=lambda reading: reading[1]):
        encoder.encode("home1", [seen(value, minute)])
        known = encoder.state["sensor.t/temperature"].value
        assert not isinstance(known, str) and abs(known - value) <= 0.2


@pytest.mark.parametrize("home", ["A", "B"])
def test_the_adl_homes_become_prompts(home: str) -> None:
    log = ADL / f"Ordonez{home}_Sensors.txt"
    if not log.exists():
        pytest.skip(f"{log} is not here")
    observations = [one for event in read_adl(log.read_text()) for one in observe([event])]
    encoder = Encoder()
    prompts = encoder.encode("ordonez", observations)
    assert len(observations) * 0.9 < len(prompts) <= len(observations)
    assert any(prompt.text == "Entrance maindoor: open." for prompt in prompts)
    assert not encoder.encode("ordonez", observations[-1:])
