"""Cuts an item into passages along its structure, each an exact span of its text. It knows no tokenizer.

A passage never crosses a heading, and ends within a sentence only where that one is too long for any passage.
No cut goes through what a reader sees as one sign, however many characters it is made of.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

import regex
from pydantic import AwareDatetime
from sentencex import get_sentence_boundaries

from llmtwin.errors import InputError
from llmtwin.records import Record
from llmtwin.twins.person.blocks import VOICE, Block, BlockKind, blocks
from llmtwin.twins.person.sources.items import Item

TOKENS_MIN = 16
SIGNS_A_TOKEN_MAX = 32

_SIGN = regex.compile(r"\X")
# Where a script that puts no blanks between words may be cut: behind its own stops.
_STOPS = r"\u0f0b-\u0f14\u1361-\u1368\u3001\u3002\uff01\uff0c\uff1f"
_PART = regex.compile(rf"[^{_STOPS}]*(?:[{_STOPS}]\p{{M}}*)+\s*|[^{_STOPS}]+")
_UNSPACED = regex.compile(
    r"[\p{Tibetan}--\p{P}]+|[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]", regex.V1
)

CountTokens = Callable[[str], int]
Way = Callable[[str], list[tuple[int, int]]]


class Extent(Record):
    """From `start` up to but without `end`, in the text of an item."""

    start: int
    end: int


class Passage(Record):
    """A part of an item, with all that is needed to cite it: `item.text[start:end] == text`.

    `voice` are the parts of it that are the person's prose: neither code nor quotations nor tables.
    `headings` is the path down to it, without the item's own title.
    """

    item: str
    source: str
    date: AwareDatetime | None
    title: str
    headings: tuple[str, ...]
    address: str
    audience: str
    position: int
    start: int
    end: int
    text: str
    voice: tuple[Extent, ...]

    @property
    def id(self) -> str:
        """The beginning of the item's id with the passage's number in it; short enough for a prompt's id."""
        return f"{self.item[:40]}-{self.position}"


@dataclass(frozen=True)
class _Piece:
    """What is never cut further."""

    start: int
    end: int
    block: Block


def passages(item: Item, count_tokens: CountTokens, tokens_max: int) -> list[Passage]:
    """An item in passages of at most `tokens_max` tokens, in its order; headings are not part of them.

    Raises InputError for a limit under 16 tokens, in which a sign may not fit.
    """
    if tokens_max < TOKENS_MIN:
        raise InputError(f"a passage of {tokens_max} tokens is too short; give {TOKENS_MIN} or more")
    cut = _Cutter(item.text, count_tokens, tokens_max)
    found = [pieces for section in _sections(item.text) for pieces in cut.groups(section)]
    return [_passage(item, position, pieces) for position, pieces in enumerate(found)]


def _sections(text: str) -> Iterator[list[Block]]:
    """The blocks between two headings; the same heading may stand twice in a row."""
    for is_heading, section in groupby(blocks(text), key=lambda block: block.kind is BlockKind.HEADING):
        if not is_heading:
            yield list(section)


def is_same_title(some: str, other: str) -> bool:
    """Whether two titles say the same, whatever their markup and casing."""
    return re.sub(r"\W", "", some).casefold() == re.sub(r"\W", "", other).casefold()


def count_words(text: str) -> int:
    """How many words a text has; where a script puts no blanks between them, syllables or signs."""
    return sum(max(1, len(_UNSPACED.findall(word))) for word in text.split())


def words_that_fit(text: str, count_tokens: CountTokens, tokens_max: int) -> Iterator[str]:
    """The words of a text, each with the blanks behind it, and one that is too long in parts that fit."""
    cut = _Cutter(text, count_tokens, tokens_max)
    for word in re.finditer(r"\S+\s*", text):
        for start, end in cut.parts(*word.span()):
            yield text[start:end]


def sentences(text: str) -> list[tuple[int, int]]:
    """The spans of the sentences of a text, without the blanks between them; as in English writing."""
    spans = []
    for found in get_sentence_boundaries("en", text):
        start, end = int(found["start_index"]), int(found["end_index"])
        said = text[start:end]
        if said.strip():
            spans.append((start + len(said) - len(said.lstrip()), start + len(said.rstrip())))
    return spans


class _Cutter:
    """Cuts the blocks of one text into groups of pieces that fit."""

    def __init__(self, text: str, count_tokens: CountTokens, tokens_max: int) -> None:
        self._text = text
        self._count = count_tokens
        self._tokens_max = tokens_max

    def groups(self, section: list[Block]) -> Iterator[list[_Piece]]:
        """The pieces of a section's blocks, as many together as fit."""
        group: list[_Piece] = []
        for block in section:
            prose = block.kind not in (BlockKind.CODE, BlockKind.OTHER)
            for start, end in self._cut(block.start, block.end, _PROSE_WAYS if prose else _PROSE_WAYS[1:]):
                if group and not self._fits(group[0].start, end):
                    yield group
                    group = []
                group.append(_Piece(start, end, block))
        if group:
            yield group

    def _fits(self, start: int, end: int) -> bool:
        return self._count(self._text[start:end]) <= self._tokens_max

    def _cut(self, start: int, end: int, ways: tuple[Way, ...]) -> Iterator[tuple[int, int]]:
        """The span, cut the first way in which it comes apart, and again where that is not enough."""
        if self._fits(start, end):
            yield start, end
        elif not ways:
            yield from self._signs(start, end)
        else:
            for first, last in ways[0](self._text[start:end]):
                yield from self._cut(start + first, start + last, ways[1:])

    def parts(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """A word, in parts where it is too long."""
        return self._cut(start, end, (_parts,))

    def _signs(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """What nothing else cuts, in the longest runs of whole signs that fit."""
        ends = [start + sign.end() for sign in _SIGN.finditer(self._text[start:end])]
        while start < end:
            # One sign at least, so that it comes to an end with any tokenizer.
            least = bisect_right(ends, start) + 1
            most = bisect_right(ends, start + SIGNS_A_TOKEN_MAX * self._tokens_max)
            fitting = bisect_right(
                ends, False, least, max(least, most), key=lambda last: not self._fits(start, last)
            )
            yield start, ends[fitting - 1]
            start = ends[fitting - 1]


def _lines(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"[^\r\n]*[^\s][^\r\n]*", text)]


def _words(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\S+", text)]


def _parts(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in _PART.finditer(text)]


# How what is too long is cut, the gentlest way first.
_PROSE_WAYS: tuple[Way, ...] = (sentences, _lines, _words, _parts)


def _passage(item: Item, position: int, pieces: list[_Piece]) -> Passage:
    start, end = pieces[0].start, pieces[-1].end
    parts = groupby(pieces, key=lambda piece: piece.block.kind in VOICE)
    runs = [list(run) for spoken, run in parts if spoken]
    headings = pieces[0].block.headings
    titled = bool(headings) and is_same_title(headings[0], item.title)
    return Passage(
        item=item.id,
        source=item.source,
        date=item.date,
        title=item.title,
        headings=headings[1:] if titled else headings,
        address=item.address,
        audience=item.audience,
        position=position,
        start=start,
        end=end,
        text=item.text[start:end],
        voice=tuple(Extent(start=run[0].start, end=run[-1].end) for run in runs),
    )
