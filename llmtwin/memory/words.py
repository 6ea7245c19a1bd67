"""The words of prompts, and the prompts that fit words best. It knows no transaction and no facts.

Each twin has an index of its own: what others said changes no rank and is in no search's way. A search takes
the newest prompts that hold its rarest word, then those of the next rare one, until there are enough to rank,
which it does by BM25 over all that the twin said. So it takes no longer as the history grows. What it gives
up is old prompts whose every word is held by many newer ones. A filter (`Only`) is applied on the way: such a
search goes back as far as it must.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Sequence
from heapq import nlargest
from math import log
from typing import NamedTuple

from llmtwin.memory.only import Only

WORDS_ASKED_MAX = 64
# So many prompts are enough to choose from, in all and for each that is wanted.
CANDIDATES_MIN = 200
CANDIDATES_PER_PLACE = 20
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
        """INSERT INTO words_in_prompts (word, prompt, count, length)
           SELECT number, ?, ?, ? FROM words WHERE twin = ? AND word = ?""",
        [(number, count, len(words), twin, word) for word, count in counts.items()],
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
    words = [known[word] for word in asked[:WORDS_ASKED_MAX] if word in known]
    enough = max(CANDIDATES_MIN, limit * CANDIDATES_PER_PLACE)
    scores = _bm25(database, twin, words, _candidates(database, twin, set(words), enough, only))
    least = min(nlargest(limit, scores.values()), default=0.0)
    finalists = [number for number, score in scores.items() if score >= least]
    rows = database.execute(
        "SELECT number, at, prompts.id FROM json_each(?) CROSS JOIN prompts ON number = value",
        (json.dumps(finalists),),
    )
    ranked = sorted((-scores[number], -at, prompt_id) for number, at, prompt_id in rows)
    return [prompt_id for _, _, prompt_id in ranked[:limit]]


def _known(database: sqlite3.Connection, twin: str, words: Collection[str]) -> dict[str, Word]:
    rows = database.execute(
        "SELECT word, number, prompts FROM json_each(?) CROSS JOIN words ON twin = ? AND word = value",
        (json.dumps(list(words)), twin),
    )
    return {word: Word(number, prompts) for word, number, prompts in rows}


def _candidates(
    database: sqlite3.Connection, twin: str, words: Collection[Word], enough: int, only: Only
) -> set[int]:
    """The numbers of the newest prompts of each word, the rarest word first, until there are enough."""
    condition, parameters = only.sql(twin)
    filtered = "CROSS JOIN prompts ON number = prompt" if condition else ""
    newest = f"""SELECT prompt FROM words_in_prompts {filtered} WHERE word = ?{condition}
                 ORDER BY prompt DESC LIMIT ?"""
    found: set[int] = set()
    for word in sorted(words, key=lambda one: (one.prompts, one.number)):
        for (number,) in database.execute(newest, (word.number, *parameters, enough)):
            found.add(number)
            if len(found) == enough:
                return found
    return found


def _bm25(
    database: sqlite3.Connection, twin: str, words: Sequence[Word], candidates: Collection[int]
) -> dict[int, float]:
    """The score of each candidate, by number; a word that is asked twice counts twice."""
    (prompts, length), numbers = _size(database, twin), json.dumps(list(candidates))
    held = {word: _held(database, word, numbers) for word in set(words)}
    scores = dict.fromkeys(candidates, 0.0)
    for word in words:
        rarity = max(RARITY_MIN, log((prompts - word.prompts + 0.5) / (word.prompts + 0.5)))
        for number, count, of in held[word]:
            scores[number] += rarity * (count * (K1 + 1) / (count + K1 * (1 - B + B * of / length)))
    return scores


def _size(database: sqlite3.Connection, twin: str) -> tuple[int, float]:
    """How many prompts the twin has, and their mean length in words."""
    row = database.execute("SELECT prompts, words FROM words_of_twins WHERE twin = ?", (twin,)).fetchone()
    return (row[0], row[1] / row[0]) if row else (0, 0.0)


def _held(database: sqlite3.Connection, word: Word, prompts: str) -> list[tuple[int, int, int]]:
    """Those of the prompts, a JSON list of numbers, that hold a word, how often, and their lengths."""
    return database.execute(
        """SELECT prompt, count, length FROM json_each(?)
           CROSS JOIN words_in_prompts ON word = ? AND prompt = value""",
        (prompts, word.number),
    ).fetchall()
