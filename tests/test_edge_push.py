"""The outbox against a real server process: down for a while, killed midway, refusing, asked twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from llmtwin.edge import outbox
from llmtwin.edge.link import Link
from llmtwin.edge.outbox import PushOptions, push
from llmtwin.edge.store import EdgeStore, ItemKind
from llmtwin.errors import Unauthenticated, Unavailable
from llmtwin.records import Command, Description, Device, Fact, Prompt, now
from tests.conftest import Enrol, ServerProcess, TwinAt, enrol_twin

IMPATIENT = PushOptions(attempts_max=2, wait_s_max=0.05)
DESCRIPTION = Description(devices=(Device(id="lamp", name="Lamp", domain="light"),))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EdgeStore]:
    with EdgeStore(tmp_path / "edge") as opened:
        yield opened


def prompts(twin: str, count: int, start: int = 0) -> list[Prompt]:
    """A counter that rises: `count` prompts about one path, a second apart, the last one now."""
    at = now() - timedelta(hours=1)
    return [
        Prompt(
            twin=twin,
            text=f"The counter is {number}.",
            facts=(Fact(path="counter/value", value=number, at=at + timedelta(seconds=number)),),
            at=at + timedelta(seconds=number),
        )
        for number in range(start, start + count)
    ]


def watched(twin: TwinAt) -> tuple[Link, list[str]]:
    """An edge's link, and the ends of the paths that it calls, as they are called."""
    calls: list[str] = []
    client = twin.server.client(twin.token("edge"))
    client.event_hooks["request"].append(lambda request: calls.append(request.url.path.rpartition("/")[2]))
    return Link(client, twin.id), calls


def stored(twin: TwinAt) -> set[str]:
    found = Link(twin.owner, twin.id).search("counter", limit=100)
    return {prompt.id for prompt in found}


def test_what_was_queued_while_the_server_was_down_arrives_in_order(
    mortal_server: ServerProcess, store: EdgeStore, tmp_path: Path
) -> None:
    twin = enrol_twin(mortal_server, tmp_path)
    link, calls = watched(twin)
    mortal_server.stop()
    first, second = prompts(twin.id, 30), prompts(twin.id, 20, start=30)
    store.record([], first, "{}")
    store.enqueue_description(DESCRIPTION)
    down = push(store, link, options=IMPATIENT)
    assert (down.sent, down.refused, down.left) == (0, (), 31)
    assert isinstance(down.error, Unavailable)
    store.record([], second, "{}")

    mortal_server.start()
    calls.clear()
    up = push(store, link)
    assert (up.sent, up.refused, up.left, up.error) == (51, (), 0, None)
    assert calls == ["prompts", "description", "prompts"]
    assert stored(twin) == {prompt.id for prompt in [*first, *second]}
    assert Link(twin.owner, twin.id).state("counter/value").fact.value == 49
    assert Link(twin.owner, twin.id).description() == DESCRIPTION


def test_a_server_killed_in_the_middle_of_a_push_gets_the_rest_later(
    mortal_server: ServerProcess, store: EdgeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BATCH_ITEMS_MAX", 5)
    twin = enrol_twin(mortal_server, tmp_path)
    queued = prompts(twin.id, 40)
    store.record([], queued, "{}")
    seen: list[tuple[int, int]] = []

    def kill_after_three_batches(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 15:
            mortal_server.kill()

    cut = push(store, Link(twin.edge, twin.id), kill_after_three_batches, IMPATIENT)
    assert (cut.sent, cut.left) == (15, 25)
    assert isinstance(cut.error, Unavailable)
    assert seen == [(5, 40), (10, 40), (15, 40)]
    mortal_server.start()
    assert stored(twin) == {prompt.id for prompt in queued[:15]}
    assert push(store, Link(twin.edge, twin.id)).sent == 25
    assert stored(twin) == {prompt.id for prompt in queued}


def test_a_repeated_push_changes_nothing(twin: TwinAt, store: EdgeStore) -> None:
    link, owner = Link(twin.edge, twin.id), Link(twin.owner, twin.id)
    queued = prompts(twin.id, 10)
    link.send_prompts(queued[:4])  # the server took them, and its answer was lost
    store.record([], queued, "{}")
    assert push(store, link).sent == 10
    before = owner.states(), owner.search("counter", 100)
    store.record([], queued, "{}")
    again = push(store, link)
    assert (again.refused, again.left, again.error) == ((), 0, None)
    assert (owner.states(), owner.search("counter", 100)) == before
    assert len(before[1]) == 10


def test_a_refused_item_blocks_nothing_and_keeps_its_reason(twin: TwinAt, store: EdgeStore) -> None:
    link = Link(twin.edge, twin.id)
    good = prompts(twin.id, 3)
    stranger = prompts("another-twin", 1)[0]
    early = good[0].model_copy(update={"id": "early", "at": now() + timedelta(days=1)})
    lost = Command(
        twin=twin.id, path="a/b", value=1, created_at=now(), expires_at=now() + timedelta(minutes=1)
    )
    store.record([], [good[0], stranger, good[1], early, good[2]], "{}")
    store.start(lost)
    store.finish(lost.id)  # a command that this server never gave
    store.enqueue_adapter(7)  # whose package is not there
    store.enqueue_description(DESCRIPTION)

    pushed = push(store, link)
    assert (pushed.sent, pushed.left, pushed.error) == (4, 0, None)
    assert stored(twin) == {prompt.id for prompt in good}
    assert [(one.kind, one.id) for one in store.refused()] == [
        (ItemKind.PROMPT, stranger.id),
        (ItemKind.PROMPT, "early"),
        (ItemKind.REPORT, f"report-{lost.id}"),
        (ItemKind.ADAPTER, "adapter-7"),
    ]
    assert all(one.reason for one in store.refused())
    assert tuple(store.refused()) == pushed.refused


def test_a_batch_that_is_refused_as_a_whole_is_sent_in_parts(
    twin: TwinAt, store: EdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BATCH_BYTES_MAX", 1 << 30)
    filling = "x" * 400
    big = [
        prompt.model_copy(
            update={
                "facts": tuple(
                    Fact(path=f"filling/{number}", value=filling, at=prompt.at) for number in range(25)
                )
            }
        )
        for prompt in prompts(twin.id, 350)
    ]
    assert sum(len(prompt.model_dump_json()) for prompt in big) > 4 << 20
    store.record([], big, "{}")
    link, calls = watched(twin)
    pushed = push(store, link)
    assert (pushed.sent, pushed.refused) == (350, ())
    assert calls == ["prompts"] * 3  # the whole, and its halves


def test_batches_stay_within_what_the_server_takes(twin: TwinAt, store: EdgeStore) -> None:
    store.record([], prompts(twin.id, 1001), "{}")
    link, calls = watched(twin)
    assert push(store, link).sent == 1001
    assert calls == ["prompts", "prompts"]


def test_a_wrong_token_loses_nothing(twin: TwinAt, store: EdgeStore) -> None:
    store.record([], prompts(twin.id, 3), "{}")
    pushed = push(store, Link(twin.server.client("wrong"), twin.id), options=IMPATIENT)
    assert isinstance(pushed.error, Unauthenticated)
    assert (pushed.sent, pushed.refused, pushed.left) == (0, (), 3)
    assert push(store, Link(twin.edge, twin.id)).sent == 3


class LosesPrompts(httpx.HTTPTransport):
    """A line on which no batch of prompts gets through."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/prompts"):
            raise httpx.ReadTimeout("lost", request=request)
        return super().handle_request(request)


def test_an_adapter_does_not_wait_for_prompts(enrol: Enrol, store: EdgeStore) -> None:
    twin = enrol()
    store.record([], prompts(twin.id, 3), "{}")
    store.enqueue_description(DESCRIPTION)
    store.enqueue_adapter(7)  # whose package is not there: refused, and so it was tried
    headers = {"authorization": f"Bearer {twin.token('edge')}"}
    client = httpx.Client(transport=LosesPrompts(), base_url=twin.server.url, headers=headers)
    pushed = push(store, Link(client, twin.id), options=IMPATIENT)
    assert isinstance(pushed.error, Unavailable)
    assert [one.id for one in pushed.refused] == ["adapter-7"]
    assert pushed.left == 4
