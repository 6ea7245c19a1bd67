"""Words, amounts and times as people say them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtwin.twins.home.words import (
    Amount,
    amount,
    kelvin,
    may_be_time,
    must_be_time,
    state_asked,
    statistics_said,
    when,
    words,
)

NOW = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)  # a Sunday


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "moment"),
    [
        ("at 14:30 today", at(22, 14, 30)),
        ("at 7:15 yesterday", at(21, 7, 15)),
        ("yesterday at 7 pm", at(21, 19)),
        ("an hour ago", at(22, 17)),
        ("half an hour ago", at(22, 17, 30)),
        ("this morning at half past six", at(22, 6, 30)),
        ("around noon today", at(22, 12)),
        ("at midnight yesterday", at(21, 0)),
        ("on Monday at 14:30", at(16, 14, 30)),
        ("at six yesterday", at(21, 6)),
        ("at 19:05", at(21, 19, 5)),
    ],
)
def test_a_moment(said: str, moment: datetime) -> None:
    span = when(said, NOW)
    assert span is not None and span.moment and span.since == moment


@pytest.mark.parametrize(
    ("said", "since", "until"),
    [
        ("last night", at(21, 22), at(22, 6)),
        ("yesterday evening", at(21, 18), at(21, 23)),
        ("this afternoon", at(22, 12), NOW),
        ("yesterday", at(21, 0), at(22, 0)),
        ("since midnight", at(22, 0), NOW),
        ("over the last 3 hours", at(22, 15), NOW),
        ("between 8 and 10 this morning", at(22, 8), at(22, 10)),
    ],
)
def test_a_stretch(said: str, since: datetime, until: datetime) -> None:
    span = when(said, NOW)
    assert span is not None and (span.since, span.until) == (since, until)


@given(st.text(max_size=40))
def test_any_text_is_a_time_that_is_over_or_none(said: str) -> None:
    span = when(said, NOW)
    assert span is None or span.since <= span.until + timedelta(days=366)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("50 %", Amount(50, "%")),
        ("50 percent", Amount(50, "%")),
        ("half", Amount(50, "%")),
        ("a quarter", Amount(25, "%")),
        ("twenty one point five degrees", Amount(21.5, "°C")),
        ("72 degrees fahrenheit", Amount(72, "°F")),
        ("2700 K", Amount(2700, "K")),
        ("maximum", Amount(extreme="maximum")),
        ("the lowest", Amount(extreme="minimum")),
        ("-3 °C", Amount(-3, "°C")),
        ("red", None),
    ],
)
def test_an_amount(said: str, read: Amount | None) -> None:
    assert amount(said) == read


def test_tones_of_white_are_color_temperatures() -> None:
    assert [kelvin(said) for said in ("warm white", "daylight", "cool white", "red")] == [
        2700,
        6500,
        4000,
        None,
    ]


def test_one_form_for_what_means_the_same() -> None:
    assert words("the Bedroom lamps' max. temp") == words("bedroom lamp maximum temperature")
    assert words("switches") == {"switch"}


@given(st.text(max_size=60))
def test_words_of_any_text_are_stable(text: str) -> None:
    once = words(text)
    assert words(" ".join(once)) <= once | words(" ".join(once))


def test_a_room_is_no_time_and_yesterday_is_nothing_else() -> None:
    assert not may_be_time("in the kitchen")
    assert may_be_time("at seven") and may_be_time("on 3 May")
    assert must_be_time("7:15 yesterday") and not must_be_time("06:30")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("the lowest of all homes", {"minimum"}),
        ("do many of the neighbours report it? how many, I mean", set()),
        ("what is the total number of homes in our area that report power", {"count"}),
        ("how many of the neighbours share it", {"count"}),
        ("how many lights are on", set()),
        ("before I trust any average: power is reported by how many neighbours?", {"count"}),
    ],
)
def test_a_statistic_that_is_said_outright_is_heard(text: str, said: set[str]) -> None:
    assert statistics_said(text) == said


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("which lights are on in the kitchen", "on"),
        ("which lights are on on the first floor", "on"),
        ("are all the fans off", "off"),
        ("is the garage door open in the garage", "open"),
        ("what is on the first floor", None),
        ("turn it on", None),
    ],
)
def test_the_state_that_a_question_asks_about_is_heard(text: str, state: str | None) -> None:
    assert state_asked(text) == state
