"""Who may do what: tokens, roles, enrolment, and what strangers learn (nothing)."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from llmtwin import serving
from llmtwin.errors import InputError, Unavailable
from llmtwin.server.access import load_or_create_admin_token
from llmtwin.settings import Settings
from llmtwin.wire.sign import public_key_text
from tests.conftest import Enrol, ServerProcess, TwinAt

CALLS: list[tuple[str, str]] = [
    ("GET", ""),
    ("DELETE", ""),
    ("GET", "/description"),
    ("PUT", "/description"),
    ("POST", "/tokens"),
    ("POST", "/prompts"),
    ("GET", "/prompts?search=lamp"),
    ("DELETE", "/prompts"),
    ("GET", "/state"),
    ("POST", "/adapters"),
    ("GET", "/adapters"),
    ("DELETE", "/adapters/1"),
    ("POST", "/rollback"),
    ("GET", "/card"),
    ("POST", "/commands"),
    ("GET", "/commands"),
    ("GET", "/commands/x"),
    ("POST", "/commands/x/report"),
    ("POST", "/ask"),
    ("POST", "/recall"),
]

BODIES: dict[str, object] = {
    "/description": {},
    "/tokens": {"role": "reader"},
    "/prompts": [],
    "/rollback": {},
    "/commands": {"path": "a.b/c", "value": True},
    "/commands/x/report": {"state": "reported"},
    "/ask": {"text": "hello"},
    "/recall": {"prompts": ["hello"]},
}


def call(client: httpx.Client, method: str, twin: str, end: str) -> httpx.Response:
    body = BODIES.get(end) if method in ("POST", "PUT") else None
    return client.request(method, f"/v1/twins/{twin}{end}", json=body)


@pytest.mark.parametrize(("method", "end"), CALLS)
@pytest.mark.parametrize("token", [None, "wrong", "wröng"])
def test_without_a_valid_token_nobody_gets_in(
    server: ServerProcess, twin: TwinAt, token: str | None, method: str, end: str
) -> None:
    headers = httpx.Headers({b"authorization": f"Bearer {token}".encode()} if token else {})
    with httpx.Client(base_url=server.url, headers=headers) as stranger:
        there = call(stranger, method, twin.id, end)
        not_there = call(stranger, method, "nobody", end)
    assert there.status_code == 401
    assert there.headers["www-authenticate"] == "Bearer"
    assert (not_there.status_code, not_there.content) == (401, there.content)


@pytest.mark.parametrize(("method", "end"), CALLS)
def test_another_twins_token_does_not_tell_whether_the_twin_exists(
    enrol: Enrol, twin: TwinAt, method: str, end: str
) -> None:
    other = enrol()
    for client in (other.owner, other.edge, other.reader):
        there = call(client, method, twin.id, end)
        not_there = call(client, method, "nobody", end)
        assert there.status_code == 403
        assert (not_there.status_code, not_there.content) == (403, there.content)


def test_in_chat_a_stranger_learns_nothing_either(enrol: Enrol, twin: TwinAt) -> None:
    def ask(model: str) -> httpx.Response:
        asked = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        return enrol().owner.post("/v1/chat/completions", json=asked)

    there, not_there = ask(twin.id), ask("nobody")
    assert there.status_code == 403
    assert (not_there.status_code, not_there.content) == (403, there.content)


FORBIDDEN: list[tuple[Callable[[TwinAt], httpx.Client], str, str]] = [
    *[
        (lambda twin: twin.reader, method, end)
        for method, end in CALLS
        if (method != "GET" and end != "/ask") or end.startswith("/commands")
    ],
    *[
        (lambda twin: twin.edge, method, end)
        for method, end in [
            ("DELETE", ""),
            ("POST", "/tokens"),
            ("DELETE", "/prompts"),
            ("DELETE", "/adapters/1"),
            ("POST", "/rollback"),
            ("POST", "/commands"),
            ("POST", "/ask"),
        ]
    ],
]


@pytest.mark.parametrize(("who", "method", "end"), FORBIDDEN)
def test_a_role_may_do_its_part_only(
    twin: TwinAt, who: Callable[[TwinAt], httpx.Client], method: str, end: str
) -> None:
    refused = call(who(twin), method, twin.id, end)
    assert refused.status_code == 403
    assert "this token is of the role" in refused.json()["error"]["message"]


def test_the_admin_makes_twins_and_cannot_ask_them(server: ServerProcess, twin: TwinAt) -> None:
    with server.admin() as admin:
        assert twin.id in [made["id"] for made in admin.get("/v1/twins").json()]
        assert call(admin, "POST", twin.id, "/ask").status_code == 403
        assert call(admin, "GET", twin.id, "/state").status_code == 403
    refused = twin.owner.post("/v1/twins", json={"id": "mine", "kind": "echo"})
    assert refused.status_code == 403
    assert [made["id"] for made in twin.owner.get("/v1/twins").json()] == [twin.id]


def test_an_enrolment_token_is_good_once_and_for_its_twin(server: ServerProcess, twin: TwinAt) -> None:
    key = public_key_text(twin.key)
    with server.admin() as admin:
        new = {"id": f"{twin.id}-2", "kind": "echo"}
        void = admin.post("/v1/twins", json=new).json()["enrolment"]
        good = admin.post("/v1/twins", json=new).json()["enrolment"]
        enrolment = {"enrolment": good, "twin": new["id"], "kind": "echo", "public_key": key}
        for wrong in (
            {"enrolment": void},
            {"enrolment": "x"},
            {"twin": twin.id},
            {"twin": "nobody"},
            {"kind": "home"},
        ):
            refused = admin.post("/v1/enrol", json=enrolment | wrong)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "denied")
        assert admin.post("/v1/enrol", json=enrolment | {"public_key": "rubbish"}).status_code == 422
        assert admin.post("/v1/enrol", json=enrolment).status_code == 200
        assert admin.post("/v1/enrol", json=enrolment).status_code == 403
        assert admin.post("/v1/twins", json=new).status_code == 409


def test_no_token_is_on_the_disk_or_in_the_log(server: ServerProcess, twin: TwinAt) -> None:
    token = twin.token("reader").encode()
    files = [path for path in server.data.rglob("*") if path.is_file()]
    assert server.data / "registry.sqlite" in files
    assert not [path for path in [*files, server.log] if token in path.read_bytes()]


def test_what_is_known_of_a_token_is_a_hash(server: ServerProcess, twin: TwinAt) -> None:
    with sqlite3.connect(f"file:{server.data / 'registry.sqlite'}?mode=ro", uri=True) as database:
        hashes = database.execute("SELECT hash, role FROM tokens WHERE twin = ?", (twin.id,)).fetchall()
    assert sorted(role for _, role in hashes) == ["edge", "owner", "reader"]
    assert all(len(hashed) == 64 for hashed, _ in hashes)


def test_the_admins_token_is_for_its_file_owner_only(server: ServerProcess) -> None:
    path: Path = server.data / "admin.token"
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_admins_token_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "server" / "admin.token"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(Unavailable, match=r"admin\.token cannot be written"):
            load_or_create_admin_token(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(path.parent.iterdir())
    assert load_or_create_admin_token(path) == load_or_create_admin_token(path) == path.read_text()


@pytest.mark.parametrize("content", [b"", b"\n", "tökén".encode()])
def test_a_file_without_a_token_lets_no_server_start(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "admin.token"
    path.write_bytes(content)
    with pytest.raises(InputError, match="holds no token: remove it"):
        load_or_create_admin_token(path)


def test_a_data_folder_that_cannot_be_is_said_in_one_line(settings: Settings) -> None:
    settings.server_folder.parent.mkdir(parents=True)
    settings.server_folder.write_text("")
    with pytest.raises((InputError, Unavailable), match=r"admin\.token cannot be"):
        serving.server_options(settings)
