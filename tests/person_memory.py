"""A small memory of a person, and a view of it: real parts but for the engine, which echoes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

from llmtwin.memory import Memory
from llmtwin.models.engine.api import Engine
from llmtwin.models.engine.echo import EchoEngine
from llmtwin.records import Command, Description, Question
from llmtwin.twins.kind import View
from llmtwin.twins.person.chunks import Passage, passages
from llmtwin.twins.person.remember import TEXT_CHARS_MAX, prompt_of
from llmtwin.twins.person.sources.items import Item

TWIN = "me"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def written(text: str, title: str = "", day: str | None = None, **fields: Any) -> Item:
    """Something the person wrote, as a note unless the fields say otherwise."""
    date = datetime.fromisoformat(day).replace(tzinfo=UTC) if day else None
    given = {"source": "files", "audience": "notes", "address": f"/{title}", **fields}
    return Item.of(text=text, title=title, date=date, **given)


ITEMS = (
    written(
        "We moved all our tests to SQLite last week. The suite now takes forty seconds instead of "
        "nine minutes. Nobody misses the old database container.",
        "Tests on SQLite",
        "2019-05-01",
    ),
    written(
        "Sourdough needs patience more than skill. I feed the starter every morning before breakfast. "
        "The crust comes from steam in the first ten minutes of baking.",
        "Baking bread",
        "2020-07-12",
        source="wordpress",
        audience="blog",
    ),
    written(
        "Dear Bob, the tests of the parser fail on Windows again. Could you look at the line endings?",
        "Parser",
        "2021-03-03",
        source="mail",
        audience="mail:bob@example.org",
    ),
    written("Tulips should be planted in October, twice as deep as the bulb is tall.", "Bulbs"),
)


def cut(items: Sequence[Item]) -> list[Passage]:
    """The passages of items, as they are remembered."""
    return [passage for item in items for passage in passages(item, len, TEXT_CHARS_MAX)]


def remember(memory: Memory, items: Sequence[Item] = ITEMS, twin: str = TWIN) -> None:
    """Put all of the items into memory."""
    memory.append([prompt_of(passage, twin, NOW) for passage in cut(items)])


def ask(text: str) -> Question:
    """A question to the twin, now."""
    return Question(twin=TWIN, text=text, at=NOW)


def view(memory: Memory, engine: Engine | None = None, adapters: tuple[str, ...] = ()) -> View:
    """What an answer may use."""
    return View(
        engine=engine or EchoEngine(),
        memory=memory,
        description=Description(),
        adapters=adapters,
        adapter=None,
        skill=None,
        cohort=(TWIN,),
        cohort_size_min=5,
        may_order=False,
        order=_no_order,
    )


def _no_order(command: Command) -> NoReturn:
    raise AssertionError(f"a person takes no orders: {command}")
