"""Documents become text with title, date and authors. It does not know whose they are or where they lie.

What is text already stays as it is; only what a site generator reads before it (front matter) is taken off.
"""

from __future__ import annotations

import io
import logging
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

import mammoth
import yaml
from defusedxml import DefusedXmlException, ElementTree
from pypdf import PdfReader

from llmtwin.errors import InputError, TooLarge
from llmtwin.twins.person.sources.authors import noted_by, written_by
from llmtwin.twins.person.sources.charset import decode
from llmtwin.twins.person.sources.dates import read_date
from llmtwin.twins.person.sources.html import parse, read_page, to_markdown
from llmtwin.twins.person.sources.items import Author
from llmtwin.wire.archive import Archive, open_archive

# Word's XML becomes a tree of some twenty times its size.
DOCX_XML_BYTES_MAX = 16 * 2**20
PDF_PAGES_MAX = 3000

_YAML = re.compile(r"\A---[ \t]*\n(.*?\n)(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.S)
_TOML = re.compile(r"\A\+\+\+[ \t]*\n(.*?\n)\+\+\+[ \t]*(?:\n|\Z)", re.S)
_FIELD = re.compile(r"^(\w[\w-]*):[ \t]*(.*(?:\n[ \t]+\S.*)*)$", re.M)
_FIELDS = re.compile(r"\A((?:\w[\w-]*:(?:[ \t].*)?\n(?:[ \t]+\S.*\n)*){2,})(?=\n)")
_FENCE = re.compile(r"^(?:```|~~~)", re.M)
_HEADING = re.compile(r"^# +(\S.*)$|^(\S.*)\n=+[ \t]*$", re.M)
_RST_HEADING = re.compile(r"^(\S.*)\n([=\-~^\"'*+#:.`_])\2{2,}[ \t]*$", re.M)
_RST_DATE = re.compile(r"^:Date: *(.+)$", re.M)
_NAMED_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?=\D|$)")
_OLE = b"\xd0\xcf\x11\xe0"
_CORE = "docProps/core.xml"
_TITLE = "{http://purl.org/dc/elements/1.1/}title"
_CREATOR = "{http://purl.org/dc/elements/1.1/}creator"
_CREATED = "{http://purl.org/dc/terms/}created"

# What is broken in a file is said once, by our error.
logging.getLogger("pypdf").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Document:
    """A document's words, and what it says of itself."""

    text: str
    title: str = ""
    date: datetime | None = None
    authors: tuple[Author, ...] = ()


def read_document(name: str, data: bytes) -> Document:
    """The document of that file name. Raises InputError if there is no reader for it or it cannot be read."""
    path = PurePosixPath(name)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"there is no reader for {path.suffix or 'files without a suffix'}")
    found = reader(data)
    named = _NAMED_DATE.match(path.name)
    date = found.date or (read_date(named[1]) if named else None)
    return replace(found, title=found.title or path.stem, date=date)


def _markdown(data: bytes) -> Document:
    matter, text = _front_matter(_text(data))
    fence = _FENCE.search(text)
    heading = _HEADING.search(text, 0, fence.start() if fence else len(text))
    return _described(matter, text, _opened(heading[1]) or heading[2] if heading else "")


def _opened(heading: str | None) -> str:
    """A heading without the signs that may close it: `# C# #` is about C#."""
    text = (heading or "").rstrip()
    shorter = text.rstrip("#")
    return shorter.rstrip() if shorter.endswith((" ", "\t")) else text


def _rst(data: bytes) -> Document:
    matter, text = _front_matter(_text(data))
    heading, dated = _RST_HEADING.search(text), _RST_DATE.search(text)
    found = _described(matter, text, heading[1] if heading else "")
    return found if found.date or not dated else replace(found, date=read_date(dated[1]))


def _plain(data: bytes) -> Document:
    return Document(_text(data))


def _html(data: bytes) -> Document:
    page = read_page(parse(data))
    return Document(page.text, page.title, page.date, noted_by(*page.authors))


def _text(data: bytes) -> str:
    return decode(data).replace("\r\n", "\n").replace("\r", "\n")


# ---- front matter --------------------------------------------------------------------------------


def _front_matter(text: str) -> tuple[dict[str, Any], str]:
    """What stands in front of the text, and the text; a rule around prose is no front matter."""
    for pattern, load in ((_YAML, _load_yaml), (_TOML, _load_toml), (_FIELDS, _load_fields)):
        if (match := pattern.match(text)) and (matter := load(match[1])):
            return {str(key).lower(): value for key, value in matter.items()}, text[match.end() :]
    return {}, text


def _load_fields(text: str) -> dict[str, str]:
    """A header as in Python Enhancement Proposals; other paragraphs with colons are the author's own."""
    fields = dict(_FIELD.findall(text))
    return fields if "Title" in fields else {}


def _load_yaml(text: str) -> dict[Any, Any]:
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        # Titles with a colon are written without quotes all the time.
        found = dict(_FIELD.findall(text))
    return found if isinstance(found, dict) else {}


def _load_toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}


def _described(matter: dict[str, Any], text: str, heading: str) -> Document:
    title, dates = matter.get("title"), (matter.get(key) for key in ("date", "created", "published"))
    return Document(
        text=text,
        title=title if isinstance(title, str) and title.strip() else heading,
        date=next((date for date in map(read_date, dates) if date), None),
        authors=tuple(written_by(matter.get("author", matter.get("authors")))),
    )


# ---- formats of office programs ------------------------------------------------------------------


def _docx(data: bytes) -> Document:
    if data.startswith(_OLE):
        raise InputError(
            "the Word document is encrypted or of an old Word: save it as .docx without a password"
        )
    with open_archive(data) as archive:
        said = _check_docx(archive)
    try:
        # Pictures are left out, so no link in the document is ever followed.
        html = mammoth.convert_to_html(io.BytesIO(data), convert_image=lambda image: []).value
    except Exception as error:  # a broken document makes the library raise almost anything
        raise InputError(f"the Word document is broken: {type(error).__name__}") from error
    return replace(said, text=to_markdown(html))


def _check_docx(archive: Archive) -> Document:
    """Refuse XML that is too much or has entities; give what the document says of itself."""
    parts = [name for name in archive.names if name.endswith((".xml", ".rels"))]
    if sum(map(archive.size, parts)) > DOCX_XML_BYTES_MAX:
        raise TooLarge(f"the Word document has more than {DOCX_XML_BYTES_MAX} bytes of XML")
    said: dict[str, str | None] = {}
    try:
        for name in parts:
            root = ElementTree.fromstring(archive.read(name, DOCX_XML_BYTES_MAX), forbid_dtd=True)
            if name == _CORE:
                said = {name: root.findtext(name) for name in (_TITLE, _CREATED, _CREATOR)}
    except (ElementTree.ParseError, DefusedXmlException, LookupError, ValueError) as error:
        raise InputError(f"the Word document is broken: {type(error).__name__}") from error
    return Document("", said.get(_TITLE) or "", read_date(said.get(_CREATED)), noted_by(said.get(_CREATOR)))


def _pdf(data: bytes) -> Document:
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise InputError("the pdf is encrypted: save it without a password")
        if len(reader.pages) > PDF_PAGES_MAX:
            raise TooLarge(f"the pdf has {len(reader.pages)} pages; at most {PDF_PAGES_MAX} are read")
        text = "\n\n".join(page.extract_text().strip("\n") for page in reader.pages)
        said = _pdf_metadata(reader)
    except InputError:
        raise
    except Exception as error:  # a broken file makes the library raise almost anything
        raise InputError(f"the pdf is broken: {type(error).__name__}") from error
    if not text.strip():
        raise InputError("the pdf has no text in it: perhaps it is a scan")
    return replace(said, text=text)


def _pdf_metadata(reader: PdfReader) -> Document:
    """What the pdf says of itself, without its text."""
    said = reader.metadata
    if said is None:
        return Document("")
    try:
        created = read_date(said.creation_date)
    except ValueError:  # programs write there what they like
        created = None
    return Document("", said.title if isinstance(said.title, str) else "", created, noted_by(said.author))


READERS: dict[str, Callable[[bytes], Document]] = {
    ".md": _markdown,
    ".markdown": _markdown,
    ".mdx": _markdown,
    ".rst": _rst,
    ".txt": _plain,
    ".text": _plain,
    ".html": _html,
    ".htm": _html,
    ".xhtml": _html,
    ".docx": _docx,
    ".pdf": _pdf,
}
