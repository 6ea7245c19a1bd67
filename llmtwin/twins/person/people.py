"""Finds the names of other people in what somebody wrote. It does not know who they are, nor hides them.

What is a name is known by where it stands, or by what a tagger takes for one in most of its places.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from llmtwin.twins.person.blocks import BlockKind, blocks
from llmtwin.twins.person.sources.items import Item
from llmtwin.twins.person.voices import MESSAGES, tag
from llmtwin.twins.private.names import (
    NAME_WORDS_MAX,
    Tagger,
    addressees,
    bare,
    greeted,
    is_name,
    is_of_a_product,
    parts,
    speakers,
    tagged,
)

# Of the places where a name stands, those where the tagger must take it for a person's.
TAGGED_SHARE_MIN = 0.5
LETTERS_MIN = 3

_MARKUP = re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)|`[^`\n]*`|https?://\S+|<[^<>\n]*>")
_TOKEN = re.compile(r"[^\W_](?:[\w'\u2019.-]*\w)?")


def people(items: Iterable[Item], own: Iterable[str] = (), tagger: Tagger | None = None) -> frozenset[str]:
    """The names of other people in the items, full names and single words; `own` are the person's names.

    A single word that the tagger takes for a name counts in mail and chat; in writing for the public, where
    it is as often a product, only beside a full name that it is part of.
    """
    census = _Census()
    for item in items:
        census.read(item, tagger)
    return of_others(census.names(), own)


def of_others(names: Iterable[str], own: Iterable[str]) -> frozenset[str]:
    """The names that are not made of the words of the person's `own`."""
    mine = {word.casefold() for name in own for word in name.split()}
    return frozenset(name for name in names if not {word.casefold() for word in name.split()} <= mine)


class _Census:
    """Counts where words stand, and how often they were taken for a name."""

    def __init__(self) -> None:
        self._named: set[str] = set()
        self._tagged: Counter[str] = Counter()
        self._in_messages: set[str] = set()
        self._words: list[str] = []

    def read(self, item: Item, tagger: Tagger | None) -> None:
        """Take in one item, what it answers, and whom it was for."""
        is_message = tag(item.audience) in MESSAGES
        self._named |= _addressed(item) if is_message else addressees(item.text)
        for text in (item.title, *_told(item.context or ""), *_told(item.text)):
            plain = _MARKUP.sub(lambda found: found[1] or " ", text)
            self._words += [*map(bare, _TOKEN.findall(plain)), ""]
            names = tagged(plain, tagger) if tagger else []
            self._tagged.update(names)
            self._in_messages |= set(names) if is_message else set()

    def names(self) -> frozenset[str]:
        """What is a name by where it stands, by most of its places, or as a part of such a name."""
        ordinary = {word for word in self._words if word[:1].islower()}
        seen = self._seen()
        sure = self._named | {name for name in self._tagged if self._is_name(name, seen[name], ordinary)}
        within: Counter[str] = Counter()
        for name in sure:
            within.update({part: seen[name] for part in name.split() if part != name})
        addressed = {part for name in self._named for part in name.split()}
        parts = {
            part
            for part, count in within.items()
            if len(part) >= LETTERS_MIN and part[0].isupper() and part.lower() not in ordinary
            if part in addressed or self._tagged[part] >= TAGGED_SHARE_MIN * (seen[part] - count)
        }
        return frozenset(sure | parts)

    def _is_name(self, name: str, seen: int, ordinary: set[str]) -> bool:
        if len(name) < LETTERS_MIN or self._tagged[name] < TAGGED_SHARE_MIN * seen:
            return False
        words = name.split()
        if {word.lower() for word in words} <= ordinary or any(map(is_of_a_product, words)):
            return False
        return " " in name or name in self._in_messages

    def _seen(self) -> Counter[str]:
        """How often each candidate and each of its words stands anywhere."""
        candidates = {*self._tagged, *self._named}
        candidates |= {part for name in candidates for part in name.split()}
        starts = range(len(self._words))
        grams = (
            " ".join(self._words[at : at + size]) for size in range(1, NAME_WORDS_MAX + 1) for at in starts
        )
        return Counter(gram for gram in grams if gram in candidates)


def _addressed(item: Item) -> set[str]:
    """Who is named by where the name stands in a message, in what it answers, or as its reader."""
    found = addressees(item.text)
    for text in (item.text, item.context or ""):
        found |= greeted(text)
    found |= speakers(item.context or "") | addressees(item.context or "")
    whom = item.audience.partition(":")[2]
    return found | ({whom} if is_name(whom) else set())


def _told(text: str) -> Iterator[str]:
    """All of a text but its code, in parts that a tagger can take."""
    said = "\n\n".join(
        text[block.start : block.end] for block in blocks(text) if block.kind is not BlockKind.CODE
    )
    yield from parts(said)
