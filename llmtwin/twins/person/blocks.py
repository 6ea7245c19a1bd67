"""Takes a text apart into headings, paragraphs, items, code and quotes. It knows neither tokens nor authors.

A text is Markdown, reStructuredText or plain; blocks are spans of it, so that nothing is ever written anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import accumulate

from markdown_it import MarkdownIt
from markdown_it.token import Token

from llmtwin.twins.person.markup import parser


class BlockKind(StrEnum):
    """What a block is. Paragraphs and list items are the person's voice; the rest is not."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    ITEM = "item"
    CODE = "code"
    QUOTE = "quote"
    OTHER = "other"


VOICE = frozenset({BlockKind.PARAGRAPH, BlockKind.ITEM})


@dataclass(frozen=True)
class Block:
    """A span of a text that belongs together; `headings` is the path down to it, its own last."""

    kind: BlockKind
    start: int
    end: int
    headings: tuple[str, ...]


_KINDS = {
    "heading_open": BlockKind.HEADING,
    "paragraph_open": BlockKind.PARAGRAPH,
    "fence": BlockKind.CODE,
    "code_block": BlockKind.CODE,
    "literal_block": BlockKind.CODE,
    "blockquote_open": BlockKind.QUOTE,
    "table_open": BlockKind.OTHER,
    "html_block": BlockKind.OTHER,
}
# Text that is indented without being code: verse, letters, typewriter paragraphs.
_CODE_SIGN = re.compile(
    r"[{}\[\]<>=_$#@\\|/+&%~^`]|\w\(|;$|^\s*(?:import|from \w+ import|return|def|class|[A-Z]{4,} \w+)\b", re.M
)
_WORDS_A_LINE_MIN = 3
# Comments, directives and footnotes of reStructuredText, and the rules of its tables.
_DIRECTIVE = re.compile(r"\s*(?:[-*]\s+)?\.\. ?(?:[\[_|]|[\w:-]+::|\Z)|\s*(?:\.\.|::)\s*\Z")
_TABLE_RULE = re.compile(r"^(?=.*[-=]{3})[ \t]*[-=+|]{2,}[-=+| \t]*$", re.M)
_HEADING_RULE = re.compile(r"^\W+$", re.M)
_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n|\Z)")
_PARAGRAPH = re.compile(r"\S(?:.|\n(?!\s*\n))*", re.M)


def blocks(text: str) -> list[Block]:
    """The blocks of a text in its order; what is between them is blank, or a definition of links."""
    path: list[tuple[int, str]] = []
    found: list[Block] = []
    for kind, level, title, start, end in _leaves(text):
        if kind is BlockKind.HEADING:
            path = [*(above for above in path if above[0] < level), (level, title)]
        headings = tuple(name for _, name in path)
        found += (Block(one, first, last, headings) for one, first, last in _judged(text, kind, start, end))
    return found


def _leaves(text: str) -> Iterator[tuple[BlockKind, int, str, int, int]]:
    """Kind, heading level, heading title, start and end of every block that holds no other."""
    tokens = _parser().parse(text)
    starts = [0, *accumulate(len(line) for line in _LINE.findall(text))]
    quoted_until, item_depth = -1, 0
    for index, token in enumerate(tokens):
        item_depth += (token.type == "list_item_open") - (token.type == "list_item_close")
        kind = _KINDS.get(token.type)
        if kind is None or token.map is None or token.map[0] < quoted_until:
            continue
        first, last = token.map
        if kind in (BlockKind.QUOTE, BlockKind.OTHER):
            quoted_until = last
        if kind is BlockKind.PARAGRAPH and item_depth:
            kind = BlockKind.ITEM
        if token.type == "code_block" and _reads_as_prose(text[starts[first] : starts[last]]):
            kind = BlockKind.PARAGRAPH
        title = _title(tokens[index + 1]) if kind is BlockKind.HEADING else ""
        if kind is BlockKind.HEADING and not title:
            kind = BlockKind.OTHER
        yield kind, int(token.tag[1:]) if title else 0, title, starts[first], starts[last]


@cache
def _parser() -> MarkdownIt:
    return parser()


@cache
def _line_parser() -> MarkdownIt:
    return MarkdownIt("commonmark")


def _title(heading: Token) -> str:
    children = [
        child for token in _line_parser().parseInline(heading.content) for child in token.children or []
    ]
    shown = (child for child in children if child.type != "html_inline")
    said = "".join(" " if child.type.endswith("break") else child.content for child in shown)
    # A title between two rules keeps the upper one.
    return " ".join(_HEADING_RULE.sub("", said).split()).lstrip("=~-^ ")


def _reads_as_prose(text: str) -> bool:
    lines = [line for line in text.splitlines() if line.strip()]
    words = sum(len(line.split()) for line in lines)
    begins = next((sign for sign in text if sign.isalpha()), "")
    return begins.isupper() and not _CODE_SIGN.search(text) and words >= _WORDS_A_LINE_MIN * len(lines)


def _judged(text: str, kind: BlockKind, start: int, end: int) -> Iterator[tuple[BlockKind, int, int]]:
    """The span without blank ends; what only looks like a paragraph is named for what it is."""
    body = text[start:end]
    if kind not in VOICE:
        end = start + len(body.rstrip())
        if end > start:
            yield kind, start, end
        return
    for paragraph in _PARAGRAPH.finditer(body):
        said, first = paragraph[0].rstrip(), start + paragraph.start()
        other = _DIRECTIVE.match(said) or _TABLE_RULE.search(said)
        yield BlockKind.OTHER if other else kind, first, first + len(said)
