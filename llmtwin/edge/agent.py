"""The agent of one twin: collects and sends what is new, and carries orders to the devices at most once.

It knows neither the devices nor the kind of twin: both are given in.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from llmtwin.edge.link import Link
from llmtwin.edge.locks import acting
from llmtwin.edge.outbox import PushOptions, push
from llmtwin.edge.store import EdgeStore
from llmtwin.errors import Denied, LlmtwinError
from llmtwin.records import Command, Observation, Prompt, Value, now

log = logging.getLogger(__name__)

INTERRUPTED = "interrupted, state unknown"
REASON_MAX = 500  # characters
EXPIRED = "expired before it reached the device"


class Device(Protocol):
    """The subject's devices."""

    def states(self) -> bytes:
        """All states as they are now, in the source's own format."""
        ...

    def apply(self, path: str, value: Value) -> None:
        """Set a value; returns when the device has it, raises when it does not take it."""
        ...


Observe = Callable[[bytes], Sequence[Observation]]
Encode = Callable[[Sequence[Observation], str | None], tuple[Sequence[Prompt], str]]


@dataclass(frozen=True)
class Senses:
    """How a kind reads its subject.

    `observe` turns a source's states into observations. `encode` turns observations and the state that it
    returned last time (None at first) into the prompts worth sending and its next state.
    """

    observe: Observe
    encode: Encode


@dataclass(frozen=True)
class AgentOptions:
    """How often the agent looks, and how long it waits."""

    collect_every_s: float = 10.0
    poll_wait_s: float = 10.0
    retry_wait_s_max: float = 10.0


def collect(store: EdgeStore, states: bytes, senses: Senses) -> int:
    """Keep what the states say and queue what is new in them; how many prompts were queued.

    What is private or sealed is kept here and never encoded: no prompt can carry it.
    Raises InputError as `observe` does; then nothing is kept.
    """
    observations = senses.observe(states)
    shareable = [one for one in observations if not (one.private or one.sealed)]
    prompts, encoder_state = senses.encode(shareable, store.encoder_state())
    store.record(observations, prompts, encoder_state)
    return len(prompts)


def execute(store: EdgeStore, device: Device, command: Command) -> None:
    """Carry one command to the device at most once, whatever happens in between, and queue its report.

    The journal holds `started` before the device hears of it, so a command whose end the journal does not
    hold may have reached the device: it is refused as interrupted, and not tried again.
    """
    if not store.start(command):
        store.finish(command.id, INTERRUPTED)  # unless it has its end: then only the report is repeated
    elif command.expires_at <= now():
        store.finish(command.id, EXPIRED)
    else:
        store.finish(command.id, _apply(device, command))


def run(
    store: EdgeStore,
    link: Link,
    device: Device,
    senses: Senses,
    stop: threading.Event,
    options: AgentOptions | None = None,
) -> None:
    """Work until `stop` is set. A server or device that is away is waited for.

    Raises Conflict when an agent of this twin is running already, Denied when the server does not accept
    the link's token.
    """
    options = options or AgentOptions()
    with acting(store):
        for command_id in store.unfinished():
            store.finish(command_id, INTERRUPTED)
        orders = _Orders(store, link, device, stop, options)
        orders.start()
        try:
            while not stop.is_set():
                _collect(store, device, senses)
                _push(store, link)
                _pause(stop, orders.news, options.collect_every_s)
        finally:
            stop.set()
            orders.join()
    if orders.error is not None:
        raise orders.error


class _Orders(threading.Thread):
    """Waits for commands and executes them; sets `news` when there is something to report."""

    def __init__(
        self, store: EdgeStore, link: Link, device: Device, stop: threading.Event, options: AgentOptions
    ) -> None:
        super().__init__(name=f"orders-{link.twin}", daemon=True)
        self.news = threading.Event()
        self.error: Exception | None = None
        self._store = store
        self._link = link
        self._device = device
        self._stop_event = stop
        self._options = options

    def run(self) -> None:
        try:
            while not self._stop_event.is_set():
                self._poll()
        except Exception as error:  # for the agent's own thread to raise
            self.error = error
            self._stop_event.set()

    def _poll(self) -> None:
        try:
            commands = self._link.commands(self._options.poll_wait_s)
        except Denied:
            raise
        except LlmtwinError as error:
            log.warning("cannot ask for orders: %s", error)
            # Jittered, so that the edges of a server that comes back do not all come at once.
            self._stop_event.wait(random.uniform(0.1, 1.0) * self._options.retry_wait_s_max)
            return
        for command in commands:
            if self._stop_event.is_set():
                return  # not started, so the server hands it out again
            execute(self._store, self._device, command)
            self.news.set()


def _apply(device: Device, command: Command) -> str | None:
    """Set the value; the reason when the device does not take it."""
    try:
        device.apply(command.path, command.value)
    except Exception as error:  # a device is anybody's code
        log.warning("%s = %r was not taken: %s", command.path, command.value, error)
        return " ".join((str(error) or type(error).__name__).split())[:REASON_MAX]
    return None


def _collect(store: EdgeStore, device: Device, senses: Senses) -> None:
    try:
        collect(store, device.states(), senses)
    except Exception as error:  # a device is anybody's code, and the next look may succeed
        log.warning("cannot collect: %s", error)


def _push(store: EdgeStore, link: Link) -> None:
    """Try once: the agent's own loop is what tries again."""
    pushed = push(store, link, options=PushOptions(attempts_max=1))
    for refusal in pushed.refused:
        log.warning("the server refused %s %s: %s", refusal.kind, refusal.id, refusal.reason)
    if isinstance(pushed.error, Denied):
        raise pushed.error
    if pushed.error is not None:
        log.warning("%d items wait: %s", pushed.left, pushed.error)


def _pause(stop: threading.Event, news: threading.Event, seconds: float) -> None:
    """Wait for the next look; an executed order brings it forward, since its effect is news."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not news.is_set():
        if stop.wait(0.05):
            return
    news.clear()
