"""Reads what WordPress exports of a site (WXR). It does not know where the export lies.

Only posts and pages of the person count, not their comments, which are mostly by others.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from llmtwin.errors import InputError
from llmtwin.twins.kind import Skipped
from llmtwin.twins.person.sources.dates import read_date
from llmtwin.twins.person.sources.html import to_markdown
from llmtwin.twins.person.sources.items import Author, Collected, Item, Me, own

_CREATOR = "{http://purl.org/dc/elements/1.1/}creator"
_CONTENT = "{http://purl.org/rss/1.0/modules/content/}encoded"
# Its version is a part of the namespace.
_WP = re.compile(r"\{http://wordpress\.org/export/[\d.]+/\}")
_KINDS = {"post", "page"}
_DRAFTS = {"draft", "pending", "auto-draft"}
# The old editor keeps paragraphs as blank lines, the new one in comments around tags.
_PARAGRAPHS = re.compile(r"<p[ >]|<!-- wp:", re.I)


@dataclass(frozen=True)
class _Post:
    author: Author
    fields: dict[str, str]


def is_wordpress(head: bytes) -> bool:
    """Whether a file that begins like this is such an export."""
    return b"http://wordpress.org/export/" in head


def read_wordpress(data: bytes, me: Me) -> Collected:
    """The person's posts and pages.

    Where nothing is known of the person, it is whoever wrote more than half. Raises InputError where nobody
    did, none is by the person, or the XML is broken or has entities.
    """
    try:
        posts = list(_posts(data))
    except (ParseError, DefusedXmlException, LookupError, ValueError) as error:
        raise InputError(f"the WordPress export is broken: {error}") from error
    mine = own(Counter(post.author for post in posts), me)
    items: list[Item] = []
    skipped: list[Skipped] = []
    for post in posts:
        name = post.fields.get("title") or post.fields.get("link", "")
        try:
            if post.author not in mine:
                raise InputError(f"it is by {post.author}")
            items.append(_item(post.fields))
        except InputError as error:
            skipped.append(Skipped(name, str(error)))
    return Collected(tuple(items), tuple(skipped))


def _posts(data: bytes) -> Iterator[_Post]:
    authors: dict[str, Author] = {}
    for _, element in iterparse(io.BytesIO(data), forbid_dtd=True):
        tag = _WP.sub("wp:", element.tag)
        if tag == "wp:author":
            known = _fields(element)
            name = known.get("wp:author_display_name") or known.get("wp:author_login", "")
            authors[known.get("wp:author_login", "")] = Author(name, known.get("wp:author_email", ""))
        elif tag == "item":
            fields = _fields(element)
            if fields.get("wp:post_type") in _KINDS and fields.get("wp:status") != "trash":
                login = fields.get(_CREATOR, "")
                yield _Post(authors.get(login, Author(login)), fields)
            element.clear()


def _fields(element: Element) -> dict[str, str]:
    return {_WP.sub("wp:", child.tag): child.text or "" for child in element}


def _item(fields: dict[str, str]) -> Item:
    html = fields.get(_CONTENT, "")
    if not _PARAGRAPHS.search(html):
        html = re.sub(r"\r?\n[ \t]*\r?\n", "<p>", html)
        html = re.sub(r"\r?\n", "<br>\n", html)
    return Item.of(
        source="wordpress",
        address=fields.get("link") or fields.get("guid") or f"wordpress:{fields.get('wp:post_id', '')}",
        audience="draft" if fields.get("wp:status") in _DRAFTS else "blog",
        title=fields.get("title", ""),
        date=read_date(fields.get("wp:post_date_gmt")) or read_date(fields.get("pubDate")),
        text=to_markdown(html),
    )
