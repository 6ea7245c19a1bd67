"""What is understood of OpenAI's interfaces, whole and as streams."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from llmtwin.errors import InputError
from llmtwin.twins.model.openai import joined, messages, reply
from llmtwin.twins.model.reply import Token

Json = dict[str, Any]


def sse(*events: Json, end: str = "data: [DONE]\n\n", newline: str = "\n") -> bytes:
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + end
    return text.replace("\n", newline).encode()


def token(text: str, logprob: float = -0.5) -> Json:
    tops = [
        {"token": text, "logprob": logprob, "bytes": None},
        {"token": "?", "logprob": -9999.0, "bytes": None},
    ]
    return {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": tops}


HEAD = {"id": "chatcmpl-1", "created": 7, "model": "m", "system_fingerprint": "f"}


def choice(index: int, words: list[str], calls: list[tuple[str, str]], logprobs: bool) -> Json:
    message: Json = {"role": "assistant", "content": "".join(words) if words else None, "refusal": None}
    if calls:
        message["tool_calls"] = [
            {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for n, (name, arguments) in enumerate(calls)
        ]
    shown = {"content": [token(word) for word in words], "refusal": None} if logprobs and words else None
    finish = "tool_calls" if calls else "stop"
    return {"index": index, "message": message, "logprobs": shown, "finish_reason": finish}


def deltas(whole: Json, words: list[str]) -> list[Json]:
    """The pieces in which OpenAI sends a choice."""
    index, shown = whole["index"], (whole["logprobs"] or {}).get("content")
    pieces: list[tuple[Json, Json | None]] = [({"role": "assistant", "content": "" if words else None}, None)]
    for n, word in enumerate(words):
        pieces.append(({"content": word}, {"content": [shown[n]], "refusal": None} if shown else None))
    for n, call in enumerate(whole["message"].get("tool_calls", ())):
        head = {**call, "index": n, "function": {"name": call["function"]["name"], "arguments": ""}}
        pieces.append(({"tool_calls": [head]}, None))
        for letter in call["function"]["arguments"]:
            pieces.append(({"tool_calls": [{"index": n, "function": {"arguments": letter}}]}, None))
    made = [{"index": index, "delta": d, "logprobs": p, "finish_reason": None} for d, p in pieces]
    return [*made, {"index": index, "delta": {}, "logprobs": None, "finish_reason": whole["finish_reason"]}]


CHOICES = st.lists(
    st.tuples(
        st.lists(st.text(min_size=1, max_size=5), max_size=4),
        st.lists(st.tuples(st.sampled_from(["find", "buy"]), st.text(max_size=6)), max_size=2),
        st.booleans(),
    ),
    min_size=1,
    max_size=2,
)


@given(CHOICES, st.sampled_from(["\n", "\r\n", "\r"]), st.randoms())
def test_a_stream_joined_is_the_response_that_comes_whole(drawn: Any, newline: str, random: Any) -> None:
    choices = [choice(n, *parts) for n, parts in enumerate(drawn)]
    pieces = [deltas(whole, drawn[n][0]) for n, whole in enumerate(choices)]
    chunks = []
    while left := [one for one in pieces if one]:  # choices come interleaved
        piece = random.choice(left).pop(0)
        chunk = {**HEAD, "object": "chat.completion.chunk", "choices": [piece], "usage": None}
        chunks.append({**chunk, "obfuscation": "xyz"})
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    chunks.append({**HEAD, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    whole = {**HEAD, "object": "chat.completion", "choices": choices, "usage": usage}
    found = joined(sse(*chunks, newline=newline))
    assert found == whole
    assert ChatCompletion.model_validate(found).id == "chatcmpl-1"


CHUNK = {**HEAD, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        sse(),
        sse(CHUNK, end=""),
        sse(CHUNK, end="data: [DO"),
        sse(CHUNK)[:40],
        sse(CHUNK, {"error": {"message": "overloaded"}}),
        b"data: {\n\ndata: [DONE]\n\n",
        b"data: 7\n\ndata: [DONE]\n\n",
        b'data: {"choices": [{}]}\n\ndata: [DONE]\n\n',
        b"<html>bad gateway</html>",
        b"data: " + b"[" * 100_000 + b"\n\n",
    ],
)
def test_a_stream_that_was_cut_or_is_broken_is_none(stream: bytes) -> None:
    assert joined(stream) is None


NOTHING = {"tool_calls": None, "function_call": None, "refusal": None, "role": None}


@pytest.mark.parametrize(
    "pieces",
    [
        [{"delta": {"content": "Hi"} | NOTHING}],
        [{"delta": {"role": "assistant", "content": None} | NOTHING}, {"delta": {"content": "Hi"} | NOTHING}],
        [{"delta": None, "logprobs": None}, {"delta": {"content": "Hi"}}, {"delta": None}],
        [{"delta": {"content": "Hi"}, "logprobs": {"content": None, "refusal": None}}],
    ],
)
def test_a_stream_that_says_null_for_what_it_does_not_have_is_read(pieces: list[Json]) -> None:
    chunks = [{**HEAD, "choices": [{"index": 0, "finish_reason": None} | piece]} for piece in pieces]
    around = [{**HEAD, "choices": None, "usage": None}, {**HEAD, "choices": [], "error": None}]
    found = joined(sse(*around, *({**chunk, "error": None, "usage": None} for chunk in chunks), *around))
    assert found is not None
    said = reply(found)
    assert said.text == "Hi" and not said.tool_calls and said.tokens is None
    for silent in ({"delta": None}, {"delta": dict.fromkeys(NOTHING)}, {"text": None}):
        nothing = joined(sse({**HEAD, "choices": [{"index": 0, **silent}]}))
        assert nothing is not None and reply(nothing).text == ""


def test_a_stream_of_completions() -> None:
    old = {"tokens": ["a"], "token_logprobs": [-0.1], "top_logprobs": [{"a": -0.1, "index": -3.0}]}
    head = {"id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m"}
    first = {"index": 0, "text": "a", "logprobs": old, "finish_reason": None}
    second = {"index": 0, "text": "b", "logprobs": copy.deepcopy(old), "finish_reason": "length"}
    found = joined(sse({**head, "choices": [first]}, {**head, "choices": [second]}))
    assert found is not None
    (whole,) = found.pop("choices")
    assert found == head
    assert whole["text"] == "ab" and whole["finish_reason"] == "length"
    assert whole["logprobs"]["top_logprobs"] == old["top_logprobs"] * 2
    tokens = reply({"choices": [whole]}).tokens
    assert tokens == (Token("a", -0.1, {"a": -0.1, "index": -3.0}),) * 2


PART = {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": [token("Hello")]}
ITEM = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [PART]}


def test_a_stream_of_responses() -> None:
    response = {"id": "resp_1", "object": "response", "status": "completed", "output": [ITEM]}
    text = [
        {"type": "response.output_text.delta", "output_index": 0, "delta": word, "logprobs": [token(word)]}
        for word in ("Hel", "lo")
    ]
    done = {"type": "response.output_item.done", "output_index": 0, "item": ITEM}
    end = {"type": "response.completed", "response": response}
    bare = {"type": "response.completed", "response": {**response, "output": []}}
    assert joined(sse(*text, done, end, end="")) == response
    assert joined(sse(*text, done, bare, end="")) == response
    short = joined(sse(*text, bare, end=""))
    assert short is not None and reply(short).text == "Hello"
    assert [one.text for one in reply(short).tokens or ()] == ["Hel", "lo"]
    assert joined(sse(*text, done, end="")) is None


def test_replies_of_chats() -> None:
    said = reply({"choices": [choice(0, ["Hi", "!"], [("find", '{"a":1}')], logprobs=True)]})
    assert said.text == "Hi!" and said.finish == "tool_calls" and not said.refused
    assert said.tool_calls == (("find", '{"a":1}'),)
    assert said.tokens == (Token("Hi", -0.5, {"Hi": -0.5}), Token("!", -0.5, {"!": -0.5}))
    assert reply({"choices": [choice(0, ["Hi"], [], logprobs=False)]}).tokens is None
    refusal = {"message": {"content": None, "refusal": "I cannot"}, "finish_reason": "stop"}
    refused = reply({"choices": [refusal]})
    assert refused.refused and refused.text == "I cannot"


def test_what_is_not_among_the_likeliest_has_no_logprob() -> None:
    shown = {"content": [token("a", -9999.0), {"token": "b", "logprob": None}]}
    said = reply({"choices": [{"message": {"content": "ab"}, "logprobs": shown}]})
    assert said.tokens == (Token("a", None), Token("b", None))


def test_replies_of_responses() -> None:
    call = {"type": "function_call", "name": "find", "arguments": "{}", "call_id": "c"}
    said = reply({"status": "completed", "output": [{"type": "reasoning", "summary": []}, ITEM, call]})
    assert (said.text, said.tool_calls, said.finish) == ("Hello", (("find", "{}"),), "completed")
    assert said.tokens == (Token("Hello", -0.5, {"Hello": -0.5}),)
    refusal = {**ITEM, "content": [{"type": "refusal", "refusal": "No"}]}
    assert reply({"status": "completed", "output": [refusal]}).refused


def test_conversations() -> None:
    parts = [{"type": "text", "text": "What is "}, {"type": "image_url", "image_url": {"url": "data:"}}]
    calls = [{"id": "c", "type": "function", "function": {"name": "find", "arguments": "{}"}}]
    chat = {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "tool_calls": calls}]}
    assert messages(chat) == [
        {"role": "user", "content": "What is [image_url]"},
        {"role": "assistant", "content": "find({})"},
    ]
    assert messages({"prompt": ["Once"]}) == [{"role": "user", "content": "Once"}]
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "function_call", "name": "find", "arguments": "{}"},
        {"type": "function_call_output", "output": "7"},
    ]
    assert messages({"instructions": "Be kind", "input": items}) == [
        {"role": "system", "content": "Be kind"},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "find({})"},
        {"role": "tool", "content": "7"},
    ]
    assert messages({"input": "Hi"}) == [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"messages": None},
        {"messages": [7]},
        {"messages": [{}]},
        {"prompt": [1, 2]},
        {"prompt": ["a", "b"]},
    ],
)
def test_what_is_no_conversation_is_refused(request_: Json) -> None:
    with pytest.raises(InputError):
        messages(request_)


@pytest.mark.parametrize(
    "response",
    [
        {},
        {"choices": []},
        {"choices": {}},
        {"choices": [7]},
        {"choices": [{"message": None}]},
        {"choices": [{"message": {}, "logprobs": {"content": [{"token": "a", "logprob": "x"}]}}]},
        {"output": [7]},
    ],
)
def test_what_is_no_reply_is_refused(response: Json) -> None:
    with pytest.raises(InputError):
        reply(response)
