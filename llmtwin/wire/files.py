"""Files that are either whole and on the disk, or not there. It knows nothing of what is in them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from llmtwin.errors import Conflict, InputError, NotFound, TooLarge, Unavailable


def create_private(path: Path, content: bytes) -> None:
    """Make a file that only its owner can read. Raises Conflict if it is there, Unavailable if it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".new-", dir=path.parent) as file:  # mode 0600
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.link(file.name, path)  # unlike a rename, it fails if `path` is there
        sync_folder(path.parent)
    except FileExistsError:
        raise Conflict(f"{path} is already there: it is never replaced") from None
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}") from error


def read_or_create(path: Path, make: Callable[[], bytes], bytes_max: int) -> bytes:
    """The content of a file that only its owner can read, made where it is not there.

    Raises Unavailable where it cannot be made, and as `read_limited` where it cannot be read.
    """
    try:
        return read_limited(path, bytes_max)
    except NotFound:
        with suppress(Conflict):  # somebody else was faster: theirs is the content
            create_private(path, make())
    return read_limited(path, bytes_max)


def read_limited(path: Path, bytes_max: int) -> bytes:
    """A file's content. Raises NotFound, TooLarge, or InputError if it cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no {path}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > bytes_max:
        raise TooLarge(f"{path} has more than {bytes_max} bytes")
    return content


def write_durably(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk. Raises Unavailable if it cannot be written."""
    try:
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
