"""Adapters over HTTP: only what is signed, whole and newer gets in; roll back, withdraw, forget."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmtwin.wire.package import CARD, CONFIG, MANIFEST, WEIGHTS
from llmtwin.wire.sign import new_key
from tests.conftest import Enrol, ServerProcess, TwinAt
from tests.packages import make_package

Parts = dict[str, bytes]


def push(twin: TwinAt, parts: Parts, client: httpx.Client | None = None) -> httpx.Response:
    files = [(name, (name, content)) for name, content in parts.items()]
    return (client or twin.edge).post(f"{twin.path}/adapters", files=files)


def package(twin: TwinAt, folder: Path, version: int, **options: Any) -> Parts:
    return make_package(folder / twin.id / str(version), twin.key, twin.id, version, **options)


def versions(twin: TwinAt) -> dict[int, str]:
    """Each version, and whether it is live, there, or withdrawn."""
    listed = twin.reader.get(f"{twin.path}/adapters").json()
    return {
        one["manifest"]["version"]: "live" if one["live"] else "withdrawn" if one["withdrawn"] else "there"
        for one in listed
    }


def answering_version(twin: TwinAt, **asked: int) -> int | None:
    answer = twin.owner.post(f"{twin.path}/ask", json={"text": "hello", **asked}).raise_for_status().json()
    used = answer["receipts"]["adapter"]
    return used and int(used["version"])


@pytest.fixture
def pushed(twin: TwinAt, tmp_path: Path) -> TwinAt:
    """A twin with version 1 live."""
    push(twin, package(twin, tmp_path, 1)).raise_for_status()
    return twin


def test_a_push_goes_live_and_a_repeated_push_changes_nothing(twin: TwinAt, tmp_path: Path) -> None:
    assert answering_version(twin) is None
    first, second = package(twin, tmp_path, 1), package(twin, tmp_path, 2)
    assert push(twin, first).json() == {"version": 1, "live": True}
    assert push(twin, first).json() == {"version": 1, "live": True}
    assert push(twin, second).json() == {"version": 2, "live": True}
    assert push(twin, first).json() == {"version": 1, "live": False}
    assert versions(twin) == {1: "there", 2: "live"}
    assert (answering_version(twin), answering_version(twin, version=1)) == (2, 1)
    assert twin.reader.get(f"{twin.path}/card").json()["version"] == 2
    assert twin.reader.get(f"{twin.path}/card?version=1").json()["figures"] == {"recall": 1.0}


def test_a_version_is_never_replaced_nor_followed_by_an_older_one(pushed: TwinAt, tmp_path: Path) -> None:
    assert push(pushed, package(pushed, tmp_path, 3)).status_code == 200
    other = push(pushed, package(pushed, tmp_path, 3, value=0.25))
    assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
    assert push(pushed, package(pushed, tmp_path, 2)).status_code == 409
    assert versions(pushed) == {1: "there", 3: "live"}


def spoil(twin: TwinAt, folder: Path, how: str) -> Parts:
    good = package(twin, folder, 2)
    match how:
        case "another base":
            return package(twin, folder, 2, base="1" * 64)
        case "another kind":
            return package(twin, folder, 2, kind="home")
        case "another twin":
            return make_package(folder / "other", twin.key, "another-twin", 2)
        case "another key":
            return make_package(folder / "other", new_key(folder / "other.pem"), twin.id, 2)
        case "no signature":
            return good | {MANIFEST: b"{}"}
        case "bad signature":
            return good | {MANIFEST: good[MANIFEST].replace(b'"signature":"', b'"signature":"00')}
        case "wrong digest":
            return good | {CONFIG: good[CONFIG] + b" "}
        case "truncated":
            return good | {WEIGHTS: good[WEIGHTS][:-8]}
        case "not finite":
            return package(twin, folder, 2, value=float("nan"))
        case "pickle":
            return good | {WEIGHTS: pickle.dumps({"weights": [1.0]})}
        case "zip bomb":
            bomb = io.BytesIO()
            with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("adapter_model.safetensors", b"\0" * (8 << 20))
            return good | {WEIGHTS: bomb.getvalue()}
        case "missing file":
            return {name: content for name, content in good.items() if name != CARD}
        case "path as name":
            return {f"../{name}" if name == CARD else name: content for name, content in good.items()}
        case "more files":
            return good | {"extra.bin": b"x"}
        case _:
            raise ValueError(how)


@pytest.mark.parametrize(
    "how",
    [
        "another base",
        "another kind",
        "another twin",
        "another key",
        "no signature",
        "bad signature",
        "wrong digest",
        "truncated",
        "not finite",
        "pickle",
        "zip bomb",
        "missing file",
        "path as name",
        "more files",
    ],
)
def test_a_bad_adapter_is_refused_with_the_reason_and_the_version_in_use_stays(
    pushed: TwinAt, tmp_path: Path, how: str
) -> None:
    refused = push(pushed, spoil(pushed, tmp_path, how))
    assert 400 <= refused.status_code < 500
    assert len(refused.json()["error"]["message"]) > 10
    assert (versions(pushed), answering_version(pushed)) == ({1: "live"}, 1)
    kept = sorted(path.name for path in (pushed.server.data / "adapters" / pushed.id).iterdir())
    assert kept == ["1"]


def test_what_is_no_form_is_refused(pushed: TwinAt) -> None:
    for kind in ("application/json", "multipart/form-data", "multipart/form-data; boundary=x"):
        headers = {"content-type": kind}
        refused = pushed.edge.post(f"{pushed.path}/adapters", content=b"{}", headers=headers)
        assert 400 <= refused.status_code < 500


def test_roll_back_goes_one_version_back_or_to_the_one_named(pushed: TwinAt, tmp_path: Path) -> None:
    for version in (2, 3):
        push(pushed, package(pushed, tmp_path, version)).raise_for_status()
    back = f"{pushed.path}/rollback"
    assert pushed.owner.post(back, json={}).json() == {"version": 2, "live": True}
    assert pushed.owner.post(back, json={}).json() == {"version": 1, "live": True}
    assert pushed.owner.post(back, json={}).status_code == 404
    assert answering_version(pushed) == 1
    assert pushed.owner.post(back, json={"version": 3}).json() == {"version": 3, "live": True}
    assert answering_version(pushed) == 3


def test_a_withdrawn_version_is_out_of_use_for_good(pushed: TwinAt, tmp_path: Path) -> None:
    second = package(pushed, tmp_path, 2)
    push(pushed, second).raise_for_status()
    assert pushed.owner.delete(f"{pushed.path}/adapters/2").status_code == 204
    assert (versions(pushed), answering_version(pushed)) == ({1: "live", 2: "withdrawn"}, 1)
    assert not (pushed.server.data / "adapters" / pushed.id / "2").exists()
    assert push(pushed, second).status_code == 409
    assert pushed.owner.post(f"{pushed.path}/rollback", json={"version": 2}).status_code == 404
    assert pushed.owner.delete(f"{pushed.path}/adapters/2").status_code == 404
    assert pushed.owner.delete(f"{pushed.path}/adapters/1").status_code == 204
    assert answering_version(pushed) is None
    assert push(pushed, package(pushed, tmp_path, 3)).json() == {"version": 3, "live": True}


def test_a_forgotten_twin_leaves_nothing(server: ServerProcess, pushed: TwinAt) -> None:
    assert pushed.owner.delete(pushed.path).status_code == 204
    assert pushed.owner.get(pushed.path).status_code == 401
    assert not (server.data / "adapters" / pushed.id).exists()
    for file in server.data.rglob("*"):
        assert not file.is_file() or pushed.id.encode() not in file.read_bytes(), file
    with server.admin() as admin:
        assert admin.get(pushed.path).status_code == 404
        assert admin.post("/v1/twins", json={"id": pushed.id, "kind": "echo"}).status_code == 200


def test_recall_says_which_weights_spoke(pushed: TwinAt) -> None:
    weights = pushed.reader.get(f"{pushed.path}/adapters").json()[0]["manifest"]["weights"]
    for client in (pushed.owner, pushed.edge):
        said = client.post(f"{pushed.path}/recall", json={"prompts": ["one two", "three"]}).json()
        assert [one["text"] for one in said["completions"]] == ["one two", "three"]
        assert (said["version"], said["weights"]) == (1, weights)


def test_recall_without_an_adapter(twin: TwinAt) -> None:
    assert twin.owner.post(f"{twin.path}/recall", json={"prompts": ["one"]}).status_code == 404


def test_a_comparison_is_over_the_twins_of_the_cohort(enrol: Enrol) -> None:
    street = [enrol(cohort=f"street-{id(enrol)}") for _ in range(3)]
    alone = enrol()

    def cohort_size(twin: TwinAt) -> int:
        answer = twin.reader.post(f"{twin.path}/ask", json={"text": "hello"}).json()
        return int(answer["receipts"]["cohort"]["size"])

    assert [cohort_size(twin) for twin in street] == [3, 3, 3]
    assert cohort_size(alone) == 1
