"""Has a model say how likely it finds what its twin wrote: it is begun for it, and it tells the next token.

It knows no HTTP. That is a request a token, each of which costs a server little that keeps what it has read.
Not every server goes on with an answer that was begun: `goes_on` says whether this one does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmtwin.errors import InputError
from llmtwin.twins.model import openai
from llmtwin.twins.model.again import why_not
from llmtwin.twins.model.exchange import Exchange
from llmtwin.twins.model.replay import Ask, Change

TOPS = 20
"""OpenAI's interface tells of no more tokens at a place."""
END = ""
"""How the end of a reply is named among its tokens: llama.cpp shows no special tokens."""
BROKEN_OFF_MAX = 5
"""So many replies show whether a model goes on with what was begun."""

_BOUND = frozenset({"tools", "functions", "response_format"})


def can_be_begun(line: Exchange) -> bool:
    """Whether its request is a chat that any text may answer, and nothing but an answer comes of it."""
    request = line.request
    return "messages" in request and not _BOUND & request.keys() and why_not(request) is None


def goes_on(lines: Iterable[Exchange], ask: Ask) -> bool:
    """Whether a model goes on with most of its own replies, each broken off after its first token, or word.

    It does where the next one's beginning is among the likeliest tokens. False where no reply has two.
    Raises InputError for a model that gives no log-probabilities, and what `ask` does.
    """
    found: list[bool] = []
    for line in lines:
        said = openai.reply(line.response)
        begun = said.tokens[0].text if said.tokens else said.text[: max(said.text.find(" ", 1), 0)]
        rest = said.text.removeprefix(begun)
        whole = begun and rest and "\ufffd" not in begun
        if whole and can_be_begun(line) and len(found) < BROKEN_OFF_MAX:
            tops = _next(line, begun, ask)
            found.append(any(token.strip() and rest.startswith(token) for token in tops))
    return sum(found) * 2 > len(found)


def told(line: Exchange, pieces: Sequence[str], ended: bool, ask: Ask) -> dict[str, Any]:
    """The response as if the model had written the twin's tokens: with its own log-probabilities of them.

    `ended` is whether the twin ended there by itself, so that the end is a token, too. Raises as `goes_on`,
    and InputError for an answer that cannot be begun at each token.
    """
    if not pieces or any("\ufffd" in piece for piece in pieces):
        raise InputError("it is empty, or a token of it is a part of a sign")
    content = []
    for place, piece in enumerate([*pieces, END] if ended else pieces):
        tops = _next(line, "".join(pieces[:place]), ask)
        named = [{"token": token, "logprob": logprob} for token, logprob in tops.items()]
        content.append({"token": piece, "logprob": tops.get(piece, openai.CENSORED), "top_logprobs": named})
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "".join(pieces)},
        "logprobs": {"content": content},
        "finish_reason": "stop" if ended else "length",
    }
    return {"object": "chat.completion", "choices": [choice]}


def _next(line: Exchange, begun: str, ask: Ask) -> Mapping[str, float]:
    """The likeliest tokens after what was begun, with their natural log-probabilities."""
    asked = Change(temperature=0.0).of(line.request)
    for field in ("max_completion_tokens", "stop", "n"):
        asked.pop(field, None)
    answer = [{"role": "assistant", "content": begun}] if begun else []
    asked["messages"] = [*asked["messages"], *answer]
    said = openai.reply(ask(asked | {"max_tokens": 1, "logprobs": True, "top_logprobs": TOPS}))
    if said.tokens and said.tokens[0].top:
        return said.tokens[0].top
    if said.finish == "stop" and said.text in ("", begun):
        return {END: 0.0}  # it ends at once, and shows no token for that
    raise InputError("the primary does not say how likely its tokens are (logprobs with top_logprobs)")
