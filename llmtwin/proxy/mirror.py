"""What is done with a call after it passed: samples, redacts, records, and has the twin asked.

It runs beside the proxy and knows neither its clients nor the primary. A session is mirrored whole or not at
all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Full, Queue
from threading import Thread
from typing import Any

from llmtwin.errors import InputError, Unavailable
from llmtwin.proxy.passed import Passed
from llmtwin.proxy.shadow import Shadower, TwinOptions
from llmtwin.twins.model.exchange import EXCHANGES, SHADOWS, Exchange, append_lines, as_line
from llmtwin.twins.model.measures import Measure
from llmtwin.twins.sessions import sampled, session_of

Json = dict[str, Any]
Seen = tuple[Json, Json]
"""The request and the whole response of a call."""
Redact = Callable[[Exchange], Exchange]

WAITING_MAX = 64
"""Exchanges that wait for the twin; more are recorded, and not shown to it."""

_log = logging.getLogger("llmtwin.proxy")


@dataclass(frozen=True)
class MirrorOptions:
    """What is recorded in `folder`, and of which share of the sessions (0 to 1).

    `redact` takes out what is personal, before anything is written or sent: there is no mirror without it. It
    has to be picklable, as a function of a module is, for the mirror is a process of its own; so have the
    `measures` by which a twin's answers are compared with the primary's.
    """

    folder: Path
    workload_id: str
    redact: Redact | None = None
    sessions_share: float = 1.0
    twin: TwinOptions | None = None
    measures: Sequence[Measure] = ()

    def checked(self) -> MirrorOptions:
        """Itself, its folder made, which is the owner's alone.

        Raises InputError where it must not be started, Unavailable where the folder cannot be made.
        """
        if self.redact is None:
            raise InputError("a mirror needs a redactor: nothing is recorded as it is")
        if not 0 <= self.sessions_share <= 1:
            raise InputError(f"the share of sessions is from 0 to 1, not {self.sessions_share}")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"{self.folder} cannot be made: {error.strerror}") from error
        return self


@dataclass(frozen=True)
class Line:
    """An exchange that may be recorded, and how it stands on the record."""

    exchange: Exchange
    content: bytes


class Mirror:
    """Records what passed, and asks the twin in a thread; `count` is told every outcome, by name."""

    def __init__(self, options: MirrorOptions, count: Callable[[str], None]) -> None:
        self._options = options
        self._count = count
        self._waiting: Queue[tuple[str, Exchange] | None] = Queue(WAITING_MAX)
        self._asking: Thread | None = None
        if options.twin is not None:
            shadower = Shadower(options.twin, options.folder / SHADOWS)
            self._asking = Thread(target=self._ask, args=[shadower], daemon=True)
            self._asking.start()

    def take(self, calls: Sequence[tuple[Passed, Seen | None]]) -> None:
        """Mirror calls, each with what was understood of it; what is recorded of them is written at once."""
        found = [(passed.endpoint, self._mirrored(passed, seen)) for passed, seen in calls]
        lines = [(endpoint, one) for endpoint, one in found if isinstance(one, Line)]
        written = self._written([one.content for _, one in lines])
        for place, (endpoint, one) in enumerate(lines):
            self._count("recorded" if place < written else "unwritten")
            if place < written and self._asking is not None:
                self._wait(endpoint, one.exchange)
        for why in (one for _, one in found if isinstance(one, str)):
            self._count(why)

    def _mirrored(self, passed: Passed, seen: Seen | None) -> Line | str:
        """What is to be recorded of a call, or why nothing is."""
        if not passed.succeeded:
            return "failed" if passed.whole else "cut"
        if passed.request is None or passed.response is None:
            return "too_large"
        if seen is None:
            return "unreadable"
        session = session_of(passed.session, seen[0])
        if not sampled(session, self._options.sessions_share):
            return "unsampled"
        return self._redacted(passed, session, *seen)

    def _redacted(self, passed: Passed, session: str, request: Json, response: Json) -> Line | str:
        assert self._options.redact is not None
        try:
            exchange = self._options.redact(
                Exchange(
                    timestamp=passed.at_s,
                    workload_id=self._options.workload_id,
                    client_id=session,
                    request=request,
                    response=response,
                )
            )
            return Line(exchange, as_line(exchange))
        except Exception as error:  # whatever a redactor raises: what it did not see through goes nowhere
            _log.warning("not redacted, and not recorded: %s", type(error).__name__)
            return "unredacted"

    def _written(self, lines: Sequence[bytes]) -> int:
        """How many of the first lines were written."""
        try:
            return append_lines(self._options.folder / EXCHANGES, lines) if lines else 0
        except Unavailable as error:
            _log.warning("%s", error)
            return 0

    def _wait(self, endpoint: str, exchange: Exchange) -> None:
        try:
            self._waiting.put_nowait((endpoint, exchange))
        except Full:
            self._count("twin_queue_full")

    def _ask(self, shadower: Shadower) -> None:
        while (waiting := self._waiting.get()) is not None:
            self._count(shadower.ask(*waiting))
