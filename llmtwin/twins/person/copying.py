"""How much of a text is copied word for word. It does not know whether it was meant as a quotation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from llmtwin.twins.person.language import words

# Shorter runs are common speech.
RUN_WORDS_MIN = 5


@dataclass(frozen=True)
class Copied:
    """The longest run of words that a text shares with some passage, and the share of it in such runs.

    Only runs of five words and more count; casing and punctuation do not.
    """

    longest: str
    longest_words: int
    share: float


def copied(text: str, passages: Iterable[str]) -> Copied:
    """What of the text stands in these passages."""
    said = words(text)
    sources = [f" {' '.join(words(passage))} " for passage in passages]
    longest: list[str] = []
    inside = [False] * len(said)
    end = 0
    for start in range(len(said)):
        # The longest run from here ends where the last one did, or later.
        end = max(end, start)
        while end < len(said) and _stands(said[start : end + 1], sources):
            end += 1
        if end - start >= RUN_WORDS_MIN:
            inside[start:end] = [True] * (end - start)
        longest = max(longest, said[start:end], key=len)
    if len(longest) < RUN_WORDS_MIN:
        longest = []
    return Copied(" ".join(longest), len(longest), sum(inside) / len(said) if said else 0.0)


def _stands(run: list[str], sources: list[str]) -> bool:
    joined = f" {' '.join(run)} "
    return any(joined in source for source in sources)
