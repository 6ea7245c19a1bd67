"""The process beside the proxy, in which all is done that is not passing on: it never makes an answer wait.

It has a process, and what the cores leave idle, because reading and redacting what passed takes the
interpreter for milliseconds at a time. What it is given waits in a bounded queue; what has no room is dropped
and counted, as is most of it where the primary is on the same machine and never leaves a core idle.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import Full, Queue
from threading import Event, Lock, Thread

from llmtwin.errors import Unavailable
from llmtwin.proxy.evaluations import Evaluations, evaluations
from llmtwin.proxy.following import follow
from llmtwin.proxy.metrics import Outcome, Report, Usage
from llmtwin.proxy.mirror import Mirror, MirrorOptions
from llmtwin.proxy.passed import OPERATIONS, Passed, understood
from llmtwin.proxy.tracing import Tracer, tracer
from llmtwin.twins.model.openai import usage
from llmtwin.twins.model.running import State

QUEUE_MAX = 64
BATCH_MAX = 16
BATCH_BYTES_MAX = 2**20
CLOSE_S = 5.0
REPORT_S = 0.2
REPORTS_MAX = 10_000
"""Of a proxy that does not listen, the latest."""
NICE = 19
"""Where the system has, or allows, no class of work for idle cores alone."""

_log = logging.getLogger("llmtwin.proxy")


class Aside:
    """The proxy's end: hands over what passed; `take` is given what is reported, in another thread."""

    def __init__(self, mirror: MirrorOptions | None, take: Callable[[Report], None]) -> None:
        self._take = take
        self._mirrors = mirror is not None
        self._queue: Queue[Passed | None] = Queue(QUEUE_MAX)
        # The child gets its own ends and no others, so that it ends when the proxy does, however that ends.
        context = multiprocessing.get_context("spawn")
        theirs_in, self._out = context.Pipe(duplex=False)
        self._in, theirs_out = context.Pipe(duplex=False)
        self._process = context.Process(target=_run, args=(theirs_in, theirs_out, mirror), daemon=True)
        self._process.start()
        theirs_in.close()
        theirs_out.close()
        for work in (self._hand_over, self._listen):
            Thread(target=work, daemon=True).start()

    @property
    def state(self) -> str:
        """Of the mirror: `off`, `on` or `down`."""
        if not self._process.is_alive():
            return "down"
        return "on" if self._mirrors else "off"

    def offer(self, passed: Passed) -> None:
        """Hand over a call without waiting."""
        try:
            self._queue.put_nowait(passed)
        except Full:
            self._dropped(passed, "queue_full")

    def close(self) -> None:
        """Let it finish what it was given, for CLOSE_S at most."""
        with suppress(Full):
            self._queue.put(None, timeout=CLOSE_S / 2)
        self._process.join(CLOSE_S / 2)
        self._process.terminate()
        self._process.join()

    def _hand_over(self) -> None:
        while (passed := self._queue.get()) is not None:
            try:
                self._out.send(passed)
            except OSError:
                self._dropped(passed, "mirror_down")
        self._out.close()

    def _dropped(self, passed: Passed, outcome: str) -> None:
        if self._mirrors and not passed.marked:
            self._take(Outcome(outcome))

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                for report in self._in.recv():
                    self._told(report)

    def _told(self, report: Report) -> None:
        try:
            self._take(report)
        except Exception as error:  # a figure that cannot be shown must not end the others
            _log.warning("not shown: %s", type(error).__name__)


class Reporter:
    """The other end's line back; its threads share it.

    Reports go together, now and then: each on its own would take the proxy's interpreter from a call.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = Lock()
        self._waiting = deque[Report](maxlen=REPORTS_MAX)
        self._closing = Event()
        self._telling = Thread(target=self._tell, daemon=True)
        self._telling.start()

    def send(self, report: Report) -> None:
        """Have the proxy told; if it is gone, nobody is."""
        with self._lock:
            self._waiting.append(report)

    def close(self) -> None:
        """Tell what is left."""
        self._closing.set()
        self._telling.join()

    def _tell(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._closing.wait(REPORT_S)
            with self._lock:
                waiting = list(self._waiting)
                self._waiting.clear()
            if waiting:
                with suppress(OSError):
                    self._connection.send(_together(waiting))


def _together(reports: Sequence[Report]) -> list[Report]:
    """The same, with one report of all calls that came to the same."""
    counts = Counter(report.name for report in reports if isinstance(report, Outcome))
    others = [report for report in reports if not isinstance(report, Outcome)]
    return [*(Outcome(name, count) for name, count in counts.items()), *others]


def _run(source: Connection, sink: Connection, options: MirrorOptions | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the proxy is told, and closes this
    _give_way()
    reporter = Reporter(sink)
    mirror = Mirror(options, lambda outcome: reporter.send(Outcome(outcome))) if options else None
    spans, events = _exported()
    if options:
        follow(options, lambda state: _tell(state, reporter, events))
    try:
        with suppress(EOFError):
            while True:
                _observe(_received(source), reporter, mirror, spans)
    finally:
        reporter.close()
    if spans:
        spans.close()
    if events:
        events.close()


def _give_way() -> None:
    """Run only on what the proxy and its clients leave idle; what does not get done waits, or is dropped."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):
        os.nice(NICE)


def _exported() -> tuple[Tracer | None, Evaluations | None]:
    try:
        return tracer(), evaluations()
    except Unavailable as error:
        _log.warning("%s", error)
        return None, None


def _tell(state: State, reporter: Reporter, events: Evaluations | None) -> None:
    reporter.send(state)
    if events:
        events.tell(state)


def _received(source: Connection) -> list[Passed]:
    """Some calls that wait, one at least, since they are written together at the price of one.

    Raises EOFError where none will come.
    """
    calls: list[Passed] = [source.recv()]
    with suppress(EOFError):
        while len(calls) < BATCH_MAX and sum(map(_size, calls)) < BATCH_BYTES_MAX and source.poll():
            calls.append(source.recv())
    return calls


def _size(passed: Passed) -> int:
    return len(passed.request or b"") + len(passed.response or b"")


def _observe(
    calls: Sequence[Passed], reporter: Reporter, mirror: Mirror | None, spans: Tracer | None
) -> None:
    every = [(passed, understood(passed) if passed.succeeded else None) for passed in calls]
    for passed, seen in every:
        if seen and (used := usage(seen[1])):
            reporter.send(Usage(OPERATIONS[passed.endpoint], str(seen[0].get("model")), *used))
        if spans:
            spans.trace(passed, seen)
    if mirror:
        mirror.take([(passed, seen) for passed, seen in every if not passed.marked])
