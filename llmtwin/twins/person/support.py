"""Which sentences of a text the passages bear out, and which claim facts that stand in none of them.

It knows words, not truth: a fact is a number, a date, a name or an address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from llmtwin.memory import Memory
from llmtwin.twins.person.chunks import sentences
from llmtwin.twins.person.cite import Citations
from llmtwin.twins.person.language import FUNCTION_WORDS, content_words, words
from llmtwin.twins.person.remember import Quote
from llmtwin.twins.person.score import Scorer

MARK = "[unsupported]"
# So much of what a sentence says, the rarer words the heavier, is in the passage it cites.
SHARE_MIN = 0.6
CONTENT_WORDS_MIN = 2

_ADDRESS = re.compile(r"(?:https?://|www\.)[^\s<>\"')\]]*[^\s<>\"')\].,;:!?]")
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")
_NAME = re.compile(r"[^\W\d_][\w'\u2019-]*")


def checked(
    text: str, quotes: Sequence[Quote], given: str, memory: Memory, twin: str
) -> tuple[str, Citations]:
    """The text with a mark behind sentences that rest on a passage, or claim what is not even `given`."""
    citations = Citations()
    known = [
        *(quote.titled for quote in quotes),
        *(quote.date.isoformat() for quote in quotes if quote.date),
        given,
    ]
    written = ""
    before = 0
    for start, end in sentences(text):
        sentence = text[start:end]
        written += text[before:end]
        if (quote := _bearing(sentence, quotes, memory, twin)) is not None:
            written += f" {citations.cite(quote)}"
        if unsupported(sentence, known):
            written += f" {MARK}"
        before = end
    return written + text[before:], citations


def unsupported(sentence: str, known: Iterable[str]) -> list[str]:
    """The facts that a sentence claims and no known text has."""
    texts = list(known)
    there = {word for text in texts for word in words(text)}
    numbers = {number for text in texts for number in _NUMBER.findall(text)}
    addresses = [
        address for address in _ADDRESS.findall(sentence) if not any(address in text for text in texts)
    ]
    rest = _ADDRESS.sub(" ", sentence)
    counts = [number for number in _NUMBER.findall(rest) if number not in numbers]
    return addresses + counts + [name for name in _names(rest) if not there.issuperset(words(name))]


def _bearing(sentence: str, quotes: Sequence[Quote], memory: Memory, twin: str) -> Quote | None:
    """The passage that says most of the sentence, if it says enough of it."""
    if len(content_words(sentence)) < CONTENT_WORDS_MIN or not quotes:
        return None
    scorer = Scorer(sentence, memory, twin, None)
    best = max(quotes, key=lambda quote: scorer.overlap(quote.text))
    return best if scorer.overlap(best.text) >= SHARE_MIN else None


def _names(sentence: str) -> list[str]:
    """Words with a capital, but for the first and those of grammar, such as "I"."""
    found = [match for match in _NAME.finditer(sentence)]
    return [
        match[0]
        for at, match in enumerate(found)
        if match[0][0].isupper()
        and words(match[0])[0] not in FUNCTION_WORDS
        and (at > 0 or _is_acronym(match[0]) or (len(found) > 1 and _follows(match, found[1])))
    ]


def _is_acronym(word: str) -> bool:
    return len(word) > 1 and word.isupper()


def _follows(one: re.Match[str], other: re.Match[str]) -> bool:
    """Whether a capitalised word comes right behind: then the first one is of a name, too."""
    return (
        other.start() == one.end() + 1 and other[0][0].isupper() and words(other[0])[0] not in FUNCTION_WORDS
    )
