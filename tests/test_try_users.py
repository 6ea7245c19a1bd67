"""`try` against real servers: simulated users on both sides, and whether two endpoints write the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
from typer.testing import CliRunner

from llmtwin.cli import app
from llmtwin.errors import InputError
from llmtwin.primary.equal import compare
from llmtwin.primary.place import set_primary
from llmtwin.primary.users import FIDELITY_MIN, talk
from llmtwin.settings import Settings
from llmtwin.twin import Twin
from tests.model_speaker import Json, Speaker, asked, line, record

NUMBER, WAY, REFUND = "hi, your order number?", "it is on its way", "do you want a refund?"


def desk(request: Json) -> str | int | Json:
    """A support desk; hot it asks nothing, at 2 it is down after the first turn, at 1.5 it calls a tool."""
    turns = request["messages"]
    users = [turn["content"] for turn in turns if turn["role"] == "user"]
    heat = request.get("temperature", 0)
    if heat == 2 and len(users) > 1:
        return 503
    if heat == 1.5:
        called = {"id": "1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
        message = {"role": "assistant", "content": None, "tool_calls": [called]}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    if heat == 1:
        return "I see."
    return REFUND if "broken" in users[0] else (NUMBER, WAY)[min(len(users), 2) - 1]


@pytest.fixture
def primary(settings: Settings) -> Iterator[Speaker]:
    with Speaker(desk) as speaker, Twin.new("desk", "model", settings=settings):
        set_primary("desk", speaker.url, settings)
        yield speaker


def sessions(settings: Settings, count: int = 40) -> None:
    """Half ask where a parcel is, half for a refund; each exchange is a line, under its own instructions."""
    lines = []
    for n in range(count):
        turns = (
            ("hello", NUMBER, f"it is {n}", WAY, "thanks")
            if n % 2
            else ("my parcel is broken", REFUND, "yes")
        )
        for at in range(0, len(turns), 2):
            request = asked(*turns[: at + 1], system=f"You are desk {n % 2}.", temperature=0.5)
            lines.append(line(1e9 + 10 * n + at, f"s{n}", request, (*turns, "bye")[at + 1]))
    record(settings, "desk", lines)


def test_both_sides_talk_to_the_same_users(primary: Speaker, settings: Settings, tmp_path: Path) -> None:
    sessions(settings)
    (tmp_path / "asks.regex").write_text(r"\?")
    told: list[int] = []
    checks = [str(tmp_path / "asks.regex")]
    found = talk("desk", ["temperature=1"], 12, checks, settings=settings, tell=told.append)
    assert found.users == 12 and 24 <= found.turns <= 36
    assert len(primary.received) == told[0] == 3 * found.turns
    # Each is under the instructions of the session that it opens as, and hears for itself.
    for request in primary.received:
        first, second, *rest = request["messages"]
        assert first["content"] == f"You are desk {int(second['content'] == 'hello')}."
        heard = {turn["content"] for turn in rest[::2]}
        assert heard <= ({"I see."} if request["temperature"] == 1 else {NUMBER, WAY, REFUND})
    rows = {one.name: one for one in found.measured.measures}
    same = rows["exact_match"]
    assert same.discrepancy is not None and same.discrepancy.value == 1
    assert same.floor is not None and same.floor.value == 0  # the same users again, and it does not sample
    (rate,) = found.rates
    assert rate.twin == 0 and 0.3 < rate.primary < 1
    assert rate.difference.value == pytest.approx(-rate.primary) and rate.difference.high < 0
    assert found.fidelity is not None and found.fidelity.score > FIDELITY_MIN and found.doubt is None


def test_the_same_seed_is_the_same_users(primary: Speaker, settings: Settings) -> None:
    sessions(settings)

    def said(seed: int) -> list[Json]:
        primary.received.clear()
        talk("desk", ["temperature=1"], 6, seed=seed, settings=settings)
        return list(primary.received)

    assert said(3) == said(3) != said(4)


def test_users_that_are_like_nobody_are_not_to_be_trusted(primary: Speaker, settings: Settings) -> None:
    """What is said has nothing to do with what was heard, and no word is said twice in a like place."""
    rng = np.random.default_rng(0)
    lines = []
    for n in range(60):
        turns = [f"w{rng.integers(30)} w{rng.integers(30)}" for _ in range(7)]
        lines.append(line(1e9 + n, f"s{n}", asked(*turns), "well"))
    record(settings, "desk", lines)
    found = talk("desk", ["model=other"], 3, settings=settings)
    assert found.fidelity is not None and found.fidelity.score < FIDELITY_MIN
    assert found.doubt is not None
    shown = CliRunner().invoke(app, ["try", "desk", "--change", "model=other", "--users", "3"])
    assert "do not trust these conversations: the users are" in shown.output
    assert "fidelity of the users: " in shown.output


def test_fidelity_that_cannot_be_measured_is_said(primary: Speaker, settings: Settings) -> None:
    record(settings, "desk", [line(1e9 + n, f"s{n}", asked(f"hello {n}"), "hi") for n in range(20)])
    found = talk("desk", ["temperature=1"], 4, settings=settings)
    assert found.fidelity is None and found.turns == 4
    assert found.doubt is not None and "cannot be measured: fidelity takes two held-out" in found.doubt
    shown = CliRunner().invoke(app, ["try", "desk", "--change", "temperature=1", "--users", "2"])
    assert "do not trust these conversations: how like people" in shown.output


def test_a_side_that_fails_or_calls_a_tool_ends_its_conversation(
    primary: Speaker, settings: Settings
) -> None:
    sessions(settings)
    failed = talk("desk", ["temperature=2"], 6, settings=settings)
    assert failed.turns == 6 and failed.failures == {"it answers with status 503": 6}
    called = talk("desk", ["temperature=1.5"], 6, settings=settings)
    assert called.turns == 6 and not called.failures
    primary.say = lambda _: 500
    with pytest.raises(InputError, match=r"no turn was answered on both sides: .* status 500"):
        talk("desk", ["temperature=1"], 2, settings=settings)


def test_without_a_conversation_there_are_no_users(primary: Speaker, settings: Settings) -> None:
    lines = [line(1e9 + n, f"s{n}", {"model": "m", "prompt": "once upon"}, "a time") for n in range(20)]
    lines.append(line(2e9, "odd", {"messages": "no conversation"}, "a time"))
    record(settings, "desk", lines)
    with pytest.raises(InputError, match="no user says anything in the recorded sessions"):
        talk("desk", ["temperature=1"], 2, settings=settings)


class Sampler:
    """Draws words as a sampling model does, of other odds where the model is `other`."""

    def __init__(self) -> None:
        self._rng, self._lock = np.random.default_rng(0), Lock()

    def __call__(self, request: Json) -> str | int:
        if request["model"] == "down":
            return 500
        odds = {"other": [0.8, 0.1, 0.1], "primary": [0.2, 0.3, 0.5]}[request["model"]]
        with self._lock:
            return "".join(self._rng.choice(list("abc"), 12, p=odds))


def prompts(settings: Settings, count: int = 8) -> None:
    """Each is on record twice, with a seed."""
    lines = [
        line(1e9 + n, f"s{n}", asked(f"hello {n % count}", temperature=0.7, seed=1), "x")
        for n in range(2 * count)
    ]
    record(settings, "desk", lines)


def test_endpoints_that_differ_are_told_apart_and_equals_are_not(
    primary: Speaker, settings: Settings
) -> None:
    prompts(settings)
    primary.say, told = Sampler(), list[int]()
    apart = compare("desk", ["model=other"], 5, 6, settings, told.append)
    assert apart.different and apart.equality.p_value < 0.01
    assert (apart.equality.prompts, apart.equality.texts) == (6, 60)
    assert told == [60] == [len(primary.received)]
    assert all("seed" not in one and one["temperature"] == 0.7 for one in primary.received)
    assert {one["messages"][0]["content"] for one in primary.received} == {f"hello {n}" for n in range(2, 8)}
    same = compare("desk", ["model=primary"], 5, settings=settings)
    assert not same.different and same.equality.prompts == 8
    shown = CliRunner().invoke(app, ["try", "desk", "--change", "model=other", "--repeats", "5"]).output
    assert "80 requests at most" in shown and "They do not write the same: equals would differ" in shown
    shown = CliRunner().invoke(app, ["try", "desk", "--change", "model=primary", "--repeats", "4"]).output
    assert "No difference is found, which does not show that there is none" in shown


def test_another_endpoint_is_asked_at_its_base(primary: Speaker, settings: Settings) -> None:
    prompts(settings)
    with Speaker(lambda _: "always this") as other:
        found = compare("desk", [f"base={other.url}"], 4, settings=settings)
        assert len(other.received) == len(primary.received) == 32
    assert found.different


def test_too_few_texts_are_refused_before_anyone_is_asked(primary: Speaker, settings: Settings) -> None:
    prompts(settings)
    with pytest.raises(InputError, match="2 answers to 2 requests cannot show any difference"):
        compare("desk", ["model=other"], 2, 2, settings)
    assert not primary.received
    primary.say = Sampler()
    with pytest.raises(InputError, match=r"no request was answered twice on both sides: 40 times: .* 500"):
        compare("desk", ["model=down"], 5, settings=settings)


def test_requests_with_too_few_answers_are_left_out(primary: Speaker, settings: Settings) -> None:
    prompts(settings)
    draw = Sampler()
    primary.say = lambda one: 500 if one["messages"][0]["content"] == "hello 3" else draw(one)
    found = compare("desk", ["model=other"], 4, settings=settings)
    assert (found.left_out, found.equality.prompts) == (1, 7)
    assert found.failures == {"it answers with status 500": 8}
