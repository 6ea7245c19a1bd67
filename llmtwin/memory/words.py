"""The words of prompts, and the prompts that fit words best. It knows no transaction and no facts.

Each twin has an index of its own: what others said changes no rank and is in no search's way. A search looks,
for each of its words, at the newest prompts that hold it, and ranks all of these by BM25 over everything that
the twin said. So it takes no longer as the history grows, and gives up old prompts whose every word is in
many newer ones. Only filters (`Only`) let it go back until enough prompts pass them, however far that is.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from heapq import nsmallest
from math import log
from typing import NamedTuple

from llmtwin.memory.only import Only

WORDS_ASKED_MAX = 64
# So many prompts for each word of a search compete for one place of its result.
NEWEST_PER_PLACE = 10
# BM25 as in FTS5, https://sqlite.org/fts5.html#the_bm25_function: a word that most prompts hold still counts.
K1 = 1.2
B = 0.75
RARITY_MIN = 1e-6

# FTS5 only splits texts, in memory; its words have no case, no diacritics and no endings.
SPLITTER = (
    """CREATE VIRTUAL TABLE temp.texts USING fts5 (
           text, content = '', tokenize = 'porter unicode61 remove_diacritics 2')""",
    "CREATE VIRTUAL TABLE temp.text_words USING fts5vocab (temp, texts, instance)",
)


class Word(NamedTuple):
    """A word of a twin: its number in the index, and how many of the twin's prompts hold it."""

    number: int
    prompts: int


def split(database: sqlite3.Connection, texts: Sequence[str]) -> list[list[str]]:
    """The words of each text in its order, as the index knows them."""
    database.executemany("INSERT INTO temp.texts (rowid, text) VALUES (?, ?)", enumerate(texts))
    found: list[list[str]] = [[] for _ in texts]
    for place, word in database.execute("SELECT doc, term FROM temp.text_words ORDER BY doc, offset"):
        found[place].append(word)
    database.execute("INSERT INTO temp.texts (texts) VALUES ('delete-all')")
    return found


def add(database: sqlite3.Connection, twin: str, number: int, words: Sequence[str]) -> None:
    """Put the words of a prompt, by its number, into the index."""
    counts = Counter(words)
    database.executemany(
        """INSERT INTO words (twin, word, prompts) VALUES (?, ?, 1)
           ON CONFLICT (twin, word) DO UPDATE SET prompts = prompts + 1""",
        [(twin, word) for word in counts],
    )
    database.executemany(
        """INSERT INTO words_in_prompts (word, prompt, count)
           SELECT number, ?, ? FROM words WHERE twin = ? AND word = ?""",
        [(number, count, twin, word) for word, count in counts.items()],
    )
    database.execute(
        """INSERT INTO words_of_twins (twin, prompts, words) VALUES (?, 1, ?)
           ON CONFLICT (twin) DO UPDATE SET prompts = prompts + 1, words = words + excluded.words""",
        (twin, len(words)),
    )


def remove(database: sqlite3.Connection, twin: str, number: int, words: Sequence[str]) -> None:
    """Take the words of a prompt out of the index; a word that no other prompt holds goes itself."""
    held = set(words)
    database.executemany(
        """DELETE FROM words_in_prompts
           WHERE prompt = ? AND word = (SELECT number FROM words WHERE twin = ? AND word = ?)""",
        [(number, twin, word) for word in held],
    )
    database.executemany(
        "UPDATE words SET prompts = prompts - 1 WHERE twin = ? AND word = ?", [(twin, word) for word in held]
    )
    database.executemany(
        "DELETE FROM words WHERE twin = ? AND word = ? AND prompts = 0", [(twin, word) for word in held]
    )
    database.execute(
        "UPDATE words_of_twins SET prompts = prompts - 1, words = words - ? WHERE twin = ?",
        (len(words), twin),
    )
    database.execute("DELETE FROM words_of_twins WHERE twin = ? AND prompts = 0", (twin,))


def frequencies(database: sqlite3.Connection, twin: str, texts: Sequence[str]) -> dict[str, int]:
    """In how many of the twin's prompts each text's rarest word is; nothing of a text without words."""
    words = split(database, texts)
    known = _known(database, twin, {word for one in words for word in one})
    return {
        text: min(known[word].prompts if word in known else 0 for word in said)
        for text, said in zip(texts, words, strict=True)
        if said
    }


def best(database: sqlite3.Connection, twin: str, text: str, limit: int, only: Only) -> list[str]:
    """The ids of the twin's prompts that fit the words of any text best; of equals the latest first."""
    (asked,) = split(database, [text.encode(errors="ignore").decode()])  # SQLite takes no lone surrogates
    known = _known(database, twin, set(asked[:WORDS_ASKED_MAX]))
    if not known:
        return []
    held = _held(database, twin, known.values(), limit * NEWEST_PER_PLACE, only)
    prompts, total = database.execute(
        "SELECT prompts, words FROM words_of_twins WHERE twin = ?", (twin,)
    ).fetchone()
    words = [known[word] for word in asked[:WORDS_ASKED_MAX] if word in known]
    parts = [(held[word], _rarity(word.prompts, prompts)) for word in words]
    rows = database.execute(
        "SELECT number, prompts.id, at, words FROM json_each(?) CROSS JOIN prompts ON number = value",
        (json.dumps(list(set().union(*held.values()))),),
    )
    ranked = ((-_bm25(parts, number, length * prompts / total), -at, id) for number, id, at, length in rows)
    return [prompt_id for _, _, prompt_id in nsmallest(limit, ranked)]


def _known(database: sqlite3.Connection, twin: str, words: Collection[str]) -> dict[str, Word]:
    rows = database.execute(
        """SELECT word, number, prompts FROM json_each(?) CROSS JOIN words ON twin = ? AND word = value""",
        (json.dumps(list(words)), twin),
    )
    return {word: Word(number, prompts) for word, number, prompts in rows}


def _held(
    database: sqlite3.Connection, twin: str, words: Collection[Word], newest: int, only: Only
) -> dict[Word, dict[int, int]]:
    """How often prompts hold each word: of the newest of every word, all that hold it, by number."""
    condition, parameters = only.sql(twin)
    filtered = "CROSS JOIN prompts ON number = prompt" if condition else ""
    walk = f"""SELECT prompt, count FROM words_in_prompts {filtered} WHERE word = ?{condition}
               ORDER BY prompt DESC LIMIT ?"""
    held = {word: dict(database.execute(walk, (word.number, *parameters, newest))) for word in words}
    candidates = set().union(*held.values())
    for word, counts in held.items():
        if len(counts) == newest:  # older ones, which are here for other words, may hold this one, too
            older = [number for number in candidates if number < min(counts)]
            counts.update(_counts(database, word, older))
    return held


def _counts(database: sqlite3.Connection, word: Word, prompts: Sequence[int]) -> dict[int, int]:
    rows = database.execute(
        "SELECT prompt, count FROM json_each(?) CROSS JOIN words_in_prompts ON word = ? AND prompt = value",
        (json.dumps(prompts), word.number),
    )
    return dict(rows)


def _bm25(parts: Sequence[tuple[Mapping[int, int], float]], number: int, length: float) -> float:
    """The score of a prompt whose length is so many times the mean."""
    damping = K1 * (1 - B + B * length)
    return sum(
        rarity * counts[number] * (K1 + 1) / (counts[number] + damping)
        for counts, rarity in parts
        if number in counts
    )


def _rarity(prompts: int, of: int) -> float:
    return max(RARITY_MIN, log((of - prompts + 0.5) / (prompts + 0.5)))
