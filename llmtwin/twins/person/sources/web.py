"""Fetches one page, document or feed by its address. It follows no link in it and keeps nothing."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

import httpx
import trafilatura

from llmtwin.errors import InputError, TooLarge, Unavailable
from llmtwin.twins.person.sources.authors import noted_by
from llmtwin.twins.person.sources.dates import read_date
from llmtwin.twins.person.sources.documents import READERS, Document, read_document
from llmtwin.twins.person.sources.feeds import is_feed
from llmtwin.twins.person.sources.html import parse, to_markdown

# What is wrong with a page is said once, by our error.
logging.getLogger("trafilatura").setLevel(logging.CRITICAL)

_HEAD_BYTES = 4096
_SUFFIXES = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/plain": ".txt",
    "text/markdown": ".md",
    "application/pdf": ".pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
}
# With its time where the page says it; dates are not guessed from the text around.
_DATES = {"extensive_search": False, "original_date": True, "outputformat": "%Y-%m-%dT%H:%M:%S%z"}


@dataclass(frozen=True)
class Limits:
    """How much a server may send, unpacked, and how long it may take."""

    bytes_max: int = 16 * 2**20
    seconds_max: float = 30
    redirects_max: int = 5


@dataclass(frozen=True)
class Fetched:
    """What an address holds: where it was in the end, its media type and its bytes."""

    address: str
    media_type: str
    data: bytes

    @property
    def is_feed(self) -> bool:
        """Whether it is a feed and no page."""
        return "html" not in self.media_type and is_feed(self.data[:_HEAD_BYTES])


def is_address(source: str) -> bool:
    """Whether this is an address of the web."""
    return source.lower().startswith(("http://", "https://"))


def fetch(address: str, limits: Limits = Limits()) -> Fetched:
    """What the address holds. Raises InputError where it is wrong, TooLarge, or Unavailable."""
    deadline = time.monotonic() + limits.seconds_max
    client = httpx.Client(
        follow_redirects=True, max_redirects=limits.redirects_max, timeout=min(10, limits.seconds_max)
    )
    try:
        with client, client.stream("GET", address, headers={"user-agent": "llmtwin"}) as response:
            if response.is_error:
                wrong = InputError if response.is_client_error else Unavailable
                raise wrong(f"{address} answers {response.status_code} {response.reason_phrase}")
            data = bytearray()
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > limits.bytes_max:
                    raise TooLarge(f"{address} sends more than {limits.bytes_max} bytes")
                if time.monotonic() > deadline:
                    raise Unavailable(f"{address} takes more than {limits.seconds_max:g} seconds")
            media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            return Fetched(str(response.url), media_type, bytes(data))
    except (
        httpx.InvalidURL,
        httpx.UnsupportedProtocol,
        httpx.TooManyRedirects,
        httpx.DecodingError,
    ) as error:
        raise InputError(f"{address} cannot be fetched: {error}") from error
    except httpx.HTTPError as error:
        raise Unavailable(f"{address} cannot be fetched: {error or type(error).__name__}") from error


def read_page(fetched: Fetched) -> Document:
    """The document, or a page's main text without menus and comments. Raises InputError if it has none."""
    path = PurePosixPath(unquote(urlsplit(fetched.address).path))
    suffix = _SUFFIXES.get(fetched.media_type, path.suffix.lower())
    if suffix in READERS and suffix != ".html":
        return read_document(path.with_suffix(suffix).name if path.name else f"page{suffix}", fetched.data)
    found = trafilatura.extract_with_metadata(
        fetched.data,
        url=fetched.address,
        # Its Markdown escapes signs, and makes what is quoted the author's own.
        output_format="html",
        include_comments=False,
        include_formatting=True,
        include_links=True,
        date_extraction_params=_DATES,
    )
    if found is None or not found.text:
        raise InputError("there is no main text in it")
    soup = parse(found.text)
    for outer in soup.select("pre:has(> pre)"):
        outer.unwrap()
    return Document(to_markdown(soup), found.title or "", read_date(found.date), noted_by(found.author))
