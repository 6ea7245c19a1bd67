"""The edge of a simulated home, as a process of its own before a real server process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from llmtwin.edge.link import Link, open_link
from llmtwin.edge.store import EdgeStore
from llmtwin.errors import NotFound, Unavailable
from llmtwin.records import CommandState
from llmtwin.study.processes import DemoOptions, Edge
from llmtwin.study.truth import read_truth
from tests.conftest import free_port

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> DemoOptions:
    folder = tmp_path_factory.mktemp("demo")
    made = DemoOptions(home=folder / "home", cache=folder / "cache", out=folder / "out", homes=1)
    made.out.mkdir()
    return made


@pytest.fixture(scope="module")
def server(options: DemoOptions) -> Iterator[str]:
    url = f"http://127.0.0.1:{(port := free_port())}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LLMTWIN_")}
    path = os.pathsep.join([str(ROOT), kept.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "llmtwin", "serve", "--port", str(port), "--engine", "echo"]
    environment = {**kept, "PYTHONPATH": path, "LLMTWIN_HOME": str(options.home)}
    with (options.out / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stderr=log, stdout=log)
    try:
        _wait(url)
        yield url
    finally:
        process.terminate()
        process.wait(30)


@retry(retry=retry_if_exception_type(httpx.TransportError), stop=stop_after_delay(60), wait=wait_fixed(0.1))
def _wait(url: str) -> None:
    httpx.get(f"{url}/healthz").raise_for_status()


@pytest.fixture(scope="module")
def edge(options: DemoOptions, server: str) -> Iterator[Edge]:
    made = Edge("home1", options, server)
    yield made
    made.close()


@pytest.fixture(scope="module")
def end() -> datetime:
    return datetime.now(UTC).replace(second=0, microsecond=0)


@pytest.fixture(scope="module")
def owner(options: DemoOptions, server: str, edge: Edge, end: datetime) -> Link:
    """The owner's link to a home that enrolled, was collected and has sent two hours of its states."""
    admin = open_link(server, (options.home / "server" / "admin.token").read_text().strip(), "home1")
    edge.do("enrol", enrolment=admin.create("home", "demo"))
    found = edge.do("collect", at=(end - timedelta(days=1)).isoformat())
    assert found["facts"] > 100 and found["sealed"] > 50
    told: list[int] = []
    done = edge.do("stream", lambda progress: told.append(progress["step"]), end=end.isoformat(), steps=8)
    assert told == list(range(1, 9)) and 0 < done["prompt_bytes"] < done["raw_bytes"] / 5
    with EdgeStore(options.folder("home1")) as store:
        own = store.settings()
    assert own.server is None, "the twin outlives the server process"
    return open_link(server, own.owner_token, "home1")


def test_the_server_has_what_the_journal_says_and_nothing_private(
    options: DemoOptions, owner: Link, edge: Edge, end: datetime
) -> None:
    truth = read_truth(options.seed, edge.name, edge.journal, end)
    assert {state.fact.path: state.fact.value for state in owner.states()} == {
        path: fact.value for path, fact in truth.latest.items()
    }
    assert max(truth.seen) == end and len(truth.seen) == 9
    private = {one.fact.path for one in (*truth.settings, *truth.sealed)}
    assert len(private) > 100 and private.isdisjoint(truth.latest)
    described = owner.description().model_dump_json()
    assert not any(str(one.fact.value) in described for one in truth.sealed)


def test_an_order_reaches_the_device_is_reported_and_shows_in_its_state(owner: Link, edge: Edge) -> None:
    edge.do("live")
    lamp = next(device for device in owner.description().devices if device.domain == "light")
    before = owner.state(f"{lamp.id}/brightness").fact.value
    wanted = 37 if before != 37 else 38
    command = owner.order(f"{lamp.id}/brightness", wanted)
    until = time.monotonic() + 30
    while time.monotonic() < until:
        reached = owner.command(command.id).state is CommandState.REPORTED
        if reached and owner.state(f"{lamp.id}/brightness").fact.value == wanted:
            return
        time.sleep(0.2)
    pytest.fail(f"the order is {owner.command(command.id).state}")


def test_a_changed_setting_stays_at_home(options: DemoOptions, owner: Link, edge: Edge) -> None:
    with EdgeStore(options.folder("home1")) as store:
        old = next(one for one in store.observations() if one.property == "maximum brightness")
        value = 71 if old.fact.value != 71 else 72
        edge.do("change", entity=old.fact.path.partition("/")[0], value=value)
        assert next(o for o in store.observations() if o.fact.path == old.fact.path).fact.value == value
    with pytest.raises(NotFound):
        owner.state(old.fact.path)


def test_what_an_edge_cannot_do_is_told_in_one_line(edge: Edge) -> None:
    with pytest.raises(Unavailable, match="home1 cannot change: there is no setting"):
        edge.do("change", entity="number.nothing", value=1)
