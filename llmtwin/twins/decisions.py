"""A log of decisions, each line with the digest of the one before. It knows nothing of what was decided.

A line that was changed, left out or put in breaks the chain; whoever keeps the last digest elsewhere also
sees where the end was cut off or all was written anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from llmtwin.errors import InputError, Unavailable, Untrusted
from llmtwin.wire.files import sync_folder

FIRST = "0" * 64
"""What the first line holds for the digest of the one before."""


@dataclass(frozen=True)
class Log:
    """A log's entries, the digest of the last, and how many bytes of a line were never finished."""

    entries: tuple[Mapping[str, Any], ...]
    head: str
    unfinished_bytes: int


class Decisions:
    """A log as a file of JSON lines: `entry`, `previous` (a sha256) and the line's own `sha256`.

    A process killed while it wrote leaves a line without an end: it was never acknowledged. `read` says so,
    and the next `append` removes it and says so in its own line (`removed_bytes`).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path.with_name(path.name + ".lock"))

    def append(self, entry: Mapping[str, Any]) -> str:
        """Write an entry, and return its digest once it is on disk.

        Raises InputError for what JSON cannot hold, Untrusted where the log so far does not hold together,
        and Unavailable where it cannot be written, as on a full disk.
        """
        try:
            with self._lock:
                log = self.read()
                removed = {"removed_bytes": log.unfinished_bytes} if log.unfinished_bytes else {}
                line, digest = _line({"entry": dict(entry), "previous": log.head, **removed})
                with self._path.open("ab") as file:
                    file.truncate(file.tell() - log.unfinished_bytes)
                    file.write(line + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                if log.head == FIRST:
                    sync_folder(self._path.parent)
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be written: {error.strerror}") from error
        return digest

    def read(self) -> Log:
        """All entries, each checked.

        Raises Untrusted with the number of the first line that does not fit, and Unavailable where the log
        cannot be read.
        """
        try:
            whole = self._path.read_bytes() if self._path.exists() else b""
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be read: {error.strerror}") from error
        *lines, unfinished = whole.split(b"\n")
        head, entries = FIRST, []
        for number, line in enumerate(lines, 1):
            entry, previous, head_now = _checked(line, number, self._path)
            if previous != head:
                raise Untrusted(
                    f"{self._path}: line {number} does not follow the one before: lines are missing or moved"
                )
            entries.append(entry)
            head = head_now
        return Log(tuple(entries), head, len(unfinished))

    def verify(self, head: str | None = None) -> Log:
        """Check the whole log, and that it ends with `head`, if one was kept elsewhere.

        Raises Untrusted with the number of the first line that does not fit.
        """
        log = self.read()
        if head is not None and log.head != head:
            raise Untrusted(
                f"{self._path}: line {len(log.entries)} is not the last one written: later ones are missing"
            )
        return log


def _line(content: Mapping[str, Any]) -> tuple[bytes, str]:
    try:
        digest = hashlib.sha256(_json(content)).hexdigest()
    except (TypeError, ValueError) as error:
        raise InputError(f"this cannot be logged, since JSON cannot hold it: {error}") from error
    return _json({**content, "sha256": digest}), digest


def _checked(line: bytes, number: int, path: Path) -> tuple[Mapping[str, Any], str, str]:
    """Entry, previous digest and own digest of a line that is to the byte as it was written."""
    try:
        content = json.loads(line)
        said = content.pop("sha256")
        again, digest = _line(content)
        entry, previous = content["entry"], content["previous"]
    except (ValueError, KeyError, TypeError, AttributeError, InputError, RecursionError) as error:
        raise Untrusted(f"{path}: line {number} is no line of this log: it was changed") from error
    if said != digest or again != line:
        raise Untrusted(f"{path}: line {number} was changed after it was written")
    return entry, previous, digest


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()
