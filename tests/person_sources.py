"""What the tests of a person's sources share: verbatim words, and files as programs really write them."""

# ruff: noqa: RUF001 (the signs that look alike are what is tested)

from __future__ import annotations

import unicodedata
import zipfile
from collections import Counter
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

from fpdf import FPDF
from hypothesis import strategies as st

from llmtwin.twins.person.sources.items import Collected, Me
from llmtwin.twins.person.sources.read import read

NOBODY = Me()
ANN = Me(names=("Ann Lee",), addresses=("ann@example.org",))
# A style that careless tools take away.
STYLE = "It’s “mine” — isn't it? I DON'T know… 🎉👍🏽 «Café», naïve–ish - 'ok'"

_WORDS = [
    "It's",
    "don’t",
    "I",
    "WOW",
    "—",
    "–",
    "well-known",
    "“yes”",
    '"no"',
    "«là»",
    "🎉",
    "👩‍💻",
    "café",
    "…",
    "ok,",
]
words = st.lists(st.sampled_from([*_WORDS, "and", "so", "she", "Bob", "said."]), min_size=1, max_size=12).map(
    " ".join
)
lines = st.lists(words, min_size=1, max_size=5)


def style(text: str) -> Counter[str]:
    """How often each sign of somebody's style is in a text."""
    signs = "'’‘\"“”„«»-–—…\n"
    return Counter(
        sign if sign in signs else "capital" if sign.isupper() else "emoji"
        for sign in text
        if sign in signs or sign.isupper() or unicodedata.category(sign) == "So"
    )


def read_one(path: Path | str, me: Me = NOBODY) -> str:
    """The text of the one item at a path."""
    (item,) = read([path], me).items
    return item.text


def reasons(found: Collected) -> dict[str, str]:
    """Why things were skipped, by the last part of their names."""
    return {skipped.name.rpartition("/")[2]: skipped.reason for skipped in found.skipped}


def write_zip(path: Path, files: dict[str, str | bytes]) -> Path:
    """A zip archive with these files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def pdf(path: Path, *pages: str, by: str = "") -> Path:
    """A pdf with this text on its pages, by that author."""
    made = FPDF()
    made.set_author(by)
    made.set_title("A pdf's title")
    made.set_creation_date(datetime(2024, 5, 1, 10, tzinfo=UTC))
    for text in pages:
        made.add_page()
        made.set_font("helvetica", size=12)
        made.multi_cell(0, text=text)
    made.output(str(path))
    return path


def mail(body: str, *, number: int = 1, html: str | None = None, **headers: str) -> EmailMessage:
    """A mail as a program sends it, from Ann to Bob unless said otherwise."""
    message = EmailMessage()
    known = {
        "From": "Ann Lee <ann@example.org>",
        "To": "Bob <bob@example.org>",
        "Subject": "Re: Lunch",
        "Date": "Mon, 06 May 2024 10:00:00 +0200",
        "Message-ID": f"<{number}@example.org>",
    }
    for name, value in (known | {name.replace("_", "-"): value for name, value in headers.items()}).items():
        message[name] = value
    message.set_content(body)
    if html is not None:
        message.add_alternative(html, subtype="html")
    return message


def mbox(path: Path, *mails: EmailMessage | bytes) -> Path:
    """A mailbox with these mails."""
    with path.open("wb") as file:
        for one in mails:
            data = one if isinstance(one, bytes) else one.as_bytes()
            file.write(b"From ann@example.org Mon May  6 10:00:00 2024\n" + data.rstrip(b"\n") + b"\n\n")
    return path
