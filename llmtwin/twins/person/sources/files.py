"""Finds the files in folders and archives, and reads them within limits. It does not know what is in them.

Names that begin with a dot are passed over and links are not followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from llmtwin.errors import InputError, TooLarge
from llmtwin.twins.kind import Skipped
from llmtwin.twins.person.sources.git import is_repository
from llmtwin.wire.archive import Archive
from llmtwin.wire.files import read_limited

# Archives and mailboxes hold many items, a document is one.
FILE_BYTES_MAX = 256 * 2**20
DOCUMENT_BYTES_MAX = 32 * 2**20


@dataclass(frozen=True)
class File:
    """A file, on the disk or in an archive: `address` says where it lies, `name` is its own."""

    address: str
    name: str
    size: int
    _load: Callable[[int], bytes]

    @property
    def suffix(self) -> str:
        """What its name ends with, in small letters: `.md`."""
        return PurePosixPath(self.name).suffix.lower()

    def read(self, bytes_max: int) -> bytes:
        """Its bytes. Raises TooLarge before it is read, InputError if it cannot be."""
        if self.size > bytes_max:
            raise TooLarge(f"it has {self.size} bytes; at most {bytes_max} are read")
        return self._load(bytes_max)


def file_at(path: Path) -> File:
    """The file at a path. Raises InputError where it is a link, no plain file, or not there."""
    try:
        found = path.lstat()
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror}") from error
    if stat.S_ISLNK(found.st_mode):
        raise InputError("it is a link, and links are not followed")
    if not stat.S_ISREG(found.st_mode):
        raise InputError("it is no plain file")
    return File(str(path), path.name, found.st_size, lambda bytes_max: read_limited(path, bytes_max))


def files_in(archive: Archive, address: str) -> Iterator[File]:
    """The files of an archive that lies at that address, sorted."""
    for name in sorted(archive.names):
        path = PurePosixPath(name.replace("\\", "/"))
        if not any(part.startswith((".", "__MACOSX")) for part in path.parts):
            yield File(f"{address}/{path}", path.name, archive.size(name), _member(archive, name))


def _member(archive: Archive, name: str) -> Callable[[int], bytes]:
    return lambda bytes_max: archive.read(name, bytes_max)


@dataclass
class Listing:
    """What a folder holds: files, repositories, which are read as a whole, and what was left out."""

    folder: Path
    files: list[File] = field(default_factory=list)
    repositories: list[Path] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def list_folder(folder: Path) -> Listing:
    """What a folder and those in it hold, sorted."""
    found = Listing(folder)

    def failed(error: OSError) -> None:
        found.skipped.append(Skipped(str(error.filename), f"it cannot be read: {error.strerror}"))

    for place, folders, names in os.walk(folder, onerror=failed):
        here = Path(place)
        if is_repository(here):
            found.repositories.append(here)
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted([*names, *(name for name in folders if (here / name).is_symlink())]):
            if not name.startswith("."):
                try:
                    found.files.append(file_at(here / name))
                except InputError as error:
                    found.skipped.append(Skipped(str(here / name), str(error)))
    return found
