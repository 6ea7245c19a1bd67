"""The examples make recorded traffic out of what the public data sets hold."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES, DATA = ROOT / "examples", ROOT.parent / "shared/data/model"
FOLDERS = {"intake": "mts-dialog", "tutor": "cima", "desk": "customer-support", "research": "prompts"}

_spec = importlib.util.spec_from_file_location("examples_traffic", EXAMPLES / "traffic.py")
assert _spec and _spec.loader
traffic = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(traffic)


def answer(_: dict[str, Any]) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": "Paris."}}]}


def said(application: str, folder: Path) -> Iterator[Any]:
    one = getattr(traffic, application)
    return one(folder, answer) if application == "research" else one(folder)


def real(application: str) -> Path:
    folder = DATA / FOLDERS[application]
    if not folder.exists():
        pytest.skip(f"the data set is not here: {folder}")
    return folder


def replies(path: Path) -> list[str]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line["response"]["choices"][0]["message"]["content"] for line in lines]


@pytest.mark.parametrize(
    ("application", "count"), [("intake", 4514), ("tutor", 3315), ("desk", 6480), ("research", 66)]
)
def test_the_real_data_is_traffic(application: str, count: int, tmp_path: Path) -> None:
    folder, out = real(application), tmp_path / "out" / "traffic.jsonl"
    assert traffic.write(said(application, folder), application, out) == count
    for line in map(json.loads, out.read_text().splitlines()):
        assert set(line) == {"timestamp", "workload_id", "client_id", "request", "response"}
        assert line["workload_id"] == application
        roles = [message["role"] for message in line["request"]["messages"]]
        assert roles[0] == "system" and roles[-1] == "user"
        assert all(one != other for one, other in pairwise(roles))
    assert all(replies(out))


@pytest.mark.parametrize(("application", "low", "high"), [("intake", 0.75, 0.77), ("tutor", 0.99, 1.0)])
def test_recorded_replies_pass_the_check_as_often_as_is_said(
    application: str, low: float, high: float, tmp_path: Path
) -> None:
    traffic.write(said(application, real(application)), application, tmp_path / "t.jsonl")
    check = re.compile((EXAMPLES / application / "check.regex").read_text().strip())
    found = [check.search(reply) is not None for reply in replies(tmp_path / "t.jsonl")]
    assert low <= sum(found) / len(found) <= high


def test_all_recorded_intents_are_in_the_schema(tmp_path: Path) -> None:
    traffic.write(said("desk", real("desk")), "desk", tmp_path / "t.jsonl")
    schema = json.loads((EXAMPLES / "desk" / "check.schema.json").read_text())
    for reply in map(json.loads, replies(tmp_path / "t.jsonl")):
        assert set(reply) == set(schema["required"])
        assert all(value in schema["properties"][name]["enum"] for name, value in reply.items())


def test_a_made_up_interview(tmp_path: Path) -> None:
    (tmp_path / "MTS-Dialog-TrainingSet.csv").write_text(
        "ID,section_header,section_text,dialogue\n"
        '7,X,Y,"Doctor: Hello?\nPatient: It hurts. \nGuest_family: A lot.\n'
        'Doctor: Where?\n Patient: Here.\nDoctor: So."\n'
    )
    found = list(said("intake", tmp_path))
    assert [client for client, _, _ in found] == ["mts-7", "mts-7"]
    assert found[0][1]["messages"][1:] == [
        {"role": "assistant", "content": "Hello?"},
        {"role": "user", "content": "It hurts.\nA lot."},
    ]
    assert [one["choices"][0]["message"]["content"] for _, _, one in found] == ["Where?", "So."]


def test_a_made_up_lesson_a_message_and_a_question(tmp_path: Path) -> None:
    lesson = {
        **{"engPrep": "is behind the", "engColor": "pink", "engObj": "tree"},
        **{"past_convo": ["Fill in the blank. ", "rosa?"], "tutorResponses": ["Nearly.", "No."]},
    }
    (tmp_path / "dataset.json").write_text(json.dumps({"prepDataset": {"3": lesson}}))
    (tmp_path / "Bitext_Sample_Customer_Service_Training_Dataset.csv").write_text(
        "utterance,intent,category\nwhere is it,track_order,ORDER\n"
    )
    (tmp_path / "ifeval.jsonl").write_text(
        "\n".join(
            json.dumps({"key": number, "prompt": "Why?", "instruction_id_list": [one]})
            for number, one in enumerate(["punctuation:no_comma", "keywords:existence"])
        )
    )
    (one, request, first), (other, same, second) = said("tutor", tmp_path)
    assert one == other == "cima-3" and request == same and first != second
    assert "is behind the pink tree" in request["messages"][0]["content"]
    ((_, _, routed),) = said("desk", tmp_path)
    content = json.loads(routed["choices"][0]["message"]["content"])
    assert content == {"intent": "track_order", "category": "ORDER"}
    ((client, _, response),) = said("research", tmp_path)
    assert (client, response) == ("ifeval-0", answer({}))


def test_a_part_is_whole_sessions_and_always_the_same(tmp_path: Path) -> None:
    lines = [(f"s{n // 3}", {"n": n}, answer({})) for n in range(30)]
    found = list(traffic.drawn(iter(lines), 4))
    assert len(found) == 12 and found == [line for line in lines if line in found]
    assert found == list(traffic.drawn(iter(lines), 4))
    assert list(traffic.drawn(iter(lines), 99)) == lines and not list(traffic.drawn(iter(lines), 0))


def test_the_script_says_what_is_missing(tmp_path: Path) -> None:
    def told(*given: str) -> str:
        command = [sys.executable, str(EXAMPLES / "traffic.py"), *given]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1
        return done.stderr

    out = str(tmp_path / "out.jsonl")
    assert "No such file" in told("desk", str(tmp_path), out)
    assert "give a model that answers" in told("research", str(tmp_path), out)


@pytest.mark.parametrize("application", FOLDERS)
def test_each_example_says_its_licence_and_its_commands(application: str) -> None:
    text = (EXAMPLES / application / "README.md").read_text()
    assert re.search(r"CC BY|CDLA|Apache", text)
    for command in ("new", "collect", "tune", "ask"):
        assert f"llmtwin {command} {application}" in text
    assert re.search(r"`(check\.[\w.]+)`", text)
    assert all((EXAMPLES / application / name).exists() for name in re.findall(r"`(check\.[\w.]+)`", text))
