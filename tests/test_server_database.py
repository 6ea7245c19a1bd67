"""The registry's file: opened by two at once, written by a newer llmtwin, broken, or not to be had."""

from __future__ import annotations

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from llmtwin.errors import Conflict, Unavailable
from llmtwin.server.database import _MIGRATIONS, Database


def test_who_opens_a_new_file_while_another_makes_the_tables_finds_them_made(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as other, ThreadPoolExecutor() as pool:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        opened = pool.submit(Database, path)
        time.sleep(0.3)  # it waits by now
        for statement in (statement for step in _MIGRATIONS for statement in step):
            other.execute(statement)
        other.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
        other.execute("COMMIT")
        with closing(opened.result()) as database:
            assert database.rows("SELECT id FROM twins") == []


def test_a_file_of_a_newer_llmtwin_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    Database(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 999")
    with pytest.raises(Conflict, match="newer"):
        Database(path)


def test_a_file_that_cannot_be_used_is_reported_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(Unavailable, match="not a database"):
        Database(path)
    with pytest.raises(Unavailable, match="cannot open"):
        Database(path / "registry.sqlite")


def test_a_file_that_is_broken_later_is_reported_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    Database(path).close()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"x" * (len(content) - 4096))
    with closing(Database(path)) as database:
        with pytest.raises(Unavailable, match="cannot be read"):
            database.rows("SELECT * FROM twins")
        with pytest.raises(Unavailable, match="cannot be written"), database.write() as db:
            db.execute("DELETE FROM twins")
