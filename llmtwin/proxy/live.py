"""A page that shows how near the twin is, fed by server-sent events. It knows figures, and no text."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from anyio import sleep
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from llmtwin.proxy.metrics import Metrics, Report
from llmtwin.twins.model.running import State

STATES_MAX = 1000
"""So many of the latest are shown to who comes later."""
TICK_S = 0.5
BEAT_S = 15.0
"""So often something is said even if nothing happened, so that a client that vanished is found out."""

# The page is all there is: nothing is fetched from anywhere else, and nothing is sent elsewhere.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
_PAGE = Path(__file__).with_name("live.html")


class Live:
    """What the page shows: the latest states of the twin, and the counters as they are.

    `stopping` says whether the server is about to end; then all streams do.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._states: tuple[tuple[int, str], ...] = ()
        self.stopping: Callable[[], bool] = lambda: False

    def take(self, report: Report) -> None:
        """Count what was found out beside the proxy, and show it."""
        self._metrics.take(report)
        if isinstance(report, State):
            at_ms = time.time_ns() // 1_000_000
            event = f"id: {at_ms}\n{_event('state', {'at_ms': at_ms, **report.dump()})}"
            self._states = (*self._states, (at_ms, event))[-STATES_MAX:]

    async def page(self, request: Request) -> Response:
        """The page, which is the same for all."""
        return HTMLResponse(_PAGE.read_bytes(), headers={"content-security-policy": _POLICY})

    async def events(self, request: Request) -> Response:
        """The states that a client has not seen, then all that comes, until it goes or the server ends."""
        seen = request.headers.get("last-event-id", "")
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        events = self._events(int(seen) if seen.isdecimal() and len(seen) < 20 else 0)
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    async def _events(self, seen_ms: int) -> AsyncIterator[str]:
        counts: dict[str, Any] = {}
        said_s = time.monotonic()
        while not self.stopping():
            now = {"calls": self._metrics.calls(), "outcomes": self._metrics.outcomes()}
            if now != counts or time.monotonic() - said_s > BEAT_S:
                counts, said_s = now, time.monotonic()
                yield _event("counts", counts)
            for at_ms, event in self._states:
                if at_ms > seen_ms:
                    seen_ms = at_ms
                    yield event
            await sleep(TICK_S)


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data, allow_nan=False)}\n\n"
