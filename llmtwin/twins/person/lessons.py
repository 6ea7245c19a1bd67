"""What an adapter learns of a person's documents and corrections. It knows no model.

The newest documents are held out, whole: a card that is measured on them says how well a voice carries on.
The plain text carries all of the style, the pairs make a voice answer prompts: replies all, others in part,
since the same words twice are soon learned by heart.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from llmtwin.errors import InputError
from llmtwin.records import Correction, Example, Preference
from llmtwin.twins.kind import Known, Lessons, Voice
from llmtwin.twins.person import collect
from llmtwin.twins.person.chunks import CountTokens, count_words, words_that_fit
from llmtwin.twins.person.examples import Making, Pair, Shape, pairs
from llmtwin.twins.person.sources.items import Item
from llmtwin.twins.person.split import By, apart, split
from llmtwin.twins.person.voices import select
from llmtwin.twins.private.stand_ins import stand_ins

HELD_OUT_SHARE = 0.1
COMPLETION_TOKENS_MAX = 256
WINDOW_TOKENS_MAX = 512
PAIRS_SHARE = 0.3
"""How many tokens of pairs there are, beside the replies, for each token of plain text."""
WORDS_MIN = 1000

_TASKS = frozenset({Shape.TITLE, Shape.HEADING, Shape.OUTLINE})


def lessons(known: Known, voice: Voice, count_tokens: CountTokens, key: bytes) -> Lessons:
    """What the voice's documents teach but for the held-out ones, with stand-ins for what is private.

    Raises InputError for too little to learn a voice from.
    """
    every = (one.item for one in collect.written(known))
    items = select(every, voice.audience, voice.since, voice.until)
    words = sum(count_words(item.text) for item in items)
    if words < WORDS_MIN or len(items) < 2:
        raise InputError(
            f"{len(items)} documents with {words} words are too few to learn a voice from: it takes two or"
            f" more with {WORDS_MIN} words in all; until then the twin answers from its memory alone"
        )
    parts = split(items, HELD_OUT_SHARE, By.TIME, seed=0)
    marker = collect.marking(collect.others(known))
    held_out = {item.address: stand_ins(item.text, marker.mark(item.text), key) for item in parts.held_out}
    making = Making(marker, key, count_tokens, COMPLETION_TOKENS_MAX)
    preferred = tuple(_preference(one, making) for one in known.corrections)
    # The one small step of a preference changes little: what was corrected is also learned as an example.
    corrected = [Example(prompt=one.prompt, completion=one.chosen) for one in preferred]
    taught = _taught(parts.train, tuple(held_out.values()), making)
    return Lessons(
        examples=(*(pair.example for pair in taught), *corrected),
        tasks=tuple(pair.example for pair in taught if pair.shape in _TASKS),
        preferences=preferred,
        learned=tuple(item.address for item in parts.train),
        held_out=held_out,
    )


def _preference(correction: Correction, making: Making) -> Preference:
    prompt, chosen, rejected = (
        stand_ins(text, making.marker.mark(text), making.key)
        for text in (correction.prompt, correction.chosen, correction.rejected)
    )
    return Preference(prompt=prompt, chosen=chosen, rejected=rejected)


def learned(items: Sequence[Item], held_out: Sequence[str], making: Making) -> list[Example]:
    """What items teach; nothing of it shares twelve words in a row with a held-out text."""
    return [pair.example for pair in _taught(items, held_out, making)]


def _taught(items: Sequence[Item], held_out: Sequence[str], making: Making) -> list[Pair]:
    plain = list(_plain(items, held_out, making))
    asked = apart((pair for item in items for pair in pairs(item, making)), held_out)
    replies = [pair for pair in asked if pair.shape is Shape.REPLY]
    others = [pair for pair in asked if pair.shape is not Shape.REPLY]
    tokens = PAIRS_SHARE * sum(making.count_tokens(window.completion) for window in plain)
    drawn = _drawn(others, tokens, making.count_tokens)
    return [*replies, *drawn, *apart(plain, held_out)]


def _drawn(every: Sequence[Pair], tokens: float, count_tokens: CountTokens) -> Iterator[Pair]:
    """Some of the pairs, drawn by a fixed seed until they have so many tokens."""
    queue = sorted(every, key=lambda pair: (pair.item, pair.start, pair.shape))
    random.Random(0).shuffle(queue)
    for pair in queue:
        if tokens <= 0:
            break
        tokens -= count_tokens(pair.prompt) + count_tokens(pair.completion)
        yield pair


def _plain(items: Sequence[Item], held_out: Sequence[str], making: Making) -> Iterator[Pair]:
    """The items in windows that answer nothing, without the paragraphs that stand in held-out ones too."""
    for item in items:
        text = stand_ins(item.text, making.marker.mark(item.text), making.key)
        kept = apart((_text(item, paragraph) for paragraph in text.split("\n\n")), held_out)
        for window in windows("\n\n".join(pair.completion for pair in kept), making.count_tokens):
            yield _text(item, window)


def windows(text: str, count_tokens: CountTokens) -> Iterator[str]:
    """A text in parts of whole words, each as long as fits."""
    window, tokens = "", 0
    for word in words_that_fit(text, count_tokens, WINDOW_TOKENS_MAX):
        size = count_tokens(word)
        if window and tokens + size > WINDOW_TOKENS_MAX:
            yield window.rstrip()
            window, tokens = "", 0
        window, tokens = window + word, tokens + size
    if window:
        yield window.rstrip()


def _text(item: Item, text: str) -> Pair:
    return Pair(Shape.PLAIN, item.id, 0, len(item.text), "", text)
