"""Questions with known passages, made from documents by a seeded rule. It knows no language model.

The rule: take a sentence of a passage and the rarest of its phrases (up to three words of content in a row,
four words in all or more), turn their order round, put the last word of each in another form that the
documents have, and ask about them. No five words in a row of a question stand in its passage. Every second
question shares no word with the title of its passage, in no inflection.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from llmtwin.twins.person.blocks import VOICE, blocks
from llmtwin.twins.person.chunks import Passage, sentences
from llmtwin.twins.person.language import content_words, stem, stems, words

RUN_WORDS = 5
PHRASES_ASKED = (2, 3)
PHRASE_WORDS_MAX = 3
WORDS_ASKED_MIN = 4
WORD_LETTERS_MIN = 4
SENTENCE_WORDS_MIN = 8
# They use different words, so that for any title there is one that shares none with it.
TEMPLATES = (
    "What did you write about {phrases} and {last}?",
    "Do you know how {phrases} or {last} went?",
    "Where have you described {phrases}, also {last}?",
    "When {phrases}: why {last}?",
    "Tell me: {phrases}, {last}?",
)


@dataclass(frozen=True)
class Asked:
    """A question, and the passage that it was made of."""

    text: str
    passage: Passage
    without_title: bool


def questions(passages: Sequence[Passage], count: int, seed: int) -> list[Asked]:
    """So many questions, each of another passage; fewer where there are not enough passages with prose."""
    corpus = _Corpus(passages)
    drawn = sorted(passages, key=lambda passage: passage.id)
    rng = random.Random(seed)
    rng.shuffle(drawn)
    made: list[Asked] = []
    for passage in drawn:
        if len(made) == count:
            break
        if asked := _question(passage, corpus, rng, without_title=len(made) % 2 == 0):
            made.append(asked)
    return made


def keeps_the_rule(asked: Asked) -> bool:
    """Whether no five words in a row stand in its passage, and none in its title where it says so."""
    said, there = words(asked.text), words(asked.passage.text)
    runs = {tuple(there[at : at + RUN_WORDS]) for at in range(len(there) - RUN_WORDS + 1)}
    copied = any(tuple(said[at : at + RUN_WORDS]) in runs for at in range(len(said) - RUN_WORDS + 1))
    return not copied and not (asked.without_title and _shares(asked.text, asked.passage.title))


class _Corpus:
    """What all passages together say of a word: how rare it is, and which forms it has."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        found = [frozenset(words(passage.text)) for passage in passages]
        self._size = len(passages)
        self._counts = Counter(one for there in found for one in stems(there))
        self._forms: defaultdict[str, set[str]] = defaultdict(set)
        for word in set().union(*found):
            self._forms[stem(word)].add(word)

    def weight(self, phrase: Sequence[str]) -> float:
        """How rare the words of a phrase are together."""
        return sum(math.log(self._size / self._counts[stem(word)]) for word in phrase)

    def inflected(self, phrase: Sequence[str], rng: random.Random) -> str:
        """The phrase with its last word in another form, where there is one."""
        *front, word = phrase
        others = sorted(self._forms[stem(word)] - {word})
        return " ".join([*front, rng.choice(others) if others else word])


def _question(passage: Passage, corpus: _Corpus, rng: random.Random, without_title: bool) -> Asked | None:
    barred = stems(words(passage.title)) if without_title else frozenset()
    said = _prose(passage)
    rng.shuffle(said)
    for sentence in said:
        phrases = _rarest(_phrases(sentence, barred), corpus, rng.randint(*PHRASES_ASKED))
        if len(phrases) < PHRASES_ASKED[0] or sum(map(len, phrases)) < WORDS_ASKED_MIN:
            continue
        *front, last = (corpus.inflected(phrase, rng) for phrase in reversed(phrases))
        for template in rng.sample(TEMPLATES, len(TEMPLATES)):
            asked = Asked(template.format(phrases=", ".join(front), last=last), passage, without_title)
            if keeps_the_rule(asked):
                return asked
    return None


def _prose(passage: Passage) -> list[str]:
    """The sentences of a passage that are the person's, and long enough to say something."""
    parts = [passage.text[block.start : block.end] for block in blocks(passage.text) if block.kind in VOICE]
    found = [part[start:end] for part in parts for start, end in sentences(part)]
    return [sentence for sentence in found if len(words(sentence)) >= SENTENCE_WORDS_MIN]


def _phrases(sentence: str, barred: frozenset[str]) -> list[list[str]]:
    """The runs of content in a sentence, in its order, without barred stems; long ones in parts."""
    found: list[list[str]] = [[]]
    for token in re.findall(r"[\w'\u2019-]+|[^\w\s]", sentence):
        word = token.casefold()
        plain = len(word) >= WORD_LETTERS_MIN and re.fullmatch(r"[a-z]+", word) is not None
        if not plain or not content_words(word) or stem(word) in barred:
            found.append([])
        elif len(found[-1]) == PHRASE_WORDS_MAX:
            found.append([word])
        else:
            found[-1].append(word)
    return [phrase for phrase in found if phrase]


def _rarest(phrases: list[list[str]], corpus: _Corpus, number: int) -> list[list[str]]:
    """So many of the phrases that say most, in their order, none twice."""
    apart = {tuple(map(stem, phrase)): phrase for phrase in reversed(phrases)}
    heaviest = sorted(apart, key=lambda one: (-corpus.weight(apart[one]), one))[:number]
    return [phrase for phrase in phrases if any(apart[one] is phrase for one in heaviest)]


def _shares(some: str, other: str) -> bool:
    return not stems(words(some)).isdisjoint(stems(words(other)))
