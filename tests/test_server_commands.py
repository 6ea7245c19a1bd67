"""The life of a command: ordered, sent, reported, refused, expired, sent again; and waiting for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmtwin.errors import Conflict, InputError
from llmtwin.records import Command, CommandState, new_id
from llmtwin.server.app import THREADS
from llmtwin.server.commands import Commands
from llmtwin.server.database import Database
from llmtwin.server.registry import Registry
from tests.conftest import Enrol, TwinAt

LAMP = {
    "devices": [
        {
            "id": "light.bed",
            "name": "Bed",
            "domain": "light",
            "properties": [
                {"name": "power", "path": "light.bed/power", "writable": True},
                {
                    "name": "brightness",
                    "path": "light.bed/brightness",
                    "unit": "%",
                    "writable": True,
                    "minimum": 0,
                    "maximum": 100,
                },
            ],
        }
    ]
}


@pytest.fixture
def lamp(twin: TwinAt) -> TwinAt:
    """A twin with one lamp."""
    twin.edge.put(f"{twin.path}/description", json=LAMP).raise_for_status()
    return twin


def order(twin: TwinAt, value: object = True, **more: Any) -> httpx.Response:
    new = {"path": "light.bed/power", "value": value} | more
    return twin.owner.post(f"{twin.path}/commands", json=new)


def taken(twin: TwinAt, wait: float = 0) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = (
        twin.edge.get(f"{twin.path}/commands", params={"wait": wait}).raise_for_status().json()
    )
    return said


def state(twin: TwinAt, command: str) -> str:
    return str(twin.owner.get(f"{twin.path}/commands/{command}").json()["state"])


def report(twin: TwinAt, command: str, how: str, reason: str | None = None) -> httpx.Response:
    said = {"state": how, "reason": reason}
    return twin.edge.post(f"{twin.path}/commands/{command}/report", json=said)


def test_a_command_is_desired_sent_and_reported(lamp: TwinAt) -> None:
    made = order(lamp).json()
    assert (made["state"], state(lamp, made["id"])) == ("desired", "desired")
    assert report(lamp, made["id"], "reported").status_code == 409
    assert [(one["id"], one["state"]) for one in taken(lamp)] == [(made["id"], "sent")]
    assert (state(lamp, made["id"]), taken(lamp)) == ("sent", [])
    assert report(lamp, made["id"], "reported").json()["state"] == "reported"
    assert report(lamp, made["id"], "reported").status_code == 200
    assert report(lamp, made["id"], "refused").status_code == 409
    assert report(lamp, made["id"], "sent").status_code == 422
    assert state(lamp, made["id"]) == "reported"


def test_a_device_may_refuse_with_a_reason(lamp: TwinAt) -> None:
    made = order(lamp).json()
    taken(lamp)
    refused = report(lamp, made["id"], "refused", "the lamp is unplugged").json()
    assert (refused["state"], refused["reason"]) == ("refused", "the lamp is unplugged")


def test_an_order_that_is_not_described_is_refused(lamp: TwinAt) -> None:
    for wrong in (
        {"path": "light.cellar/power"},
        {"value": "on"},
        {"path": "light.bed/brightness", "value": 101},
        {"path": "light.bed/brightness", "value": 50, "unit": "lx"},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"id": "../x"},
    ):
        refused = order(lamp, **wrong)
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "input")
    assert taken(lamp) == []


def test_an_order_sent_again_is_one_order(lamp: TwinAt) -> None:
    mine = new_id()
    assert order(lamp, id=mine).json() == order(lamp, id=mine).json()
    assert order(lamp, False, id=mine).status_code == 409
    assert [one["id"] for one in taken(lamp)] == [mine]


def test_a_command_that_nobody_took_expires(lamp: TwinAt) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=0.2)).isoformat()
    made = order(lamp, expires_at=soon).json()
    time.sleep(0.3)
    assert taken(lamp) == []
    assert state(lamp, made["id"]) == "expired"
    assert report(lamp, made["id"], "reported").status_code == 409


def test_a_twin_sees_its_own_commands_only(lamp: TwinAt, enrol: Enrol) -> None:
    made = order(lamp).json()
    other = enrol()
    assert taken(other) == []
    assert other.owner.get(f"{other.path}/commands/{made['id']}").status_code == 404
    assert report(other, made["id"], "reported").status_code == 404


def test_who_waits_is_woken_by_the_order(lamp: TwinAt) -> None:
    made: dict[str, Any] = {}
    later = threading.Timer(0.5, lambda: made.update(order(lamp).json()))
    started = time.monotonic()
    later.start()
    got = taken(lamp, wait=20)
    later.join()
    assert [one["id"] for one in got] == [made["id"]]
    assert 0.4 < time.monotonic() - started < 5


def test_who_waits_in_vain_gets_nothing(lamp: TwinAt) -> None:
    started = time.monotonic()
    assert taken(lamp, wait=0.5) == []
    assert time.monotonic() - started >= 0.5
    assert lamp.edge.get(f"{lamp.path}/commands", params={"wait": 26}).status_code == 422
    assert lamp.edge.get(f"{lamp.path}/commands", params={"wait": "nan"}).status_code == 422


def test_many_that_wait_leave_room_for_others_and_one_gets_the_order(lamp: TwinAt) -> None:
    edges = THREADS + 20

    async def wait_in_crowd() -> list[list[dict[str, Any]]]:
        limits = httpx.Limits(max_connections=edges)
        async with httpx.AsyncClient(headers=lamp.edge.headers, limits=limits, timeout=60) as edge:
            place = f"{lamp.server.url}{lamp.path}/commands?wait=25"
            waiting = [asyncio.create_task(edge.get(place)) for _ in range(edges)]
            await asyncio.sleep(2)
            await asyncio.to_thread(order, lamp)  # while all of them wait
            return [(await one).json() for one in waiting]

    started = time.monotonic()
    got = asyncio.run(wait_in_crowd())
    assert time.monotonic() - started < 25
    assert sorted(len(commands) for commands in got) == [0] * (edges - 1) + [1]


def test_an_answer_may_order_for_the_owner_and_not_for_a_reader(lamp: TwinAt) -> None:
    asked = {"text": '{"order": {"path": "light.bed/brightness", "value": 40}}'}
    answer = lamp.owner.post(f"{lamp.path}/ask", json=asked).json()
    assert [one["state"] for one in answer["commands"]] == ["desired"]
    assert lamp.reader.post(f"{lamp.path}/ask", json=asked).status_code == 403
    wrong = {"text": asked["text"].replace("40", "400")}
    assert lamp.owner.post(f"{lamp.path}/ask", json=wrong).status_code == 422
    assert [one["value"] for one in taken(lamp)] == [40]


class Clock:
    """A time that moves when it is told to."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def pass_s(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    """A clock that tests move."""
    return Clock()


@pytest.fixture
def commands(tmp_path: Path, clock: Clock) -> Iterator[Commands]:
    """The commands of a registry that has the twin `home`."""
    database = Database(tmp_path / "registry.sqlite")
    Registry(database, tmp_path / "adapters").create("home", "echo", None)
    yield Commands(database, clock)
    database.close()


def command(clock: Clock, life_s: float = 300) -> Command:
    expires_at = clock() + timedelta(seconds=life_s)
    return Command(twin="home", path="a.b/c", value=True, created_at=clock(), expires_at=expires_at)


def test_what_is_not_reported_is_sent_again_after_30_s(commands: Commands, clock: Clock) -> None:
    made = [commands.order(command(clock)), commands.order(command(clock))]
    assert [one.id for one in commands.take("home")] == [one.id for one in made]
    commands.report("home", made[0].id, CommandState.REPORTED, None)
    clock.pass_s(29.9)
    assert commands.take("home") == []
    clock.pass_s(0.1)
    assert [one.id for one in commands.take("home")] == [made[1].id]


def test_a_command_that_was_sent_expires_and_its_late_report_is_believed(
    commands: Commands, clock: Clock
) -> None:
    made = commands.order(command(clock, life_s=60))
    commands.take("home")
    clock.pass_s(60)
    assert commands.take("home") == []
    assert commands.get("home", made.id).state is CommandState.EXPIRED
    assert commands.report("home", made.id, CommandState.REPORTED, None).state is CommandState.REPORTED
    clock.pass_s(3600)
    assert commands.get("home", made.id).state is CommandState.REPORTED


def test_an_expired_or_orphaned_command_is_not_stored(commands: Commands, clock: Clock) -> None:
    with pytest.raises(InputError):
        commands.order(command(clock, life_s=0))
    with pytest.raises(Conflict):
        commands.order(command(clock).model_copy(update={"twin": "nobody"}))
