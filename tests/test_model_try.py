"""What was asked is asked again under a change, users are made of sessions, and forecasts are checked."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmtwin.errors import InputError, NotFound, Unavailable
from llmtwin.twins.model import forecast
from llmtwin.twins.model.replay import Change, parse, replay
from llmtwin.twins.model.users import Turn, Users, Words, fidelity, turns

DIALOGUES = Path(__file__).parent.parent.parent / "shared/data/model/mts-dialog/MTS-Dialog-TrainingSet.csv"


def asked(text: str, *, system: str | None = None, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return {"model": "primary", "messages": messages, **more}


def said(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}


FUNCTION = {"type": "function", "function": {"name": "find"}}


def test_a_change_is_read_from_names_and_values(tmp_path: Path) -> None:
    prompt = tmp_path / "new.txt"
    prompt.write_text("Be brief.")
    found = parse([f"prompt={prompt}", "temperature=0.2", "model=desk@4", "base=http://x:9/v1/"])
    assert found == Change("Be brief.", 0.2, "desk@4", "http://x:9/v1")


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("colour=red", "what can is prompt, temperature, model, base"),
        ("temperature=hot", "number from 0 to 2"),
        ("temperature=nan", "number from 0 to 2"),
        ("retrieval=off", "no memory to draw on"),
        ("base=localhost", "URL"),
        ("base=http://user:key@x:9/v1", "would be kept and shown"),
        ("model=", "names no model"),
        ("prompt=/no/such/file", "cannot be read"),
    ],
)
def test_what_cannot_be_changed_is_refused_by_name(assignment: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        parse([assignment])


def test_a_change_is_given_and_given_once() -> None:
    with pytest.raises(InputError, match="no change"):
        parse([])
    with pytest.raises(InputError, match="twice"):
        parse(["model=a", "model=b"])


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (asked("hi", system="old"), asked("hi", system="new")),
        (asked("hi", stream=True, stream_options={}), asked("hi", system="new")),
        ({"input": "hi", "instructions": "old"}, {"input": "hi", "instructions": "new", "store": False}),
        (
            asked("hi", store=True, background=True, tools=[FUNCTION], tool_choice="auto"),
            asked("hi", system="new", tools=[FUNCTION], tool_choice="auto"),
        ),
    ],
)
def test_a_system_prompt_takes_the_place_of_the_old_one(
    request_: dict[str, Any], expected: dict[str, Any]
) -> None:
    before = repr(request_)
    assert Change(prompt="new").of(request_) == expected
    assert repr(request_) == before


def test_items_are_paired_and_one_that_fails_stops_nothing() -> None:
    def ask(request: dict[str, Any]) -> dict[str, Any]:
        text = request["messages"][-1]["content"]
        if text == "down":
            raise Unavailable("the endpoint is down")
        if text == "odd":
            raise ZeroDivisionError
        return said(f"{text} at {request['temperature']}")

    sessions = [
        [(asked("a"), said("A")), (asked("down"), said("D"))],
        [(asked("odd"), said("O")), ({"prompt": "b"}, said("B")), (asked("c"), said("C"))],
    ]
    found = replay(sessions, parse(["temperature=0.5"]), ask)
    assert [(one.session, one.item, one.before, one.after) for one in found.pairs] == [
        (0, 0, said("A"), said("a at 0.5")),
        (1, 2, said("C"), said("c at 0.5")),
    ]
    assert found.failures == {"the endpoint is down": 1, "ZeroDivisionError": 1, "KeyError": 1}
    assert len(found.pairs) + len(found.failed) == 5
    lost = replay([[({"prompt": "b"}, said("B"))]], Change(prompt="new"), ask).failures
    assert [reason.startswith("the request has no place") for reason in lost] == [True]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"tools": [FUNCTION, {"type": "mcp", "server_url": "http://x"}]}, "execute its tools"),
        ({"tools": {"type": "web_search"}}, "execute its tools"),
        ({"web_search_options": {}}, "execute its tools"),
        ({"previous_response_id": "resp_1"}, "what a server keeps"),
        ({"conversation": "conv_1"}, "what a server keeps"),
    ],
)
def test_what_would_be_done_again_is_not_asked_and_counted(more: dict[str, Any], told: str) -> None:
    received = []

    def ask(request: dict[str, Any]) -> dict[str, Any]:
        received.append(request)
        return said("b")

    plain = {"input": "hi", "store": True, "background": True}
    found = replay([[({"input": "hi", **more}, said("a")), (plain, said("a"))]], Change(model="m"), ask)
    assert received == [{"input": "hi", "store": False, "model": "m"}]
    ((reason, count),) = found.failures.items()
    assert told in reason and count == 1 and len(found.pairs) == 1


SHOP = [
    [Turn("", "hello"), Turn("hi, your order number?", f"it is {number}"), Turn("it is on its way", "thanks")]
    for number in range(8)
] + [
    [Turn("", "my parcel is broken"), Turn("do you want a refund?", "yes a refund please")] for _ in range(8)
]
TEXTS = [text for session in SHOP for turn in session for text in (turn.heard, turn.said)]


def test_the_turns_of_a_conversation_are_those_of_its_last_request() -> None:
    parts = [{"type": "text", "text": "it is 7"}]
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "your number?"},
        {"role": "user", "content": parts},
    ]
    assert turns({"messages": messages}) == (Turn("", "hello"), Turn("your number?", "it is 7"))
    assert turns({"prompt": "hello"}) == ()


def test_a_user_says_what_was_said_in_a_like_place_and_ends_as_users_do() -> None:
    users = Users(SHOP, Words(TEXTS))
    lengths = []
    for seed in range(60):
        user = users.user(seed)
        opening = user.say()
        heard = {"hello": "hi, your order number?"}.get(str(opening), "do you want a refund?")
        answer = user.say(heard)
        assert answer is not None and (
            answer.startswith("it is") if opening == "hello" else "refund" in answer
        )
        while user.say("it is on its way") is not None:
            pass
        lengths.append(len(user.session))
    assert set(lengths) == {2, 3} and 15 < lengths.count(2) < 45


def test_the_same_seed_is_the_same_user() -> None:
    def talk(seed: int) -> list[str | None]:
        user = Users(SHOP, Words(TEXTS)).user(seed)
        return [user.say(heard) for heard in ("", "hi, your order number?", "it is on its way")]

    assert talk(3) == talk(3)
    assert len({tuple(talk(seed)) for seed in range(20)}) > 4


def test_fidelity_is_one_for_users_on_record_and_nil_for_places_that_tell_nothing() -> None:
    good = fidelity(Users(SHOP, Words(TEXTS)), SHOP)
    assert good.floor < good.similarity <= good.ceiling + 1e-6
    assert good.score > 0.7 and good.low <= good.score <= good.high
    rng = np.random.default_rng(0)
    shuffled = [
        [
            Turn(f"x{rng.integers(9)}", f"{word} {rng.integers(9)}")
            for word in rng.permutation(["a", "b", "c"])
        ]
        for _ in range(60)
    ]
    words = Words(turn.said for session in shuffled for turn in session)
    poor = fidelity(Users(shuffled[:40], words), shuffled[40:])
    assert poor.low < 0.2 and poor.score < 0.4


def test_turns_that_no_user_says_are_told_apart() -> None:
    strange = [[Turn("", f"a{n} b{n}"), Turn("x", f"c{n} d"), Turn("y", f"d e{n}")] for n in range(20)]
    words = Words([*TEXTS, *(turn.said for session in strange for turn in session)])
    assert fidelity(Users(SHOP, words), SHOP).told_apart < 0.7
    assert fidelity(Users(strange, words), SHOP).told_apart > 0.9


def test_too_little_on_record_is_refused() -> None:
    with pytest.raises(InputError, match="record some"):
        Users([[]], Words(TEXTS))
    with pytest.raises(InputError, match="two held-out"):
        fidelity(Users(SHOP, Words(TEXTS)), SHOP[:1])
    assert Users([[Turn("", "hello")]], Words(TEXTS)).user(0).say() == "hello"


@pytest.mark.skipif(not DIALOGUES.exists(), reason=f"the real dialogues are not here: {DIALOGUES}")
def test_patients_on_record_are_simulated_better_than_by_chance() -> None:
    sessions = []
    with DIALOGUES.open(newline="") as file:
        for row in list(csv.DictReader(file))[:400]:
            session, heard = [], ""
            for line in row["dialogue"].splitlines():
                speaker, _, text = line.strip().partition(":")
                if speaker == "Doctor":
                    heard = text.strip()
                elif speaker == "Patient":
                    session.append(Turn(heard, text.strip()))
            sessions.append(session)
    words = Words(turn.said for session in sessions[:300] for turn in session)
    found = fidelity(Users(sessions[:300], words), sessions[300:])
    assert found.turns > 100
    assert found.floor < found.similarity < found.ceiling
    assert found.low > 0


def test_a_forecast_is_kept_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "forecasts.jsonl"
    with pytest.raises(NotFound):
        forecast.read(path)
    made = [forecast.foretell([0.5, 0.6, 0.7, 0.8], f"temperature={n}", "match", 10) for n in range(3)]
    for one in made:
        forecast.append(path, one)
    assert forecast.read(path) == made
    assert made[0].mean == pytest.approx(0.65) and made[0].low < 0.65 < made[0].high
    near, far = forecast.check(made[0], [0.7, 0.7]), forecast.check(made[1], [9.0])
    assert (near.inside, far.inside) == (True, False)
    assert (near.error, far.error) == (pytest.approx(0.05), pytest.approx(8.35))
    assert forecast.calibration([near, far]) == forecast.Calibration(2, 1, 0.5)
    path.write_text(path.read_text() + '{"id": 1')
    with pytest.raises(InputError, match=r"forecasts\.jsonl:4"):
        forecast.read(path)
    forecast.append(path, made[0])  # half a line that a killed process left takes no other with it
    path.write_text(path.read_text().replace('{"id": 1\n', ""))
    assert forecast.read(path) == [*made, made[0]]


@pytest.mark.parametrize("items", [3, 12, 60])
def test_forecasts_hold_as_often_as_they_say(items: int) -> None:
    rng = np.random.default_rng(items)
    checked = []
    for _ in range(300):
        made = forecast.foretell(list(rng.normal(0.6, 0.2, items)), "model=x", "match", 40)
        checked.append(forecast.check(made, list(rng.normal(0.6, 0.2, 40))))
    assert 0.91 <= forecast.calibration(checked).share <= 0.985


@pytest.mark.parametrize("scores", [[], [0.5], [0.5, float("nan")]])
def test_nothing_is_foretold_from_nothing(scores: list[float]) -> None:
    with pytest.raises(InputError):
        forecast.foretell(scores, "model=x", "match", 10)
    with pytest.raises(InputError):
        forecast.check(forecast.foretell([0.1, 0.2], "model=x", "match", 1), scores[2:])
    with pytest.raises(NotFound):
        forecast.calibration([])
