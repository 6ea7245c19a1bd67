"""The running state of a stream: what it counts, compares and watches, from a proxy's record or by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtwin.errors import InputError
from llmtwin.primary.nearness import measures
from llmtwin.twins.model.discrepancy import Measured
from llmtwin.twins.model.exchange import Exchange, Shadow, Tail, append
from llmtwin.twins.model.measures import CheckDifference
from llmtwin.twins.model.reply import Reply
from llmtwin.twins.model.running import ANCHOR, LENGTH, MEAN_LOGPROB, Running, State, Tokens

USAGE = {"prompt_tokens": 5, "completion_tokens": 3}


def said(text: str, logprob: float | None = None) -> dict[str, Any]:
    choice: dict[str, Any] = {"message": {"content": text}, "finish_reason": "stop"}
    if logprob is not None:
        choice["logprobs"] = {"content": [{"token": text, "logprob": logprob}]}
    return {"choices": [choice], "usage": USAGE}


def exchange(number: int, asked: str, answer: dict[str, Any]) -> Exchange:
    request = {"messages": [{"role": "user", "content": asked}]}
    return Exchange(
        timestamp=number, workload_id="desk", client_id=f"s{number}", request=request, response=answer
    )


def shadow(of: Exchange, answer: dict[str, Any]) -> Shadow:
    return Shadow(timestamp=of.timestamp, exchange=of.id, latency_s=0.1, response=answer)


def exact(state: State) -> Measured:
    assert state.discrepancy is not None
    return next(one for one in state.discrepancy.measures if one.name == "exact_match")


def test_discrepancy_is_beside_the_primary_s_own_and_cost_is_apart() -> None:
    running = Running(measures())
    assert running.state() == State(0, 0, None, None, Tokens(), Tokens())
    for number in range(20):
        first = exchange(number, f"q{number}", said("yes"))
        running.exchange(first)
        running.shadow(shadow(first, said("yes" if number % 2 else "no")))
        running.exchange(exchange(100 + number, f"q{number}", said("yes" if number % 4 else "well")))
    state = running.state()
    found = exact(state)
    assert found.discrepancy is not None and found.discrepancy.value == 0.5 and found.discrepancy.items == 20
    assert found.floor is not None and found.floor.value == 0.25
    assert found.ratio is not None and found.ratio.low <= found.ratio.value == 2 <= found.ratio.high
    assert (state.exchanges, state.shadows) == (40, 20)
    assert state.tokens_primary == Tokens(200, 120) and state.tokens_twin == Tokens(100, 60)


@given(st.permutations(range(6)), st.integers(0, 6))
@settings(max_examples=30)
def test_an_answer_of_the_twin_may_come_before_or_after_what_it_answers(order: list[int], cut: int) -> None:
    lines = [exchange(number, f"q{number}", said("a")) for number in range(6)]
    shadows = [shadow(lines[at], said("a" if at % 3 else "b")) for at in order]
    running = Running(measures())
    for one in shadows[:cut]:
        running.shadow(one)
    for line in lines:
        running.exchange(line)
    for one in shadows[cut:]:
        running.shadow(one)
    found = exact(running.state()).discrepancy
    assert found is not None and found.value == pytest.approx(1 / 3) and found.items == 6


@given(st.integers(1, 8), st.integers(0, 30))
@settings(max_examples=30)
def test_the_latest_are_compared_and_all_are_counted(latest: int, count: int) -> None:
    running = Running(measures(), latest)
    for number in range(count):
        line = exchange(number, f"q{number}", said("a"))
        running.exchange(line)
        running.shadow(shadow(line, said("a" if number >= count - latest else "b")))
    state = running.state()
    assert state.exchanges == state.shadows == count
    assert state.tokens_primary == state.tokens_twin == Tokens(5 * count, 3 * count)
    if count:
        found = exact(state).discrepancy
        assert found is not None and found.value == 0 and found.items == min(count, latest)


@pytest.mark.parametrize("number", [MEAN_LOGPROB, LENGTH])
def test_drift_alarms_when_the_primary_changes_and_not_before(number: str) -> None:
    rng = np.random.default_rng(0)
    running = Running(measures())

    def stream(count: int, shift: float) -> State:
        for at in range(count):
            drawn = rng.normal(shift)
            told = None if number == LENGTH else -2 - abs(drawn)
            running.exchange(exchange(at, "q", said("x" * int(20 + 5 * abs(drawn)), told)))
        return running.state()

    assert stream(ANCHOR - 1, 0).drift is None
    calm = stream(101, 0).drift
    assert calm is not None and (calm.number, calm.replies) == (number, 100)
    assert not calm.alarm and calm.e_value < calm.level
    changed = stream(40, 8).drift
    assert changed is not None and changed.alarm and changed.replies == 140


def test_replies_that_do_not_tell_what_is_watched_are_passed_over() -> None:
    running = Running(())
    for at in range(ANCHOR):
        running.exchange(exchange(at, "q", said("a", -1)))
    running.exchange(exchange(ANCHOR, "q", said("much longer")))
    running.exchange(exchange(ANCHOR + 1, "q", {"error": "no reply"}))
    drift = running.state().drift
    assert drift is not None and drift.replies == 0 and drift.e_value == 1


def test_what_is_dumped_is_json_without_a_word_of_anybody() -> None:
    def quoting(reply: Reply) -> float:
        return float(len(reply.text) > 3)

    running = Running([*measures(), CheckDifference("long", quoting)])
    for at in range(ANCHOR + 5):
        line = exchange(at, "a secret question", said("a secret answer", -1))
        running.exchange(line)
        running.shadow(shadow(line, said("another secret")))
    told = json.dumps(running.state().dump(), allow_nan=False)
    assert "secret" not in told and "note" not in told
    assert {"exact_match", "long"} <= {one["name"] for one in json.loads(told)["discrepancy"]["measures"]}


@given(st.lists(st.integers(0, 400), max_size=6))
@settings(max_examples=30)
def test_a_file_that_grows_gives_every_line_once(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    path = tmp_path_factory.mktemp("tail") / "exchanges.jsonl"
    tail = Tail(path, Exchange)
    assert list(tail.new()) == []
    lines = [exchange(number, "q", said("a")) for number in range(4)]
    content = b"\n".join([*(json.dumps(line.model_dump()).encode() for line in lines[:2]), b'{"half'])
    content += b"\n\n" + b"".join(json.dumps(line.model_dump()).encode() + b"\n" for line in lines[2:])
    found: list[Exchange] = []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(content)], strict=True):
        with path.open("ab") as file:
            file.write(content[start:end])
        found += tail.new()
    assert found == lines


def test_a_record_that_begins_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "exchanges.jsonl"
    tail = Tail(path, Exchange)
    lines = [exchange(number, "q", said("a")) for number in range(3)]
    for line in lines:
        append(path, line)
    assert list(tail.new()) == lines
    path.unlink()
    append(path, lines[0])
    assert list(tail.new()) == lines[:1]
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        list(tail.new())
