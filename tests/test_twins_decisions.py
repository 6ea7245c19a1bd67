"""The log of decisions: nothing in it changes unseen, and a killed writer loses no more than its line."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtwin.errors import InputError, Unavailable, Untrusted
from llmtwin.twins.decisions import FIRST, Decisions

ENTRIES = [{"twin": "desk", "version": at, "verdict": "pass", "low": at / 3} for at in range(4)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "decisions.jsonl"
    for entry in ENTRIES:
        Decisions(path).append(entry)
    return path


def test_what_was_written_is_read(path: Path, tmp_path: Path) -> None:
    log = Decisions(path).verify()
    assert list(log.entries) == ENTRIES and not log.unfinished_bytes
    assert Decisions(path).append({"more": 1}) == Decisions(path).read().head != log.head
    empty = Decisions(tmp_path / "none.jsonl").read()
    assert empty.entries == () and empty.head == FIRST


@given(data=st.data())
def test_no_byte_can_change_unseen(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("log") / "decisions.jsonl"
    for entry in ENTRIES[:3]:
        head = Decisions(path).append(entry)
    whole = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[at]))
    number = path.read_bytes()[:at].count(b"\n") + 1
    path.write_bytes(whole)
    # Only without its last line's end does a log look like that of a killed writer, and its head then tells.
    with pytest.raises(Untrusted, match=rf"line {2 if at == len(whole) - 1 else number} "):
        Decisions(path).verify(head)


def test_lines_left_out_moved_or_cut_off_are_named(path: Path) -> None:
    head = Decisions(path).read().head
    lines = path.read_bytes().splitlines(keepends=True)
    for changed, number in (
        (lines[1:], 1),
        (lines[:1] + lines[2:], 2),
        (lines[:1] + lines[2:3] + lines[1:2] + lines[3:], 2),
        (lines[:2] + lines[1:], 3),
        (lines[:3], 3),
        ([], 0),
    ):
        path.write_bytes(b"".join(changed))
        with pytest.raises(Untrusted, match=f"line {number} "):
            Decisions(path).verify(head)
    path.write_bytes(b"".join(lines[:3]))
    assert len(Decisions(path).verify().entries) == 3


def test_the_same_content_in_other_bytes_is_another_line(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"low":0.0', b'"low": 0.0', 1))
    with pytest.raises(Untrusted, match="line 1 was changed"):
        Decisions(path).verify()


def test_nothing_is_added_to_a_broken_log(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"pass", b"fail"))
    before = path.read_bytes()
    with pytest.raises(Untrusted, match="line 1 was changed"):
        Decisions(path).append({})
    assert path.read_bytes() == before


def test_a_half_line_is_removed_and_that_is_said(path: Path) -> None:
    half = path.read_bytes()[:20]
    path.write_bytes(path.read_bytes() + half)
    assert Decisions(path).verify().unfinished_bytes == 20
    Decisions(path).append({"after": "the fall"})
    log = Decisions(path).verify()
    assert log.unfinished_bytes == 0 and log.entries[-1] == {"after": "the fall"}
    assert b'"removed_bytes":20' in path.read_bytes().splitlines()[-1]


def test_what_json_cannot_hold_is_refused(path: Path) -> None:
    before = path.read_bytes()
    for bad in ({"low": -inf}, {"at": object()}):
        with pytest.raises(InputError, match="cannot be logged"):
            Decisions(path).append(bad)
    assert path.read_bytes() == before


def test_a_full_disk_is_said_and_what_was_acknowledged_stays(path: Path) -> None:
    before, (soft, hard) = path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (before + 9, hard))
    try:
        with pytest.raises(Unavailable, match=r"decisions\.jsonl cannot be written"):
            Decisions(path).append({"more": 1})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(Decisions(path).verify().entries) == ENTRIES
    Decisions(path).append({"more": 2})
    assert Decisions(path).verify().entries[-1] == {"more": 2}


def test_writers_side_by_side_make_one_chain(path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda at: Decisions(path).append({"at": at}), range(20)))
    log = Decisions(path).verify()
    assert sorted(entry["at"] for entry in log.entries[4:]) == list(range(20))


def test_a_writer_killed_at_any_moment_leaves_what_it_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    code = (
        "import sys; from pathlib import Path; from llmtwin.twins.decisions import Decisions\n"
        "log, at = Decisions(Path(sys.argv[1])), 0\n"
        "while True:\n    at += 1; log.append({'at': at}); print(at, flush=True)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, env=os.environ)
    assert writer.stdout
    acknowledged = [int(writer.stdout.readline()) for _ in range(5)][-1]
    writer.send_signal(signal.SIGKILL)
    acknowledged = max([acknowledged, *map(int, writer.communicate()[0].split())])
    entries = Decisions(path).verify().entries
    assert [entry["at"] for entry in entries][:acknowledged] == list(range(1, acknowledged + 1))
    Decisions(path).append({"at": 0})
