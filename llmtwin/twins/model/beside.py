"""Asks a twin what its primary was asked, and sets the answers side by side. It never tunes.

Only held-out sessions are asked, which no version has learned. A request that the primary answered more
than once says how far the primary is from itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice

from llmtwin.models.engine.api import Engine, Request, conversation
from llmtwin.records import Trace
from llmtwin.twins.kind import Known
from llmtwin.twins.model import collect, discrepancy, openai
from llmtwin.twins.model.discrepancy import Answered
from llmtwin.twins.model.discrepancy import Exchange as Pair
from llmtwin.twins.model.exchange import Exchange
from llmtwin.twins.model.reply import Reply, Token

TOKENS_MAX = 256


def held_out(
    known: Known,
    count: int | None = None,
    fits: Callable[[Trace], bool] = lambda _: True,
    since: datetime | None = None,
) -> list[Exchange]:
    """The newest held-out exchanges that a twin can be asked, the oldest first; all without a `count`.

    Those that are not later than `since`, or whose traces do not fit, are left out. Whether one fits is dear
    to know: no more are looked at than it takes.
    """
    found = [line for _, line in collect.exchanges(known) if collect.is_held_out(line)]
    if since is not None:
        found = [line for line in found if line.timestamp > since.timestamp()]
    found.sort(key=lambda line: line.timestamp)
    fitting = (line for line in reversed(found) if (trace := collect.trace_of(line)) and fits(trace))
    return list(islice(fitting, count))[::-1]


def replies(engine: Engine, lines: Sequence[Exchange], adapters: tuple[str, ...]) -> list[Reply]:
    """What a version, or the base alone, says to each request, at its likeliest and no longer than asked."""
    asked = []
    for line in lines:
        turns = [(turn["role"], turn["content"]) for turn in openai.messages(line.request)]
        asked.append(Request(engine.chat(conversation(turns)), adapters, _tokens_max(line)))
    return [Reply(text=made.text, finish=made.finish) for made in engine.generate(asked)]


def reading(reply: Reply, trace: Trace, tops: Sequence[Mapping[str, float]]) -> Reply:
    """A twin's reply, and how it reads the primary's tokens: natural logs of what that named, by text."""
    tokens = [Token(text, top.get(text), top) for text, top in zip(trace.tokens, tops, strict=False)]
    return replace(reply, tokens=tuple(tokens) or None)


def pairs(lines: Sequence[Exchange], said: Sequence[Reply]) -> list[Pair]:
    """Primary and twin to each request, a request that came twice once, with the primary's other answer."""
    return discrepancy.pairs(
        Answered(
            json.dumps(line.request, sort_keys=True),
            openai.reply(line.response),
            own,
            line.client_id or None,
        )
        for line, own in zip(lines, said, strict=True)
    )


def _tokens_max(line: Exchange) -> int:
    given = line.request.get("max_completion_tokens") or line.request.get("max_tokens")
    return min(given, TOKENS_MAX) if isinstance(given, int) and given > 0 else TOKENS_MAX
