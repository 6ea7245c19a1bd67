"""Asks `git` what the person wrote in a repository. It does not read the documents and changes nothing.

`git` is run with a list of arguments and no shell, and so that no setting of the repository runs a program.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from llmtwin.errors import InputError, Unavailable
from llmtwin.twins.person.sources.dates import read_date
from llmtwin.twins.person.sources.items import Author, Item, Me

SECONDS_MAX = 300

_SAFE = ("core.fsmonitor=false", "core.hooksPath=/dev/null", "log.showSignature=false")
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "LC_ALL": "C",
}
_MESSAGE = "%H%x00%aN%x00%aE%x00%aI%x00%(trailers)%x00%B"
_CHANGE = "commit %H%x00%aN%x00%aE%x00%aI"
_CHANGED = re.compile(r"commit [0-9a-f]{40,64}")
_BY_GIT = re.compile(r"^(?:This reverts commit [0-9a-f]+\.|\(cherry picked from commit [0-9a-f]+\))$", re.M)


@dataclass(frozen=True)
class Authored:
    """A document in the working tree: when it came, and who besides the person has changed it since."""

    path: Path
    date: datetime | None
    others: tuple[Author, ...]


def is_repository(folder: Path) -> bool:
    """Whether a folder is the working tree of a repository."""
    return os.path.lexists(folder / ".git")


def person_of(folder: Path, me: Me) -> Me:
    """The person; where nothing is known of them, who commits here by its settings.

    Raises InputError where the settings name nobody, and as `read_commits` does.
    """
    if me.known:
        return me
    address = _git(folder, "config", "--default", "", "user.email").decode(errors="replace").strip()
    if not address:
        raise InputError("it is not clear who you are: give your name or address as in its commits")
    return Me(addresses=(address,))


def read_commits(folder: Path, me: Me) -> list[Item]:
    """The messages of the person's commits, without what `git` and its tools add to them.

    Raises InputError where the repository cannot be read, Unavailable where there is no `git`.
    """
    people = [f"--author={author}" for author in (*me.names, *me.addresses)]
    options = ("--no-merges", "--regexp-ignore-case", "--fixed-strings", "--encoding=UTF-8", *people)
    fields = _log(folder, f"--format={_MESSAGE}", *options).decode(errors="replace").split("\0")
    commits = (fields[start : start + 6] for start in range(0, len(fields) - 5, 6))
    items: list[Item] = []
    for commit, name, address, at, trailers, message in commits:
        text = _BY_GIT.sub("", message.strip().removesuffix(trailers.strip())).strip()
        if text and me.is_author(Author(name, address)):
            items.append(
                Item.of(
                    source="git",
                    # A clone elsewhere has the same commits.
                    address=f"{folder.name}@{commit}",
                    audience="commit",
                    title=text.partition("\n")[0],
                    date=read_date(at),
                    text=text,
                )
            )
    return items


def list_documents(folder: Path, me: Me, suffixes: Iterable[str]) -> list[Authored]:
    """The documents in the working tree that the repository does not ignore, sorted.

    Raises InputError where the repository cannot be read or its history is cut off, Unavailable where there
    is no `git`.
    """
    if _git(folder, "rev-parse", "--is-shallow-repository").strip() == b"true":
        raise InputError("its history is cut off, so nobody knows who wrote its documents: fetch all of it")
    only = [f":(icase)*{suffix}" for suffix in suffixes]
    names = _git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *only)
    # A file that came under another name counts by its whole history, however many were moved at once.
    log = _log(folder, f"--format={_CHANGE}", "--reverse", "--name-status", "-M", "-l0", "--", *only)
    histories = _histories(os.fsdecode(log).split("\0"))
    found: list[Authored] = []
    for name in sorted({os.fsdecode(name) for name in names.split(b"\0") if name}):
        history = histories.get(name, _History(None, frozenset()))
        others = tuple(sorted((one for one in history.authors if not me.is_author(one)), key=str))
        found.append(Authored(folder / name, history.date, others))
    return found


@dataclass(frozen=True)
class _History:
    date: datetime | None
    authors: frozenset[Author]


def _histories(tokens: Sequence[str]) -> dict[str, _History]:
    """Of each document by name: the date of the first commit with it, and the authors of all."""
    histories: dict[str, _History] = {}
    author, date = Author(), None
    rest: Iterator[str] = iter(tokens)
    for token in rest:
        if _CHANGED.fullmatch(token):
            author, date = Author(next(rest, ""), next(rest, "")), read_date(next(rest, ""))
        elif status := token.strip():
            name = next(rest, "")
            before = histories.get(name, _History(date, frozenset()))
            if status.startswith("R"):
                name = next(rest, "")
            if status.startswith("A"):
                before = _History(date, frozenset())
            histories[name] = _History(before.date, before.authors | {author})
    return histories


def _log(folder: Path, *arguments: str) -> bytes:
    """What `git log` says; nothing where there is no commit yet."""
    if not _git(folder, "for-each-ref", "--count=1"):
        return b""
    return _git(folder, "log", "-z", *arguments)


def _git(folder: Path, *arguments: str) -> bytes:
    settings = [part for setting in _SAFE for part in ("-c", setting)]
    command = ["git", "--no-pager", *settings, "-C", str(folder), *arguments]
    outside = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    # Without it, `git` would take the repository around a folder that only looks like one.
    environment = outside | _ENVIRONMENT | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, env=environment, timeout=SECONDS_MAX
        )
    except FileNotFoundError:
        raise Unavailable("there is no git on this machine: install it") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"git took more than {SECONDS_MAX} seconds over it") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise InputError(f"git cannot read it: {said or done.returncode}")
    return done.stdout
