"""Takes out of a text what its author did not write. It does not know good writing, and changes no word.

It only ever deletes, but for accents written as two characters, which become one. Apostrophes, dashes,
quotes, line breaks, emoji and casing stay as written, and code stays as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from llmtwin.twins.person.blocks import BlockKind, blocks
from llmtwin.twins.person.sources.items import Item

# NFC of a whole text would also rewrite signs that stand alone (the Greek question mark, the Ångström sign).
_ACCENTED = re.compile(r"[^\W\d_][\u0300-\u036f]+")

_FENCED_MATTER = re.compile(
    r"\A\s*(---|\+\+\+)[ \t]*\r?\n"
    r"(?:(?!\1)(?:[\w.-]+[ \t]*[:=]|[ \t#-]).*\r?\n|\r?\n)+?"
    r"\1[ \t]*(?:\r?\n|\Z)"
)
_HEADER = re.compile(r"\A\s*(?:[A-Z][\w-]*:(?:[ \t].*)?(?:\r?\n[ \t]+\S.*)*(?:\r?\n|\Z)){2,}(?=\s|\Z)")
_HEADER_KEYS = re.compile(r"^(?:Title|Author|Date|Created|Subject|From|To|Status|Tags|Layout):", re.M)

_INLINE_CODE = re.compile(r"(?<!`)(`+)(?!`)(?:(?!\n\s*\n).)+?(?<!`)\1(?!`)", re.S)

_DEVICE = (
    r"(?:iphone|ipad|ipod|apple watch|android|samsung|galaxy|huawei|pixel|blackberry|windows phone|mobile"
    r"|phone|mail for windows|yahoo mail|proton ?mail|outlook|gmail|airmail|thunderbird|k-9 mail|fairemail)"
)
_PARAGRAPH = r"(?:[^\n]|\n(?!\s*\n))*"
# Whole lines that programs add. They begin with a capital, which the wrapped line of a sentence seldom does.
_LINES = (
    rf"sent (?:from|with|via) (?:my )?(?:\w+,? )?{_DEVICE}(?: [\w,]+){{0,5}}",
    r"get outlook for (?:ios|android|mac)",
    rf"(?:gesendet von mein\w+|envoyé de(?:puis)? mon|enviado (?:desde mi|do meu)) {_DEVICE}(?: \w+){{0,3}}",
    r"von meinem \w+ gesendet",
    r"virus-free\.[ \t]+www\.\w+\.com\S*",
    r"this e-?mail (?:has been|was) checked for viruses[^\n]*",
    r"please consider the environment before printing[^\n]*",
    r"(?:this|the (?:information|contents?)[^\n]{0,40}) e-?mail"
    rf"(?={_PARAGRAPH}?(?:recipient|addressee|sender)){_PARAGRAPH}?(?:confidential|privileged|intended){_PARAGRAPH}",
    r"unsubscribe(?: here| now| from this list)?",
    r"view (?:this (?:post|e-?mail) )?(?:in|on) (?:your browser|the web)",
    r"thanks for reading[^\n]{0,60}subscribe for free to receive new posts[^\n]*",
    r"<media omitted>",
)
_NOT_WRITTEN = tuple(
    re.compile(pattern)
    for pattern in (
        r"\A\ufeff",
        r"(?m)^[ \t*_]*(?=[A-Z<])(?i:" + "|".join(_LINES) + r")[ \t*_.!]*$",
        # The settings of an editor.
        r"(?m)^\.\.[ \t]*\r?\n[ \t]+Local Variables:.*\n(?:.*\n){0,40}?[ \t]+End:[ \t]*$",
        r"(?m)^(?:vim?|ex):[ \t]*set?[ \t].*:[ \t]*$",
        # What mail and web programs pack into text: pictures as data, attachments, keys.
        r"!\[[^\]\n]*\]\(data:[^)\s]*\)",
        r"data:[\w.+-]+/[\w.+-]+;base64,[A-Za-z0-9+/=%]+",
        r"-----BEGIN ([A-Z ]+)-----\n(?:.*\n){0,400}?-----END \1-----",
        r"(?m)^(?:[A-Za-z0-9+/]{60,}\r?\n){3,}[A-Za-z0-9+/]*={0,2}[ \t]*$",
        r"(?<![\w/])(?=[A-Za-z+/]{0,80}\d)[A-Za-z0-9+/]{240,}={0,2}",
    )
)
_COMMENT = re.compile(r"<!--[\s\S]*?-->")
_ADDRESS = re.compile(r"https?://[^\s<>\"'`)\]]*[^\s<>\"'`)\].,;:!?]")
_QUERY = re.compile(r"\?([^#]*)")
_TRACKER = re.compile(
    r"(?:utm_\w+|fbclid|gclid|dclid|msclkid|yclid|twclid|igshid|mc_[ce]id|_hs(?:enc|mi)|vero_id|mkt_tok)=",
    re.I,
)
_LINE_END = re.compile(r"[ \t]*(?:\r?\n|\Z)")

Spans = list[tuple[int, int]]


def clean(text: str) -> str:
    """The text without front matter, program-made lines, comments, packed data and the trackers of links."""
    text = _ACCENTED.sub(lambda found: unicodedata.normalize("NFC", found[0]), text)
    text = text[_front_matter(text) :]
    code = _code(text)
    return _without(text, [span for span in _not_written(text) if not _touches(span, code)])


def cleaned(item: Item) -> Item | None:
    """The item with a clean text, under its id; None where nothing of it was written by its author."""
    text = clean(item.text)
    return item.model_copy(update={"text": text}) if text.strip() else None


def _front_matter(text: str) -> int:
    """Where the writing begins."""
    fenced = _FENCED_MATTER.match(text)
    if fenced:
        return fenced.end()
    header = _HEADER.match(text)
    return header.end() if header and _HEADER_KEYS.search(header[0]) else 0


def _code(text: str) -> Spans:
    found = [(block.start, block.end) for block in blocks(text) if block.kind is BlockKind.CODE]
    inline = (match.span() for match in _INLINE_CODE.finditer(text))
    return [*found, *(span for span in inline if not _touches(span, found))]


def _touches(span: tuple[int, int], others: Spans) -> bool:
    return any(start < span[1] and span[0] < end for start, end in others)


def _not_written(text: str) -> Spans:
    found = [match.span() for pattern in _NOT_WRITTEN for match in pattern.finditer(text)]
    # Up to the last end of one, so that many without an end are not each sought through the whole text.
    found += [match.span() for match in _COMMENT.finditer(text, 0, text.rfind("-->") + 3)]
    for address in _ADDRESS.finditer(text):
        found += _trackers(address[0], address.start())
    return found


def _trackers(address: str, offset: int) -> Iterator[tuple[int, int]]:
    """The parts of one address that track its reader, each with the sign that joins it to the rest."""
    query = _QUERY.search(address)
    if query is None:
        return
    at, kept = offset + query.start(1), False
    parts = query[1].split("&")
    if all(_TRACKER.match(part) for part in parts):
        yield at - 1, at + len(query[1])
        return
    for part in parts:
        if not _TRACKER.match(part):
            kept = True
        else:
            yield (at - 1, at + len(part)) if kept else (at, at + len(part) + 1)
        at += len(part) + 1


def _without(text: str, spans: Spans) -> str:
    """The text less those spans; a line that they leave empty goes too."""
    kept, at = "", 0
    for start, end in sorted(spans):
        if end <= at:
            continue
        kept += text[at : max(at, start)]
        at = end
        if kept[-1:] in ("", "\n") and (line_end := _LINE_END.match(text, at)):
            at = line_end.end()
    return kept + text[at:]
