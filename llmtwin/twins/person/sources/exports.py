"""Reads the archives that Medium, Substack and LinkedIn let people download. It does not know where they lie.

What such an archive also holds of others (subscribers, contacts, messages) is not looked at.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from llmtwin.errors import InputError
from llmtwin.twins.kind import Skipped
from llmtwin.twins.person.sources.charset import decode
from llmtwin.twins.person.sources.dates import read_date
from llmtwin.twins.person.sources.files import DOCUMENT_BYTES_MAX
from llmtwin.twins.person.sources.html import parse, read_page, to_markdown
from llmtwin.twins.person.sources.items import Collected, Item
from llmtwin.wire.archive import Archive

Reader = Callable[[Archive], Collected]

_SHARES = b"ShareCommentary"
# LinkedIn ends every line of a share as if it were a field, and doubles the quotes within.
_LINKEDIN_LINE = re.compile(r'"\n"')


def export_reader(archive: Archive) -> Reader | None:
    """What reads an archive with these files; None where it is no export of the three."""
    names = [PurePosixPath(name) for name in archive.names]
    posts = any(_is_post(name) for name in names)
    if posts and any(name.name == "posts.csv" for name in names):
        return read_substack
    if posts and any(name.parent.name == "profile" or name.name == "README.html" for name in names):
        return read_medium
    if any(name.name == "Shares.csv" or _is_article(name) for name in names):
        return read_linkedin
    return None


def _is_post(name: PurePosixPath) -> bool:
    return name.parent.name == "posts" and name.suffix == ".html"


def _is_article(name: PurePosixPath) -> bool:
    return name.parent.name == "Articles" and name.suffix == ".html"


def read_medium(archive: Archive) -> Collected:
    """The posts and drafts of a Medium account."""

    def item(name: str) -> Item:
        page = read_page(parse(archive.read(name, DOCUMENT_BYTES_MAX)))
        stem = PurePosixPath(name).stem
        return Item.of(
            source="medium",
            address=page.address or f"medium:{stem}",
            audience="draft" if stem.startswith("draft") else "blog",
            title=page.title,
            date=page.date,
            text=page.text,
        )

    return _each((name for name in archive.names if _is_post(PurePosixPath(name))), item)


def read_substack(archive: Archive) -> Collected:
    """The posts and drafts of a Substack newsletter. Raises InputError where its list of posts is broken."""
    listed: dict[str, Mapping[str, str]] = {}
    for name in archive.names:
        if PurePosixPath(name).name == "posts.csv":
            listed |= {row.get("post_id", ""): row for row in _rows(archive.read(name, DOCUMENT_BYTES_MAX))}

    def item(name: str) -> Item:
        post = PurePosixPath(name).stem
        row = listed.get(post, {})
        return Item.of(
            source="substack",
            address=f"substack:{post}",
            audience="newsletter" if row.get("is_published", "").lower() == "true" else "draft",
            title=row.get("title") or post.partition(".")[2],
            date=read_date(row.get("post_date")),
            text=to_markdown(decode(archive.read(name, DOCUMENT_BYTES_MAX))),
        )

    return _each((name for name in archive.names if _is_post(PurePosixPath(name))), item)


def read_linkedin(archive: Archive) -> Collected:
    """The shares and articles of a LinkedIn account. Raises InputError where its list of shares is broken."""
    shares = (name for name in archive.names if PurePosixPath(name).name == "Shares.csv")
    articles = (name for name in archive.names if _is_article(PurePosixPath(name)))

    def article(name: str) -> Item:
        soup = parse(archive.read(name, DOCUMENT_BYTES_MAX))
        dates = []
        for tag in soup.select("p.published, p.created"):
            dates.append(read_date(tag.get_text().rpartition(" on ")[2]))
            tag.decompose()
        link = soup.select_one("h1 a[href]")
        page = read_page(soup)
        return Item.of(
            source="linkedin",
            address=str(link["href"]) if link else f"linkedin:{PurePosixPath(name).stem}",
            audience="blog",
            title=page.title,
            date=next((date for date in reversed(dates) if date), page.date),
            text=page.text,
        )

    return Collected.together(
        [*(read_shares(archive.read(name, DOCUMENT_BYTES_MAX)) for name in shares), _each(articles, article)]
    )


def is_shares(head: bytes) -> bool:
    """Whether a file that begins like this is LinkedIn's list of shares."""
    return _SHARES in head.partition(b"\n")[0]


def read_shares(data: bytes) -> Collected:
    """LinkedIn's `Shares.csv`; shares of others' posts without a word of one's own are left out.

    Raises InputError where it is broken.
    """
    return Collected(tuple(_shares(_rows(data))))


def _shares(rows: Iterable[Mapping[str, str]]) -> Iterator[Item]:
    for row in rows:
        if text := _unwrapped(row.get("ShareCommentary", "")).strip():
            yield Item.of(
                source="linkedin",
                address=row.get("ShareLink") or f"linkedin:{row.get('Date', '')}",
                audience="social",
                date=read_date(row.get("Date")),
                text=text,
            )


def _unwrapped(text: str) -> str:
    text = text.replace("\r\n", "\n")
    if "\n" in text and "\n" not in _LINKEDIN_LINE.sub("", text):
        return _LINKEDIN_LINE.sub("\n", text.removeprefix('"').removesuffix('"')).replace('""', '"')
    return text


def _rows(data: bytes) -> Iterator[dict[str, str]]:
    try:
        for row in csv.DictReader(io.StringIO(decode(data), newline="")):
            yield {
                key: value for key, value in row.items() if isinstance(key, str) and isinstance(value, str)
            }
    except csv.Error as error:
        raise InputError(f"the list in the archive is broken: {error}") from error


def _each(names: Iterable[str], read: Callable[[str], Item]) -> Collected:
    """The items of these files; a bad one is skipped by name."""
    items: list[Item] = []
    skipped: list[Skipped] = []
    for name in names:
        try:
            items.append(read(name))
        except InputError as error:
            skipped.append(Skipped(name, str(error)))
    return Collected(tuple(items), tuple(skipped))
