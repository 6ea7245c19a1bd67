"""Prompts and their facts in one SQLite file. It knows nothing of who may read them or how they travelled."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from llmtwin.errors import Conflict, InputError, Unavailable
from llmtwin.memory import vectors, words
from llmtwin.memory.aggregate import aggregate_rows
from llmtwin.memory.migrate import migrate
from llmtwin.memory.only import EVERYTHING, Only, property_glob
from llmtwin.memory.row import Row, micros, rows_of, time
from llmtwin.records import Aggregate, Prompt, State, Statistic, Value

BUSY_TIMEOUT_S = 10.0
FORGOTTEN_AT_ONCE_MAX = 1000  # the splitter holds their words in memory

PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "secure_delete = ON",
    "temp_store = MEMORY",  # texts are split in temporary tables, which leave no trace on the disk
)
COLUMNS = "twin, path, at, prompt, position, value, unit, measure, area"
NEWEST_FIRST = "ORDER BY at DESC, prompt DESC, position DESC"
OLDEST_FIRST = "ORDER BY at, prompt, position"


class Memory:
    """The prompt database of many twins; any number of threads may share one.

    The facts of a path are ordered by their time, then by prompt id and place in the prompt: never by
    when they arrived. Every method raises Unavailable when SQLite cannot do its work.
    """

    def __init__(self, path: Path) -> None:
        """Open the database at `path`, made and migrated as needed. Raises Conflict if it is too new."""
        self._path = path
        self._lock = threading.Lock()
        self._matrices = vectors.Matrices()
        with self._translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        try:
            with self._translated():
                for pragma in PRAGMAS:
                    self._database.execute(f"PRAGMA {pragma}")
                migrate(self._database)
                for statement in words.SPLITTER:
                    self._database.execute(statement)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; the memory is of no use afterwards."""
        with self._lock:
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append(self, prompts: Sequence[Prompt]) -> int:
        """Remember prompts, all or none, and say how many were new; on return they are on the disk.

        A prompt that is already there is ignored. Raises Conflict if one with its id says something
        else, InputError for a time that UTC cannot hold.
        """
        batch = [(prompt, rows_of(prompt)) for prompt in prompts]
        with self._writing() as database:
            said = words.split(database, [prompt.text for prompt in prompts])
            fresh = [
                rows
                for (prompt, rows), one in zip(batch, said, strict=True)
                if _insert(database, prompt, rows, one)
            ]
            for twin, path in {(row.twin, row.path) for rows in fresh for row in rows}:
                _renew_latest(database, twin, path)
        return len(fresh)

    def latest(self, twin: str, path: str) -> State | None:
        """The newest state of a path, at a cost that does not grow with its history."""
        with self._reading() as database:
            rows = _select(database, "FROM latest WHERE twin = ? AND path = ?", twin, path)
        return rows[0].state() if rows else None

    def snapshot(self, twin: str) -> list[State]:
        """The newest state of every path of a twin, by path."""
        with self._reading() as database:
            rows = _select(database, "FROM latest WHERE twin = ? ORDER BY path", twin)
        return [row.state() for row in rows]

    def as_of(self, twin: str, path: str, when: datetime) -> State | None:
        """The state in force at `when`: the newest that is not later."""
        with self._reading() as database:
            rows = _in_force(database, twin, path, micros(when))
        return rows[0].state() if rows else None

    def history(self, twin: str, path: str, since: datetime, until: datetime) -> list[State]:
        """The state in force at `since`, then every one up to and with `until`, oldest first."""
        first, last = micros(since), micros(until)
        later = f"FROM facts WHERE twin = ? AND path = ? AND at > ? AND at <= ? {OLDEST_FIRST}"
        with self._reading() as database:
            rows = _in_force(database, twin, path, first) + _select(database, later, twin, path, first, last)
        return [row.state() for row in rows]

    def prompt(self, prompt_id: str) -> Prompt | None:
        """The prompt of that id."""
        with self._reading() as database:
            return _prompt(database, prompt_id)

    def prompts(self, twin: str, after: str = "", limit: int = 1000) -> list[Prompt]:
        """The first of the twin's prompts whose ids come after `after`, by id: all of them, page by page."""
        with self._reading() as database:
            ids = database.execute(
                "SELECT id FROM prompts WHERE twin = ? AND id > ? ORDER BY id LIMIT ?", (twin, after, limit)
            ).fetchall()
            found = [_prompt(database, prompt_id) for (prompt_id,) in ids]
        return [prompt for prompt in found if prompt]

    def search(self, twin: str, text: str, limit: int = 10, only: Only = EVERYTHING) -> list[Prompt]:
        """The twin's prompts that share words with `text`, the best first; any text is safe.

        Without a filter it ranks a bounded number of prompts, however many there are (`memory/words`).
        """
        with self._reading() as database:
            best = words.best(database, twin, text, limit, only)
            found = [_prompt(database, prompt_id) for prompt_id in best]
        return [prompt for prompt in found if prompt]

    def count(self, twin: str, only: Only = EVERYTHING) -> int:
        """How many prompts of the twin there are."""
        condition, parameters = only.sql(twin)
        with self._reading() as database:
            (found,) = database.execute(
                f"SELECT count(*) FROM prompts WHERE twin = ?{condition}", (twin, *parameters)
            ).fetchone()
        return int(found)

    def frequencies(self, twin: str, asked: Collection[str]) -> dict[str, int]:
        """In how many of the twin's prompts each of these words is, in any inflection."""
        with self._reading() as database:
            return words.frequencies(database, twin, list(asked))

    def values(self, twin: str, property: str) -> list[Value]:
        """The different values that a property (`source` of `abc/source`) has among the twin's states."""
        with self._reading() as database:
            rows = database.execute(
                "SELECT DISTINCT value FROM latest WHERE twin = ? AND path GLOB ? ORDER BY value",
                (twin, property_glob(property)),
            ).fetchall()
        return [json.loads(value) for (value,) in rows]

    def unembedded(self, twin: str, model: str, limit: int) -> list[Prompt]:
        """Prompts of the twin that have no vector of that embedding model yet."""
        with self._reading() as database:
            found = [_prompt(database, one) for one in vectors.without(database, twin, model, limit)]
        return [prompt for prompt in found if prompt]

    def embed(self, model: str, made: Mapping[str, NDArray[np.float32]]) -> None:
        """Keep the unit vectors of prompts, by prompt id, in the place of those of any other model."""
        with self._writing() as database:
            vectors.keep(database, model, made)
            self._matrices.changed()

    def nearest(
        self, twin: str, model: str, vector: NDArray[np.float32], limit: int = 10, only: Only = EVERYTHING
    ) -> list[tuple[Prompt, float]]:
        """The twin's prompts with the highest cosine to a unit vector of that model, best first; exact."""
        with self._reading() as database:
            matrix = self._matrices.of(database, twin, model)
            if matrix is None:
                return []
            best = matrix.nearest(vector, limit, vectors.allowed(database, twin, only))
            found = [(_numbered(database, number), cosine) for number, cosine in best]
        return [(prompt, cosine) for prompt, cosine in found if prompt]

    def aggregate(
        self,
        measure: str,
        statistic: Statistic,
        twins: Collection[str],
        area: str | None = None,
        equals: Value | None = None,
    ) -> Aggregate:
        """A statistic of the newest values of a measure, each of `twins` counting once, with its mean.

        COUNT is the number of twins; with `equals`, of those with a value equal to it, while
        `cohort_size` stays the number that were looked at. Only values in the unit that most twins use
        take part, and but for COUNT only numbers. Raises InputError for `equals` without COUNT.
        """
        if equals is not None and statistic is not Statistic.COUNT:
            raise InputError(f"only a count can ask for equal values, not the {statistic}")
        with self._reading() as database:
            rows = _select(
                database,
                """FROM latest WHERE measure = ?1 AND twin IN (SELECT value FROM json_each(?2))
                   AND (?3 IS NULL OR area = ?3)""",
                measure,
                json.dumps(list(twins)),
                area,
            )
        return aggregate_rows(rows, measure, statistic, equals)

    def sizes(self) -> dict[str, int]:
        """Bytes of each table and index. Raises Unavailable where SQLite was built without `dbstat`."""
        with self._reading() as database:
            return dict(database.execute("SELECT name, pgsize FROM dbstat WHERE aggregate = TRUE").fetchall())

    def forget(self, twin: str, path: str | None = None) -> int:
        """Erase a twin's prompts, or those with a fact of `path`, from file and index; say how many.

        A prompt goes whole, since its text says all its facts; what was before it is the latest again.
        """
        with self._writing() as database:
            ids = database.execute(
                """SELECT id FROM prompts WHERE twin = ?1
                   AND (?2 IS NULL OR id IN (SELECT prompt FROM facts WHERE twin = ?1 AND path = ?2))""",
                (twin, path),
            ).fetchall()
            touched = {row.path for (prompt_id,) in ids for row in _facts(database, prompt_id)}
            for start in range(0, len(ids), FORGOTTEN_AT_ONCE_MAX):
                _delete(database, twin, ids[start : start + FORGOTTEN_AT_ONCE_MAX])
            self._matrices.changed()
            for lost in touched:
                _renew_latest(database, twin, lost)
        with self._lock, self._translated():
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log holds the old pages
        return len(ids)

    def _reading(self) -> AbstractContextManager[sqlite3.Connection]:
        return self._transaction("BEGIN")

    def _writing(self) -> AbstractContextManager[sqlite3.Connection]:
        return self._transaction("BEGIN IMMEDIATE")

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated():
            self._database.execute(begin)
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                self._database.rollback()
                raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(f"the prompt database {self._path} cannot be used: {error}") from error


def _insert(database: sqlite3.Connection, prompt: Prompt, rows: list[Row], said: list[str]) -> bool:
    """Whether the prompt was new. Raises Conflict if its id is taken by another."""
    columns = (prompt.twin, micros(prompt.at), prompt.text)
    known = database.execute("SELECT twin, at, text FROM prompts WHERE id = ?", (prompt.id,)).fetchone()
    if known:
        if known != columns or _facts(database, prompt.id) != rows:
            raise Conflict(f"prompt {prompt.id} is already there and says something else: give it a new id")
        return False
    ((number,),) = database.execute(
        "INSERT INTO prompts (id, twin, at, text) VALUES (?, ?, ?, ?) RETURNING number",
        (prompt.id, *columns),
    ).fetchall()
    words.add(database, prompt.twin, number, said)
    database.executemany(f"INSERT INTO facts ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    return True


def _delete(database: sqlite3.Connection, twin: str, ids: Sequence[tuple[str]]) -> None:
    numbered = "SELECT number, text FROM prompts WHERE id = ?"
    rows = [database.execute(numbered, one).fetchone() for one in ids]
    for (number, _), said in zip(rows, words.split(database, [text for _, text in rows]), strict=True):
        words.remove(database, twin, number, said)
    database.executemany("DELETE FROM prompts WHERE id = ?", ids)


def _renew_latest(database: sqlite3.Connection, twin: str, path: str) -> None:
    database.execute("DELETE FROM latest WHERE twin = ? AND path = ?", (twin, path))
    database.execute(
        f"""INSERT INTO latest ({COLUMNS})
            SELECT {COLUMNS} FROM facts WHERE twin = ? AND path = ? {NEWEST_FIRST} LIMIT 1""",
        (twin, path),
    )


def _select(database: sqlite3.Connection, source: str, *parameters: str | int | None) -> list[Row]:
    return [Row(*columns) for columns in database.execute(f"SELECT {COLUMNS} {source}", parameters)]


def _in_force(database: sqlite3.Connection, twin: str, path: str, at: int) -> list[Row]:
    source = f"FROM facts WHERE twin = ? AND path = ? AND at <= ? {NEWEST_FIRST} LIMIT 1"
    return _select(database, source, twin, path, at)


def _facts(database: sqlite3.Connection, prompt_id: str) -> list[Row]:
    return _select(database, "FROM facts WHERE prompt = ? ORDER BY position", prompt_id)


def _prompt(database: sqlite3.Connection, prompt_id: str) -> Prompt | None:
    said = database.execute("SELECT twin, at, text FROM prompts WHERE id = ?", (prompt_id,)).fetchone()
    if said is None:
        return None
    twin, at, text = said
    facts = tuple(row.fact() for row in _facts(database, prompt_id))
    return Prompt(id=prompt_id, twin=twin, text=text, facts=facts, at=time(at))


def _numbered(database: sqlite3.Connection, number: int) -> Prompt | None:
    found = database.execute("SELECT id FROM prompts WHERE number = ?", (number,)).fetchone()
    return _prompt(database, found[0]) if found else None
