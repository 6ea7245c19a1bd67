"""Traffic on record: a request with its response a line, in the shape that NVIDIA's data flywheel reads too.

It knows no transport, and of what models were asked and said only that it is JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Generic, NoReturn, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from llmtwin.errors import InputError, NotFound, Unavailable
from llmtwin.records import Hash, Record
from llmtwin.twins.kind import Skipped
from llmtwin.wire.files import sync_folder
from llmtwin.wire.reason import reason

if TYPE_CHECKING:
    import hashlib

EXCHANGES, SHADOWS = "exchanges.jsonl", "shadow.jsonl"
"""The files of a folder of traffic: what the primary said, and what a twin did."""
LINE_BYTES_MAX = 64 * 2**20
"""A request with its response; images are in them as text."""
PIECE_BYTES = 2**20


def _epoch_s(given: object) -> object:
    if not isinstance(given, str):
        return given
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        raise ValueError("it is neither seconds nor an ISO time") from None
    if at.tzinfo is None:
        raise ValueError("it has no time zone")
    return at.timestamp()


Seconds = Annotated[float, BeforeValidator(_epoch_s)]
"""Seconds since 1970, in UTC; an ISO time with a zone is taken, too."""


def without_halves(content: Any) -> Any:
    """JSON as it is, but for halves of a sign: two that belong together are joined, one alone is U+FFFD.

    JSON can name them one by one, and streams part them; nothing that is written in UTF-8 takes them.
    """
    text = json.dumps(content, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return content


Json = Annotated[dict[str, Any], BeforeValidator(without_halves)]
"""What a model was asked or said; all of its texts can be written."""


class Exchange(Record):
    """A request with its response, both as they were.

    `workload_id` says whose traffic it is, and `client_id` which session: exchanges with the same one belong
    together. Fields that other tools add are passed over.
    """

    model_config = ConfigDict(extra="ignore")

    timestamp: Seconds
    workload_id: str = Field(max_length=200)
    client_id: str = Field(max_length=200)
    request: Json
    response: Json

    @property
    def id(self) -> str:
        """A hash of all of it: the same for the same exchange, in whatever order its fields are written."""
        return sha256(
            json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":")).encode()
        ).hexdigest()

    @property
    def session(self) -> str:
        """The session that it belongs to; without one it is its own."""
        return self.client_id or self.id


class Shadow(Record):
    """What a twin answered to the request of an exchange, which `exchange` names by its id."""

    model_config = ConfigDict(extra="ignore")

    timestamp: Seconds
    exchange: Hash
    latency_s: float
    response: Json


Line = TypeVar("Line", Exchange, Shadow)


class Mark(Record):
    """How far a file was read: so many bytes, at the end of a line, and the hash of all of them."""

    read_bytes: int
    hash: Hash


def mark(path: Path, before: Mark | None) -> tuple[int, Mark | None]:
    """Where to begin to read a file that was read up to a mark, and its mark once that is done.

    It begins anew where anything of what was read has changed. While the last line has no end, the mark stays
    where it is. Raises as `read`.
    """
    with _opened(path) as file:
        size = file.seek(0, os.SEEK_END)
        ended = _ends_line(file, size)
        file.seek(0)
        digest, start = sha256(), before.read_bytes if before else 0
        _hash(file, digest, start)
        if before and digest.hexdigest() != before.hash:
            file.seek(0)
            digest, start, before = sha256(), 0, None
        if not ended:
            return start, before
        _hash(file, digest, size - start)
        return start, Mark(read_bytes=size, hash=digest.hexdigest())


def read(path: Path, kind: type[Line], start: int = 0) -> Iterator[Line | Skipped]:
    """The lines of a file from byte `start` on; one that is broken, half or over the limit comes as Skipped.

    The file is not held in memory. Raises NotFound, or InputError where it cannot be read.
    """
    with _opened(path) as file:
        file.seek(start)
        for number, line in enumerate(_lines(file), 1):
            if line is None:
                yield Skipped(f"{path.name}:{number}", f"the line has more than {LINE_BYTES_MAX} bytes")
            elif line.strip():
                yield _parsed(line, kind, f"{path.name}:{number}")


class Tail(Generic[Line]):
    """Follows a file that may grow, or not be there yet: each line is given once, in its order."""

    def __init__(self, path: Path, kind: type[Line]) -> None:
        self._path = path
        self._kind: type[Line] = kind
        self._read_bytes = 0

    def new(self) -> Iterator[Line]:
        """The lines that came since; a broken one is left out, and the last waits until it has its end.

        A file that became shorter is another one, and is read from its beginning. Raises InputError where
        it cannot be read.
        """
        try:
            with self._path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._read_bytes:
                    self._read_bytes = 0
                file.seek(self._read_bytes)
                for line in _lines(file):
                    if line is not None and not line.endswith(b"\n"):
                        return
                    self._read_bytes = file.tell()
                    parsed = _parsed(line, self._kind, self._path.name) if line and line.strip() else None
                    if isinstance(parsed, self._kind):
                        yield parsed
        except FileNotFoundError:
            return
        except OSError as error:
            raise InputError(f"{self._path} cannot be read: {error.strerror}") from error


def as_line(one: Exchange | Shadow) -> bytes:
    """It as it stands in a file. Raises TypeError or ValueError for what is no JSON."""
    return (json.dumps(one.model_dump()) + "\n").encode()


def append(path: Path, one: Exchange | Shadow, *, durably: bool = True) -> None:
    """Add a line, as `append_lines`; where it does not fit, nothing of it stays."""
    append_lines(path, [as_line(one)], durably=durably)


def append_lines(path: Path, lines: Sequence[bytes], *, durably: bool = True) -> int:
    """Add lines and wait until they are on the disk; how many of the first ones fitted.

    If not `durably`, the system writes them when it likes: they outlive the process, but not the machine.
    Only one process writes a file. A half line that a killed one left stays, and is skipped by readers.
    Raises Unavailable where not even the first can be written.
    """
    written = 0
    try:
        created = not path.exists()
        with path.open("ab+", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            rest = b"" if _ends_line(file, size) else b"\n"
            for line in lines:
                try:
                    _write_whole(file, rest + line, size)
                except OSError:
                    if not written:
                        raise
                    break
                size, rest, written = size + len(rest + line), b"", written + 1
            if durably:
                os.fsync(file.fileno())
        if created:
            sync_folder(path.parent)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}") from error
    return written


def forget(folder: Path, ids: Collection[str]) -> None:
    """Put blanks in place of these exchanges in a folder, and of what a twin answered to them.

    What it answered to those that are gone already goes, too: it may have come after they were forgotten.
    Readers pass over blank lines, and nothing else moves: a process that appends or follows meanwhile need
    not know. Lines that cannot be read go, too, whatever is in them. Raises Unavailable where it cannot be
    written, and as `read`.
    """
    paths = sorted(folder.rglob("*.jsonl"))
    shadows = [path for path in paths if path.name == SHADOWS]
    records = [path for path in paths if path.name != SHADOWS]
    # An exchange is written before the answer to it, and so there for each answer that was read before.
    answered = {line.exchange for path in shadows for line in read(path, Shadow) if isinstance(line, Shadow)}
    there = {line.id for path in records for line in read(path, Exchange) if isinstance(line, Exchange)}
    gone = {*ids, *(answered - there)}
    for path in records:
        _blank(path, Exchange, lambda line: line.id in gone)
    for path in shadows:
        _blank(path, Shadow, lambda line: line.exchange in gone)


def _blank(path: Path, kind: type[Line], goes: Callable[[Line], bool]) -> None:
    try:
        with path.open("rb+") as file:
            spans = list(_spans(file, kind, goes, path.name))
            # Without its first sign no line can be read: where this is broken off, the next time ends it.
            _overwrite(file, [(start, start + 1) for start, _ in spans])
            _overwrite(file, spans)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}") from error


def _spans(
    file: IO[bytes], kind: type[Line], goes: Callable[[Line], bool], name: str
) -> Iterator[tuple[int, int]]:
    """Where the lines are that go, without their ends."""
    start = 0
    for line in _lines(file):
        end = file.tell()
        found = _parsed(line, kind, name) if line is not None else None
        ended = line is None or line.endswith(b"\n")
        if not ended and not isinstance(found, kind):
            return  # it is being written
        if (line is None or line.strip()) and (not isinstance(found, kind) or goes(found)):
            yield start, end - 1 if ended else end
        start = end


def _overwrite(file: IO[bytes], spans: Sequence[tuple[int, int]]) -> None:
    for start, end in spans:
        file.seek(start)
        file.write(b" " * (end - start))
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise NotFound(f"there is no {path}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _hash(file: IO[bytes], digest: hashlib._Hash, count: int) -> None:
    """Take in so many bytes of a file, or as many as there are."""
    while count and (piece := file.read(min(count, PIECE_BYTES))):
        digest.update(piece)
        count -= len(piece)


def _lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """The lines; None in the place of one that is too long."""
    while line := file.readline(LINE_BYTES_MAX + 1):
        if len(line) <= LINE_BYTES_MAX:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(LINE_BYTES_MAX)
        yield None


def _parsed(line: bytes, kind: type[Line], name: str) -> Line | Skipped:
    try:
        return kind.model_validate(json.loads(line, parse_constant=_no_number))
    except ValidationError as error:
        return Skipped(name, reason(error))
    except (ValueError, RecursionError) as error:
        return Skipped(name, f"it is no JSON: {error}")


def _no_number(given: str) -> NoReturn:
    raise ValueError(f"{given} is no number")


def _ends_line(file: IO[bytes], size: int) -> bool:
    if not size:
        return True
    file.seek(size - 1)
    return file.read(1) == b"\n"


def _write_whole(file: IO[bytes], content: bytes, size: int) -> None:
    rest = memoryview(content)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        with suppress(OSError):  # what cannot be taken back is a half line, and skipped by readers
            os.ftruncate(file.fileno(), size)
        raise
