"""An agent in a process of its own, to be killed: `FOLDER URL PAUSE`. At the point PAUSE it waits for that.

Its device appends each value it is given to FOLDER/applied; FOLDER/paused appears when it waits.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from llmtwin.edge.agent import AgentOptions, Senses, run
from llmtwin.edge.link import open_link
from llmtwin.edge.store import EdgeStore
from llmtwin.records import Command, Value

FOLDER, URL, PAUSE = Path(sys.argv[1]), sys.argv[2], sys.argv[3]


def pause(point: str) -> None:
    """Wait to be killed, if this is the point."""
    if point == PAUSE:
        (FOLDER / "paused").touch()
        time.sleep(60)


class PausingStore(EdgeStore):
    """The journal, with a pause before and after each entry."""

    def start(self, command: Command) -> bool:
        pause("before_start")
        started = super().start(command)
        pause("after_start")
        return started

    def finish(self, command_id: str, reason: str | None = None) -> None:
        pause("before_finish")
        super().finish(command_id, reason)
        pause("after_finish")


class FileDevice:
    """A device that remembers in a file what it was told."""

    def states(self) -> bytes:
        return b""

    def apply(self, path: str, value: Value) -> None:
        with (FOLDER / "applied").open("a") as file:
            file.write(f"{path}={value}\n")
        pause("in_apply")


run(
    PausingStore(FOLDER / "edge"),
    open_link(URL, "token", "home1"),
    FileDevice(),
    Senses(observe=lambda states: [], encode=lambda observations, state: ([], "{}")),
    threading.Event(),
    AgentOptions(collect_every_s=0.1, poll_wait_s=0.1, retry_wait_s_max=0.1),
)
