"""Prompts over HTTP: stored once, refused by index, searched, shown as state, forgotten."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmtwin.errors import NotFound
from llmtwin.models.engine.echo import EchoEngine
from llmtwin.records import new_id
from llmtwin.server.core import Core, ServerOptions
from tests.conftest import TwinAt

NOW = datetime.now(UTC).replace(microsecond=0)


def prompt(twin: str, value: object = 21.5, at: datetime = NOW, **more: Any) -> dict[str, Any]:
    fact = {"path": "sensor.hall/temperature", "value": value, "unit": "°C", "at": at.isoformat()}
    text = f"The hall has {value} degrees."
    return {"id": new_id(), "twin": twin, "text": text, "facts": [fact], "at": at.isoformat()} | more


def push(twin: TwinAt, *prompts: object) -> dict[str, Any]:
    answer: dict[str, Any] = (
        twin.edge.post(f"{twin.path}/prompts", json=list(prompts)).raise_for_status().json()
    )
    return answer


def test_a_repeated_push_changes_nothing(twin: TwinAt) -> None:
    batch = [prompt(twin.id), prompt(twin.id)]
    assert push(twin, *batch) == {"stored": 2, "known": 0, "refused": []}
    assert push(twin, *batch, prompt(twin.id)) == {"stored": 1, "known": 2, "refused": []}


def test_bad_prompts_are_refused_by_index_and_the_rest_is_stored(twin: TwinAt) -> None:
    first = prompt(twin.id)
    said = push(
        twin,
        first,
        prompt(twin.id, text="x" * 20_000),
        prompt(twin.id, at=NOW + timedelta(hours=1)),
        prompt(twin.id, value={"a": "map"}),
        prompt("another-twin"),
        first | {"text": "The same id says something else."},
        prompt(twin.id, id="../../etc"),
        "not a prompt",
        prompt(twin.id, value=22.5, at=NOW + timedelta(seconds=1)),
    )
    assert (said["stored"], said["known"]) == (2, 0)
    assert [item["index"] for item in said["refused"]] == [1, 2, 3, 4, 5, 6, 7]
    assert all(item["reason"] and "\n" not in item["reason"] for item in said["refused"])
    assert state(twin).json()["fact"]["value"] == 22.5


def test_what_is_not_a_list_is_refused_whole(twin: TwinAt) -> None:
    for body in (b"", b"{", b"{}", b"[NaN", b'[{"value": Infinity', b"\xff\xfe"):
        said = twin.edge.post(f"{twin.path}/prompts", content=body)
        assert (said.status_code, said.json()["error"]["code"]) == (422, "input")
    assert twin.edge.post(f"{twin.path}/prompts", content=b"[" + b" " * (5 << 20) + b"]").status_code == 413


def state(twin: TwinAt, **query: str) -> httpx.Response:
    return twin.reader.get(f"{twin.path}/state", params={"path": "sensor.hall/temperature"} | query)


def test_the_state_now_and_then(twin: TwinAt) -> None:
    earlier = NOW - timedelta(hours=2)
    push(twin, prompt(twin.id, 20.0, earlier), prompt(twin.id, 23.0))
    assert state(twin).json()["fact"]["value"] == 23.0
    assert state(twin, at=(NOW - timedelta(hours=1)).isoformat()).json()["fact"]["value"] == 20.0
    assert state(twin, at=(NOW - timedelta(hours=3)).isoformat()).status_code == 404
    assert state(twin, path="sensor.hall/humidity").status_code == 404
    assert [known["fact"]["value"] for known in twin.reader.get(f"{twin.path}/state").json()] == [23.0]


def test_search_and_forget(twin: TwinAt) -> None:
    kept = prompt(twin.id, text="The garden is dry.", facts=[])
    push(twin, prompt(twin.id), kept)

    def found(text: str) -> list[str]:
        return [one["id"] for one in twin.owner.get(f"{twin.path}/prompts", params={"search": text}).json()]

    assert found("garden") == [kept["id"]]
    assert found("hall OR 'garden\" NEAR(") != []
    gone = twin.owner.delete(f"{twin.path}/prompts", params={"path": "sensor.hall/temperature"})
    assert gone.json() == {"forgotten": 1}
    assert (found("hall"), found("garden")) == ([], [kept["id"]])
    assert twin.owner.delete(f"{twin.path}/prompts").json() == {"forgotten": 1}
    assert found("garden") == []


def test_what_arrives_when_its_twin_is_forgotten_is_not_kept(tmp_path: Path) -> None:
    body = json.dumps([prompt("home1")]).encode()
    with closing(Core(ServerOptions(tmp_path, EchoEngine()))) as core:
        core.registry.create("home1", "home", None)
        assert core.append("home1", body).stored == 1
        core.forget("home1")
        with pytest.raises(NotFound):
            core.append("home1", body)
        assert core.memory.snapshot("home1") == [] and core.memory.search("home1", "hall") == []
