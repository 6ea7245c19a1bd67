"""Who wrote a document, as it says itself. It does not know whose twin asks.

What stands in a document's head was written by hand and counts as it is. Metadata was often filled in by a
program: of it counts what looks like a person's full name or a mail address, no account, device or company.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmtwin.twins.person.sources.items import Author

_SEVERAL = re.compile(r"[;\n]|,? and ")
# Two words at least, without digits; in scripts without capitals one is a whole name.
_FULL_NAME = re.compile(r"[^\W\d_][^\d<>:/\\_|()]* [^\d<>:/\\_|()]+|[\u3040-\u9fff\uac00-\ud7af]{2,8}")
_NAME_CHARS_MAX = 60
# Programs, devices, accounts and companies: "Microsoft Office User", "HP LaserJet", "Jane's MacBook".
_NOT_A_PERSON = re.compile(
    r"\b(?:microsoft|office|windows|word|excel|powerpoint|apple|macbook|imac|google|adobe|acrobat|apache|latex"
    r"|tex|libreoffice|openoffice|pandoc|wordpress|hp|dell|lenovo|asus|acer|toshiba|canon|epson|xerox|scanner"
    r"|laserjet|workcentre|user|users|guest|owner|admin|administrator|account|unknown|unnamed|anonymous|author"
    r"|computer|laptop|pc|student|team|staff|editors?|inc|ltd|llc|gmbh|company|corporation|university|default)\b"
    r"|用户|用戶|管理|ユーザー|사용자|관리자",
    re.I,
)
# What stands behind a name and is none of its own: "Senior Engineer", "Acme Labs".
_POST = re.compile(
    r",[^,]*\b(?:senior|chief|head of|engineer|developer|manager|director|officer|consultant|analyst"
    r"|architect|scientist|researcher|designer|specialist|assistant|research|department|institute|labs?|ph\.?d"
    r"|m\.?sc)\b[^,]*",
    re.I,
)


def written_by(value: object) -> Iterator[Author]:
    """The authors whom a head names: a text, a list, or a table with name and email."""
    if isinstance(value, list):
        for one in value:
            yield from written_by(one)
    elif isinstance(value, dict):
        yield Author(str(value.get("name", "")), str(value.get("email", "")))
    elif isinstance(value, str):
        for part in re.split(r"[,;\n]| and ", value):
            name, opened, address = (piece.strip() for piece in part.partition("<"))
            if not opened and "@" in name:
                yield Author(address=name)
            elif name or address:
                yield Author(name, address.rstrip("> "))


def noted_by(*values: object) -> tuple[Author, ...]:
    """The authors whom metadata names, without what is nobody's full name or address."""
    named = (author for value in values for author in written_by(_straight(value)))
    return tuple(dict.fromkeys(author for author in named if author.address or _is_person(author.name)))


def _straight(value: object) -> object:
    """`Lee, Ann; Roe, Bo` as `Ann Lee; Bo Roe`: a word before the only comma is a family name; no posts."""
    if not isinstance(value, str):
        return None
    named = (_POST.sub("", one) for one in _SEVERAL.split(value))
    return "\n".join(re.sub(r"^\s*(\S+), *([^,]+?)\s*$", r"\2 \1", one) for one in named)


def _is_person(name: str) -> bool:
    return (
        len(name) <= _NAME_CHARS_MAX
        and _FULL_NAME.fullmatch(name) is not None
        and not _NOT_A_PERSON.search(name)
    )
