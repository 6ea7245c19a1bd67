"""Brings a database file to the newest schema. It knows the numbered SQL files, not what they mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from importlib import resources

from llmtwin.errors import Conflict


def migrate(database: sqlite3.Connection) -> None:
    """Run the migrations that the file has not seen, all or none. Raises Conflict if it is too new."""
    scripts = _scripts()
    database.execute("BEGIN IMMEDIATE")
    try:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > max(scripts):
            raise Conflict(
                f"the prompt database has schema {version}, made by a newer llmtwin: update llmtwin"
            )
        for number in sorted(number for number in scripts if number > version):
            for statement in _statements(scripts[number]):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {number:d}")
        database.execute("COMMIT")
    except BaseException:
        database.rollback()
        raise


def _scripts() -> dict[int, str]:
    folder = resources.files("llmtwin.memory") / "migrations"
    return {
        int(file.name.partition("_")[0]): file.read_text(encoding="utf-8")
        for file in folder.iterdir()
        if file.name.endswith(".sql")
    }


def _statements(script: str) -> Iterator[str]:
    """The statements one by one: `executescript` would commit first and lose all-or-none."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
