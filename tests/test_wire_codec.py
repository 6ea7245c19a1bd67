"""Prompts on the wire: what goes in comes out, and a bad item is refused by its index alone."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtwin.errors import InputError, TooLarge
from llmtwin.records import Fact, Prompt
from llmtwin.wire.codec import BATCH_BYTES_MAX, BATCH_ITEMS_MAX, decode_prompts, encode_prompts

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

# Fixed offsets: Python never calls a time that a clock change skips or repeats equal to one of another zone.
zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.datetimes(datetime(1970, 1, 2), datetime(2026, 2, 28), timezones=zones)
facts = st.builds(
    Fact,
    path=st.text(min_size=1, max_size=20),
    value=st.one_of(
        st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20)
    ),
    unit=st.none() | st.text(max_size=5),
    at=times,
    measure=st.none() | st.text(max_size=5),
    area=st.none() | st.text(max_size=5),
)
prompts = st.builds(
    Prompt,
    twin=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True),
    text=st.text(min_size=1, max_size=50),
    facts=st.lists(facts, max_size=4).map(tuple),
    at=times,
)


def item(**changes: Any) -> dict[str, Any]:
    fact = {"path": "light.lamp/brightness", "value": 40, "at": "2026-03-01T11:00:00Z"}
    good = {"id": "p", "twin": "home1", "text": "a lamp", "facts": [fact], "at": "2026-03-01T11:00:00Z"}
    return good | changes


def fact(**changes: Any) -> dict[str, Any]:
    return item(facts=[item()["facts"][0] | changes])


@given(st.lists(prompts, max_size=5))
def test_what_goes_in_comes_out(sent: list[Prompt]) -> None:
    got, refused = decode_prompts(encode_prompts(sent), NOW)
    assert (got, refused) == (sent, [])
    types = [[(type(fact.value), fact.value) for fact in prompt.facts] for prompt in sent]
    assert [[(type(fact.value), fact.value) for fact in prompt.facts] for prompt in got] == types


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (item(text=""), "text"),
        (item(text=None), "text"),
        (item(text="x" * 1001), "text"),
        (item(twin="../etc"), "twin"),
        (item(id="a/b"), "id"),
        (item(extra=1), "extra"),
        (item(at="2026-03-01T12:05:01Z"), "future"),
        (item(at="2026-03-01T11:00:00"), "timezone"),
        (item(at="0001-01-01T00:00:00+10:00"), "long past"),
        (fact(at="2026-03-01T12:05:01Z"), r"facts\.0\.at"),
        (fact(value=None), "value"),
        (fact(value=[1]), "value"),
        (fact(value=float("nan")), "finite"),
        (fact(value=float("inf")), "finite"),
        (fact(path=7), "path"),
        (item(note="x" * 20_000), "bytes"),
        ("text", "object"),
        (None, "object"),
    ],
)
def test_a_bad_item_is_refused_by_its_index_and_the_rest_is_kept(bad: Any, reason: str) -> None:
    got, refused = decode_prompts(json.dumps([item(id="a"), bad, item(id="b")]).encode(), NOW)
    assert [prompt.id for prompt in got] == ["a", "b"]
    assert [one.index for one in refused] == [1]
    assert re.search(reason, refused[0].reason)
    assert "\n" not in refused[0].reason


def test_a_clock_may_be_a_little_ahead() -> None:
    ahead = (NOW + timedelta(minutes=5)).isoformat()
    got, refused = decode_prompts(json.dumps([item(at=ahead)]).encode(), NOW)
    assert len(got) == 1 and not refused


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"{}", b"1", b'"text"', b"\xff", b"[" * 100_000, b"[1" + b"1" * 5000 + b"]", b'["\\ud800"]'],
)
def test_what_is_no_array_is_refused_whole(body: bytes) -> None:
    with pytest.raises(InputError):
        decode_prompts(body, NOW)


@pytest.mark.parametrize("body", [b" " * (BATCH_BYTES_MAX + 1), b"[" + b"1," * BATCH_ITEMS_MAX + b"1]"])
def test_a_batch_over_the_limits_is_refused_whole(body: bytes) -> None:
    with pytest.raises(TooLarge, match="at most"):
        decode_prompts(body, NOW)


@given(st.binary(max_size=200))
def test_any_bytes_are_prompts_or_refused(body: bytes) -> None:
    try:
        got, refused = decode_prompts(b"[" + body + b"]", NOW)
    except InputError:
        return
    assert got == [] and all(one.reason for one in refused)
