"""Sends what waits in the outbox, in order. It knows nothing of how the items came to be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from llmtwin.edge.link import Link
from llmtwin.edge.locks import sending
from llmtwin.edge.store import EdgeStore, Item, ItemKind, Refusal, Report
from llmtwin.errors import Conflict, Denied, InputError, LlmtwinError, NotFound, Unavailable, Untrusted
from llmtwin.records import Description, Prompt
from llmtwin.wire.codec import BATCH_BYTES_MAX, BATCH_ITEMS_MAX
from llmtwin.wire.package import read_package

# Each lane keeps its own order and stops at its own trouble: an adapter waits for nothing but adapters.
LANES: tuple[tuple[ItemKind, ...], ...] = (
    (ItemKind.PROMPT, ItemKind.FORGET, ItemKind.DESCRIPTION, ItemKind.REPORT),
    (ItemKind.ADAPTER,),
)

# The item's own fault, for good. Denied is not: with the right token the same item is welcome.
REFUSALS = (InputError, NotFound, Conflict, Untrusted)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PushOptions:
    """How often one item is tried before the push gives up until next time."""

    attempts_max: int = 4
    wait_s_max: float = 4.0


@dataclass(frozen=True)
class Pushed:
    """What a push did; `error` says why something is left."""

    sent: int
    refused: tuple[Refusal, ...]
    left: int
    error: LlmtwinError | None


def push(
    store: EdgeStore, link: Link, progress: Progress | None = None, options: PushOptions | None = None
) -> Pushed:
    """Send what is queued, in order; what cannot be sent now stays and goes first next time.

    An item that the server will never take goes to `store.refused()` and blocks nothing. A push that was
    cut off and is repeated changes nothing at the server: every item has an id there.
    `progress` is called with the items done and the items in all.
    """
    with sending(store):
        return _Push(store, link, progress, options or PushOptions()).run()


class _Push:
    """One push under way."""

    def __init__(self, store: EdgeStore, link: Link, progress: Progress | None, options: PushOptions) -> None:
        self._store = store
        self._link = link
        self._progress = progress
        self._sent = 0
        self._refused: list[Refusal] = []
        self._retrying = Retrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_attempt(options.attempts_max),
            wait=wait_random_exponential(max=options.wait_s_max),
            reraise=True,
        )

    def run(self) -> Pushed:
        """Send lane after lane, each up to its first trouble."""
        error: LlmtwinError | None = None
        for lane in LANES:
            try:
                while items := self._store.queued(lane, BATCH_ITEMS_MAX):
                    self._send(_batch(items))
            except (Unavailable, Denied) as trouble:
                error = error or trouble
        return Pushed(self._sent, tuple(self._refused), self._store.queued_count(), error)

    def _send(self, items: Sequence[Item]) -> None:
        """Send a batch; one that is refused as a whole is sent by halves, to find the bad item."""
        try:
            refused = self._retrying(self._deliver, items)
        except REFUSALS as error:
            if len(items) > 1:
                half = len(items) // 2
                self._send(items[:half])
                self._send(items[half:])
                return
            refused = {0: str(error)}
        self._settle(items, refused)

    def _deliver(self, items: Sequence[Item]) -> dict[int, str]:
        """Hand a batch to the server; the reasons of what it refuses, by index."""
        body = items[0].body
        match items[0].kind:
            case ItemKind.PROMPT:
                prompts = [Prompt.model_validate_json(item.body) for item in items]
                return {one.index: one.reason for one in self._link.send_prompts(prompts).refused}
            case ItemKind.FORGET:
                self._link.forget_prompts(body)
            case ItemKind.DESCRIPTION:
                self._link.describe(Description.model_validate_json(body))
            case ItemKind.ADAPTER:
                self._link.send_adapter(read_package(self._store.adapter_folder(int(body))))
            case ItemKind.REPORT:
                report = Report.model_validate_json(body)
                self._link.report(report.command, report.state, report.reason)
        return {}

    def _settle(self, items: Sequence[Item], reasons: dict[int, str]) -> None:
        taken = [item for index, item in enumerate(items) if index not in reasons]
        refused = [(item, reasons[index]) for index, item in enumerate(items) if index in reasons]
        self._store.settle(taken, refused)
        self._sent += len(taken)
        self._refused += [Refusal(item.id, item.kind, reason) for item, reason in refused]
        if self._progress is not None:
            done = self._sent + len(self._refused)
            self._progress(done, done + self._store.queued_count())


def _batch(items: Sequence[Item]) -> Sequence[Item]:
    """What goes in one request: prompts up to the size of a batch, or one item of another kind."""
    if items[0].kind is not ItemKind.PROMPT:
        return items[:1]
    return list(_prompts_that_fit(items))


def _prompts_that_fit(items: Iterable[Item]) -> Iterable[Item]:
    size = 2  # the brackets
    for index, item in enumerate(items):
        size += len(item.body.encode()) + 1  # and a comma
        if item.kind is not ItemKind.PROMPT or (index > 0 and size > BATCH_BYTES_MAX):
            return
        yield item
