"""Reads what Medium, Substack and LinkedIn let people download, packed or not. It knows no folder or archive.

What such an export also holds of others (subscribers, contacts, messages, highlights) is not looked at.
"""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from llmtwin.errors import InputError
from llmtwin.twins.kind import Skipped
from llmtwin.twins.person.sources.charset import decode
from llmtwin.twins.person.sources.dates import read_date
from llmtwin.twins.person.sources.files import DOCUMENT_BYTES_MAX, File
from llmtwin.twins.person.sources.html import parse, read_page, to_markdown
from llmtwin.twins.person.sources.items import Collected, Item

# The deepest file of an export: `Articles/Articles/one.html`.
_DEPTH_MAX = 3
_SHARES = b"ShareCommentary"
# LinkedIn ends every line of a share as if it were a field, and doubles the quotes within.
_LINKEDIN_LINE = re.compile(r'"\n"')


@dataclass(frozen=True)
class Export:
    """The files of one account's export, and what reads them; `place` is the folder in which they lie."""

    place: str
    files: tuple[File, ...]
    read: Callable[[Sequence[File]], Collected]


def split_exports(files: Iterable[File]) -> tuple[list[Export], list[File]]:
    """The exports among these files, each known by what lies together in a folder, and all other files."""
    rest = {file.address: file for file in files}
    places: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for address in rest:
        for depth in range(1, _DEPTH_MAX + 1):
            place, *parts = address.rsplit("/", depth)
            places[place]["/".join(parts)] = address
    exports: list[Export] = []
    for place in sorted(places, key=len):
        names = {name: address for name, address in places[place].items() if address in rest}
        for marks, held, reader in _FORMS:
            if all(any(map(mark.fullmatch, names)) for mark in marks):
                own = [rest.pop(names[name]) for name in list(names) if held.fullmatch(name)]
                exports.append(Export(place, tuple(own), reader))
                break
    return exports, list(rest.values())


def _pages(folder: str, files: Sequence[File]) -> Iterator[File]:
    return (file for file in files if file.suffix == ".html" and _folder(file) == folder)


def _folder(file: File) -> str:
    return PurePosixPath(file.address).parent.name


def _read_medium(files: Sequence[File]) -> Collected:
    """The posts and drafts of a Medium account."""

    def item(file: File) -> Item:
        page = read_page(parse(file.read(DOCUMENT_BYTES_MAX)))
        stem = PurePosixPath(file.name).stem
        return Item.of(
            source="medium",
            address=page.address or f"medium:{stem}",
            audience="draft" if stem.startswith("draft") else "blog",
            title=page.title,
            date=page.date,
            text=page.text,
        )

    return _each(_pages("posts", files), item)


def _read_substack(files: Sequence[File]) -> Collected:
    """The posts and drafts of a Substack newsletter. Raises InputError where its list of posts is broken."""
    listed: dict[str, Mapping[str, str]] = {}
    for file in files:
        if file.name == "posts.csv":
            listed |= {row.get("post_id", ""): row for row in _rows(file.read(DOCUMENT_BYTES_MAX))}

    def item(file: File) -> Item:
        post = PurePosixPath(file.name).stem
        row = listed.get(post, {})
        return Item.of(
            source="substack",
            address=f"substack:{post}",
            audience="newsletter" if row.get("is_published", "").lower() == "true" else "draft",
            title=row.get("title") or post.partition(".")[2],
            date=read_date(row.get("post_date")),
            text=to_markdown(decode(file.read(DOCUMENT_BYTES_MAX))),
        )

    return _each(_pages("posts", files), item)


def _read_linkedin(files: Sequence[File]) -> Collected:
    """The shares and articles of a LinkedIn account. Raises InputError where its list of shares is broken."""
    shares = (file for file in files if file.name == "Shares.csv")

    def article(file: File) -> Item:
        soup = parse(file.read(DOCUMENT_BYTES_MAX))
        dates = []
        for tag in soup.select("p.published, p.created"):
            dates.append(read_date(tag.get_text().rpartition(" on ")[2]))
            tag.decompose()
        link = soup.select_one("h1 a[href]")
        page = read_page(soup)
        return Item.of(
            source="linkedin",
            address=str(link["href"]) if link else f"linkedin:{PurePosixPath(file.name).stem}",
            audience="blog",
            title=page.title,
            date=next((date for date in reversed(dates) if date), page.date),
            text=page.text,
        )

    return Collected.together(
        [
            *(read_shares(file.read(DOCUMENT_BYTES_MAX)) for file in shares),
            _each(_pages("Articles", files), article),
        ]
    )


# By which files an export is known, one of each pattern, which are its own, and what reads them. A list of
# shares, or a folder of articles, is no export by itself: both lie among other things, too.
_FORMS = (
    (
        (re.compile(r"posts\.csv"), re.compile(r"posts/[^/]+\.html")),
        re.compile(r"[^/]+\.csv|posts/.+"),
        _read_substack,
    ),
    (
        (
            re.compile(r"posts/(?:draft|\d{4}-\d\d-\d\d)_[^/]+\.html"),
            re.compile(r"README\.html|profile/[^/]+"),
        ),
        re.compile(r"README\.html|[^/]+/[^/]+\.html"),
        _read_medium,
    ),
    (
        (
            re.compile(r"(?:Connections|Profile|messages)\.csv|Articles/Articles/[^/]+\.html"),
            re.compile(r"Shares\.csv|Articles/(?:Articles/)?[^/]+\.html"),
        ),
        re.compile(r"[^/]+\.csv|Articles/.+"),
        _read_linkedin,
    ),
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
        raise InputError(f"the list in the export is broken: {error}") from error


def _each(files: Iterable[File], read: Callable[[File], Item]) -> Collected:
    """The items of these files; a bad one is skipped by name."""
    items: list[Item] = []
    skipped: list[Skipped] = []
    for file in files:
        try:
            items.append(read(file))
        except InputError as error:
            skipped.append(Skipped(file.address, str(error)))
    return Collected(tuple(items), tuple(skipped))
