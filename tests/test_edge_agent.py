"""The agent: nothing private leaves, and an order reaches the device at most once, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from llmtwin.edge.agent import EXPIRED, INTERRUPTED, AgentOptions, Senses, collect, execute, run
from llmtwin.edge.link import Link
from llmtwin.edge.store import EdgeStore, ExecutionState, ItemKind
from llmtwin.errors import Conflict, Denied, InputError
from llmtwin.records import (
    Command,
    CommandState,
    Description,
    Device,
    Fact,
    Observation,
    Prompt,
    Property,
    Value,
    now,
)
from tests.conftest import ServerProcess, TwinAt, enrol_twin

HERE = Path(__file__).parent
QUICK = AgentOptions(collect_every_s=0.2, poll_wait_s=1, retry_wait_s_max=0.3)
LAMP = "light.lamp/brightness"
DESCRIPTION = Description(
    devices=(
        Device(
            id="light.lamp",
            name="Lamp",
            domain="light",
            properties=(Property(name="brightness", path=LAMP, writable=True, minimum=0, maximum=100),),
        ),
    )
)


class Lamp:
    """A lamp that tells its brightness as JSON, and a private one that it goes back to at night."""

    def __init__(self) -> None:
        self.brightness: Value = 10
        self.applied: list[tuple[str, Value]] = []

    def states(self) -> bytes:
        return json.dumps({"brightness": self.brightness, "night": 5}).encode()

    def apply(self, path: str, value: Value) -> None:
        self.applied.append((path, value))
        if value == 66:
            raise RuntimeError("the bulb\nis too hot")
        self.brightness = value


def observe(states: bytes) -> list[Observation]:
    try:
        read = json.loads(states)
    except ValueError as error:
        raise InputError("that is no JSON") from error
    at = now()
    live = Fact(path=LAMP, value=read["brightness"], at=at)
    night = Fact(path="light.lamp/night", value=read["night"], at=at)
    pin = Fact(path="lock.door/pin", value="4711", at=at)
    return [
        Observation(fact=live, device="Lamp", property="brightness"),
        Observation(fact=night, device="Lamp", property="night", private=True),
        Observation(fact=pin, device="Door", property="PIN", sealed=True),
    ]


def senses(twin: str) -> Senses:
    """Sends a brightness that is not the one before."""

    def encode(seen: Sequence[Observation], before: str | None) -> tuple[list[Prompt], str]:
        state = json.dumps([one.fact.value for one in seen])
        if state == before:
            return [], state
        return [
            Prompt(twin=twin, text=f"{one.property} is {one.fact.value}", facts=(one.fact,), at=one.fact.at)
            for one in seen
        ], state

    return Senses(observe, encode)


@contextmanager
def running(store: EdgeStore, link: Link, device: Lamp) -> Iterator[threading.Thread]:
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(store, link, device, senses(link.twin), stop, QUICK))
    thread.start()
    yield thread
    stop.set()
    thread.join(timeout=20)
    assert not thread.is_alive()


def until(true: Callable[[], object], timeout_s: float = 15) -> None:
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def order(value: Value = 50, expires_in_s: float = 60) -> Command:
    return Command(
        twin="home1",
        path=LAMP,
        value=value,
        created_at=now(),
        expires_at=now() + timedelta(seconds=expires_in_s),
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EdgeStore]:
    with EdgeStore(tmp_path / "edge") as opened:
        yield opened


def test_what_is_private_or_sealed_is_kept_and_never_queued(store: EdgeStore) -> None:
    lamp = Lamp()
    assert collect(store, lamp.states(), senses("home1")) == 1
    assert collect(store, lamp.states(), senses("home1")) == 0  # the encoder's state came back to it
    assert len(store.observations()) == 3
    (item,) = store.queued([ItemKind.PROMPT], 10)
    assert [fact.path for fact in Prompt.model_validate_json(item.body).facts] == [LAMP]


def test_a_bad_dump_leaves_nothing(store: EdgeStore) -> None:
    with pytest.raises(InputError):
        collect(store, b"{", senses("home1"))
    assert store.observations() == []
    assert store.encoder_state() is None


def test_an_expired_order_is_not_executed(store: EdgeStore) -> None:
    lamp, late = Lamp(), order(expires_in_s=-1)
    execute(store, lamp, late)
    execution = store.execution(late.id)
    assert lamp.applied == []
    assert execution is not None and (execution.state, execution.reason) == ("refused", EXPIRED)


def test_an_order_that_was_started_is_never_started_again(store: EdgeStore) -> None:
    lamp, cut_off = Lamp(), order()
    store.start(cut_off)
    execute(store, lamp, cut_off)
    execution = store.execution(cut_off.id)
    assert lamp.applied == []
    assert execution is not None and (execution.state, execution.reason) == ("refused", INTERRUPTED)


def test_a_device_that_does_not_take_it_refuses_in_one_line(store: EdgeStore) -> None:
    lamp, hot = Lamp(), order(66)
    execute(store, lamp, hot)
    execute(store, lamp, hot)
    execution = store.execution(hot.id)
    assert lamp.applied == [(LAMP, 66)]
    assert execution is not None and execution.reason == "the bulb is too hot"


def test_an_order_goes_down_and_its_effect_comes_back(twin: TwinAt, store: EdgeStore) -> None:
    owner, lamp = Link(twin.owner, twin.id), Lamp()
    owner.describe(DESCRIPTION)
    with running(store, Link(twin.edge, twin.id), lamp):
        until(lambda: owner.states())
        assert owner.state(LAMP).fact.value == 10
        given, bad = owner.order(LAMP, 50), owner.order(LAMP, 66)
        assert given.state is CommandState.DESIRED
        until(lambda: owner.command(bad.id).state is CommandState.REFUSED)
        assert owner.command(given.id).state is CommandState.REPORTED
        assert owner.command(bad.id).reason == "the bulb is too hot"
        until(lambda: owner.state(LAMP).fact.value == 50)
    assert lamp.applied == [(LAMP, 50), (LAMP, 66)]
    assert [state.fact.path for state in owner.states()] == [LAMP]


def test_an_agent_outlives_a_server_that_is_away(
    mortal_server: ServerProcess, store: EdgeStore, tmp_path: Path
) -> None:
    twin = enrol_twin(mortal_server, tmp_path)
    owner, lamp = Link(twin.owner, twin.id), Lamp()
    owner.describe(DESCRIPTION)
    mortal_server.kill()
    with running(store, Link(twin.edge, twin.id), lamp):
        until(lambda: store.queued_count() == 1)
        lamp.brightness = 11
        until(lambda: store.queued_count() == 2)
        mortal_server.start()
        until(lambda: store.queued_count() == 0)
        given = owner.order(LAMP, 12)
        until(lambda: owner.command(given.id).state is CommandState.REPORTED)
    assert {prompt.text for prompt in owner.search("brightness")} == {
        f"brightness is {value}" for value in (10, 11, 12)
    }


def test_an_agent_whose_token_is_refused_says_so(twin: TwinAt, store: EdgeStore) -> None:
    stranger = Link(twin.server.client("wrong"), twin.id)
    with pytest.raises(Denied):
        run(store, stranger, Lamp(), senses(twin.id), threading.Event(), QUICK)


def test_a_second_agent_of_the_same_twin_does_not_start(twin: TwinAt, store: EdgeStore) -> None:
    link = Link(twin.edge, twin.id)
    with running(store, link, Lamp()), EdgeStore(store.folder) as same:
        until(lambda: store.observations())
        with pytest.raises(Conflict):
            run(same, link, Lamp(), senses(twin.id), threading.Event(), QUICK)


@dataclass
class Insistent:
    """A server that hands out its one command at every poll, also when it was reported long ago."""

    command: Command
    url: str = ""
    polls: int = 0
    reports: list[dict[str, str]] = field(default_factory=list)

    def answer(self, method: str, path: str, body: bytes) -> str:
        if method == "GET":
            self.polls += 1
            return f"[{self.command.model_dump_json()}]"
        assert path.endswith(f"/commands/{self.command.id}/report")
        self.reports.append(json.loads(body))
        return "{}"


@pytest.fixture
def insistent() -> Iterator[Insistent]:
    serving = Insistent(order())

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            said = serving.answer(self.command, self.path, body).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)
            time.sleep(0.05)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    serving.url = f"http://127.0.0.1:{server.server_port}"
    yield serving
    server.shutdown()
    server.server_close()


def agent_process(folder: Path, url: str, pause: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(HERE / "edge_agent_process.py"), str(folder), url, pause],
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    )


@pytest.mark.parametrize(
    ("killed", "applied", "state", "reason"),
    [
        ("before_start", 1, CommandState.REPORTED, None),
        ("after_start", 0, CommandState.REFUSED, INTERRUPTED),
        ("in_apply", 1, CommandState.REFUSED, INTERRUPTED),
        ("before_finish", 1, CommandState.REFUSED, INTERRUPTED),
        ("after_finish", 1, CommandState.REPORTED, None),
    ],
)
def test_an_order_is_executed_at_most_once_across_a_killed_edge(
    tmp_path: Path, insistent: Insistent, killed: str, applied: int, state: CommandState, reason: str | None
) -> None:
    agent = agent_process(tmp_path, insistent.url, killed)
    try:
        until((tmp_path / "paused").exists, timeout_s=30)
        assert insistent.reports == []
    finally:
        agent.send_signal(signal.SIGKILL)
        agent.wait(10)

    agent = agent_process(tmp_path, insistent.url, "never")
    try:
        until(lambda: insistent.reports, timeout_s=30)
        polls = insistent.polls
        until(lambda: insistent.polls >= polls + 5 and len(insistent.reports) >= 2)
        assert agent.poll() is None
    finally:
        agent.send_signal(signal.SIGKILL)
        agent.wait(10)

    told = (tmp_path / "applied").read_text().splitlines() if (tmp_path / "applied").exists() else []
    assert told == [f"{LAMP}=50"] * applied
    assert {(one["state"], one["reason"]) for one in insistent.reports} == {(state, reason)}
    with EdgeStore(tmp_path / "edge") as store:
        execution = store.execution(insistent.command.id)
        assert execution is not None
        assert execution.state is (ExecutionState.REFUSED if reason else ExecutionState.DONE)
