"""Real writing for the tests of persons: notes and PEPs where the data is, and a tokenizer of words."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llmtwin.twins.person.clean import cleaned
from llmtwin.twins.person.sources.items import Item

PERSON = Path(os.environ.get("LLMTWIN_PERSON", Path(__file__).parents[2] / "shared/data/person"))
needs_person_data = pytest.mark.skipif(
    not (PERSON / "til").is_dir() or not (PERSON / "peps").is_dir(),
    reason=f"no real writing: {PERSON} lacks til/ or peps/; set LLMTWIN_PERSON to a folder that has both",
)
KEY = bytes(range(32))


def count_tokens(text: str) -> int:
    """Words, numbers and signs, much as a real tokenizer would cut them."""
    return len(re.findall(r"\w{1,12}|[^\w\s]", text))


def raw_notes(every: int = 1) -> list[tuple[Path, str]]:
    """Every so many of the notes, as they are on disk."""
    return [(file, file.read_text()) for file in sorted((PERSON / "til").rglob("*.md"))[::every]]


def raw_peps(every: int = 1) -> list[tuple[Path, str]]:
    """Every so many of the PEPs, as they are on disk."""
    return [(file, file.read_text()) for file in sorted((PERSON / "peps").rglob("*.rst"))[::every]]


def notes(every: int) -> list[Item]:
    """Notes as clean items; they have no dates."""
    return [_item(file, text, re.search(r"^# (.*)", text, re.M)) for file, text in raw_notes(every)]


def peps(every: int) -> list[Item]:
    """PEPs as clean items with title and date."""
    items = []
    for file, text in raw_peps(every):
        created = re.search(r"^Created: (\d+-\w{3}-\d{4})", text, re.M)
        date = datetime.strptime(created[1], "%d-%b-%Y").replace(tzinfo=UTC) if created else None
        items.append(_item(file, text, re.search(r"^Title: (.*)", text, re.M), date))
    return items


def _item(file: Path, text: str, title: re.Match[str] | None, date: datetime | None = None) -> Item:
    item = cleaned(
        Item.of(
            source="files",
            address=str(file.relative_to(PERSON)),
            audience="notes",
            text=text,
            title=title[1] if title else "",
            date=date,
        )
    )
    assert item is not None
    return item


def item(text: str, **fields: object) -> Item:
    """A note of that text, or what the fields say."""
    return Item.of(**{"source": "files", "address": "here", "audience": "notes", "text": text, **fields})  # type: ignore[arg-type]
