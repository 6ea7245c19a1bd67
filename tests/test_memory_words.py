"""The index of words: it ranks as FTS5 does, for each twin alone, and no search grows with the history."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llmtwin.memory import Memory
from llmtwin.memory.only import Only
from llmtwin.memory.words import CANDIDATES_MIN
from llmtwin.records import Fact, Prompt

START = datetime(2026, 3, 1, tzinfo=UTC)
TWINS = ("home1", "home-2")
SPOKEN = ("lamp", "Lamps", "kitchen", "cafe\u0301", "CAFÉ", "is", "don't", "1.5", "東京", "a_b", "?")


def said(number: int, text: str, twin: str = "home1", minute: int = 0, path: str = "a/b") -> Prompt:
    at = START + timedelta(minutes=minute)
    return Prompt(id=f"p{number:05}", twin=twin, text=text, at=at, facts=(Fact(path=path, value=1, at=at),))


def index(memory: Memory) -> list[list[tuple[Any, ...]]]:
    """All that the index holds, without its numbers."""
    queries = (
        "SELECT twin, word, prompts FROM words ORDER BY twin, word",
        """SELECT words.twin, words.word, prompts.id, count, length FROM words_in_prompts
           LEFT JOIN words ON words.number = words_in_prompts.word
           LEFT JOIN prompts ON prompts.number = prompt ORDER BY prompts.id, words.word""",
        "SELECT twin, prompts, words FROM words_of_twins ORDER BY twin",
    )
    return [memory._database.execute(query).fetchall() for query in queries]


def by_fts5(prompts: Sequence[Prompt], asked: Sequence[str], limit: int) -> list[str]:
    """The ids in the order in which FTS5 itself ranks these prompts."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE prompts (number INTEGER PRIMARY KEY, id, at)")
    database.execute(
        "CREATE VIRTUAL TABLE texts USING fts5 (text, tokenize = 'porter unicode61 remove_diacritics 2')"
    )
    for number, one in enumerate(prompts):
        database.execute("INSERT INTO prompts VALUES (?, ?, ?)", (number, one.id, one.at.timestamp()))
        database.execute("INSERT INTO texts (rowid, text) VALUES (?, ?)", (number, one.text))
    rows = database.execute(
        """SELECT id FROM texts JOIN prompts ON number = texts.rowid WHERE texts MATCH ?
           ORDER BY bm25(texts), at DESC, id LIMIT ?""",
        (" OR ".join(f'"{word}"' for word in asked), limit),
    )
    return [prompt_id for (prompt_id,) in rows]


texts = st.lists(st.sampled_from(SPOKEN), min_size=1, max_size=8).map(" ".join)
spoken = st.lists(
    st.tuples(texts, st.sampled_from(TWINS), st.integers(0, 3), st.sampled_from(("a/b", "c/d"))), max_size=20
)


@settings(max_examples=50, deadline=None)
@given(
    spoken=spoken,
    forgotten=st.booleans(),
    asked=st.lists(
        st.sampled_from(("lamp", "kitchens", "café", "is", "東京", "zebra")), min_size=1, max_size=5
    ),
    limit=st.integers(1, 12),
)
def test_a_twin_of_few_prompts_is_searched_as_fts5_would_search_it_alone(
    spoken: list[tuple[str, str, int, str]], forgotten: bool, asked: list[str], limit: int
) -> None:
    prompts = [said(number, *one) for number, one in enumerate(spoken)]
    with Memory(Path(":memory:")) as memory:
        memory.append(prompts)
        if forgotten:
            memory.forget("home1", "c/d")
            prompts = [one for one in prompts if one.twin != "home1" or one.facts[0].path != "c/d"]
            with Memory(Path(":memory:")) as never_told:
                never_told.append(prompts)
                assert index(memory) == index(never_told)
        for twin in TWINS:
            own = [one for one in prompts if one.twin == twin]
            found = [one.id for one in memory.search(twin, " ".join(asked), limit)]
            assert found == by_fts5(own, asked, limit)


# --- long histories --------------------------------------------------------------------------------------


def lived(first: int, until: int, twin: str = "home1") -> list[Prompt]:
    """Prompts in which every word is frequent."""
    rooms, things = ("kitchen", "hall", "attic"), ("lamp", "heating")
    return [
        said(n, f"The {things[n % 2]} of the {rooms[n % 3]} is on.", twin, n) for n in range(first, until)
    ]


def steps(memory: Memory, *arguments: Any) -> tuple[int, list[str]]:
    """How many steps SQLite takes for a search, and the ids found."""
    taken = 0

    def step() -> int:
        nonlocal taken
        taken += 1
        return 0

    memory._database.set_progress_handler(step, 1)
    found = [one.id for one in memory.search(*arguments)]
    memory._database.set_progress_handler(None, 1)
    return taken, found


def test_a_search_takes_no_more_steps_as_the_history_and_those_of_others_grow() -> None:
    question = "Is the lamp of the kitchen on?"
    with Memory(Path(":memory:")) as memory:
        memory.append(lived(0, 1200))
        few, _ = steps(memory, "home1", question)
        memory.append(lived(1200, 3600))
        many, found = steps(memory, "home1", question)
        memory.append(lived(3600, 6000, "home-2"))
        assert steps(memory, "home1", question) == (many, found)
    assert few * 0.95 <= many <= few * 1.05
    assert found == [f"p{number:05}" for number in range(3594, 3534, -6)]


def test_old_prompts_are_found_by_a_rare_word_or_a_filter_and_only_so() -> None:
    with Memory(Path(":memory:")) as memory:
        rare = said(0, "The lamp of the kitchen is on Zanzibar.")
        memory.append([rare, *lived(1, 10 * CANDIDATES_MIN)])
        old = Only(until=START + timedelta(minutes=7))
        assert memory.search("home1", "the lamp of the kitchen in zanzibar")[0] == rare
        assert rare not in memory.search("home1", "the lamp of the kitchen")
        assert [one.id for one in memory.search("home1", "kitchen", 3, old)] == ["p00006", "p00003", "p00000"]


def test_what_half_a_character_is_in_can_be_searched() -> None:
    with Memory(Path(":memory:")) as memory:
        memory.append([said(0, "The lamp is on.")])
        assert [one.id for one in memory.search("home1", "\ud83d lamp")] == ["p00000"]


# --- older files -----------------------------------------------------------------------------------------


def test_a_file_with_the_index_of_fts5_gets_the_one_that_it_would_have(tmp_path: Path) -> None:
    prompts = [*lived(0, 30), *lived(30, 40, "home-2"), said(40, "?", "home-2"), said(41, "?", "home_3")]
    folder = resources.files("llmtwin.memory") / "migrations"
    old = sqlite3.connect(tmp_path / "old.sqlite")
    for name in ("0001_prompts.sql", "0002_vectors.sql"):
        old.executescript((folder / name).read_text(encoding="utf-8"))
    for number, one in enumerate(prompts, 1):
        at = int(one.at.timestamp()) * 1_000_000
        old.execute("INSERT INTO prompts VALUES (?, ?, ?, ?, ?)", (number, one.id, one.twin, at, one.text))
        old.execute("INSERT INTO words (rowid, text, twin) VALUES (?, ?, ?)", (number, one.text, one.twin))
    old.execute("PRAGMA user_version = 2")
    old.commit()
    old.close()
    with Memory(tmp_path / "old.sqlite") as memory, Memory(Path(":memory:")) as fresh:
        fresh.append(prompts)
        assert index(memory) == index(fresh)
        assert memory.frequencies("home1", ["kitchens", "zebra", "?"]) == {"kitchens": 10, "zebra": 0}
        found = [one.id for one in memory.search("home1", "lamps of a kitchen", 3)]
        assert found == [one.id for one in fresh.search("home1", "lamps of a kitchen", 3)]
