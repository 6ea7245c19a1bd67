"""Sets apart what a twin is measured on from what it learns: whole documents. It does not know how it learns.

Neither a near copy of a held-out document nor twelve words in a row from one may reach the training examples.
"""

from __future__ import annotations

import random
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import accumulate

from llmtwin.errors import InputError
from llmtwin.twins.person.examples import Pair
from llmtwin.twins.person.sources.items import Item

RUN_WORDS = 12
SHINGLE_WORDS = 5
SHINGLES_MIN = 20
NEAR_SHARE_MIN = 0.5

Words = tuple[str, ...]


class By(StrEnum):
    """Which documents are held out: the newest, or ones drawn by a seed."""

    TIME = "time"
    DRAW = "draw"


@dataclass(frozen=True)
class Split:
    """Whole documents in three parts; `left_out` are near copies of held-out ones, of no use to either."""

    train: tuple[Item, ...]
    held_out: tuple[Item, ...]
    left_out: tuple[Item, ...]


def split(items: Sequence[Item], share: float, by: By, seed: int) -> Split:
    """Hold out whole documents that make up at least that share of the text, and always some, never all.

    The newest ones by TIME, those without a date counting as the oldest; by DRAW, and among equal dates, the
    seed decides. The order of the items does not matter. Raises InputError for a share that is not between 0
    and 1, or under two documents that are not near copies of each other.
    """
    if not 0 < share < 1:
        raise InputError(f"a held-out share of {share} cannot be; give one between 0 and 1")
    queue = _queue(items, by, seed)
    sizes = list(accumulate(len(item.text) for item in queue))
    number = bisect_left(sizes, share * sizes[-1]) + 1 if sizes else 0
    held_out, rest = queue[:number], queue[number:]
    near = _near_copies(rest, held_out)
    train = tuple(item for item in rest if item.id not in near)
    if not held_out or not train:
        raise InputError(
            f"{len(items)} documents are too few to learn from some and be measured on others; at least two"
            " that differ are needed, or a smaller share to hold out"
        )
    return Split(train, tuple(held_out), tuple(item for item in rest if item.id in near))


def _queue(items: Sequence[Item], by: By, seed: int) -> list[Item]:
    """The items, those to be held out first."""
    queue = sorted(items, key=lambda item: item.id)
    random.Random(seed).shuffle(queue)
    if by is By.TIME:
        oldest = datetime.min.replace(tzinfo=UTC)
        queue.sort(key=lambda item: item.date or oldest, reverse=True)
    return queue


def _near_copies(items: Iterable[Item], held_out: Iterable[Item]) -> frozenset[str]:
    """The ids of items that share half the shingles of the smaller of both with a held-out one."""
    held: dict[str, frozenset[Words]] = {item.id: _runs(item.text, SHINGLE_WORDS) for item in held_out}
    where: dict[Words, list[str]] = defaultdict(list)
    for name, shingles in held.items():
        for shingle in shingles:
            where[shingle].append(name)
    near = set()
    for item in items:
        shingles = _runs(item.text, SHINGLE_WORDS)
        shared = Counter(name for shingle in shingles for name in where.get(shingle, ()))
        if any(_is_near(count, len(shingles), len(held[name])) for name, count in shared.items()):
            near.add(item.id)
    return frozenset(near)


def _is_near(shared: int, some: int, others: int) -> bool:
    smaller, larger = sorted((some, others))
    # A few words may stand within any long text, which is no copy of them.
    return shared >= NEAR_SHARE_MIN * (smaller if smaller >= SHINGLES_MIN else larger)


def apart(pairs: Iterable[Pair], held_out: Iterable[str]) -> list[Pair]:
    """The pairs without those that share twelve words in a row with a held-out text, in prompt or completion.

    Casing and punctuation do not count. A held-out text that is shorter is one run, if it has five words.
    """
    by_length: dict[int, set[Words]] = defaultdict(set)
    for text in held_out:
        length = min(RUN_WORDS, len(_words(text)))
        if length >= SHINGLE_WORDS:
            by_length[length] |= _runs(text, length)
    return [
        pair
        for pair in pairs
        if not _shares(pair.prompt, by_length) and not _shares(pair.completion, by_length)
    ]


def _shares(text: str, by_length: dict[int, set[Words]]) -> bool:
    return any(not runs.isdisjoint(_runs(text, length)) for length, runs in by_length.items())


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _runs(text: str, length: int) -> frozenset[Words]:
    """Every run of so many words of a text."""
    words = _words(text)
    return frozenset(tuple(words[at : at + length]) for at in range(len(words) - length + 1))
