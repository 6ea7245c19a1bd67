"""The tables of one twin's edge, step by step. It runs no SQL."""

from __future__ import annotations

# Migration n brings a file from version n-1 to n; a migration once released never changes.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE observation (path TEXT PRIMARY KEY, at_us INTEGER NOT NULL, body TEXT NOT NULL)",
        "CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
        # AUTOINCREMENT: no place in the queue is used twice, so what is settled is what was sent.
        """CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
                                kind TEXT NOT NULL, body TEXT NOT NULL)""",
        """CREATE TABLE refused (id TEXT PRIMARY KEY, kind TEXT NOT NULL, body TEXT NOT NULL,
                                 reason TEXT NOT NULL, at TEXT NOT NULL)""",
        """CREATE TABLE command (id TEXT PRIMARY KEY, state TEXT NOT NULL, reason TEXT,
                                 body TEXT NOT NULL, at TEXT NOT NULL)""",
    ),
    (
        """CREATE TABLE document (address TEXT PRIMARY KEY, id TEXT NOT NULL, source TEXT NOT NULL,
                                  body TEXT NOT NULL)""",
        "CREATE TABLE correction (prompt TEXT PRIMARY KEY, body TEXT NOT NULL)",
    ),
    ("ALTER TABLE document ADD COLUMN place TEXT NOT NULL DEFAULT ''",),
)
