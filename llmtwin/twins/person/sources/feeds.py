"""Reads feeds: RSS and Atom. It does not fetch them, nor what they only announce."""

from __future__ import annotations

import io
import re
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import feedparser

from llmtwin.errors import InputError
from llmtwin.twins.kind import Skipped
from llmtwin.twins.person.sources.dates import read_date
from llmtwin.twins.person.sources.html import to_markdown
from llmtwin.twins.person.sources.items import Author, Collected, Item, Me, own

_ROOT = re.compile(rb"<(?:rss|feed|rdf:RDF)[\s>]")


def is_feed(head: bytes) -> bool:
    """Whether a file that begins like this is a feed."""
    return bool(_ROOT.search(head))


def read_feed(name: str, data: bytes, me: Me) -> Collected:
    """The entries that the person wrote, as far as the feed has their text; `name` says where it is.

    A feed of one author is the person's own. Raises InputError where it has several and it is not clear which
    is the person, or it is broken.
    """
    # As a stream: the library takes a text or bytes for something to open or to fetch.
    feed = feedparser.parse(io.BytesIO(data))
    if feed.bozo and not feed.entries:
        raise InputError(f"the feed is broken: {feed.get('bozo_exception', 'nothing in it can be read')}")
    authors = [_author(entry, feed.feed) for entry in feed.entries]
    mine = set(authors) if len(set(authors)) == 1 else own(Counter(authors), me)
    items: list[Item] = []
    skipped: list[Skipped] = []
    for entry, author in zip(feed.entries, authors, strict=True):
        try:
            if author not in mine:
                raise InputError(f"it is by {author}")
            items.append(_item(name, entry))
        except InputError as error:
            skipped.append(Skipped(entry.get("link") or name, str(error)))
    return Collected(tuple(items), tuple(skipped))


def _author(entry: Any, feed: Any) -> Author:
    said = entry.get("author_detail") or feed.get("author_detail") or {}
    return Author(said.get("name", ""), said.get("email", ""))


def _item(name: str, entry: Any) -> Item:
    whole = next(iter(entry.get("content", [])), None)
    content = whole or entry.get("summary_detail") or {}
    words, kind = content.get("value", ""), content.get("type", "text/html")
    return Item.of(
        source="web",
        address=entry.get("link") or f"{name}#{entry.get('id', '')}",
        audience="blog",
        title=entry.get("title", ""),
        date=_date(entry),
        text=words if kind == "text/plain" else to_markdown(words),
        excerpt=not whole,  # many feeds have all of it in the summary, and do not say so
    )


def _date(entry: Any) -> datetime | None:
    for key in ("published", "updated"):
        if parsed := entry.get(f"{key}_parsed"):
            year, month, day, hour, minute, second = parsed[:6]
            return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        if date := read_date(entry.get(key)):
            return date
    return None
