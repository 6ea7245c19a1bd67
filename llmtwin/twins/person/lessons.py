"""What an adapter learns of a person's documents: pairs from most of them. It knows no model.

The newest documents are held out, whole: a card that is measured on them says how well a voice carries on.
"""

from __future__ import annotations

from llmtwin.errors import InputError
from llmtwin.twins.kind import Known, Lessons, Voice
from llmtwin.twins.person import collect
from llmtwin.twins.person.chunks import CountTokens
from llmtwin.twins.person.examples import Making, pairs
from llmtwin.twins.person.pii import Marker
from llmtwin.twins.person.split import By, apart, split
from llmtwin.twins.person.stand_ins import stand_ins
from llmtwin.twins.person.voices import select

HELD_OUT_SHARE = 0.1
COMPLETION_TOKENS_MAX = 256
WORDS_MIN = 1000


def lessons(known: Known, voice: Voice, count_tokens: CountTokens, key: bytes) -> Lessons:
    """Pairs of the voice's documents that are not held out, with stand-ins for what is private.

    Raises InputError for too little to learn a voice from.
    """
    every = (one.item for one in collect.written(known))
    items = select(every, voice.audience, voice.since, voice.until)
    words = sum(len(item.text.split()) for item in items)
    if words < WORDS_MIN or len(items) < 2:
        raise InputError(
            f"{len(items)} documents with {words} words are too few to learn a voice from: it takes two or"
            f" more with {WORDS_MIN} words in all; until then the twin answers from its memory alone"
        )
    parts = split(items, HELD_OUT_SHARE, By.TIME, seed=0)
    marker = Marker(collect.others(known))
    making = Making(marker, key, count_tokens, COMPLETION_TOKENS_MAX)
    held_out = [stand_ins(item.text, marker.mark(item.text), key) for item in parts.held_out]
    made = apart((pair for item in parts.train for pair in pairs(item, making)), held_out)
    return Lessons(tuple(pair.example for pair in made), tuple(held_out))
