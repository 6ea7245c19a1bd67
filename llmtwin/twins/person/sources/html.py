"""HTML becomes Markdown or plain text. It does not know where the HTML comes from.

The words stay as they are. Links and emphasis become Markdown; scripts, menus, forms and pictures go.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bs4 import BeautifulSoup, Tag
from bs4.dammit import EncodingDetector
from markdownify import MarkdownConverter

from llmtwin.errors import InputError
from llmtwin.twins.person.sources.charset import decode
from llmtwin.twins.person.sources.dates import read_date

_NOT_WORDS = (
    "head, script, style, template, noscript, svg, img, iframe, nav, aside, footer, "
    "button, input, select, textarea"
)
# What blog systems put among the words to win subscribers.
_WIDGETS = ".subscription-widget-wrap, .subscription-widget-wrap-editor, .button-wrapper, .image-link-expand"
# The microformat h-entry says best where the words are; Medium's exports have it.
_CONTENT = (".h-entry .e-content", "article", "main", "body")
_DATES = (
    ("time.dt-published", "datetime"),
    ("meta[property='article:published_time']", "content"),
    ("meta[name='date']", "content"),
    ("meta[itemprop='datePublished']", "content"),
    ("time[datetime]", "datetime"),
)
_AUTHORS = (
    "meta[name='author' i]",
    "meta[name='citation_author' i]",
    "meta[name='dc.creator' i]",
    ".h-entry > .p-author",
)
_PARTS = ["blockquote", "br", "div", "li", "ol", "p", "pre", "table", "td", "tr", "ul"]


@dataclass(frozen=True)
class Page:
    """A page of HTML: its words as Markdown, and what it says of itself."""

    title: str
    date: datetime | None
    text: str
    address: str = ""
    authors: tuple[str, ...] = ()


def parse(html: str | bytes) -> BeautifulSoup:
    """The tree of a page; bytes are read in the encoding that they declare or look like.

    Raises InputError where they are no text.
    """
    if isinstance(html, bytes):
        html = decode(html, EncodingDetector.find_declared_encoding(html, is_html=True))
    with warnings.catch_warnings():
        # It warns of words that look like an address or a file, and of XHTML: all of that is meant.
        warnings.simplefilter("ignore", UserWarning)
        return BeautifulSoup(html, "lxml")


def read_page(soup: BeautifulSoup) -> Page:
    """The main part of a page. The tree is changed by it. Raises InputError where it is nested too deeply."""
    date = next((found for found in (_date(soup, *place) for place in _DATES) if found), None)
    # The converter takes away the head, so this comes first.
    authors = tuple(
        str(tag.get("content") or tag.get_text(" ", strip=True)) for tag in soup.select(", ".join(_AUTHORS))
    )
    # Other articles on a page are teasers, so an article counts only where it is the only one.
    found = (soup.select(selector) for selector in _CONTENT)
    content = next((tags[0] for tags in found if len(tags) == 1), soup)
    name = soup.select_one(".h-entry .p-name") or content.find("h1") or soup.find("title")
    canonical = soup.select_one(".p-canonical[href], link[rel=canonical][href]")
    return Page(
        title=name.get_text(" ", strip=True) if name else "",
        date=date,
        text=to_markdown(content),
        address=str(canonical["href"]) if canonical else "",
        authors=authors,
    )


def _date(soup: BeautifulSoup, selector: str, attribute: str) -> datetime | None:
    tag = soup.select_one(selector)
    return read_date(tag.get(attribute)) if tag else None


def to_markdown(html: Tag | str) -> str:
    """The words with their structure. Raises InputError where it is nested too deeply."""
    return _convert(
        html,
        heading_style="ATX",
        bullets="-",
        escape_asterisks=False,
        escape_underscores=False,
        autolinks=True,
    )


def to_text(html: Tag | str) -> str:
    """The words alone, with `>` before lines that are quoted. Raises InputError as `to_markdown` does."""
    text = _convert(html, convert=_PARTS, bullets="-", escape_asterisks=False, escape_underscores=False)
    return "\n".join(line.rstrip() for line in text.split("\n"))


def _convert(html: Tag | str, **options: Any) -> str:
    tree = parse(html) if isinstance(html, str) else html
    for tag in tree.select(f"{_NOT_WORDS}, {_WIDGETS}"):
        tag.decompose()
    try:
        text = str(MarkdownConverter(**options).convert_soup(tree))
    except RecursionError:
        raise InputError("its HTML is nested too deeply") from None
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")
