"""The SQLite file of the registry: opened, migrated, written. It knows nothing of what is in it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmtwin.errors import Conflict, Unavailable

_PRAGMAS = (
    "busy_timeout = 10000",
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "secure_delete = ON",
)

# Migrations are only ever appended; `user_version` counts those that a file has seen.
_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE twins (
            id TEXT PRIMARY KEY,
            kind TEXT NOT NULL,
            cohort TEXT,
            public_key TEXT,
            description TEXT NOT NULL DEFAULT '{}',
            live_version INTEGER,
            created_at TEXT NOT NULL
        ) STRICT
        """,
        "CREATE INDEX twins_by_cohort ON twins (kind, cohort)",
        """
        CREATE TABLE adapters (
            twin TEXT NOT NULL REFERENCES twins ON DELETE CASCADE,
            version INTEGER NOT NULL,
            manifest TEXT NOT NULL,
            adapter_bytes INTEGER NOT NULL,
            withdrawn INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (twin, version)
        ) STRICT
        """,
        """
        CREATE TABLE tokens (
            hash TEXT PRIMARY KEY,
            twin TEXT NOT NULL REFERENCES twins ON DELETE CASCADE,
            role TEXT NOT NULL
        ) STRICT
        """,
        "CREATE INDEX tokens_by_twin ON tokens (twin)",
        """
        CREATE TABLE enrolments (
            hash TEXT PRIMARY KEY,
            twin TEXT NOT NULL UNIQUE REFERENCES twins ON DELETE CASCADE
        ) STRICT
        """,
        """
        CREATE TABLE commands (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL,
            twin TEXT NOT NULL REFERENCES twins ON DELETE CASCADE,
            command TEXT NOT NULL,
            state TEXT NOT NULL,
            reason TEXT,
            sent_at REAL,
            expires_at REAL NOT NULL,
            UNIQUE (twin, id)
        ) STRICT
        """,
        "CREATE INDEX commands_open ON commands (twin, number) WHERE state IN ('desired', 'sent')",
    ),
    (
        "ALTER TABLE twins ADD COLUMN canary_version INTEGER",
        "ALTER TABLE twins ADD COLUMN canary_share REAL",
    ),
)


class Database:
    """One connection for all threads, one transaction at a time; a commit is on disk when it returns.

    Raises Unavailable where the file cannot be opened, Conflict where a newer llmtwin has written it.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
            for pragma in _PRAGMAS:
                self._connection.execute(f"PRAGMA {pragma}")
        except (OSError, sqlite3.Error) as error:
            raise Unavailable(f"cannot open {path}: {error}") from error
        self._migrate(path)

    def close(self) -> None:
        """Close the file; nothing is pending."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is kept or, after any exception, none.

        Raises Unavailable where the disk does not take it, Conflict where it breaks the schema's rules.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except sqlite3.IntegrityError as error:
                raise Conflict("what this belongs to is gone, or was changed at the same time") from error
            except sqlite3.DatabaseError as error:
                raise Unavailable(f"the registry cannot be written: {error}") from error
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def empty_log(self) -> None:
        """Write the log into the file and empty it: it holds the old pages, with what was deleted.

        Raises Unavailable where the disk does not take it.
        """
        with self._lock:
            try:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.OperationalError as error:
                raise Unavailable(f"the registry cannot be written: {error}") from error

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        """The rows of one query. Raises Unavailable where the file cannot be read."""
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.DatabaseError as error:
                raise Unavailable(f"the registry cannot be read: {error}") from error

    def row(self, query: str, *values: object) -> sqlite3.Row | None:
        """The first row of one query, or None."""
        found = self.rows(query, *values)
        return found[0] if found else None

    def _migrate(self, path: Path) -> None:
        with self.write() as db:
            seen = int(db.execute("PRAGMA user_version").fetchone()[0])
            if seen > len(_MIGRATIONS):
                raise Conflict(f"{path} was written by a newer llmtwin; update llmtwin")
            for statement in (statement for step in _MIGRATIONS[seen:] for statement in step):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
