"""The nouns of all sources: an item, its author, the person. They know no format and no storage."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AwareDatetime, Field

from llmtwin.errors import InputError
from llmtwin.records import Hash, Record
from llmtwin.twins.kind import Skipped

# Any other year is a broken clock.
_YEARS = range(1000, 2200)
TITLE_CHARS_MAX = 300

_BLANK_LINES = re.compile(r"\A(?:[^\S\n]*\n)+")


class Item(Record):
    """One thing the person wrote, verbatim but for its line ends, which are `\\n`.

    `address` says which thing it is and `id` which version of it: what is changed keeps its address.
    `audience` is a short tag (`notes`, `blog`, `commit`), after a colon whom it was for (`mail:bob@x.org`).
    `context` holds other people's words that it answers; they are never the person's voice. An `excerpt` may
    be only a part of what was written; of what was kept earlier that is not known, and it is None. `place` is
    the file, folder or page that it was found in.
    """

    id: Hash
    source: Annotated[str, Field(min_length=1, max_length=32)]
    title: Annotated[str, Field(max_length=TITLE_CHARS_MAX)]
    date: AwareDatetime | None
    address: Annotated[str, Field(min_length=1)]
    audience: Annotated[str, Field(min_length=1)]
    text: Annotated[str, Field(min_length=1)]
    context: str | None = None
    excerpt: bool | None = None
    place: str = ""

    @classmethod
    def of(
        cls,
        *,
        source: str,
        address: str,
        audience: str,
        text: str,
        title: str = "",
        date: datetime | None = None,
        context: str | None = None,
        excerpt: bool = False,
        place: str = "",
    ) -> Item:
        """An item with its id. Raises InputError where there is no text in it."""
        text = _tidy(text)
        if not text.strip():
            raise InputError("there is no text in it")
        if date is not None and date.year not in _YEARS:
            date = None
        address = _unicode(address)
        at = date.astimezone(UTC).isoformat() if date else None
        identity = json.dumps([source, address, at, text], ensure_ascii=False)
        return cls(
            id=hashlib.sha256(identity.encode()).hexdigest(),
            source=source,
            title=" ".join(_unicode(title).split())[:TITLE_CHARS_MAX],
            date=date,
            address=address,
            audience=" ".join(_unicode(audience).split()),
            text=text,
            context=(_tidy(context) or None) if context else None,
            excerpt=excerpt,
            place=_unicode(place),
        )


def _tidy(text: str) -> str:
    """The text without blank lines around it, its lines ended alike."""
    return _BLANK_LINES.sub("", _unicode(text).replace("\r\n", "\n").replace("\r", "\n").rstrip())


def _unicode(text: str) -> str:
    """Names of files and headers of mail may hold bytes that are no text: they become question marks."""
    return text.encode(errors="replace").decode()


@dataclass(frozen=True)
class Author:
    """Who wrote something, as the source says it; either part may be empty."""

    name: str = ""
    address: str = ""

    def __str__(self) -> str:
        return self.name or self.address or "nobody named"


class Me(Record):
    """The person: names and addresses under which they write, both empty where that is to be found out."""

    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether anything is said of the person at all."""
        return bool(self.names or self.addresses)

    def is_author(self, author: Author) -> bool:
        """Whether this author is the person; casing and blanks in names do not matter."""
        named = _plain(author.name) in {_plain(name) for name in self.names} - {""}
        return named or _plain(author.address) in {_plain(address) for address in self.addresses} - {""}

    def is_other(self, author: Author) -> bool:
        """Whether this author is somebody else; names are not compared where only addresses are known."""
        compared = self.known if author.address else bool(self.names)
        return compared and not self.is_author(author)


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())


@dataclass(frozen=True)
class Collected:
    """What was read, in the order of reading, and what was left out."""

    items: tuple[Item, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    @classmethod
    def together(cls, parts: Iterable[Collected]) -> Collected:
        """All of several readings, one after the other."""
        found = list(parts)
        return cls(
            tuple(item for part in found for item in part.items),
            tuple(skipped for part in found for skipped in part.skipped),
        )

    def at(self, place: str) -> Collected:
        """The same, found in that place as far as it is not known more closely."""
        there = {"place": _unicode(place)}
        placed = (item if item.place else item.model_copy(update=there) for item in self.items)
        return Collected(tuple(placed), self.skipped)


def own(counts: Mapping[Author, int], me: Me) -> frozenset[Author]:
    """Which of these authors, with how much each wrote, are the person.

    Where nothing is known of the person it is whoever wrote more than half. Raises InputError, naming the
    commonest authors, if nobody did or the person is not among them.
    """
    commonest = sorted(counts, key=lambda author: (-counts[author], str(author)))
    if me.known:
        mine = frozenset(author for author in counts if me.is_author(author))
        if not mine:
            raise InputError(
                f"you wrote nothing in it; it is by {_names(commonest)}: give that name if it is you"
            )
        return mine
    if not commonest or 2 * counts[commonest[0]] <= sum(counts.values()):
        raise InputError(
            f"it is not clear who you are: give your name or address; it is by {_names(commonest)}"
        )
    return frozenset(commonest[:1])


def _names(authors: list[Author]) -> str:
    shown = ", ".join(str(author) for author in authors[:3]) or "nobody named"
    return f"{shown} and {len(authors) - 3} others" if len(authors) > 3 else shown
