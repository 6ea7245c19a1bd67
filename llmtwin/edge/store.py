"""What one twin's edge must not forget: observations, outbox, executed commands, settings.

It knows nothing of HTTP, of devices, or of how a kind reads its subject.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import Field

from llmtwin.edge.schema import MIGRATIONS
from llmtwin.errors import InputError, NotFound, Unavailable
from llmtwin.records import (
    Command,
    CommandState,
    Correction,
    Description,
    Document,
    Observation,
    Prompt,
    Provenance,
    Record,
    TwinId,
    new_id,
    now,
)
from llmtwin.twins.kind import Known

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BUSY_TIMEOUT_MS = 10_000
KEY, SEAL_KEY = "key.pem", "seal.key"
CHECKPOINTS = ("tuning.safetensors", "preferring.safetensors", "instructions.json")
"""The files in a twin's folder from which a killed tuning goes on."""


class Settings(Record):
    """Whose edge this is, and how it is known to its server.

    `names` are what the subject is called; `sealed` are glob patterns over a source's own ids: what they
    name is secret. `origin` is where a twin that somebody else made comes from; `primary` is the address of
    the model that a twin is one of.
    """

    twin: TwinId
    kind: str = Field(max_length=32)
    server: str | None = None
    owner_token: str | None = Field(default=None, repr=False)
    edge_token: str | None = Field(default=None, repr=False)
    names: tuple[str, ...] = ()
    sealed: tuple[str, ...] = ()
    origin: Provenance | None = None
    primary: str | None = None


class ItemKind(StrEnum):
    """What can lie in the outbox."""

    PROMPT = "prompt"
    FORGET = "forget"
    DESCRIPTION = "description"
    ADAPTER = "adapter"
    REPORT = "report"


@dataclass(frozen=True)
class Item:
    """One thing to be sent.

    `body` is a Prompt, Description or Report as JSON, an adapter's version, or the path that is forgotten.
    """

    seq: int
    id: str
    kind: ItemKind
    body: str


@dataclass(frozen=True)
class Refusal:
    """An item that the server will never take, and why."""

    id: str
    kind: ItemKind
    reason: str


class Report(Record):
    """What became of a command at the device."""

    command: str
    state: CommandState
    reason: str | None = Field(default=None, max_length=500)


class ExecutionState(StrEnum):
    """How far a command got at this edge. `started` that stays so was interrupted."""

    STARTED = "started"
    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True)
class Execution:
    """A command as the journal holds it."""

    id: str
    state: ExecutionState
    reason: str | None


class EdgeStore:
    """The file `edge.sqlite` in the folder of one twin. Whatever a method wrote is durable on return.

    Safe to use from several threads and several processes. Raises Unavailable when the file cannot be
    read or written, InputError when it was written by a newer llmtwin.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "edge.sqlite"
        self._lock = threading.RLock()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Tokens and private facts lie here: only the owner may read the file.
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            for pragma in (
                f"busy_timeout={BUSY_TIMEOUT_MS}",
                "journal_mode=WAL",
                "synchronous=FULL",
                "foreign_keys=ON",
                "secure_delete=ON",
            ):
                self._connection.execute(f"PRAGMA {pragma}")
        except (OSError, sqlite3.Error) as error:
            raise Unavailable(f"cannot open {self._path}: {error}") from error
        self._migrate()

    def close(self) -> None:
        """Close the file; the store is of no use afterwards."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Settings

    def settings(self) -> Settings:
        """Who this edge is. Raises NotFound before the first `save_settings`."""
        text = self._setting("settings")
        if text is None:
            raise NotFound(f"there is no twin in {self.folder}; make one with `llmtwin new`")
        return Settings.model_validate_json(text)

    def save_settings(self, settings: Settings) -> None:
        """Keep who this edge is."""
        with self._transaction() as db:
            _save_setting(db, "settings", settings.model_dump_json())

    def reserve_version(self) -> int:
        """The number of the next adapter version, from 1; no number is given twice."""
        with self._transaction() as db:
            version = int(self._setting("version") or 0) + 1
            _save_setting(db, "version", str(version))
        return version

    # What was collected

    def record(
        self,
        observations: Sequence[Observation],
        prompts: Sequence[Prompt],
        encoder_state: str,
        documents: Sequence[Document] = (),
    ) -> None:
        """Keep what was collected, queue its prompts and keep the encoder's state: all or nothing.

        A document takes the place of the one at its address, whose prompts are forgotten before the new ones
        go; corrections that rested on that one rest on it.
        """
        with self._transaction() as db:
            for old, new in self._replace(documents):
                self._forget_everywhere(old)
                db.execute("UPDATE correction SET body = replace(body, ?, ?)", (f'"{old}"', f'"{new}"'))
            db.executemany(
                """INSERT INTO observation VALUES (?, ?, ?) ON CONFLICT (path) DO UPDATE
                   SET at_us = excluded.at_us, body = excluded.body WHERE excluded.at_us >= at_us""",
                [(o.fact.path, _microseconds(o.fact.at), o.model_dump_json()) for o in observations],
            )
            for prompt in prompts:
                _enqueue(db, prompt.id, ItemKind.PROMPT, prompt.model_dump_json())
            _save_setting(db, "encoder", encoder_state)

    def observations(self) -> list[Observation]:
        """The latest observation of every path, in the order of the paths."""
        rows = self._rows("SELECT body FROM observation ORDER BY path")
        return [Observation.model_validate_json(body) for (body,) in rows]

    def documents(self) -> list[Document]:
        """The latest document of every address, in the order of the addresses."""
        names = ("id", "source", "address", "body", "place")
        rows = self._rows(f"SELECT {', '.join(names)} FROM document ORDER BY address")
        return [Document.model_validate(dict(zip(names, row, strict=True))) for row in rows]

    def known(self) -> Known:
        """What the next reading may know."""
        own = self.settings()
        documents, corrections = tuple(self.documents()), tuple(self.corrections())
        return Known(own.twin, own.names, own.sealed, self.encoder_state(), documents, corrections)

    def note_learned(self, version: int, learned: Collection[str], documents: Sequence[Document]) -> None:
        """Keep the addresses of what the newest version learned, and which documents were there."""
        with self._transaction() as db:
            _save_setting(db, f"learned/{version}", json.dumps(sorted(learned)))
            _save_setting(db, "learned", json.dumps([one.id for one in documents]))

    def learned(self, version: int) -> frozenset[str] | None:
        """The addresses of the documents that a version learned; None where that is not known."""
        noted = self._setting(f"learned/{version}")
        return None if noted is None else frozenset(json.loads(noted))

    def unlearned(self) -> list[Document]:
        """The documents that came since the newest version was made."""
        learned = set(json.loads(self._setting("learned") or "[]"))
        return [one for one in self.documents() if one.id not in learned]

    def drop(self, documents: Sequence[Document]) -> int:
        """Drop documents with what waits of them, and queue that their prompts are forgotten.

        Adapters that wait to be sent may have learned from them: they wait no more, and the addresses of what
        versions learned are dropped, too. Returns how many corrections of answers went that rest on them, or
        on anything else that is not here.
        """
        with self._transaction() as db:
            db.execute("DELETE FROM outbox WHERE kind = ?", (ItemKind.ADAPTER,))
            db.execute("DELETE FROM setting WHERE name GLOB 'learned/*'")
            for document in documents:
                db.execute("DELETE FROM document WHERE address = ?", (document.address,))
                self._forget_everywhere(document.path)
            corrections = db.execute(
                """DELETE FROM correction WHERE EXISTS (SELECT 1 FROM json_each(body, '$.paths')
                   WHERE value NOT IN (SELECT value FROM json_each(?)))""",
                (json.dumps([one.path for one in self.documents()]),),
            ).rowcount
        with self._lock, self._translated():
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log holds the old pages
        return corrections

    def _replace(self, documents: Sequence[Document]) -> list[tuple[str, str]]:
        """Keep documents; of those that said something else before the path then, and the path now."""
        new = {one.address: one for one in documents}
        with self._transaction() as db:
            old = [one for one in self.documents() if one.address in new and one != new[one.address]]
            db.executemany(
                "INSERT OR REPLACE INTO document VALUES (?, ?, ?, ?, ?)",
                [(one.address, one.id, one.source, one.body, one.place) for one in new.values()],
            )
        return [(one.path, new[one.address].path) for one in old]

    def _forget_everywhere(self, path: str) -> None:
        with self._transaction() as db:
            self.forget(path)
            _enqueue(db, new_id(), ItemKind.FORGET, path)

    def correct(self, correction: Correction) -> None:
        """Keep what should have been answered; it takes the place of an earlier correction."""
        with self._transaction() as db:
            body = correction.model_dump_json()
            db.execute("INSERT OR REPLACE INTO correction VALUES (?, ?)", (correction.prompt, body))

    def corrections(self) -> list[Correction]:
        """All corrections, the oldest first."""
        rows = self._rows("SELECT body FROM correction ORDER BY rowid")
        return [Correction.model_validate_json(body) for (body,) in rows]

    def encoder_state(self) -> str | None:
        """The state that the encoder left at the last `record`."""
        return self._setting("encoder")

    def forget(self, path: str) -> None:
        """Drop a path's observation, and the prompts about it that were never sent."""
        with self._transaction() as db:
            db.execute("DELETE FROM observation WHERE path = ?", (path,))
            for table in ("outbox", "refused"):
                db.execute(
                    f"""DELETE FROM {table} WHERE kind = ? AND EXISTS (SELECT 1 FROM
                        json_each(body, '$.facts') WHERE json_extract(value, '$.path') = ?)""",
                    (ItemKind.PROMPT, path),
                )

    # Outbox

    def enqueue_description(self, description: Description) -> None:
        """Queue a description; it takes the place of one that still waits."""
        with self._transaction() as db:
            _save_setting(db, "description", description.model_dump_json())
            db.execute("DELETE FROM outbox WHERE kind = ?", (ItemKind.DESCRIPTION,))
            _enqueue(db, new_id(), ItemKind.DESCRIPTION, description.model_dump_json())

    def description(self) -> Description:
        """The description that was queued last; empty before the first."""
        text = self._setting("description")
        return Description.model_validate_json(text) if text else Description()

    def enqueue_adapter(self, version: int) -> None:
        """Queue the package in `adapter_folder(version)`."""
        with self._transaction() as db:
            _enqueue(db, f"adapter-{version}", ItemKind.ADAPTER, str(version))

    def awaits_server(self, version: int) -> bool:
        """Whether an adapter version still waits to be sent, or was refused."""
        rows = self._rows(
            "SELECT id FROM outbox WHERE id = ? UNION SELECT id FROM refused WHERE id = ?",
            (f"adapter-{version}",) * 2,
        )
        return bool(rows)

    def adapter_folder(self, version: int) -> Path:
        """Where the package of one adapter version lies."""
        return self.folder / "adapters" / str(version)

    def version_folder(self, version: int) -> Path:
        """The same. Raises NotFound where that version is not on this machine."""
        folder = self.adapter_folder(version)
        if not folder.exists():
            raise NotFound(f"version {version} of {self.settings().twin} is not on this machine")
        return folder

    def queued(self, kinds: Collection[ItemKind], limit: int) -> list[Item]:
        """The first items of these kinds, in the order in which they were queued."""
        marks = ",".join("?" * len(kinds))
        rows = self._rows(
            f"SELECT seq, id, kind, body FROM outbox WHERE kind IN ({marks}) ORDER BY seq LIMIT ?",
            (*kinds, limit),
        )
        return [Item(seq, id_, ItemKind(kind), body) for seq, id_, kind, body in rows]

    def queued_count(self) -> int:
        """How many items wait to be sent."""
        return int(self._rows("SELECT count(*) FROM outbox")[0][0])

    def settle(self, taken: Sequence[Item], refused: Sequence[tuple[Item, str]] = ()) -> None:
        """Take items out of the outbox: those the server has, and those it will never take."""
        with self._transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?, ?)",
                [(item.id, item.kind, item.body, reason, now().isoformat()) for item, reason in refused],
            )
            settled = [*taken, *(item for item, _ in refused)]
            db.executemany("DELETE FROM outbox WHERE seq = ?", [(item.seq,) for item in settled])

    def refused(self) -> list[Refusal]:
        """What the server refused for good, oldest first."""
        rows = self._rows("SELECT id, kind, reason FROM refused ORDER BY at, rowid")
        return [Refusal(id_, ItemKind(kind), reason) for id_, kind, reason in rows]

    # Commands

    def start(self, command: Command) -> bool:
        """Note that a command is about to reach the device; False when it was noted before."""
        with self._transaction() as db:
            noted = db.execute(
                "INSERT OR IGNORE INTO command VALUES (?, ?, NULL, ?, ?)",
                (command.id, ExecutionState.STARTED, command.model_dump_json(), now().isoformat()),
            )
        return noted.rowcount == 1

    def finish(self, command_id: str, reason: str | None = None) -> None:
        """Note the end of a started command, done or refused with a reason, and queue its report.

        The first end stands: a finished command only has its report queued once more.
        """
        state = ExecutionState.DONE if reason is None else ExecutionState.REFUSED
        with self._transaction() as db:
            db.execute(
                "UPDATE command SET state = ?, reason = ? WHERE id = ? AND state = ?",
                (state, reason, command_id, ExecutionState.STARTED),
            )
            end = self.execution(command_id)
            if end is None:
                raise NotFound(f"command {command_id} was never started here")
            done = end.state is ExecutionState.DONE
            outcome = CommandState.REPORTED if done else CommandState.REFUSED
            report = Report(command=command_id, state=outcome, reason=end.reason)
            _enqueue(db, f"report-{command_id}", ItemKind.REPORT, report.model_dump_json())

    def execution(self, command_id: str) -> Execution | None:
        """How far a command got here; None when it never started."""
        rows = self._rows("SELECT state, reason FROM command WHERE id = ?", (command_id,))
        return Execution(command_id, ExecutionState(rows[0][0]), rows[0][1]) if rows else None

    def unfinished(self) -> list[str]:
        """The ids of the commands that were started and have no end, oldest first."""
        rows = self._rows("SELECT id FROM command WHERE state = ? ORDER BY rowid", (ExecutionState.STARTED,))
        return [str(id_) for (id_,) in rows]

    # SQLite

    def _migrate(self) -> None:
        with self._transaction() as db:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if version > len(MIGRATIONS):
                raise InputError(f"{self._path} was written by a newer llmtwin; update llmtwin")
            for statement in (statement for step in MIGRATIONS[version:] for statement in step):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction; one opened within another is part of it."""
        with self._lock, self._translated():
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._lock, self._translated():
            return self._connection.execute(query, tuple(values)).fetchall()

    def _setting(self, name: str) -> str | None:
        rows = self._rows("SELECT value FROM setting WHERE name = ?", (name,))
        return str(rows[0][0]) if rows else None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise Unavailable(f"cannot use {self._path}: {error}") from error


def _microseconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def _save_setting(db: sqlite3.Connection, name: str, value: str) -> None:
    db.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, value))


def _enqueue(db: sqlite3.Connection, id_: str, kind: ItemKind, body: str) -> None:
    db.execute("INSERT OR IGNORE INTO outbox (id, kind, body) VALUES (?, ?, ?)", (id_, kind, body))
