"""How well a passage, and each sentence of it, fits a question: by its words and by its meaning.

It finds nothing: what it is given it judges, from 0 to about 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llmtwin.memory import Memory
from llmtwin.memory.embed import Embedder
from llmtwin.twins.person.blocks import VOICE, blocks
from llmtwin.twins.person.chunks import sentences
from llmtwin.twins.person.language import content_words, stem, stems, words
from llmtwin.twins.person.remember import Quote

# Words tell the right passage of one author, who writes of the same all the time, better than meaning does.
MEANING_WEIGHT = 0.4
SENTENCE_WEIGHT = 0.3
SENTENCE_WORDS_MIN = 4
HITS_MAX = 15
# Calibrated with study/person_retrieval on three authors of PEPs, none of whom the study reports (Donald
# Stufft, Eric Snow, Petr Viktorin), beside notes of another:
# 98 % of known questions score 0.65 and more, 95 % of those about what others wrote less than 0.6.
KNOWN_MIN = 0.62
KNOWN_BY_WORDS_MIN = 0.7


@dataclass(frozen=True)
class Sentence:
    """A sentence of a passage, word for word, and how well it fits."""

    start: int
    text: str
    score: float


@dataclass(frozen=True)
class Hit:
    """A passage, how well it fits, and its sentences in its order; code and the like are none."""

    quote: Quote
    score: float
    sentences: tuple[Sentence, ...]


class Scorer:
    """Judges by one question. A word that the twin never used weighs most, since nothing answers to it."""

    def __init__(self, question: str, memory: Memory, twin: str, embedder: Embedder | None) -> None:
        self._embedder = embedder
        wanted = content_words(question)
        # With nothing in memory all words weigh the same: there may be something given to judge.
        counts, size = memory.frequencies(twin, wanted), max(1, memory.count(twin))
        self._weights = {stem(word): math.log(1 + size / (counts[word] + 0.5)) for word in wanted}
        self._vector = embedder.embed([question])[0] if embedder is not None else None

    def hits(self, quotes: Sequence[Quote]) -> list[Hit]:
        """Each passage with its score, in the order given."""
        spans = [_sentences(quote.text) for quote in quotes]
        said = [quote.text[a:b] for quote, found in zip(quotes, spans, strict=True) for a, b in found]
        meanings = iter(self._meanings(said))
        hits = []
        for quote, found in zip(quotes, spans, strict=True):
            texts = [quote.text[a:b] for a, b in found]
            near = [next(meanings) for _ in texts]
            overlaps = [self.overlap(text) for text in texts]
            scored = tuple(
                Sentence(a, text, self._mixed(overlap, cosine))
                for (a, _), text, overlap, cosine in zip(found, texts, overlaps, near, strict=True)
            )
            whole = self.overlap(quote.titled)
            overlap = (1 - SENTENCE_WEIGHT) * whole + SENTENCE_WEIGHT * max(overlaps, default=0.0)
            hits.append(Hit(quote, self._mixed(overlap, max(near, default=0.0)), scored))
        return hits

    def best(self, quotes: Sequence[Quote]) -> list[Hit]:
        """The passages of a long text that fit best by their words, so that few are read for meaning."""
        return self.hits(sorted(quotes, key=lambda quote: -self.overlap(quote.titled))[:HITS_MAX])

    def is_known(self, hits: Sequence[Hit]) -> bool:
        """Whether the best of these answers the question, rather than only being about something near."""
        least = KNOWN_BY_WORDS_MIN if self._embedder is None else KNOWN_MIN
        return any(hit.score >= least for hit in hits)

    def overlap(self, text: str) -> float:
        """The share of the question's words that a text has, in any inflection, the rarer the heavier."""
        total = sum(self._weights.values())
        there = stems(words(text))
        return sum(weight for one, weight in self._weights.items() if one in there) / total if total else 0.0

    def _meanings(self, texts: Sequence[str]) -> list[float]:
        """The cosine of each text with the question; 0 for all without embeddings."""
        if self._embedder is None or self._vector is None or not texts:
            return [0.0] * len(texts)
        return [float(cosine) for cosine in self._embedder.embed(texts) @ self._vector]

    def _mixed(self, overlap: float, cosine: float) -> float:
        if self._embedder is None:
            return overlap
        return (1 - MEANING_WEIGHT) * overlap + MEANING_WEIGHT * max(0.0, cosine)


def _sentences(text: str) -> list[tuple[int, int]]:
    """The spans of a passage's sentences, without code; very short ones only if there are no others."""
    spoken = [
        (block.start + start, block.start + end)
        for block in blocks(text)
        if block.kind in VOICE
        for start, end in sentences(text[block.start : block.end])
    ]
    long = [(start, end) for start, end in spoken if len(words(text[start:end])) >= SENTENCE_WORDS_MIN]
    return long or spoken
