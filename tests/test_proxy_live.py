"""The live page and its events: what they show, what they never show, and that they hold nobody up."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from llmtwin.primary.nearness import measures
from llmtwin.proxy.app import ProxyOptions, create_app
from llmtwin.proxy.mirror import MirrorOptions
from llmtwin.proxy.shadow import TwinOptions
from llmtwin.twins.model.running import ANCHOR
from tests.model_primary import Stub, whole
from tests.model_proxies import Proxy, kept, until

SECRETS = ("Ann", "Höi", "H\\u00f6i", "H\\xf6i", "sk-secret")
DRIFT = re.compile(r'llmtwin_drift_e_value\{number="mean_logprob"\} (\S+)')
LEVEL = 20.0

Event = tuple[str, dict[str, Any]]


@pytest.fixture(scope="module")
def primary() -> Iterator[Stub]:
    with Stub() as stub:
        yield stub


@pytest.fixture(scope="module")
def collector() -> Iterator[Stub]:
    with Stub("empty") as stub:
        yield stub


@pytest.fixture(scope="module")
def proxy(primary: Stub, collector: Stub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("live")
    with Stub("changed") as twin, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", f"{collector.url}/logs")
        patch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "200")
        asked = TwinOptions(twin.url, "twin", requests_per_s_max=1000.0)
        mirror = MirrorOptions(folder / "record", "desk", kept, twin=asked, measures=measures())
        with Proxy(folder / "log", primary.url, mirror=mirror) as running:
            yield running


def post(proxy: Proxy, count: int, **headers: str) -> list[bytes]:
    sent = {"authorization": "Bearer sk-secret-1234", **{k.replace("_", "-"): v for k, v in headers.items()}}
    said = []
    with proxy.client(headers=sent) as client:
        for number in range(count):
            asked = {"model": "m", "messages": [{"role": "user", "content": f"I am Ann {number % 8}"}]}
            said.append(client.post("chat/completions", json=asked).raise_for_status().content)
    return said


@contextmanager
def stream(proxy: Proxy, seen: str = "0") -> Iterator[tuple[httpx.Response, Iterator[str]]]:
    with (
        proxy.client() as client,
        client.stream("GET", f"{proxy.root}/live/events", headers={"last-event-id": seen}) as response,
    ):
        yield response, response.iter_lines()


def events(lines: Iterator[str]) -> Iterator[Event]:
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def told_until(told: Iterator[Event], last: Callable[[Event], bool]) -> Iterator[Event]:
    """What is told up to what is waited for."""
    for event in told:
        yield event
        if last(event):
            return


def test_page_and_events_come_while_answers_stay_the_primary_s(primary: Stub, proxy: Proxy) -> None:
    content = json.dumps(whole("chat/completions"), ensure_ascii=False).encode()
    with proxy.client() as client:
        page = client.get(f"{proxy.root}/live")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.search(r"""https?:|(?:src|href)=|@import|url\(""", page.text)
    with stream(proxy) as (response, lines):
        assert response.headers["content-type"].startswith("text/event-stream")
        told = events(lines)
        name, counts = next(told)
        assert name == "counts" and counts == {"calls": 0, "outcomes": {}}
        with proxy.counting("shadowed", 16):
            assert post(proxy, 16) == [content] * 16
        found = dict(told_until(told, lambda event: event[0] == "state" and event[1]["shadows"] == 16))
    assert found["counts"]["calls"] == 16 and found["counts"]["outcomes"]["recorded"] == 16
    assert found["state"]["tokens_primary"] == found["state"]["tokens_twin"] == {"asked": 176, "said": 32}
    match = found["state"]["discrepancy"]["measures"][0]
    assert match["name"] == "exact_match" and match["discrepancy"]["value"] == 1
    assert match["floor"]["value"] == 0 and match["ratio"] is None


def test_shadows_make_the_discrepancy_a_gauge_and_an_event(collector: Stub, proxy: Proxy) -> None:
    with proxy.counting("shadowed", 8):
        post(proxy, 8)
    until(lambda: 'llmtwin_discrepancy{measure="exact_match"} 1.0' in proxy.metrics())
    until(lambda: bool(collector.received))
    records: list[LogRecord] = []
    for received in collector.received:
        exported = ExportLogsServiceRequest.FromString(received.body)
        records += [one for r in exported.resource_logs for s in r.scope_logs for one in s.log_records]
        assert not any(secret.encode() in received.body for secret in SECRETS)
    assert {record.event_name for record in records} == {"gen_ai.evaluation.result"}
    said = [{one.key: one.value for one in record.attributes} for record in records]
    match = next(one for one in said if "exact_match" in one["gen_ai.evaluation.name"].string_value)
    assert match["gen_ai.evaluation.score.value"].double_value == 1
    assert match["gen_ai.evaluation.score.label"].string_value == "no_floor"
    assert "of 8 requests" in match["gen_ai.evaluation.explanation"].string_value


def drift(proxy: Proxy) -> float:
    found = DRIFT.search(proxy.metrics())
    return float(found[1]) if found else 0.0


@pytest.fixture(scope="module")
def drifted(proxy: Proxy) -> tuple[float, float]:
    """What the gauge was while the primary was the same, and what it became when that changed."""
    with proxy.counting("recorded", ANCHOR), proxy.counting("shadowed", ANCHOR):
        post(proxy, ANCHOR)
    until(lambda: drift(proxy) > 0)
    before = drift(proxy)
    with proxy.counting("recorded", 30), proxy.counting("shadowed", 30):
        post(proxy, 30, x_stub="changed")
    until(lambda: drift(proxy) > LEVEL)
    return before, drift(proxy)


def test_the_drift_gauge_rises_when_the_primary_changes(drifted: tuple[float, float]) -> None:
    before, after = drifted
    assert before < LEVEL < after


def test_who_comes_later_sees_what_was_and_no_text_of_anybody(
    proxy: Proxy, drifted: tuple[float, float]
) -> None:
    with stream(proxy) as (_, lines):
        text: list[str] = []
        for line in lines:
            text.append(line)
            if '"e_value"' in line and json.loads(line.removeprefix("data: "))["drift"]["e_value"] > LEVEL:
                break
    ids = [line.removeprefix("id: ") for line in text if line.startswith("id: ")]
    assert len(ids) >= 2 and ids == sorted(set(ids), key=int)
    assert not [secret for secret in SECRETS if secret in "".join(text)]
    with stream(proxy, seen=ids[-2]) as (_, lines):
        assert next(line for line in lines if line.startswith("id: ")) == f"id: {ids[-1]}"
    for seen in ("x", "-1", "9" * 5000, ""):
        with stream(proxy, seen) as (_, lines):
            assert next(line for line in lines if line.startswith("id: ")) == f"id: {ids[0]}"


def test_a_client_that_goes_leaves_nothing_behind(proxy: Proxy) -> None:
    def descriptors() -> int:
        return len(list(Path(f"/proc/{proxy.process.pid}/fd").iterdir()))

    with ExitStack() as stack:
        streams = [stack.enter_context(stream(proxy)) for _ in range(5)]
        assert [next(lines) for _, lines in streams] == ["event: counts"] * 5
        listening = descriptors()
    until(lambda: descriptors() <= listening - 5)


def test_the_events_of_a_client_that_went_are_over_at_once() -> None:
    """The app itself, as its server calls it."""
    said: list[Any] = []

    async def called() -> None:
        app, gone = create_app(ProxyOptions("http://localhost:9000/v1")), anyio.Event()

        async def receive() -> Any:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            said.append(message)
            if len(said) == 2:
                gone.set()

        scope = {"type": "http", "method": "GET", "path": "/live/events", "headers": [], "query_string": b""}
        with anyio.fail_after(5):
            await app(scope, receive, send)

    anyio.run(called)
    assert said[0]["status"] == 200 and b"counts" in said[1]["body"] and len(said) == 2


def test_a_proxy_goes_on_from_its_record_and_ends_its_streams_when_it_ends(
    primary: Stub, proxy: Proxy, drifted: tuple[float, float], tmp_path: Path
) -> None:
    assert proxy.options.mirror is not None
    with (
        Proxy(tmp_path / "log", primary.url, mirror=proxy.options.mirror) as again,
        stream(again) as (_, lines),
    ):
        told = events(lines)
        _, state = list(told_until(told, lambda event: event[0] == "state"))[-1]
        # the first proxy may not have looked at the last replies yet
        until(lambda: DRIFT.findall(again.metrics()) == DRIFT.findall(proxy.metrics()))
        assert state["exchanges"] == proxy.outcomes()["recorded"] == state["shadows"]
        again.process.terminate()
        assert all(name == "counts" for name, _ in told)  # to its end, and not broken off
        again.process.join(10)
    assert "Cancel" not in (tmp_path / "log").read_text()
