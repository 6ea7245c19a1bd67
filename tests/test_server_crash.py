"""SIGKILL in the middle of uploads and appends: what was acknowledged is there, nothing is half there."""

from __future__ import annotations

import threading
import time
from functools import partial
from itertools import count
from pathlib import Path

import httpx

from llmtwin.memory import Memory
from llmtwin.models.engine.echo import EchoEngine
from llmtwin.records import Prompt, new_id, now
from llmtwin.wire.package import Expect, check_package, read_package
from llmtwin.wire.sign import public_key_text
from tests.conftest import ServerProcess, TwinAt, enrol_twin
from tests.packages import make_package

WRITERS = 4


def append_until_it_breaks(twin: TwinAt, acknowledged: list[str]) -> None:
    try:
        while True:
            batch = [Prompt(id=new_id(), twin=twin.id, text="The hall is warm.", at=now()) for _ in range(20)]
            body = [prompt.model_dump(mode="json") for prompt in batch]
            with twin.server.client(twin.edge.headers["authorization"].split()[1]) as edge:
                said = edge.post(f"{twin.path}/prompts", json=body).raise_for_status().json()
            assert said["stored"] == len(batch)
            acknowledged.extend(prompt.id for prompt in batch)
    except httpx.TransportError:
        pass


def upload_until_it_breaks(twin: TwinAt, folder: Path, versions: count[int], acknowledged: list[int]) -> None:
    try:
        for version in versions:
            parts = make_package(folder / str(version), twin.key, twin.id, version)
            files = [(name, (name, content)) for name, content in parts.items()]
            twin.edge.post(f"{twin.path}/adapters", files=files).raise_for_status()
            acknowledged.append(version)
    except httpx.TransportError:
        pass


def test_what_was_acknowledged_survives_and_nothing_is_half_there(
    mortal_server: ServerProcess, tmp_path: Path
) -> None:
    server = mortal_server
    twin = enrol_twin(server, tmp_path)
    prompts: list[str] = []
    versions: list[int] = []
    next_version = count(1)
    for round_s in (0.4, 0.7, 1.1):
        append = partial(append_until_it_breaks, twin, prompts)
        upload = partial(upload_until_it_breaks, twin, tmp_path / "made", next_version, versions)
        works = [threading.Thread(target=work) for work in (*[append] * WRITERS, upload)]
        for work in works:
            work.start()
        time.sleep(round_s)
        server.kill()
        for work in works:
            work.join()
        server.start()
        check_adapters(twin, versions)
    server.stop()
    with Memory(server.data / "memory.sqlite") as memory:
        assert prompts and [one for one in prompts if memory.prompt(one) is None] == []


def check_adapters(twin: TwinAt, acknowledged: list[int]) -> None:
    listed = twin.reader.get(f"{twin.path}/adapters").raise_for_status().json()
    shown = [one["manifest"]["version"] for one in listed]
    assert acknowledged and set(acknowledged) <= set(shown)
    assert [one["manifest"]["version"] for one in listed if one["live"]] == [max(shown)]
    folder = twin.server.data / "adapters" / twin.id
    assert {path.name for path in folder.iterdir()} == {str(version) for version in shown}
    expect = Expect(twin=twin.id, base=EchoEngine.base_hash, skill=None, version_after=0)
    for version in shown:
        manifest = check_package(read_package(folder / str(version)), public_key_text(twin.key), expect)
        assert manifest.version == version
        assert twin.reader.get(f"{twin.path}/card", params={"version": version}).status_code == 200


def test_the_rest_of_a_killed_upload_is_swept_and_may_be_sent_again(
    mortal_server: ServerProcess, tmp_path: Path
) -> None:
    twin = enrol_twin(mortal_server, tmp_path)
    parts = make_package(tmp_path / "made", twin.key, twin.id, 1)
    mortal_server.kill()
    folder = mortal_server.data / "adapters" / twin.id
    for rest in (folder / "1", folder / ".incoming-x"):
        rest.mkdir(parents=True)
        (rest / "adapter_config.json").write_bytes(b"{")
    mortal_server.start()
    assert not folder.exists()
    assert twin.reader.get(f"{twin.path}/adapters").json() == []
    files = [(name, (name, content)) for name, content in parts.items()]
    assert twin.edge.post(f"{twin.path}/adapters", files=files).json() == {"version": 1, "live": True}


def test_tokens_commands_and_descriptions_survive(mortal_server: ServerProcess, tmp_path: Path) -> None:
    twin = enrol_twin(mortal_server, tmp_path)
    lamp = {"name": "power", "path": "light.a/power", "writable": True}
    device = {"id": "light.a", "name": "A", "domain": "light", "properties": [lamp]}
    twin.edge.put(f"{twin.path}/description", json={"devices": [device]}).raise_for_status()
    made = twin.owner.post(f"{twin.path}/commands", json={"path": "light.a/power", "value": True}).json()
    mortal_server.kill()
    mortal_server.start()
    assert [one["id"] for one in twin.edge.get(f"{twin.path}/commands").json()] == [made["id"]]
    mortal_server.kill()
    mortal_server.start()
    assert twin.owner.get(f"{twin.path}/commands/{made['id']}").json()["state"] == "sent"
