"""Vectors beside prompts, and the nearest of them. It knows no embedding model and no transaction."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmtwin.errors import InputError
from llmtwin.memory.only import Only

# A twin of 100 000 passages has 150 MB of vectors.
TWINS_CACHED_MAX = 8


@dataclass(frozen=True)
class Matrix:
    """The vectors of one twin, a row a prompt, by the prompts' numbers."""

    numbers: NDArray[np.int64]
    rows: NDArray[np.float32]

    def nearest(
        self, vector: NDArray[np.float32], limit: int, allowed: NDArray[np.int64] | None
    ) -> list[tuple[int, float]]:
        """The numbers with the highest cosines, best first; only `allowed` ones where that is given."""
        if self.rows.shape[1] != vector.shape[0]:
            raise InputError(f"a vector of {vector.shape[0]} numbers is none of this model's")
        cosines = self.rows @ vector
        at = np.arange(len(cosines)) if allowed is None else np.flatnonzero(np.isin(self.numbers, allowed))
        if len(at) > limit:
            at = at[np.argpartition(-cosines[at], limit - 1)[:limit]]
        order = at[np.lexsort((self.numbers[at], -cosines[at]))]
        return [(int(self.numbers[row]), float(cosines[row])) for row in order]


class Matrices:
    """The matrices of the twins asked last; each is read again after it changed."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], Matrix] = OrderedDict()
        self._seen: int | None = None

    def of(self, database: sqlite3.Connection, twin: str, model: str) -> Matrix | None:
        """The twin's matrix; None where it has no vector."""
        (seen,) = database.execute("PRAGMA data_version").fetchone()
        if seen != self._seen:  # another process wrote
            self._kept.clear()
            self._seen = seen
        if (twin, model) not in self._kept:
            matrix = _load(database, twin, model)
            if matrix is None:
                return None
            self._kept[twin, model] = matrix
        self._kept.move_to_end((twin, model))
        while len(self._kept) > TWINS_CACHED_MAX:
            self._kept.popitem(last=False)
        return self._kept[twin, model]

    def changed(self) -> None:
        """Forget all of them: some vector came or went."""
        self._kept.clear()


def keep(database: sqlite3.Connection, model: str, vectors: Mapping[str, NDArray[np.float32]]) -> None:
    """Write the vectors of prompts, by id; one whose prompt was forgotten meanwhile is dropped."""
    database.executemany(
        """INSERT INTO vectors (prompt, model, vector) SELECT number, ?, ? FROM prompts WHERE id = ?
           ON CONFLICT (prompt) DO UPDATE SET model = excluded.model, vector = excluded.vector""",
        [(model, np.asarray(vector, "<f4").tobytes(), prompt) for prompt, vector in vectors.items()],
    )


def without(database: sqlite3.Connection, twin: str, model: str, limit: int) -> list[str]:
    """The ids of prompts of the twin that have no vector of that model."""
    rows = database.execute(
        """SELECT id FROM prompts WHERE twin = ? AND NOT EXISTS (
               SELECT 1 FROM vectors WHERE vectors.prompt = prompts.number AND model = ?)
           ORDER BY id LIMIT ?""",
        (twin, model, limit),
    )
    return [prompt for (prompt,) in rows]


def allowed(database: sqlite3.Connection, twin: str, only: Only) -> NDArray[np.int64] | None:
    """The numbers of the prompts that `only` admits; None for all."""
    condition, parameters = only.sql(twin)
    if not condition:
        return None
    rows = database.execute(f"SELECT number FROM prompts WHERE twin = ?{condition}", (twin, *parameters))
    return np.fromiter((number for (number,) in rows), np.int64)


def _load(database: sqlite3.Connection, twin: str, model: str) -> Matrix | None:
    rows = database.execute(
        """SELECT number, vector FROM prompts JOIN vectors ON vectors.prompt = number
           WHERE twin = ? AND model = ? ORDER BY number""",
        (twin, model),
    ).fetchall()
    if not rows:
        return None
    numbers = np.fromiter((number for number, _ in rows), np.int64, len(rows))
    joined = b"".join(vector for _, vector in rows)
    return Matrix(numbers, np.frombuffer(joined, "<f4").reshape(len(rows), -1))
