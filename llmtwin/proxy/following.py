"""Follows what the mirror records, and reports how near the twin is now and then. It records nothing.

It runs beside the proxy, in a thread. What was on record before the proxy started counts, too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Thread

from llmtwin.proxy.mirror import MirrorOptions
from llmtwin.twins.model.exchange import EXCHANGES, SHADOWS, Exchange, Shadow, Tail
from llmtwin.twins.model.running import Running, State

PAUSE_S = 2.0
"""Between two looks: comparing takes a tenth of a second where much is on record."""

_log = logging.getLogger("llmtwin.proxy")


def follow(options: MirrorOptions, report: Callable[[State], None]) -> None:
    """Report the state whenever something new is on record, until the process ends."""
    Thread(target=_follow, args=(options, report), daemon=True).start()


def _follow(options: MirrorOptions, report: Callable[[State], None]) -> None:
    running = Running(options.measures)
    exchanges = Tail(options.folder / EXCHANGES, Exchange)
    shadows = Tail(options.folder / SHADOWS, Shadow)
    while True:
        try:
            if _fed(running, exchanges, shadows):
                report(running.state())
        except Exception as error:  # whatever a measure raises: it must not end the others, nor quote a text
            _log.warning("the traffic on record is not compared: %s", type(error).__name__)
        time.sleep(PAUSE_S)


def _fed(running: Running, exchanges: Tail[Exchange], shadows: Tail[Shadow]) -> bool:
    """Whether there was something new."""
    lines = 0
    for line in exchanges.new():
        running.exchange(line)
        lines += 1
    for shadow in shadows.new():
        running.shadow(shadow)
        lines += 1
    return lines > 0
