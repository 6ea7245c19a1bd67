"""What is on record: one exchange a line, whole or skipped by name."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtwin.errors import InputError, NotFound, Unavailable
from llmtwin.twins.kind import Skipped
from llmtwin.twins.model import exchange
from llmtwin.twins.model.exchange import (
    EXCHANGES,
    SHADOWS,
    Exchange,
    Shadow,
    Tail,
    append,
    append_lines,
    as_line,
    forget,
    read,
)
from tests.conftest import HERE

JSON_OBJECTS = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)


def made(**changes: Any) -> Exchange:
    given = {"timestamp": 1.5, "workload_id": "desk", "client_id": "a", "request": {"q": 1}, "response": {}}
    return Exchange.model_validate(given | changes)


@given(JSON_OBJECTS, JSON_OBJECTS)
@hypothesis.settings(max_examples=25)  # each waits for the disk
def test_what_was_asked_and_said_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, request_: dict[str, Any], response: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("record") / "exchanges.jsonl"
    written = made(request=request_, response=response)
    append(path, written)
    append(path, made())
    first, second = read(path, Exchange)
    assert first == written and isinstance(first, Exchange) and first.id == written.id
    assert second == made()


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        ("\ud83d", "\ufffd"),
        ("a\ude00b", "a\ufffdb"),
        ("\ud83d\ude00", "\U0001f600"),  # as a stream of halves adds up
        ("\U0001f600 \ud83d\ud83d", "\U0001f600 \ufffd\ufffd"),
        ("well\n", "well\n"),
    ],
)
def test_half_a_sign_is_kept_as_one_that_can_be_written(tmp_path: Path, named: str, kept: str) -> None:
    written = made(request={"q": [named], named: 1}, response={"a": {"b": named}})
    assert written.request == {"q": [kept], kept: 1} and written.response == {"a": {"b": kept}}
    append(tmp_path / "exchanges.jsonl", written)
    (back,) = read(tmp_path / "exchanges.jsonl", Exchange)
    assert back == written == Exchange.model_validate_json(written.model_dump_json())
    assert isinstance(back, Exchange) and back.id == written.id


def test_lines_of_other_tools_are_read(tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    theirs = {"workload_id": "w", "client_id": "c", "request": {}, "response": {}, "model_version": "7"}
    path.write_text(
        json.dumps({**theirs, "timestamp": 1715854074}) + "\n\n"
        + json.dumps({**theirs, "timestamp": "2024-05-16T10:07:54Z"})  # and no end of line
    )  # fmt: skip
    first, second = read(path, Exchange)
    assert first == second
    assert isinstance(first, Exchange) and first.timestamp == 1715854074.0


@pytest.mark.parametrize(
    "line",
    [
        b'{"timestamp": 1.5, "workload_id": "desk", "cli',
        b"\xff\xfe",
        b"[1]",
        b"{}",
        b"[" * 100_000,
        b'{"timestamp":NaN,"workload_id":"","client_id":"","request":{},"response":{}}',
        b'{"timestamp":1,"workload_id":"","client_id":"","request":{"t":Infinity},"response":{}}',
        b'{"timestamp":"2024-05-16T10:07:54","workload_id":"","client_id":"","request":{},"response":{}}',
        b'{"timestamp":"noon","workload_id":"","client_id":"","request":{},"response":{}}',
        b'{"timestamp":1,"workload_id":"","client_id":"","request":"secret","response":{}}',
    ],
)
def test_a_broken_line_is_skipped_by_name(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "exchanges.jsonl"
    append(path, made())
    with path.open("ab") as file:
        file.write(line)
    append(path, made(client_id="b"))
    first, broken, last = read(path, Exchange)
    assert (first, last) == (made(), made(client_id="b"))
    assert isinstance(broken, Skipped) and broken.name == "exchanges.jsonl:2"
    assert broken.reason and "secret" not in broken.reason


def test_a_line_over_the_limit_is_skipped_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "exchanges.jsonl"
    monkeypatch.setattr(exchange, "LINE_BYTES_MAX", 200)
    append(path, made(request={"q": "x" * 1000}))
    append(path, made())
    long, short = read(path, Exchange)
    assert isinstance(long, Skipped) and "more than 200 bytes" in long.reason
    assert short == made()


def test_an_id_is_of_the_content_and_not_of_its_order() -> None:
    assert made(request={"a": 1, "b": 2}).id == made(request={"b": 2, "a": 1}).id
    assert len({made().id, made(timestamp=2).id, made(response={"a": 1}).id}) == 3


def test_what_a_twin_said_is_kept_beside(tmp_path: Path) -> None:
    shadow = Shadow(timestamp=2.0, exchange=made().id, latency_s=0.5, response={"choices": []})
    append(tmp_path / "shadow.jsonl", shadow)
    assert list(read(tmp_path / "shadow.jsonl", Shadow)) == [shadow]


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        list(read(tmp_path / "none.jsonl", Exchange))
    with pytest.raises(InputError, match="cannot be read"):
        list(read(tmp_path, Exchange))
    with pytest.raises(Unavailable, match="No space left"):
        append(Path("/dev/full"), made())


def test_a_line_that_does_not_fit_leaves_nothing_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "exchanges.jsonl"
    append(path, made())
    whole = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 20, limits[1]))
    try:
        with pytest.raises(Unavailable, match="cannot be written"):
            append(path, made(request={"q": "x" * 1000}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == whole


def test_of_lines_that_do_not_all_fit_the_first_ones_stay(tmp_path: Path) -> None:
    path = tmp_path / "exchanges.jsonl"
    lines = [as_line(made(client_id=name)) for name in "abc"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * len(lines[0]) + 20, limits[1]))
    try:
        assert append_lines(path, lines) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"".join(lines[:2])
    assert append_lines(path, lines[2:]) == 1 and path.read_bytes() == b"".join(lines)


def test_a_writer_killed_at_any_moment_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "exchanges.jsonl"
    code = (
        "import sys, pathlib\n"
        "from llmtwin.twins.model.exchange import Exchange, append\n"
        "fields = dict(timestamp=1.0, workload_id='w', client_id='c', response={})\n"
        "for i in range(10**6):\n"
        "    append(pathlib.Path(sys.argv[1]), Exchange(request={'i': i, 'q': 'x' * 10_000}, **fields))\n"
        "    print(i, flush=True)\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        while writer.stdout.readline() != b"20\n":
            pass
        writer.send_signal(signal.SIGKILL)
        acknowledged = 21 + len(writer.stdout.read().splitlines())
    append(path, made())
    found = list(read(path, Exchange))
    numbers = [line.request["i"] for line in found[:-1] if isinstance(line, Exchange)]
    assert numbers[:acknowledged] == list(range(acknowledged))
    assert found[-1] == made()


def test_what_is_forgotten_is_blank_and_nothing_else_moves(tmp_path: Path) -> None:
    lines = [made(client_id=session, request={"q": f"said by {session}"}) for session in "abc"]
    for one in lines:
        append(tmp_path / EXCHANGES, one)
        append(tmp_path / SHADOWS, Shadow(timestamp=2, exchange=one.id, latency_s=0.1, response={}))
    tail = Tail(tmp_path / EXCHANGES, Exchange)
    assert list(tail.new()) == lines
    size = (tmp_path / EXCHANGES).stat().st_size
    with (tmp_path / EXCHANGES).open("ab") as writing:
        writing.write(b'{"client_id": "half, said by')
        writing.flush()
        forget(tmp_path, {lines[0].id, lines[2].id})
        assert (tmp_path / EXCHANGES).read_bytes()[size:] == b'{"client_id": "half, said by'
        writing.truncate(size)
    assert list(read(tmp_path / EXCHANGES, Exchange)) == [lines[1]]
    answers = [one for one in read(tmp_path / SHADOWS, Shadow) if isinstance(one, Shadow)]
    assert [one.exchange for one in answers] == [lines[1].id]
    assert b"said by b" in (tmp_path / EXCHANGES).read_bytes()
    assert b"said by a" not in (tmp_path / EXCHANGES).read_bytes()
    append(tmp_path / EXCHANGES, lines[0])
    assert list(tail.new()) == [lines[0]]


def test_an_answer_that_comes_after_its_exchange_was_forgotten_goes_the_next_time(tmp_path: Path) -> None:
    gone, kept = made(), made(client_id="b")
    append(tmp_path / EXCHANGES, kept)
    for one in (gone, kept):
        append(tmp_path / SHADOWS, Shadow(timestamp=2, exchange=one.id, latency_s=0.1, response={}))
    forget(tmp_path, set())
    assert [one.exchange for one in read(tmp_path / SHADOWS, Shadow) if isinstance(one, Shadow)] == [kept.id]
    assert list(read(tmp_path / EXCHANGES, Exchange)) == [kept]


def test_a_last_line_without_its_end_is_forgotten_too(tmp_path: Path) -> None:
    """As a full disk may leave one: all of it is there but its last sign."""
    path, gone = tmp_path / EXCHANGES, made(request={"q": "gone"})
    append(path, made())
    with path.open("ab") as file:
        file.write(gone.model_dump_json().encode())
    assert list(read(path, Exchange)) == [made(), gone]
    forget(tmp_path, {gone.id})
    assert list(read(path, Exchange)) == [made()] and b"gone" not in path.read_bytes()
    append(path, made(client_id="b"))
    assert list(read(path, Exchange)) == list(Tail(path, Exchange).new()) == [made(), made(client_id="b")]


def test_forgetting_that_is_broken_off_is_ended_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / EXCHANGES
    for one in (made(request={"q": "gone"}), made()):
        append(path, one)
    overwrite, calls = exchange._overwrite, list[object]()

    def once(file: Any, spans: Any) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(spans)
        overwrite(file, spans)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(exchange, "_overwrite", once)
        forget(tmp_path, {made(request={"q": "gone"}).id})
    broken, kept = read(path, Exchange)
    assert isinstance(broken, Skipped) and kept == made()
    forget(tmp_path, set())
    assert list(read(path, Exchange)) == [made()] and b"gone" not in path.read_bytes()


def test_a_writer_loses_nothing_to_what_is_forgotten_meanwhile(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from llmtwin.twins.model.exchange import Exchange, append\n"
        "fields = dict(timestamp=1.0, workload_id='w', client_id='c', response={})\n"
        "for i in range(60):\n"
        "    append(pathlib.Path(sys.argv[1]), Exchange(request={'i': i, 'q': 'x' * 10_000}, **fields))\n"
    )
    path = tmp_path / EXCHANGES
    gone = set[int]()
    with subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=HERE.parent) as writer:
        while writer.poll() is None:
            found = [one for one in Tail(path, Exchange).new() if one.request["i"] % 2]
            forget(tmp_path, {one.id for one in found})
            gone |= {one.request["i"] for one in found}
    assert writer.returncode == 0 and gone
    left = list(read(path, Exchange))
    assert [one.request["i"] for one in left if isinstance(one, Exchange)] == sorted({*range(60)} - gone)
