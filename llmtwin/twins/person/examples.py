"""Makes `<prompt, completion>` pairs of an item; every completion is the person's own text, word for word.

It does not know how names are found nor how examples are tuned. What is private has stand-ins in both halves
of a pair, and code, quotations and tables are never a completion.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from llmtwin.records import Example
from llmtwin.twins.person import wording
from llmtwin.twins.person.blocks import Block, BlockKind, blocks
from llmtwin.twins.person.chunks import CountTokens, count_words, is_same_title, passages, sentences
from llmtwin.twins.person.sources.items import Item
from llmtwin.twins.person.voices import tag
from llmtwin.twins.private.spans import Marker, Span
from llmtwin.twins.private.stand_ins import stand_ins

# Shorter runs of prose between two pieces of code say little of a voice; a message does, however short.
WORDS_MIN = 12
POINTS_MIN = 2

_MESSAGES = frozenset({"mail", "chat", "commit"})


class Shape(StrEnum):
    """What a pair asks of the person."""

    TITLE = "title"
    HEADING = "heading"
    REPLY = "reply"
    CONTINUATION = "continuation"
    OUTLINE = "outline"
    PLAIN = "plain"


@dataclass(frozen=True)
class Pair:
    """One example; but for stand-ins, its completion is `text[start:end]` of the item."""

    shape: Shape
    item: str
    start: int
    end: int
    prompt: str
    completion: str

    @property
    def example(self) -> Example:
        """The pair as the adapter learns it."""
        return Example(prompt=self.prompt, completion=self.completion)


@dataclass(frozen=True)
class Making:
    """How pairs are made: at most `tokens_max` tokens a completion, and an opening or a message as long.

    `key` is that of the stand-ins.
    """

    marker: Marker
    key: bytes
    count_tokens: CountTokens
    tokens_max: int


def pairs(item: Item, making: Making) -> list[Pair]:
    """The pairs of one item, in its order; empty where it holds no prose that something leads to.

    Raises InputError for a key or a limit that is too short.
    """
    return list(_Writing(item, making).pairs())


@dataclass(frozen=True)
class _Run:
    """Prose of one passage without a break; `opens` says whether it is the first under its headings."""

    start: int
    end: int
    headings: tuple[str, ...]
    opens: bool


class _Writing:
    """One item, what is private in it, and its prose."""

    def __init__(self, item: Item, making: Making) -> None:
        self._item = item
        self._making = making
        self._private = making.marker.mark(item.text)
        self._blocks = blocks(item.text)
        self._tag = tag(item.audience)
        self._genre = wording.genre(self._tag)

    def pairs(self) -> Iterator[Pair]:
        before: _Run | None = None
        for run in self._runs():
            for shape, prompt in self._prompts(run, before is None):
                yield self._pair(shape, prompt, run.start, run.end)
            yield from self._continuation(run, before)
            before = run

    def _runs(self) -> Iterator[_Run]:
        headings: tuple[str, ...] | None = None
        words_min = 1 if self._tag in _MESSAGES else WORDS_MIN
        for passage in passages(self._item, self._making.count_tokens, self._making.tokens_max):
            for voice in passage.voice:
                if count_words(self._item.text[voice.start : voice.end]) >= words_min:
                    yield _Run(voice.start, voice.end, passage.headings, passage.headings != headings)
                    headings = passage.headings

    def _prompts(self, run: _Run, first: bool) -> Iterator[tuple[Shape, str]]:
        """The prompts that the whole run answers."""
        if first and self._item.context:
            yield Shape.REPLY, wording.reply(self._genre, self._hidden(self._last(self._item.context)))
        elif first and self._item.title:
            yield Shape.TITLE, self._task()
        if run.opens and run.headings:
            yield Shape.HEADING, f"{self._task()}\n\n{self._part(run)}"
        if points := self._points(run):
            yield Shape.OUTLINE, wording.with_points(self._task(), points)
        elif outline := self._headings(run):
            yield Shape.OUTLINE, f"{self._task()}\n\n{outline}"

    def _task(self) -> str:
        title, making = self._item.title, self._making
        hidden = stand_ins(title, making.marker.mark_title(title), making.key)
        return wording.task(self._genre, hidden)

    def _part(self, run: _Run) -> str:
        return f'Write the part "{self._hidden(run.headings[-1])}".'

    def _points(self, run: _Run) -> list[str]:
        """The first sentences of the run's paragraphs; none if they say most of it."""
        paragraphs = [
            block
            for block in self._blocks
            if block.kind is BlockKind.PARAGRAPH and run.start <= block.start and block.end <= run.end
        ]
        points = [self._first_sentence(block) for block in paragraphs]
        if len(points) < POINTS_MIN or 2 * sum(map(len, points)) > run.end - run.start:
            return []
        return points

    def _headings(self, run: _Run) -> str | None:
        """The headings of the whole text, for a run that opens one of its parts."""
        if not run.opens or not run.headings:
            return None
        found = [block.headings[-1] for block in self._blocks if block.kind is BlockKind.HEADING]
        parts = [self._hidden(heading) for heading in found if not is_same_title(heading, self._item.title)]
        outline = "\n".join(["These are its parts:", *(f"- {part}" for part in parts), "", self._part(run)])
        return outline if len(parts) >= POINTS_MIN and self._fits(outline) else None

    def _first_sentence(self, block: Block) -> str:
        start, end = sentences(self._item.text[block.start : block.end])[0]
        return " ".join(self._said(block.start + start, block.start + end).split())

    def _continuation(self, run: _Run, before: _Run | None) -> Iterator[Pair]:
        """What was written before leads to the run; where there is none, its first sentence to the rest."""
        if before is not None and not self._item.text[before.end : run.start].strip():
            opening, start = self._said(before.start, before.end), run.start
        else:
            spans = sentences(self._item.text[run.start : run.end])
            if len(spans) < 2:
                return
            opening, start = self._said(run.start, run.start + spans[0][1]), run.start + spans[1][0]
        yield self._pair(Shape.CONTINUATION, wording.continuation(self._genre, opening), start, run.end)

    def _pair(self, shape: Shape, prompt: str, start: int, end: int) -> Pair:
        return Pair(shape, self._item.id, start, end, prompt, self._said(start, end))

    def _said(self, start: int, end: int) -> str:
        """A part of the item with stand-ins, also where a private span reaches beyond it."""
        inside = [
            Span(start=max(span.start, start) - start, end=min(span.end, end) - start, kind=span.kind)
            for span in self._private
            if span.start < end and span.end > start
        ]
        return stand_ins(self._item.text[start:end], inside, self._making.key)

    def _hidden(self, text: str) -> str:
        return stand_ins(text, self._making.marker.mark(text), self._making.key)

    def _last(self, text: str) -> str:
        """The end of a text, in whole words, that is no longer than a completion."""
        starts = [match.start() for match in re.finditer(r"\S+", text)]
        first = bisect_left(starts, True, key=lambda start: self._fits(text[start:]))
        return text[starts[first] :].rstrip() if first < len(starts) else ""

    def _fits(self, text: str) -> bool:
        return self._making.count_tokens(text) <= self._making.tokens_max
