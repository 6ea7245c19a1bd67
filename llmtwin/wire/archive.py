"""Looks into zip archives without trusting them. It knows nothing of what they hold, and unpacks none."""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from llmtwin.errors import InputError, TooLarge

MEMBERS_MAX = 50_000
TOTAL_BYTES_MAX = 2**30
RATIO_MAX = 100
# Small files may shrink by any ratio: a page of blanks does no harm.
RATIO_BYTES_MIN = 2**20

# All that zipfile and its decompressors raise over bytes that are no archive.
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)


class Archive:
    """An open archive, all of whose members have been checked."""

    def __init__(self, opened: zipfile.ZipFile) -> None:
        self._zip = opened
        self.names = [entry.filename for entry in opened.infolist() if _is_file(entry)]

    def size(self, name: str) -> int:
        """How many bytes a member has, unpacked."""
        return self._zip.getinfo(name).file_size

    def read(self, name: str, bytes_max: int) -> bytes:
        """A member's bytes. Raises TooLarge before they are unpacked, InputError if they are broken."""
        if self.size(name) > bytes_max:
            raise TooLarge(f"it has {self.size(name)} bytes; at most {bytes_max} are read")
        try:
            return self._zip.read(name)
        except _BROKEN as error:
            raise InputError(f"it is broken in the archive: {error}") from error


@contextmanager
def open_archive(data: bytes) -> Iterator[Archive]:
    """Open an archive. Raises InputError if it is broken, encrypted or leads out, TooLarge for a bomb."""
    try:
        opened = zipfile.ZipFile(io.BytesIO(data))
    except _BROKEN as error:
        raise InputError(f"the zip archive is broken: {error}") from error
    with opened:
        _check(opened.infolist())
        yield Archive(opened)


def _check(entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MEMBERS_MAX:
        raise TooLarge(f"the zip archive holds {len(entries)} files; at most {MEMBERS_MAX} are read")
    total = sum(entry.file_size for entry in entries)
    if total > TOTAL_BYTES_MAX:
        raise TooLarge(f"the zip archive unpacks to {total} bytes; at most {TOTAL_BYTES_MAX} are read")
    for entry in entries:
        name = entry.filename.replace("\\", "/")
        if name.startswith("/") or name[1:2] == ":" or ".." in name.split("/"):
            raise InputError(
                f"the zip archive leads out of itself with {entry.filename!r}: nothing of it is read"
            )
        if entry.flag_bits & 1:
            raise InputError("the zip archive is encrypted: unpack it and give the folder")
        if entry.file_size > max(RATIO_BYTES_MIN, RATIO_MAX * entry.compress_size):
            raise TooLarge(
                f"the zip archive holds {entry.filename!r}, which unpacks to over {RATIO_MAX} times its size"
            )


def _is_file(entry: zipfile.ZipInfo) -> bool:
    return not entry.is_dir() and not stat.S_ISLNK(entry.external_attr >> 16)
