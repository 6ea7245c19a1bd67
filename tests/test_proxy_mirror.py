"""What the mirror records, what the twin is asked, and what is dropped and counted on the way."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from llmtwin.proxy.mirror import Mirror, MirrorOptions
from llmtwin.proxy.passed import Passed
from llmtwin.proxy.shadow import Shadower, TwinOptions, asked_of_twin
from llmtwin.twins.kind import Known
from llmtwin.twins.model import collect
from llmtwin.twins.model.exchange import EXCHANGES, Exchange, Shadow, read
from llmtwin.twins.sessions import sampled, session_of
from tests.model_primary import Stub, whole
from tests.model_proxies import PASSED, Proxy, failing, kept, named, sleepy, until

ASKED = {"model": "gpt", "messages": [{"role": "user", "content": "I am Ann Miller"}], "temperature": 0.5}


@pytest.fixture(scope="module")
def primary() -> Iterator[Stub]:
    with Stub() as stub:
        yield stub


def post(
    proxy: Proxy, asked: dict[str, Any] = ASKED, endpoint: str = "chat/completions", **headers: str
) -> None:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    with proxy.client() as client:
        client.post(endpoint, json=asked, headers=sent).raise_for_status()


def exchange(text: str = "Hi") -> Exchange:
    request = {"messages": [{"role": "user", "content": text}]}
    return Exchange(timestamp=1.0, workload_id="desk", client_id="a", request=request, response={})


def test_what_passes_is_redacted_recorded_and_asked_of_the_twin(primary: Stub, tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "refund"}}]
    with Stub() as twin:
        asked = TwinOptions(twin.url, "twin-1", token="twin-token")
        mirror = MirrorOptions(tmp_path, "desk", named, twin=asked)
        with Proxy(tmp_path / "log", primary.url, mirror=mirror) as proxy:
            with proxy.counting("shadowed"):
                given = {**ASKED, "stream": True, "stream_options": {"include_usage": True}, "tools": tools}
                post(proxy, given, authorization="Bearer sk-primary-1234", api_key="sk-primary-1234")
            post(proxy, x_llmtwin_shadow="1")  # neither this is mirrored, nor what is not understood
            post(proxy, {"model": "e", "input": "Ann"}, "embeddings")
            with proxy.counting("shadowed"):
                post(proxy, {"model": "gpt", "input": "Hi"}, "responses", x_session_id="s-1")
    first, second = read(tmp_path / "exchanges.jsonl", Exchange)
    assert isinstance(first, Exchange) and isinstance(second, Exchange)
    assert first.request["messages"] == [{"role": "user", "content": "I am [person]"}]
    assert first.response == whole("chat/completions")
    assert first.workload_id == "desk" and second.client_id == session_of("s-1", {})
    shadows = [one for one in read(tmp_path / "shadow.jsonl", Shadow) if isinstance(one, Shadow)]
    assert [one.exchange for one in shadows] == [first.id, second.id]
    assert shadows[0].response == whole("chat/completions") and shadows[0].latency_s > 0
    chat, responses = twin.received
    messages = first.request["messages"]
    assert chat.json() == {"model": "twin-1", "messages": messages, "temperature": 0.5, "tools": tools}
    assert (chat.target, responses.target) == ("/v1/chat/completions", "/v1/responses")
    assert chat.header("x-llmtwin-shadow") == "1" and chat.header("authorization") == "Bearer twin-token"
    assert "sk-primary" not in str(twin.received) and "Ann" not in str(twin.received)


def test_half_a_sign_is_recorded_asked_of_the_twin_and_counted(primary: Stub, tmp_path: Path) -> None:
    with Stub() as twin:
        mirror = MirrorOptions(tmp_path, "desk", kept, twin=TwinOptions(twin.url, "twin"))
        with Proxy(tmp_path / "log", primary.url, mirror=mirror) as proxy, proxy.client() as client:
            with proxy.counting("shadowed"):
                asked = json.dumps({"model": "m\ud83d", "messages": [{"role": "user", "content": "\ud83d"}]})
                client.post("chat/completions", content=asked).raise_for_status()
            assert 'gen_ai_request_model="m\ufffd"' in proxy.metrics()
        assert twin.received[0].json()["messages"] == [{"role": "user", "content": "\ufffd"}]
    found = collect.read([str(tmp_path)], Known("desk"))
    assert len(found.documents) == 1 and not found.skipped


def test_what_cannot_be_redacted_goes_nowhere(primary: Stub, tmp_path: Path) -> None:
    mirror = MirrorOptions(tmp_path, "desk", failing)
    with Proxy(tmp_path / "log", primary.url, mirror=mirror) as proxy, proxy.counting("unredacted", 2):
        post(proxy)
        post(proxy)
    assert not (tmp_path / "exchanges.jsonl").exists()
    assert "Ann" not in (tmp_path / "log").read_text()


def test_a_full_disk_is_counted_and_no_client_sees_it(primary: Stub, tmp_path: Path) -> None:
    (tmp_path / "exchanges.jsonl").symlink_to("/dev/full")
    with Stub() as twin:
        mirror = MirrorOptions(tmp_path, "desk", kept, twin=TwinOptions(twin.url, "twin"))
        with Proxy(tmp_path / "log", primary.url, mirror=mirror) as proxy, proxy.counting("unwritten", 2):
            post(proxy)
            post(proxy)
        assert not twin.received
    assert "No space left" in (tmp_path / "log").read_text()


def test_calls_that_wait_are_written_together_and_each_is_counted(tmp_path: Path) -> None:
    counted: list[str] = []
    synced: list[int] = []

    def call(text: str, status: int = 200) -> tuple[Passed, tuple[dict[str, Any], dict[str, Any]]]:
        seen = {"messages": [{"role": "user", "content": text}]}, {"choices": []}
        return replace(PASSED, status=status), seen

    def redact(one: Exchange) -> Exchange:
        """Some it does not see through, and of some it makes what is no exchange, or cannot be written."""
        odd = {"Ann": lambda: failing(one), "text": lambda: "text"}
        odd["bytes"] = lambda: one.model_copy(update={"request": {"messages": b"bytes"}})
        return next((make() for word, make in odd.items() if word in str(one.request)), one)

    mirror = Mirror(MirrorOptions(tmp_path, "desk", redact), counted.append)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", synced.append)
        mirror.take(
            [call("one"), call("Ann"), call("none", status=500), call("text"), call("bytes"), call("two")]
        )
        assert len(synced) == 2  # the lines, and the folder of a file that is new
        mirror.take([call("three"), call("four")])
        assert len(synced) == 3
    assert counted == [
        *["recorded"] * 2,
        *["unredacted", "failed", "unredacted", "unredacted"],
        *["recorded"] * 2,
    ]
    lines = [one for one in read(tmp_path / EXCHANGES, Exchange) if isinstance(one, Exchange)]
    assert [one.request["messages"][0]["content"] for one in lines] == ["one", "two", "three", "four"]


def test_queues_that_are_full_drop_and_count(primary: Stub, tmp_path: Path) -> None:
    with Stub("silent") as twin:
        asked = TwinOptions(twin.url, "twin", timeout_s=60.0)
        slow = Proxy(
            tmp_path / "a.log", primary.url, mirror=MirrorOptions(tmp_path / "a", "desk", kept, twin=asked)
        )
        sleeps = Proxy(tmp_path / "b.log", primary.url, mirror=MirrorOptions(tmp_path / "b", "desk", sleepy))
        calls = 90
        with (
            slow,
            slow.counting("recorded", calls),
            slow.counting("twin_queue_full", calls - 65),
            slow.client() as client,
        ):
            for _ in range(calls):
                client.post("chat/completions", json=ASKED).raise_for_status()
        big = {**ASKED, "padding": "x" * 100_000}
        with sleeps, sleeps.counting("queue_full"), sleeps.client() as client:
            for _ in range(calls):
                client.post("chat/completions", json=big).raise_for_status()
    assert len(list(read(tmp_path / "a" / "exchanges.jsonl", Exchange))) == calls


def test_a_mirror_that_is_gone_is_told_and_counted(primary: Stub, tmp_path: Path) -> None:
    with Proxy(tmp_path / "log", primary.url, mirror=MirrorOptions(tmp_path, "desk", kept)) as proxy:
        with proxy.counting("recorded"):
            post(proxy)
        pid = proxy.process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(int(child), signal.SIGKILL)
        with proxy.client() as client:
            until(lambda: client.get(f"{proxy.root}/healthz").json()["mirror"] == "down")
        with proxy.counting("mirror_down"):
            post(proxy)
            post(proxy)


def test_spans_follow_the_conventions_and_have_no_content(
    primary: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Stub("empty") as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.url}/traces")
        with Proxy(tmp_path / "log", primary.url) as proxy, proxy.client() as client:
            post(proxy, {**ASKED, "stream": True})
            client.post("completions", json={"model": "gpt", "prompt": "Ann"}, headers={"x-stub": "limited"})
            until(lambda: 'token_type="output"' in proxy.metrics())
        until(lambda: bool(collector.received))
    spans: list[Span] = []
    for received in collector.received:
        exported = ExportTraceServiceRequest.FromString(received.body)
        spans += [span for r in exported.resource_spans for scope in r.scope_spans for span in scope.spans]
        assert b"Ann" not in received.body and "Höi".encode() not in received.body
    chat, limited = spans
    found = {one.key: one.value for one in chat.attributes}
    assert chat.name == "chat gpt" and chat.kind == Span.SPAN_KIND_CLIENT
    assert found["gen_ai.operation.name"].string_value == "chat"
    assert found["gen_ai.provider.name"].string_value == "openai"
    assert found["gen_ai.response.model"].string_value == "stub-7"
    assert found["gen_ai.usage.input_tokens"].int_value == 11
    assert found["gen_ai.response.finish_reasons"].array_value.values[0].string_value == "stop"
    assert found["gen_ai.response.time_to_first_chunk"].double_value > 0
    assert chat.end_time_unix_nano > chat.start_time_unix_nano
    assert limited.name == "text_completion"
    assert {one.key: one.value.string_value for one in limited.attributes}["error.type"] == "429"


def test_rate_and_budget_are_kept(tmp_path: Path) -> None:
    with Stub() as twin:
        rate = Shadower(TwinOptions(twin.url, "twin", requests_per_s_max=0.001), tmp_path / "a.jsonl")
        assert [rate.ask("chat/completions", exchange()) for _ in range(3)] == [
            "shadowed",
            "over_rate",
            "over_rate",
        ]
        # The stub uses 13 tokens for each.
        options = TwinOptions(twin.url, "twin", requests_per_s_max=1000.0, tokens_per_day_max=26)
        budget = Shadower(options, tmp_path / "b.jsonl")
        assert [budget.ask("chat/completions", exchange()) for _ in range(3)] == ["shadowed"] * 2 + [
            "over_budget"
        ]
        full = Shadower(TwinOptions(twin.url, "twin"), Path("/dev/full"))
        assert full.ask("chat/completions", exchange()) == "twin_unwritten"
    with Stub("broken") as twin:
        assert (
            Shadower(TwinOptions(twin.url, "twin"), tmp_path / "c").ask("responses", exchange())
            == "twin_failed"
        )


def test_a_twin_is_offered_functions_and_nothing_that_its_server_executes() -> None:
    function = {"type": "function", "function": {"name": "find"}}
    chosen = {"tools": [function], "tool_choice": "required"}
    assert asked_of_twin(chosen, "t") == {**chosen, "model": "t"}
    searched = {"input": "Hi", "tools": [function, {"type": "web_search"}], "tool_choice": "required"}
    assert asked_of_twin({**searched, "store": True, "background": True}, "t") == {
        "input": "Hi",
        "store": False,
        "model": "t",
    }


def test_a_session_is_told_by_its_name_its_user_or_its_first_message() -> None:
    first = {"role": "user", "content": "Hi"}
    system = {"role": "system", "content": "Today is Monday"}
    begun = {"messages": [system, first]}
    gone_on = {
        "messages": [first, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Why"}]
    }
    assert session_of(None, begun) == session_of(None, gone_on) != session_of(None, {"messages": [system]})
    assert session_of(None, {**begun, "user": "ann"}) == session_of("ann", gone_on)
    assert session_of(None, {"prompt": "Hi"}) != session_of(None, {})
    assert "ann" not in session_of("ann", {})


@given(
    st.lists(st.text(min_size=1), min_size=400, max_size=400, unique=True),
    st.sampled_from([0.0, 0.2, 0.9, 1.0]),
)
@settings(max_examples=10)
def test_of_the_sessions_that_share_is_sampled_and_a_larger_has_the_smaller(
    names: list[str], share: float
) -> None:
    sessions = [session_of(name, {}) for name in names]
    taken = [one for one in sessions if sampled(one, share)]
    assert abs(len(taken) / len(sessions) - share) < 0.12
    assert all(sampled(one, 1.0) and sampled(one, share + 0.1) for one in taken)
    assert json.dumps(taken) == json.dumps([one for one in sessions if sampled(one, share)])
