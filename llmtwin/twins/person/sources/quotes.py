"""Takes a mail's body apart into what its sender wrote and what others did. It knows no headers.

`quotequail` finds replies and forwards by how mail programs announce them, in many languages. Lines with `>`
are quoted even where nothing announces them, and then the line above that names a person goes with them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import quotequail

# A conversation has no more turns than this; the rest of a longer body is taken as quoted.
_TURNS_MAX = 200
# The space belongs to it (RFC 3676), but many programs take it off; then only few lines are a signature.
_SIGNATURE = re.compile(r"^-- ?$", re.M)
_SIGNATURE_LINES_MAX = 10
# No program announces a quote with so much.
_LINE_CHARS_MAX = 400
_PGP = re.compile(
    r"^-----BEGIN PGP SIGNED MESSAGE-----\n(?:\w+:.*\n)*\n|^-----BEGIN PGP SIGNATURE-----[\s\S]*", re.M
)
# What announces a quote in a language that `quotequail` lacks says who or when: `Il giorno 3 mag 2024 ...:`.
_WHO_OR_WHEN = re.compile(r"@|\d{4}|\d:\d\d")
_ANNOUNCEMENT_LINES_MAX = 3
# Headers above a quoted mail in a language that quotequail lacks: a paragraph of `Da: …`, `件名: …`, perhaps
# below a rule. The first has a name and its address, or the second a date and time, as Outlook's do.
_HEADERS = re.compile(
    r"(?:\A|\n[ \t]*(?=\n|[-_*=]{2}))[ \t]*\n?(?:[-_*=]{2,}.*\n(?:[ \t]*\n)?)?"
    r"((?:^\*?[^\W\d][^\n:\uff1a]{0,24}[:\uff1a](?!//)\*?[ \t]*\S.*(?:\n|\Z)){3,})(?=[ \t]*\n|\Z)",
    re.M,
)
# A name before its address: a list of how to reach somebody has the address alone.
_SENDER = re.compile(r"[:\uff1a]\*?[ \t]*[^\s<].*<[^<>\s]+@[^<>\s]+>")
_DATE_AND_TIME = re.compile(r"\d{4}.*\d[:.]\d\d")
_CONTACT = re.compile(r"@|\d{3}|://|www\.")
# What closes so many mails, and says how to reach somebody, is no part of any.
_FOOTER_COUNT_MIN = 3


def split_body(body: str) -> tuple[str, str]:
    """The sender's own words, and what they answer or pass on."""
    own: list[str] = []
    others: list[str] = []
    rest, tails = _shortened(_PGP.sub("", body.replace("\0", "")))
    for _ in range(_TURNS_MAX):
        found = quotequail.unwrap(rest) or {"text_top": rest}
        top = found.get("text_top", "")
        start = _headers_start(top)
        _take(top[:start], own, others)
        if start < len(top):
            others += [top[start:], found.get("text", ""), found.get("text_bottom", "")]
            break
        if "type" not in found:
            break
        if found["type"] == "quote":
            own[-1:] = [_unannounced(last) for last in own[-1:]]
        others.append(found.get("text", ""))
        rest = found.get("text_bottom", "")
    else:
        others.append(rest)
    return _restored(_joined(own), tails), _restored(_joined(others), tails)


def _shortened(body: str) -> tuple[str, list[str]]:
    """The body without the ends of long lines, and these: patterns take hours over lines made for that."""
    tails: list[str] = []

    def shorten(line: str) -> str:
        if len(line) <= _LINE_CHARS_MAX:
            return line
        tails.append(line[_LINE_CHARS_MAX:])
        return f"{line[:_LINE_CHARS_MAX]}\0{len(tails) - 1}\0"

    return "\n".join(map(shorten, body.split("\n"))), tails


def _restored(text: str, tails: Sequence[str]) -> str:
    return re.sub("\0(\\d+)\0", lambda tail: tails[int(tail[1])], text)


def _headers_start(text: str) -> int:
    """Where the headers of a mail begin that is quoted to the end; else the end."""
    for match in _HEADERS.finditer(text):
        lines = match[1].strip().split("\n")
        labels = {re.split(r"[:\uff1a]", line)[0] for line in lines}
        # A meeting is announced with three.
        dated = (len(lines) > 3 or "@" in lines[0]) and _DATE_AND_TIME.search(lines[1])
        if len(labels) == len(lines) and (_SENDER.search(lines[0]) or dated):
            return match.start()
    return len(text)


def _take(text: str, own: list[str], others: list[str]) -> None:
    """Lines with `>` are others' words, and so is what announces them."""
    for quoted, lines in _runs(_without_signature(text).split("\n")):
        if quoted:
            own[-1:] = [_unannounced(last) for last in own[-1:]]
            others.append("\n".join(re.sub(r"^\s*>+ ?", "", line) for line in lines))
        else:
            own.append("\n".join(lines).strip())


def _unannounced(text: str) -> str:
    """The text before a quote without a last paragraph, or line, that says whose words come now."""
    before, _, paragraph = text.rpartition("\n\n")
    if paragraph.count("\n") >= _ANNOUNCEMENT_LINES_MAX:
        before, _, paragraph = text.rpartition("\n")
    return before if paragraph.rstrip().endswith(":") and _WHO_OR_WHEN.search(paragraph) else text


def _runs(lines: Sequence[str]) -> list[tuple[bool, list[str]]]:
    runs: list[tuple[bool, list[str]]] = []
    for line in lines:
        quoted = line.lstrip().startswith(">")
        if not runs or runs[-1][0] != quoted:
            runs.append((quoted, []))
        runs[-1][1].append(line)
    return runs


def _without_signature(text: str) -> str:
    for match in _SIGNATURE.finditer(text):
        if match[0] == "-- " or text.count("\n", match.end()) <= _SIGNATURE_LINES_MAX:
            return text[: match.start()]
    return text


def _joined(parts: list[str]) -> str:
    return "\n\n".join(part for part in parts if part.strip())


def without_footers(texts: Sequence[str]) -> list[str]:
    """The texts without the last paragraphs that many of them share and that say how to reach somebody."""
    counts = Counter(_last(text) for text in texts)
    footers = {last for last, count in counts.items() if count >= _FOOTER_COUNT_MIN and _CONTACT.search(last)}
    return [text[: -len(_last(text))].rstrip() if _last(text) in footers else text for text in texts]


def _last(text: str) -> str:
    return re.split(r"\n[ \t]*\n", text)[-1]
