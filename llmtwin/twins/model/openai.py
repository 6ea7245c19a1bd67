"""Reads OpenAI's interfaces: chat completions, completions and responses, whole or as a stream.

It knows no transport; what it does not understand it passes over, and it executes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llmtwin.errors import InputError
from llmtwin.twins.model.reply import Reply, Token

Json = dict[str, Any]

CENSORED = -9999.0
"""The log-probability that stands for "not among the likeliest"."""

_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_BREAK = re.compile(rb"\r\n|\n|\r")
# What names a thing comes whole, and sometimes in every chunk; other texts come in pieces.
_WHOLE = frozenset({"id", "index", "type", "role", "object", "finish_reason"})


def messages(request: Mapping[str, Any]) -> list[dict[str, str]]:
    """The conversation that is asked to be continued: `role` and `content` of each turn, as plain text.

    A picture or another part that is no text is there as `[its type]`, a call of a tool as `name(arguments)`,
    and a prompt of completions is a turn of the user. Raises InputError where there is not one conversation.
    """
    try:
        if "messages" in request:
            return [_turn(message) for message in request["messages"]]
        if "prompt" in request:
            return [{"role": "user", "content": _prompt(request["prompt"])}]
        if "input" in request:
            return list(_input_turns(request))
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"the request is not of OpenAI's form ({type(error).__name__}: {error})") from error
    raise InputError("the request has neither messages nor a prompt nor an input")


def reply(response: Mapping[str, Any]) -> Reply:
    """What the model said: the first choice. Raises InputError for what is no response of a model."""
    try:
        if "output" in response:
            return _responses_reply(response)
        choice = response["choices"][0]
        return _chat_reply(choice) if "message" in choice else _completion_reply(choice)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"the response is not of OpenAI's form ({type(error).__name__}: {error})") from error


def usage(response: Mapping[str, Any]) -> tuple[int, int] | None:
    """The tokens of the question and of the answer, as the model counts them; None where it does not say."""
    used = response.get("usage")
    if not isinstance(used, dict):
        return None
    asked = used.get("prompt_tokens", used.get("input_tokens"))
    said = used.get("completion_tokens", used.get("output_tokens", 0))
    return (asked, said) if isinstance(asked, int) and isinstance(said, int) else None


def joined(stream: bytes) -> Json | None:
    """The response that a stream of server-sent events makes up; None where it was cut, or is none.

    The order of fields may differ from that of a response that came whole.
    """
    try:
        events = list(_events(stream))
        if not events:
            return None
        if any(str(event.get("type", "")).startswith("response.") for event in events):
            return _joined_response(events)
        whole = events.pop() is _DONE and bool(events) and not any(map(_failed, events))
        return _joined_chunks(events) if whole else None
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError):
        return None


def _failed(event: Json) -> bool:
    return event.get("error") is not None


def _turn(message: Json) -> dict[str, str]:
    calls = [_call(call["function"]) for call in message.get("tool_calls") or () if "function" in call]
    said = [_text(message.get("content")), *(f"{name}({arguments})" for name, arguments in calls)]
    return {"role": str(message["role"]), "content": "\n".join(filter(None, said))}


def _text(content: Any) -> str:
    """Text, or parts of which some are text."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(str(part.get("text", part.get("refusal", f"[{part['type']}]"))) for part in content)


def _prompt(prompt: Any) -> str:
    if isinstance(prompt, list) and len(prompt) == 1:
        (prompt,) = prompt
    if not isinstance(prompt, str):
        raise InputError("the prompt is not one text")
    return prompt


def _input_turns(request: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    if request.get("instructions"):
        yield {"role": "system", "content": _text(request["instructions"])}
    given = request["input"]
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    for item in given:
        match item.get("type", "message"):
            case "message":
                yield {"role": str(item["role"]), "content": _text(item["content"])}
            case "function_call":
                name, arguments = _call(item)
                yield {"role": "assistant", "content": f"{name}({arguments})"}
            case "function_call_output":
                yield {"role": "tool", "content": _text(item["output"])}


def _call(function: Json) -> tuple[str, str]:
    return str(function["name"]), str(function.get("arguments") or "")


def _chat_reply(choice: Json) -> Reply:
    message, logprobs = choice["message"], choice.get("logprobs") or {}
    refusal, finish = message.get("refusal"), choice.get("finish_reason")
    functions = [call["function"] for call in message.get("tool_calls") or () if "function" in call]
    if message.get("function_call"):
        functions.append(message["function_call"])
    return Reply(
        text=_text(message.get("content")) or refusal or "",
        tokens=_tokens(logprobs.get("content")),
        tool_calls=tuple(map(_call, functions)),
        finish=finish,
        refused=bool(refusal) or finish == "content_filter",
    )


def _completion_reply(choice: Json) -> Reply:
    logprobs = choice.get("logprobs") or {}
    old = logprobs.get("tokens")  # lists side by side, as OpenAI had them; llama.cpp has those of chats
    finish = choice.get("finish_reason")
    return Reply(
        text=str(choice["text"] or ""),
        tokens=_tokens(logprobs.get("content")) if old is None else _old_tokens(logprobs),
        finish=finish,
        refused=finish == "content_filter",
    )


def _responses_reply(response: Mapping[str, Any]) -> Reply:
    items = response["output"]
    parts = [part for item in items if item.get("type") == "message" for part in item["content"] or ()]
    spoken = [part for part in parts if part["type"] == "output_text"]
    refusals = [str(part["refusal"]) for part in parts if part["type"] == "refusal"]
    logprobs = [token for part in spoken for token in part.get("logprobs") or ()]
    incomplete = response.get("incomplete_details") or {}
    finish = incomplete.get("reason") or response.get("status")
    return Reply(
        text="".join(str(part["text"]) for part in spoken) or "".join(refusals),
        tokens=_tokens(logprobs or None),
        tool_calls=tuple(_call(item) for item in items if item.get("type") == "function_call"),
        finish=finish,
        refused=bool(refusals) or finish == "content_filter",
    )


def _tokens(content: list[Json] | None) -> tuple[Token, ...] | None:
    if content is None:
        return None
    return tuple(
        Token(
            str(token["token"]),
            _logprob(token.get("logprob")),
            _top((one["token"], one.get("logprob")) for one in token.get("top_logprobs") or ()),
        )
        for token in content
    )


def _old_tokens(logprobs: Json) -> tuple[Token, ...]:
    tokens = logprobs["tokens"]
    tops = logprobs.get("top_logprobs") or [None] * len(tokens)
    return tuple(
        Token(str(text), _logprob(logprob), _top((top or {}).items()))
        for text, logprob, top in zip(tokens, logprobs["token_logprobs"], tops, strict=True)
    )


def _logprob(given: float | None) -> float | None:
    return None if given is None or given <= CENSORED else float(given)


def _top(given: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    """By text; of several tokens that read the same, pieces of a character, the likeliest."""
    found: dict[str, float] = {}
    for text, value in given:
        logprob = _logprob(value)
        if logprob is not None:
            found[text] = max(logprob, found.get(text, logprob))
    return found


_DONE: Json = {}


def _events(stream: bytes) -> Iterator[Json]:
    """The data of each event, `[DONE]` as _DONE."""
    lines: list[bytes] = []
    for line in _BREAK.split(stream + b"\n\n"):
        if line.startswith(b"data:"):
            lines.append(line[5:].removeprefix(b" "))
        elif not line and lines:
            data = b"\n".join(lines)
            lines = []
            yield _DONE if data == b"[DONE]" else json.loads(data)


def _joined_chunks(chunks: list[Json]) -> Json:
    whole: Json = {}
    choices: dict[int, Json] = {}
    for chunk in chunks:
        # `obfuscation` hides how long a chunk is, and is no part of the response.
        passed = {"choices", "obfuscation"}
        whole |= {key: value for key, value in chunk.items() if key not in passed and value is not None}
        for piece in chunk["choices"] or ():
            choices[piece["index"]] = _grown(choices.get(piece["index"], {}), piece)
    whole["choices"] = [_whole_choice(choices[index]) for index in sorted(choices)]
    whole["object"] = str(whole.get("object", "chat.completion")).removesuffix(".chunk")
    return whole


def _whole_choice(choice: Json) -> Json:
    if "delta" not in choice:
        return choice
    message = {"content": None, "refusal": None, **(choice.pop("delta") or {})}
    for call in message.get("tool_calls") or ():
        call.pop("index", None)
    return {"logprobs": None, **choice, "message": message}


def _grown(whole: Json, piece: Json) -> Json:
    for key, more in piece.items():
        whole[key] = _added(key, whole.get(key), more)
    return whole


def _added(key: str, have: Any, more: Any) -> Any:
    match have, more:
        case None, _:
            return more
        case _, None:
            return have
        case str(), str() if key not in _WHOLE:
            return have + more
        case dict(), dict():
            return _grown(have, more)
        case list(), list():
            return _added_calls(have, more) if key == "tool_calls" else have + more
    return more


def _added_calls(have: list[Json], more: list[Json]) -> list[Json]:
    calls = {call["index"]: call for call in have}
    for piece in more:
        calls[piece["index"]] = _grown(calls.get(piece["index"], {}), piece)
    return list(calls.values())


def _joined_response(events: list[Json]) -> Json | None:
    ends = [event["response"] for event in events if event.get("type") in _ENDS]
    if not ends:
        return None
    whole: Json = ends[-1]
    return whole if whole.get("output") else {**whole, "output": _output(events)}


def _output(events: list[Json]) -> list[Json]:
    """The items of a response whose last event leaves them out."""
    items: dict[int, Json] = {}
    for event in events:
        index = event.get("output_index", 0)
        if event.get("type") == "response.output_text.delta":
            piece = {
                "type": "output_text",
                "text": event["delta"] or "",
                "logprobs": event.get("logprobs") or [],
            }
            item = items.setdefault(index, {"type": "message", "role": "assistant", "content": [{}]})
            _grown(item["content"][0], piece)
        elif event.get("type") == "response.output_item.done":
            items[index] = event["item"]
    return [items[index] for index in sorted(items)]
