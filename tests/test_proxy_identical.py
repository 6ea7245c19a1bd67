"""Through the proxy everything is what it is without: bytes, status and headers, whatever the twin does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmtwin.proxy.mirror import MirrorOptions
from llmtwin.proxy.shadow import TwinOptions
from tests.conftest import free_port
from tests.model_primary import Received, Stub, events, whole
from tests.model_proxies import Proxy, kept

ASKED = {
    "chat/completions": {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "x_mine": {"a": [1, None]},
    },
    "completions": {"model": "m", "prompt": "Hi"},
    "responses": {"model": "m", "input": "Hi"},
    "embeddings": {"model": "m", "input": "Hi"},
}
BEHAVIOURS = ["well", "zipped", "limited", "broken", "garbage", "unfinished", "empty"]
TWINS = ["healthy", "dead", "slow", "garbage"]
OF_CONNECTION = {"connection", "keep-alive", "transfer-encoding"}


@pytest.fixture(scope="module")
def primary() -> Iterator[Stub]:
    with Stub() as stub:
        yield stub


@pytest.fixture(scope="module", params=TWINS)
def twin(request: pytest.FixtureRequest) -> str:
    """What is the matter with the twin."""
    named: str = request.param
    return named


@pytest.fixture(scope="module")
def proxy(twin: str, primary: Stub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("record")
    with Stub({"slow": "silent", "garbage": "garbage"}.get(twin, "well")) as stub:
        url = f"http://127.0.0.1:{free_port()}/v1" if twin == "dead" else stub.url
        asked = TwinOptions(url, "twin", timeout_s=0.5, requests_per_s_max=1000.0)
        mirror = MirrorOptions(folder, "desk", kept, twin=asked)
        with Proxy(folder / "log", primary.url, mirror=mirror) as running:
            yield running


Answer = tuple[int, list[tuple[str, str]], bytes]


def ask(url: str, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    """The answer as it came over the wire, without what is of one connection."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    with (
        httpx.Client(trust_env=False, verify=False) as client,
        client.stream(method, f"{url}/{path}", content=body, headers=sent) as response,
    ):
        passed = [one for one in response.headers.multi_items() if one[0] not in OF_CONNECTION]
        return response.status_code, passed, b"".join(response.iter_raw())


@pytest.mark.parametrize("endpoint", ASKED)
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_an_answer_is_the_primarys(primary: Stub, proxy: Proxy, endpoint: str, behaviour: str) -> None:
    for stream in (False, True):
        if stream and endpoint == "embeddings":
            continue
        body = json.dumps({**ASKED[endpoint], "stream": stream}).encode()
        direct = ask(primary.url, "POST", endpoint, body, x_stub=behaviour)
        assert ask(proxy.url, "POST", endpoint, body, x_stub=behaviour) == direct
        if behaviour == "well":
            sent = (
                b"".join(events(endpoint))
                if stream
                else json.dumps(whole(endpoint), ensure_ascii=False).encode()
            )
            assert direct[2] == sent


def test_other_paths_and_methods_are_passed_on(primary: Stub, proxy: Proxy) -> None:
    for method, path in product(
        ["GET", "DELETE", "OPTIONS", "PATCH", "HEAD"],
        ["models", "models/a%2Fb", "batches/7?after=%41&x=ä", "v1/v1"],
    ):
        direct = ask(primary.url, method, path, x_stub="well")
        assert ask(proxy.url, method, path, x_stub="well") == direct


@given(
    path=st.text("abz/%+~", max_size=8).map(lambda text: text.replace("%", "%2F")),
    query=st.text("ab=&%+;", max_size=8).map(lambda text: text.replace("%", "%26")),
    body=st.binary(max_size=200),
    value=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20),
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_primary_gets_what_the_client_sent(
    primary: Stub, proxy: Proxy, path: str, query: str, body: bytes, value: str
) -> None:
    target = f"x{path}?{query}" if query else f"x{path}"

    def sent(url: str) -> tuple[Received, bytes]:
        answer = ask(
            url, "PUT", target, body, x_stub="echo", x_unknown=value, authorization=f"Bearer {value}"
        )
        received = primary.received[-1]
        headers = sorted(
            (k.lower(), v) for k, v in received.headers if k.lower() not in OF_CONNECTION | {"host"}
        )
        return Received(received.method, received.target, headers, received.body), answer[2]

    direct = sent(primary.url)
    assert direct[1] == body
    assert sent(proxy.url) == direct


def test_an_event_is_passed_on_before_the_next_is_there(primary: Stub, proxy: Proxy) -> None:
    primary.go_on.clear()
    primary.gone.clear()
    first, *rest = events("chat/completions")
    body = json.dumps({**ASKED["chat/completions"], "stream": True}).encode()
    with (
        httpx.Client(trust_env=False) as client,
        client.stream(
            "POST", f"{proxy.url}/chat/completions", content=body, headers={"x-stub": "held"}
        ) as response,
    ):
        pieces = response.iter_raw()
        assert next(pieces) == first  # the stub waits
        primary.go_on.set()
        assert b"".join(pieces) == b"".join(rest)


def test_twenty_megabytes_pass_and_more_than_the_limit_is_refused(primary: Stub, proxy: Proxy) -> None:
    body = json.dumps({**ASKED["chat/completions"], "picture": "x" * 20 * 2**20}).encode()
    with proxy.counting("too_large"):
        assert ask(proxy.url, "POST", "chat/completions", body, x_stub="echo")[2] == body
    before = len(primary.received)
    too_much = b"x" * (32 * 2**20 + 1)
    status, _, said = ask(proxy.url, "POST", "chat/completions", too_much)
    assert status == 413 and json.loads(said)["error"]["code"] == "too_large"
    pieces = (too_much[at : at + 2**20] for at in range(0, len(too_much), 2**20))
    refused = proxy.client().post("chat/completions", content=pieces)
    assert refused.status_code == 413
    assert len(primary.received) == before


def test_the_twin_was_as_it_should_be(proxy: Proxy, twin: str) -> None:
    named = {"healthy": "shadowed", "dead": "twin_down", "slow": "twin_slow", "garbage": "twin_garbage"}
    with proxy.counting(named[twin]):
        ask(proxy.url, "POST", "chat/completions", json.dumps(ASKED["chat/completions"]).encode())
