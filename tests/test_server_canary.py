"""A canary at the server: it answers its share of the sessions, each from one version, also after a fall."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from llmtwin.records import now
from llmtwin.server.database import _MIGRATIONS, Database
from llmtwin.server.registry import Registry
from tests.conftest import ServerProcess, TwinAt, enrol_twin
from tests.packages import make_package
from tests.test_server_adapters import answering_version, package, push, versions

SESSIONS = [f"session {number}" for number in range(120)]


@pytest.fixture
def versioned(twin: TwinAt, tmp_path: Path) -> TwinAt:
    """A twin with versions 1 and 2, 2 live."""
    for version in (1, 2):
        push(twin, package(twin, tmp_path, version)).raise_for_status()
    return twin


def set_canary(twin: TwinAt, version: int, share: float) -> dict[str, object]:
    body = {"version": version, "share": share}
    found: dict[str, object] = twin.owner.put(f"{twin.path}/canary", json=body).raise_for_status().json()
    return found


def answered(twin: TwinAt, sessions: list[str] = SESSIONS) -> dict[str, int]:
    """The version that answered each session."""
    with twin.server.client(twin.token("reader")) as reader:
        found = {}
        for session in sessions:
            headers = {"x-session-id": session}
            answer = reader.post(f"{twin.path}/ask", json={"text": "hello"}, headers=headers).json()
            found[session] = int(answer["receipts"]["adapter"]["version"])
    return found


def canaries(found: dict[str, int], version: int) -> set[str]:
    return {session for session, answering in found.items() if answering == version}


def test_a_canary_answers_its_share_and_a_larger_one_keeps_its_sessions(versioned: TwinAt) -> None:
    info = set_canary(versioned, 2, 0.2)
    assert (info["live_version"], info["canary_version"], info["canary_share"]) == (1, 2, 0.2)
    assert versions(versioned) == {1: "live", 2: "there"}
    few = canaries(answered(versioned), 2)
    assert 0.05 * len(SESSIONS) < len(few) < 0.4 * len(SESSIONS)
    assert canaries(answered(versioned), 2) == few
    set_canary(versioned, 2, 0.6)
    assert few < canaries(answered(versioned), 2) != set(SESSIONS)
    assert (answering_version(versioned, version=1), answering_version(versioned, version=2)) == (1, 2)


def test_another_canary_is_put_before_other_sessions(versioned: TwinAt, tmp_path: Path) -> None:
    set_canary(versioned, 2, 0.3)
    first = canaries(answered(versioned), 2)
    push(versioned, package(versioned, tmp_path, 3)).raise_for_status()
    set_canary(versioned, 3, 0.3)
    assert canaries(answered(versioned), 3) not in (first, set())


def test_a_conversation_stays_with_its_version_while_it_grows(versioned: TwinAt) -> None:
    set_canary(versioned, 2, 0.5)
    client = openai.OpenAI(
        base_url=f"{versioned.server.url}/v1", api_key=versioned.token("reader"), max_retries=0
    )

    def version(messages: list[tuple[str, str]], user: str | None = None) -> int:
        made = client.chat.completions.create(
            model=versioned.id,
            messages=[{"role": role, "content": text} for role, text in messages],  # type: ignore[misc]
            **({"user": user} if user else {}),
        )
        assert made.model_extra
        return int(made.model_extra["llmtwin"]["receipts"]["adapter"]["version"])

    first = {}
    for number in range(12):
        begun = [("system", f"It is day {number}."), ("user", f"question {number}")]
        first[number] = version(begun)
        gone_on = [("system", "It is another day."), *begun[1:], ("assistant", "well"), ("user", "and now?")]
        assert version(gone_on) == first[number]
    assert set(first.values()) == {1, 2}
    assert len({version([("user", f"question {number}")], "ann") for number in range(12)}) == 1


def test_what_is_pushed_during_a_canary_waits(versioned: TwinAt, tmp_path: Path) -> None:
    set_canary(versioned, 2, 0.5)
    assert push(versioned, package(versioned, tmp_path, 3)).json() == {"version": 3, "live": False}
    assert set(answered(versioned).values()) == {1, 2}
    assert answering_version(versioned, version=3) == 3


@pytest.mark.parametrize(("to", "live"), [({}, 1), ({"version": 2}, 2)])
def test_a_canary_ends_when_a_version_is_made_live(versioned: TwinAt, to: dict[str, int], live: int) -> None:
    set_canary(versioned, 2, 0.5)
    assert versioned.owner.post(f"{versioned.path}/rollback", json=to).json()["version"] == live
    info = versioned.reader.get(versioned.path).json()
    assert (info["live_version"], info["canary_version"], info["canary_share"]) == (live, None, None)
    assert set(answered(versioned, SESSIONS[:20]).values()) == {live}


def test_decisions_that_come_into_force_are_counted(versioned: TwinAt) -> None:
    def counted() -> dict[str, float]:
        families = text_string_to_metric_families(versioned.reader.get("/metrics").text)
        samples = next(one for one in families if one.name == "llmtwin_gate_decisions").samples
        return {one.labels["decision"]: one.value for one in samples if one.name.endswith("_total")}

    set_canary(versioned, 2, 0.5)
    for to in ({}, {"version": 2}):
        versioned.owner.post(f"{versioned.path}/rollback", json=to).raise_for_status()
    before = counted()
    set_canary(versioned, 2, 0.5)
    versioned.owner.post(f"{versioned.path}/rollback", json={"version": 1}).raise_for_status()
    assert versioned.owner.put(f"{versioned.path}/canary", json={"version": 9, "share": 0.5}).is_error
    versioned.owner.post(f"{versioned.path}/rollback", json={"version": 2}).raise_for_status()
    assert {name: counted()[name] - value for name, value in before.items()} == {
        "canary": 1,
        "rollback": 1,
        "promote": 1,
    }


@pytest.mark.parametrize(("version", "live"), [(2, 1), (1, None)])
def test_a_canary_ends_when_it_or_the_live_version_is_withdrawn(
    versioned: TwinAt, version: int, live: int | None
) -> None:
    set_canary(versioned, 2, 0.5)
    versioned.owner.delete(f"{versioned.path}/adapters/{version}").raise_for_status()
    info = versioned.reader.get(versioned.path).json()
    assert (info["live_version"], info["canary_version"]) == (live, None)
    assert answering_version(versioned) == live


def test_a_canary_that_cannot_be_is_refused_and_nothing_changes(twin: TwinAt, tmp_path: Path) -> None:
    push(twin, package(twin, tmp_path, 1)).raise_for_status()
    place = f"{twin.path}/canary"
    for body, status in (
        ({"version": 1, "share": 0.5}, 409),
        ({"version": 9, "share": 0.5}, 404),
        ({"version": 1, "share": 0}, 422),
        ({"version": 1, "share": 1}, 422),
        ({"version": 1}, 422),
    ):
        assert twin.owner.put(place, json=body).status_code == status
    for client in (twin.edge, twin.reader):
        assert client.put(place, json={"version": 1, "share": 0.5}).status_code == 403
    assert versions(twin) == {1: "live"}


def test_a_registry_of_before_there_were_canaries_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    with closing(sqlite3.connect(path)) as old:
        old.executescript(f"{';'.join(_MIGRATIONS[0])}; PRAGMA user_version = 1;")
        old.execute(
            "INSERT INTO twins (id, kind, created_at) VALUES ('desk', 'model', ?)", (now().isoformat(),)
        )
        old.commit()
    database = Database(path)
    assert Registry(database, tmp_path / "adapters").twin("desk").canary_version is None
    database.close()


def test_a_killed_server_has_the_same_canary(mortal_server: ServerProcess, tmp_path: Path) -> None:
    twin = enrol_twin(mortal_server, tmp_path)
    for version in (1, 2):
        push(twin, make_package(tmp_path / str(version), twin.key, twin.id, version)).raise_for_status()
    set_canary(twin, 2, 0.4)
    before, info = answered(twin, SESSIONS[:20]), twin.reader.get(twin.path).json()
    assert set(before.values()) == {1, 2}
    mortal_server.kill()
    mortal_server.start()
    assert twin.reader.get(twin.path).json() == info
    assert answered(twin, SESSIONS[:20]) == before
