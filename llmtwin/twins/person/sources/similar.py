"""Finds items that nearly repeat others, of which the first stays, or that are versions of one thing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from datasketch import MinHash, MinHashLSH

from llmtwin.twins.person.sources.items import Item

# The share of common shingles from which on two texts count as one.
SIMILARITY_MIN = 0.8
SHINGLE_WORDS = 3
# Shorter ones, such as answers in a chat, are only alike if they are the same and answer the same.
WORDS_MIN = 20
_PERMUTATIONS = 128
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Duplicate:
    """An item that was left out, and the id of the one that it repeats or is a version of."""

    item: Item
    of: str


@dataclass(frozen=True)
class Distinct:
    """The items that are new, in their order, and those that are not."""

    items: tuple[Item, ...]
    duplicates: tuple[Duplicate, ...]


def distinct(items: Iterable[Item], known: Iterable[Item] = ()) -> Distinct:
    """The items that repeat neither each other nor what is known already.

    An item with the id of a known one is neither new nor named. Of several with one address one stays, in
    whatever order they come: what is whole before an excerpt, then the longest. It is a new version of a
    known one at that address, unless it is an excerpt and that one is known to be whole.
    """
    given, before = list(items), list(known)
    best = {item.address: item for item in sorted(given, key=_worth)}
    whole = {one.address: one for one in before if one.excerpt is False}
    best |= {at: one for at, one in whole.items() if _is_excerpt(best.get(at))}
    seen = _Seen()
    for item in before:
        seen.add(item)
    kept: list[Item] = []
    duplicates: list[Duplicate] = []
    for item in given:
        if item.id in seen:
            continue
        wanted = best[item.address]
        first = seen.like(item) if item.id == wanted.id else wanted.id
        if first is not None:
            duplicates.append(Duplicate(item, first))
        else:
            kept.append(item)
            seen.add(item)
    return Distinct(tuple(kept), tuple(duplicates))


def _worth(item: Item) -> tuple[bool, int, str]:
    """What orders versions of one thing: the greatest is wanted."""
    return not item.excerpt, len(item.text), item.id


def _is_excerpt(item: Item | None) -> bool:
    return item is not None and item.excerpt is True


class _Seen:
    """Items by what they say."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._hashes: dict[str, MinHash] = {}
        self._short: dict[tuple[str, str | None], list[str]] = {}
        self._index = MinHashLSH(threshold=SIMILARITY_MIN, num_perm=_PERMUTATIONS)

    def __contains__(self, id: str) -> bool:
        return id in self._items

    def add(self, item: Item) -> None:
        """Remember an item; the same one again changes nothing."""
        if item.id in self._items:
            return
        self._items[item.id] = item
        shingles = _shingles(item.text)
        if shingles:
            self._hashes[item.id] = _hash(shingles)
            self._index.insert(item.id, self._hashes[item.id])
        else:
            self._short.setdefault((item.text, item.context), []).append(item.id)

    def like(self, item: Item) -> str | None:
        """The id of the item that this one repeats; None if there is none at another address."""
        ids = sorted(self._alike(item))
        if any(self._items[id].address == item.address for id in ids):
            return None
        return ids[0] if ids else None

    def _alike(self, item: Item) -> Iterator[str]:
        shingles = _shingles(item.text)
        if not shingles:
            yield from self._short.get((item.text, item.context), [])
            return
        hashed = _hash(shingles)
        for id in self._index.query(hashed):
            # The index only says which may be alike.
            if self._hashes[id].jaccard(hashed) >= SIMILARITY_MIN:
                yield id


def _shingles(text: str) -> list[bytes]:
    """The runs of words in a text; none where it is too short for them to tell anything."""
    words = _WORD.findall(text.casefold())
    if len(words) < WORDS_MIN:
        return []
    starts = range(len(words) - SHINGLE_WORDS + 1)
    return [" ".join(words[start : start + SHINGLE_WORDS]).encode() for start in starts]


def _hash(shingles: list[bytes]) -> MinHash:
    made = MinHash(num_perm=_PERMUTATIONS)
    made.update_batch(shingles)
    return made
