"""Faults of the primary, of clients and of the proxy itself: what a client sees, and what is on record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from llmtwin.errors import InputError, Unavailable
from llmtwin.proxy.app import ProxyOptions, create_app
from llmtwin.proxy.mirror import MirrorOptions
from llmtwin.twins.kind import Skipped
from llmtwin.twins.model.exchange import Exchange, read
from llmtwin.twins.model.openai import reply
from tests.conftest import free_port
from tests.model_primary import Stub, events
from tests.model_proxies import Proxy, kept, until

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
STREAM = {**CHAT, "stream": True}


@pytest.fixture(scope="module")
def primary() -> Iterator[Stub]:
    with Stub() as stub:
        yield stub


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("proxy")


@pytest.fixture(scope="module")
def proxy(primary: Stub, folder: Path) -> Iterator[Proxy]:
    mirror = MirrorOptions(folder / "record", "desk", kept)
    with Proxy(folder / "log", primary.url, timeout_s=1.0, mirror=mirror) as running:
        yield running


def on_record(proxy: Proxy) -> list[Exchange | Skipped]:
    assert proxy.options.mirror is not None
    path = proxy.options.mirror.folder / "exchanges.jsonl"
    return list(read(path, Exchange)) if path.exists() else []


def post(proxy: Proxy, behaviour: str, asked: dict[str, Any] = CHAT) -> httpx.Response:
    with proxy.client() as client:
        return client.post("chat/completions", json=asked, headers={"x-stub": behaviour})


def test_a_primary_that_is_down_is_a_502_that_clients_understand(tmp_path: Path) -> None:
    with Proxy(tmp_path / "log", f"http://127.0.0.1:{free_port()}/v1") as proxy:
        client = openai.OpenAI(base_url=proxy.url, api_key="sk-secret-0000", max_retries=0)
        with client, pytest.raises(openai.InternalServerError, match="cannot be reached") as raised:
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        assert raised.value.status_code == 502 and raised.value.code == "unavailable"
        assert "\n" not in raised.value.message
        with proxy.client() as other:
            assert other.get(f"{proxy.root}/healthz").json() == {"status": "ok", "mirror": "off"}
        assert 'error_type="ConnectError"' in proxy.metrics()


def test_a_slow_primary_is_a_504(proxy: Proxy) -> None:
    with proxy.counting("cut"):
        answer = post(proxy, "silent")
    assert answer.status_code == 504 and answer.json()["error"]["code"] == "timeout"


@pytest.mark.parametrize(
    ("behaviour", "status", "outcome"),
    [("limited", 429, "failed"), ("broken", 500, "failed"), ("garbage", 200, "unreadable")],
)
def test_what_is_no_answer_is_passed_on_and_not_recorded(
    proxy: Proxy, behaviour: str, status: int, outcome: str
) -> None:
    before = on_record(proxy)
    with proxy.counting(outcome):
        assert post(proxy, behaviour).status_code == status
    assert on_record(proxy) == before


@pytest.mark.parametrize("asked", [CHAT, STREAM])
def test_an_answer_cut_in_the_middle_is_cut_for_the_client_too(proxy: Proxy, asked: dict[str, Any]) -> None:
    before = on_record(proxy)
    with proxy.counting("cut"), pytest.raises(httpx.RemoteProtocolError):
        post(proxy, "cut", asked)
    assert on_record(proxy) == before


def test_a_stream_that_ends_before_its_end_is_not_recorded(proxy: Proxy) -> None:
    before = on_record(proxy)
    with proxy.counting("unreadable"):
        said = post(proxy, "unfinished", STREAM).content
    assert said == b"".join([*events("chat/completions")][:-1])
    assert on_record(proxy) == before


def test_an_answer_without_logprobs_is_recorded(proxy: Proxy) -> None:
    with proxy.counting("recorded"):
        post(proxy, "no_logprobs")
    last = on_record(proxy)[-1]
    assert isinstance(last, Exchange)
    assert reply(last.response).tokens is None and reply(last.response).text == "Höi"


@pytest.mark.parametrize("behaviour", ["silent", "held"])
def test_a_client_that_goes_ends_the_call_of_the_primary(primary: Stub, proxy: Proxy, behaviour: str) -> None:
    before = on_record(proxy)
    primary.gone.clear()
    with proxy.counting("cut"):
        with pytest.raises(httpx.ReadTimeout), proxy.client() as client:
            client.post("chat/completions", json=STREAM, headers={"x-stub": behaviour}, timeout=0.3)
        assert primary.gone.wait(0.6)  # before the proxy itself gives up
    assert on_record(proxy) == before


def test_a_key_reaches_no_log_no_record_and_no_counter(primary: Stub, proxy: Proxy, folder: Path) -> None:
    key = "sk-secret-1234567890"
    behaviours = {"told": "recorded", "broken": "failed", "silent": "cut", "well": "recorded", "cut": "cut"}
    with proxy.client(headers={"authorization": f"Bearer {key}", "api-key": key}) as client:
        for behaviour, outcome in behaviours.items():
            expected = pytest.raises(httpx.RemoteProtocolError) if behaviour == "cut" else nullcontext()
            url, asked = f"chat/completions?api-key={key}", {**CHAT, "user": key}
            with proxy.counting(outcome), expected:
                client.post(url, json=asked, headers={"x-stub": behaviour})
    assert primary.received[-1].header("api-key") == key
    assert key not in proxy.metrics() and 'gen_ai_request_model="m"' in proxy.metrics()
    files = {file: file.read_text() for file in folder.rglob("*") if file.is_file()}
    assert "broke off" in files[folder / "log"] and "in time" in files[folder / "log"]
    told = on_record(proxy)[-2]
    assert isinstance(told, Exchange) and reply(told.response).text == "Your key is [key]"
    assert not [file for file, text in files.items() if key in text]


def test_a_proxy_killed_in_the_middle_leaves_no_half_pair(primary: Stub, tmp_path: Path) -> None:
    with Proxy(tmp_path / "log", primary.url, mirror=MirrorOptions(tmp_path, "desk", kept)) as proxy:
        with proxy.counting("recorded"):
            post(proxy, "well", STREAM)
        pid = proxy.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        assert children
        with (
            proxy.client() as client,
            client.stream("POST", "chat/completions", json=STREAM, headers={"x-stub": "held"}) as answer,
        ):
            pieces = answer.iter_raw()
            assert next(pieces) == next(events("chat/completions"))
            proxy.process.kill()
            with pytest.raises(httpx.TransportError):
                b"".join(pieces)
        until(lambda: not any(Path(f"/proc/{child}/exe").exists() for child in children))
        (exchange,) = on_record(proxy)
        assert isinstance(exchange, Exchange) and reply(exchange.response).text == "Höi"


@pytest.mark.parametrize("address", ["localhost", "ftp://a/v1", "http://user:key@a/v1", "http://a/v1?key=k"])
def test_an_address_that_is_none_or_has_a_key_is_refused(address: str) -> None:
    with pytest.raises(InputError):
        create_app(ProxyOptions(address))


def test_there_is_no_mirror_without_a_redactor(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="redactor"):
        create_app(ProxyOptions("http://localhost:9000/v1", mirror=MirrorOptions(tmp_path, "desk")))
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="cannot be made"):
        mirror = MirrorOptions(tmp_path / "file", "desk", kept)
        create_app(ProxyOptions("http://localhost:9000/v1", mirror=mirror))
    mirror = MirrorOptions(tmp_path, "desk", kept, sessions_share=2.0)
    with pytest.raises(InputError, match="from 0 to 1"):
        create_app(ProxyOptions("http://localhost:9000/v1", mirror=mirror))
