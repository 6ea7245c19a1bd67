"""The link: what a server's refusal, silence or nonsense becomes. Other tests call a real server with it."""

from __future__ import annotations

import socket
from collections.abc import Callable

import httpx
import pytest

from llmtwin import errors, serving
from llmtwin.edge.link import Link, open_link
from llmtwin.settings import Settings


def link_to(answer: Callable[[httpx.Request], httpx.Response]) -> Link:
    return Link(httpx.Client(transport=httpx.MockTransport(answer), base_url="http://server"), "home1")


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "input", errors.InputError),
        (401, "unauthenticated", errors.Unauthenticated),
        (403, "denied", errors.Denied),
        (404, "not_found", errors.NotFound),
        (409, "conflict", errors.Conflict),
        (413, "too_large", errors.TooLarge),
        (422, "input", errors.InputError),
        (422, "untrusted", errors.Untrusted),
        (429, "busy", errors.Unavailable),
        (500, "internal", errors.Unavailable),
        (503, "unavailable", errors.Unavailable),
    ],
)
def test_a_refusal_keeps_its_kind_and_its_words(
    status: int, code: str, error: type[errors.LlmtwinError]
) -> None:
    body = {"error": {"code": code, "message": "what is wrong, and what to do"}}
    link = link_to(lambda request: httpx.Response(status, json=body))
    with pytest.raises(errors.LlmtwinError, match=r"^what is wrong, and what to do$") as raised:
        link.info()
    assert type(raised.value) is error


def test_a_text_that_is_no_utf8_is_refused_before_it_is_sent() -> None:
    link = link_to(lambda request: httpx.Response(500))
    with pytest.raises(errors.InputError, match="half a character"):
        link.ask("caf\udce9")


@pytest.mark.parametrize("server", ["http://localhost:84x0", "localhost", "ftp://localhost"])
def test_what_is_no_address_is_refused_by_every_client(server: str, settings: Settings) -> None:
    configured = settings.model_copy(update={"server": server})
    with pytest.raises(errors.InputError, match="is not the address of a server"):
        serving.link(configured, None, "home1")
    with pytest.raises(errors.InputError, match="is not the address of a server"):
        serving.openai_client(configured, None)


@pytest.mark.parametrize("slash", ["", "/"])
def test_both_clients_have_the_address_as_it_was_given(slash: str, settings: Settings) -> None:
    configured = settings.model_copy(update={"server": f"http://localhost:8400/twins{slash}"})
    with serving.openai_client(configured, "secret") as client:
        request = client.build_request("GET", "models")
    assert str(request.url) == "http://localhost:8400/twins/v1/models"
    assert request.headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize("status", [301, 400, 404, 409, 422, 502])
def test_what_no_llmtwin_server_said_refuses_nothing(status: int) -> None:
    link = link_to(lambda request: httpx.Response(status, html="<h1>nginx</h1>"))
    with pytest.raises(errors.Unavailable, match=str(status)):
        link.info()


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"version": "one"}'])
def test_an_answer_of_another_shape_is_no_answer(body: bytes) -> None:
    link = link_to(lambda request: httpx.Response(200, content=body))
    with pytest.raises(errors.Unavailable) as raised:
        link.roll_back()
    assert "\n" not in str(raised.value)


def test_fewer_completions_than_prompts_are_no_answer() -> None:
    body = {"completions": [], "version": 1, "weights": "0" * 64}
    with pytest.raises(errors.Unavailable):
        link_to(lambda request: httpx.Response(200, json=body)).recall(["apple"])


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(errors.Unavailable, match=address):
        open_link(address, None, "home1").health()


@pytest.mark.parametrize("address", ["", "localhost", "ftp://localhost", "http://[", "http://a b:99999"])
def test_an_address_that_is_none_is_an_input_error(address: str) -> None:
    with pytest.raises(errors.InputError):
        open_link(address, None, "home1")


def test_a_twin_id_cannot_leave_its_place_in_the_address() -> None:
    seen: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path)
        return httpx.Response(204)

    client = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://server")
    Link(client, "../../v1/twins/other").forget()
    assert seen == [b"/v1/twins/..%2F..%2Fv1%2Ftwins%2Fother"]
