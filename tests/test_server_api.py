"""What every call has in common: bad ids and bodies, limits, the form of errors, log and counters."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.conftest import ServerProcess, TwinAt

# A request is logged and counted after its answer has gone out.
eventually = retry(
    retry=retry_if_exception_type((AssertionError, ValueError)),
    stop=stop_after_delay(5),
    wait=wait_fixed(0.05),
    reraise=True,
)

BAD_IDS = [
    "..",
    "../..",
    "a/../../b",
    "has space",
    "ÄÖÜ",
    "UPPER",
    ".hidden",
    "-x",
    "a" * 65,
    "x" * 10_000,
    "a\n",
]


def files_outside(server: ServerProcess) -> set[Path]:
    return set(server.data.parent.iterdir())


@pytest.mark.parametrize("bad", BAD_IDS)
def test_a_bad_twin_id_is_refused_and_makes_no_file(server: ServerProcess, twin: TwinAt, bad: str) -> None:
    before = files_outside(server)
    with server.admin() as admin:
        made = admin.post("/v1/twins", json={"id": bad, "kind": "echo"})
        assert (made.status_code, made.json()["error"]["code"]) == (422, "input")
        for client in (admin, twin.owner, server.client()):
            for end in ("", "/state", "/adapters", "/card"):
                said = client.get(f"/v1/twins/{quote(bad, safe='')}{end}")
                assert 400 <= said.status_code < 500
                assert len(said.json()["error"]["message"]) < 500
    assert files_outside(server) == before
    assert not (server.data / "adapters" / bad[:64]).exists() or bad.startswith("..")


@pytest.mark.parametrize("bad", ["%2e%2e", "%2e%2e%2f%2e%2e", "x" * 10_000, "has space"])
def test_a_bad_command_id_or_version_is_refused(twin: TwinAt, bad: str) -> None:
    assert 400 <= twin.owner.get(f"{twin.path}/commands/{bad}").status_code < 500
    assert 400 <= twin.owner.delete(f"{twin.path}/adapters/{bad}").status_code < 500
    assert 400 <= twin.owner.get(f"{twin.path}/card?version={bad}").status_code < 500


def test_an_unknown_twin_and_an_unknown_kind(server: ServerProcess) -> None:
    with server.admin() as admin:
        unknown = admin.get("/v1/twins/nobody")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")
        kind = admin.post("/v1/twins", json={"id": "someone", "kind": "../kind"})
        assert kind.status_code == 422
        assert "there are: echo" in kind.json()["error"]["message"]


def test_an_unknown_version(twin: TwinAt) -> None:
    for said in (
        twin.owner.post(f"{twin.path}/ask", json={"text": "hello", "version": 7}),
        twin.owner.post(f"{twin.path}/recall", json={"prompts": ["hello"], "version": 7}),
        twin.owner.post(f"{twin.path}/rollback", json={"version": 7}),
        twin.owner.delete(f"{twin.path}/adapters/7"),
        twin.owner.get(f"{twin.path}/card", params={"version": 7}),
    ):
        assert (said.status_code, said.json()["error"]["message"]) == (404, "this twin has no version 7")


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"text": 1}', b'{"text": ""}', b'"\\ud800"', b'{"text": "\\ud800"}']
)
def test_a_body_that_is_not_what_it_should_be(twin: TwinAt, body: bytes) -> None:
    said = twin.owner.post(f"{twin.path}/ask", content=body, headers={"content-type": "application/json"})
    assert (said.status_code, said.json()["error"]["code"]) == (422, "input")
    assert "\n" not in said.json()["error"]["message"]


def test_a_question_over_the_limit(twin: TwinAt) -> None:
    assert twin.owner.post(f"{twin.path}/ask", json={"text": "x" * 2001}).status_code == 422
    assert twin.owner.post(f"{twin.path}/recall", json={"prompts": ["x"] * 257}).status_code == 422


def begin(server: ServerProcess, token: str, path: str, headers: dict[str, str], body: bytes) -> int:
    """The status of a request of which only this much is ever sent."""
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    line.putrequest("POST", path)
    common = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    for name, value in (common | headers).items():
        line.putheader(name, value)
    line.endheaders()
    line.send(body)
    status = line.getresponse().status
    line.close()
    return status


def test_a_body_over_the_limit_is_refused_before_it_is_there(server: ServerProcess, twin: TwinAt) -> None:
    token, mib = twin.token("owner"), 1 << 20
    for end, limit in (("ask", mib), ("prompts", 4 * mib), ("adapters", 68 * mib)):
        declared = {"content-length": str(limit + 1)}
        if end == "adapters":
            declared["content-type"] = "multipart/form-data; boundary=x"
        assert begin(server, token, f"{twin.path}/{end}", declared, b"[") == 413
    chunk = b"%x\r\n" % (mib + 1) + b" " * (mib + 1) + b"\r\n"  # and no last chunk
    assert begin(server, token, f"{twin.path}/ask", {"transfer-encoding": "chunked"}, chunk) == 413


def test_a_stranger_is_refused_before_a_large_body_is_read(server: ServerProcess, twin: TwinAt) -> None:
    for end in ("prompts", "adapters"):
        assert begin(server, "wrong", f"{twin.path}/{end}", {"content-length": "1000"}, b"[") == 401


def test_health_openapi_and_an_unknown_place(server: ServerProcess) -> None:
    with server.client() as anybody:
        health = anybody.get("/healthz").json()
        assert (health["status"], len(health["base"])) == ("ok", 64)
        assert "/v1/twins/{twin}/ask" in anybody.get("/openapi.json").json()["paths"]
        assert anybody.get("/docs").status_code == 200
        assert anybody.get("/nowhere").json()["error"]["code"] == "not_found"
        assert anybody.put("/healthz").json()["error"]["code"] == "method"


def test_each_request_is_one_line_without_its_text(server: ServerProcess, twin: TwinAt) -> None:
    secret = f"a secret of {twin.id}-text"
    twin.reader.post(f"{twin.path}/ask", json={"text": secret})
    twin.reader.get(f"{twin.path}/prompts", params={"search": secret})

    @eventually
    def last_two() -> tuple[dict[str, Any], dict[str, Any]]:
        asked, searched = [line for line in server.log_lines() if line.get("twin") == twin.id][-2:]
        assert searched["route"] == "/v1/twins/{twin}/prompts"
        return asked, searched

    asked, searched = last_two()
    assert (asked["method"], asked["route"], asked["status"]) == ("POST", "/v1/twins/{twin}/ask", 200)
    assert (asked["role"], asked["duration_ms"] > 0, searched["status"]) == ("reader", True, 200)
    assert secret not in server.log.read_text()


def test_the_counters_count_and_name_no_twin(server: ServerProcess, twin: TwinAt) -> None:
    def counted() -> float:
        lines = server.client().get("/metrics").text.splitlines()
        wanted = 'llmtwin_requests_total{method="POST",route="/v1/twins/{twin}/ask",status="200"}'
        return sum(float(line.split()[-1]) for line in lines if line.startswith(wanted))

    before = counted()
    twin.owner.post(f"{twin.path}/ask", json={"text": "hello"})

    @eventually
    def one_more() -> None:
        assert counted() == before + 1

    one_more()
    assert twin.id not in server.client().get("/metrics").text


def test_a_description_comes_back_as_it_was_sent(twin: TwinAt) -> None:
    description = {
        "devices": [
            {
                "id": "light.a",
                "name": "Lämp",
                "domain": "light",
                "properties": [{"name": "on", "path": "light.a/on"}],
            }
        ]
    }
    assert twin.edge.put(f"{twin.path}/description", json=description).status_code == 204
    device = twin.reader.get(f"{twin.path}/description").json()["devices"][0]
    assert (device["name"], device["properties"][0]["path"]) == ("Lämp", "light.a/on")
    assert twin.edge.put(f"{twin.path}/description", json={"devices": [{"id": 1}]}).status_code == 422
    assert json.loads(twin.reader.get(f"{twin.path}/description").text)["devices"][0]["id"] == "light.a"
