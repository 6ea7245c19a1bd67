"""Asks the twin what the primary was asked, within a rate and a budget. It executes nothing of the answer."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from llmtwin.errors import InputError, Unavailable
from llmtwin.proxy.passed import SHADOW_HEADER
from llmtwin.twins.model.again import harmless
from llmtwin.twins.model.exchange import Exchange, Shadow, append
from llmtwin.twins.model.openai import reply, usage

Json = dict[str, Any]

ANSWER_BYTES_MAX = 8 * 2**20
DAY_S = 86_400
BYTES_PER_TOKEN = 4
"""Of a twin that does not say what it used."""


@dataclass(frozen=True)
class TwinOptions:
    """Where the twin answers, in OpenAI's form below `url`, and how much may be asked of it.

    `timeout_s` is for the whole answer; `tokens_per_day_max` counts those of question and answer, from
    midnight UTC or the proxy's start.
    """

    url: str
    model: str
    token: str | None = field(default=None, repr=False)
    timeout_s: float = 60.0
    requests_per_s_max: float = 2.0
    tokens_per_day_max: int = 2_000_000


class Rate:
    """At most so many a second on average, with a second's worth at once."""

    def __init__(self, per_s_max: float) -> None:
        self._per_s = per_s_max
        self._left = self._most = max(1.0, per_s_max)
        self._at_s = time.monotonic()

    def allows(self) -> bool:
        """Whether one more may be asked now; it counts as asked."""
        now_s = time.monotonic()
        self._left = min(self._most, self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Shadower:
    """The twin's side of the mirror: one question at a time, its answer appended to a file."""

    def __init__(self, options: TwinOptions, path: Path) -> None:
        self._options = options
        self._path = path
        self._rate = Rate(options.requests_per_s_max)
        self._day, self._tokens = 0, 0
        headers = {SHADOW_HEADER.decode(): "1"}
        if options.token is not None:
            headers["authorization"] = f"Bearer {options.token}"
        self._client = httpx.Client(headers=headers, timeout=options.timeout_s, trust_env=False)

    def ask(self, endpoint: str, exchange: Exchange) -> str:
        """Ask the twin and keep what it says; returns the outcome, whatever happens."""
        if not self._within_budget():
            return "over_budget"
        if not self._rate.allows():
            return "over_rate"
        asked = asked_of_twin(exchange.request, self._options.model)
        began_s = time.monotonic()
        try:
            content = self._post(f"{self._options.url.rstrip('/')}/{endpoint}", asked)
            latency_s = time.monotonic() - began_s
            response = json.loads(content)
            reply(response)
        except httpx.TimeoutException:
            return "twin_slow"
        except httpx.HTTPStatusError:
            return "twin_failed"
        except httpx.HTTPError:
            return "twin_down"
        except (InputError, RecursionError, ValueError):
            return "twin_garbage"
        self._tokens += sum(usage(response) or (len(content) // BYTES_PER_TOKEN,))
        return self._keep(exchange, latency_s, response)

    def _within_budget(self) -> bool:
        day = int(time.time()) // DAY_S
        if day != self._day:
            self._day, self._tokens = day, 0
        return self._tokens < self._options.tokens_per_day_max

    def _post(self, url: str, asked: Json) -> bytes:
        """The answer's content. Raises httpx's errors, and ValueError for one that is too long."""
        end_s = time.monotonic() + self._options.timeout_s
        content = bytearray()
        with self._client.stream("POST", url, json=asked) as response:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > ANSWER_BYTES_MAX:
                    raise ValueError("the answer is too long")
                if time.monotonic() > end_s:  # httpx's timeout is for each piece
                    raise httpx.ReadTimeout("the answer takes too long")
        return bytes(content)

    def _keep(self, exchange: Exchange, latency_s: float, response: Json) -> str:
        shadow = Shadow(timestamp=time.time(), exchange=exchange.id, latency_s=latency_s, response=response)
        try:
            append(self._path, shadow, durably=False)  # to lose it is a pair less
        except Unavailable:
            return "twin_unwritten"
        return "shadowed"


def asked_of_twin(request: Mapping[str, Any], model: str) -> Json:
    """The primary's request as the twin gets it."""
    return harmless(request) | {"model": model}
