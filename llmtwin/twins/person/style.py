"""Says how two texts differ in style, by counting: sentences, punctuation, function words. It judges neither.

Texts are prose, without code or markup. All is deterministic: the same texts give the same figures and words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import log
from statistics import fmean

from llmtwin.errors import InputError
from llmtwin.twins.person.chunks import sentences

COUNT_MIN = 5
RATIO_MIN = 1.5
# A difference so large comes by chance once in a thousand times (chi-squared, one degree of freedom).
SURPRISE_MIN = 10.83

# The longest sentences, in words, of each bin but the last.
BINS = (3, 6, 9, 12, 15, 18, 22, 26, 31, 37, 45, 60)

SIGNS: Mapping[str, str] = {
    "commas": r",",
    "full stops": r"(?<!\.)\.(?=\s|$|[\"'\u201d\u2019)])",
    "question marks": r"\?",
    "exclamation marks": r"!",
    "colons": r":(?=\s|$)",
    "semicolons": r";",
    "dashes": r"[\u2013\u2014]|(?<=[\w,.;:!?\"'])--(?!-)|(?<=\s)--(?=\s)|(?<=\S )-(?=\s)",
    "brackets": r"\((?=\S)",
    "quotation marks": r"[\"\u201c\u201d\u00ab\u00bb]",
    "ellipses": r"\.{3,}|\u2026",
}
OTHER_TELLS: Mapping[str, str] = {
    "contractions": r"(?i)\b\w+(?:n['\u2019]t|['\u2019](?:s|re|ve|ll|d|m))\b",
    "words all in capitals": r"\b[A-Z]{2,}\b",
    "emoji": r"[\U0001f300-\U0001faff\u2600-\u27bf]",
}
FUNCTION_WORDS = frozenset(
    """
    a about above across after again against all almost along already also although always am among an and
    another any anyone anything are around as at away back be because been before behind being below between
    both but by can cannot could did do does doing done down during each either else enough even ever every
    everyone everything few for from had has have having he hence her here hers herself him himself his how
    however i if in indeed instead into is it its itself just least less many may maybe me might mine more
    most much must my myself neither never next no nobody none nor not nothing now of off often on once one
    only or other others otherwise our ours ourselves out over own perhaps quite rather really same shall
    she should since so some someone something sometimes soon still such than that the thee their theirs
    them themselves then there therefore these they this those thou though through thus thy till to together
    too toward towards under unless until up upon us very was we well were what whatever when where whether
    which while who whom whose why will with within without would ye yet you your yours yourself
    """.split()  # noqa: SIM905 (a list of a word a line would hide the rest)
)

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")


@dataclass(frozen=True)
class Divergence:
    """How far two texts are apart, from 0 (alike) to 1 (nothing in common): Jensen-Shannon, in bits."""

    sentence_length: float
    punctuation: float
    function_words: float


class Style:
    """What is counted of a text, or of several as one."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Raises InputError where there is no word in them."""
        self._texts = tuple(texts)
        self.words = Counter(word.lower() for text in self._texts for word in _WORD.findall(text))
        if not self.words:
            raise InputError("there is no word in the text, so nothing can be said of its style")

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """The words of each sentence."""
        found = (len(_WORD.findall(said)) for said in self._sentences())
        return tuple(length for length in found if length)

    @cached_property
    def length_bins(self) -> Counter[int]:
        """How many sentences are of each bin."""
        return Counter(sum(length > longest for longest in BINS) for length in self.lengths)

    @cached_property
    def signs(self) -> Counter[str]:
        """How often each kind of punctuation is used."""
        return self._count(SIGNS)

    @cached_property
    def function_words(self) -> Counter[str]:
        """How often each function word is used."""
        return Counter({word: count for word, count in self.words.items() if word in FUNCTION_WORDS})

    @cached_property
    def habits(self) -> Counter[str]:
        """All that is compared one by one, under the words that say it."""
        quoted = {
            f"\u201c{'I' if word == 'i' else word}\u201d": count
            for word, count in self.function_words.items()
        }
        return self.signs + self._count(OTHER_TELLS) + Counter(quoted)

    def _sentences(self) -> Iterator[str]:
        for text in self._texts:
            for start, end in sentences(text):
                yield text[start:end]

    def _count(self, patterns: Mapping[str, str]) -> Counter[str]:
        counts = {
            name: sum(len(re.findall(pattern, text)) for text in self._texts)
            for name, pattern in patterns.items()
        }
        return Counter({name: count for name, count in counts.items() if count})


def divergence(some: Style, other: Style) -> Divergence:
    """How far two styles are apart."""
    return Divergence(
        sentence_length=_jensen_shannon(some.length_bins, other.length_bins),
        punctuation=_jensen_shannon(some.signs, other.signs),
        function_words=_jensen_shannon(some.function_words, other.function_words),
    )


def tells(some: Style, other: Style, count: int = 5) -> list[str]:
    """What tells `some` from `other` the most, as ends of a sentence about `some`, the surest first.

    Only what differs by half at least, and by more than chance would.
    """
    found = [(_surprise(some, other, habit), habit) for habit in some.habits.keys() | other.habits.keys()]
    surest = sorted((one for one in found if one[0] >= SURPRISE_MIN), key=lambda one: (-one[0], one[1]))
    said = [_said(some, other, habit) for _, habit in surest]
    return [*_length_tell(some, other), *(one for one in said if one)][:count]


def _jensen_shannon(some: Counter[int] | Counter[str], other: Counter[int] | Counter[str]) -> float:
    if not some or not other:
        return 0.0 if some == other else 1.0
    from scipy.spatial.distance import jensenshannon

    keys = sorted({*some, *other}, key=str)
    distance = jensenshannon([some[key] for key in keys], [other[key] for key in keys], base=2)
    return float(distance**2)


def _surprise(some: Style, other: Style, habit: str) -> float:
    """How much the counts speak against one rate for both (Dunning 1993, https://aclanthology.org/J93-1003)."""
    sizes = some.words.total(), other.words.total()
    counts = some.habits[habit], other.habits[habit]
    rate = sum(counts) / sum(sizes)
    return 2 * sum(n * log(n / (rate * size)) for n, size in zip(counts, sizes, strict=True) if n)


def _said(some: Style, other: Style, habit: str) -> str | None:
    counts = some.habits[habit], other.habits[habit]
    if max(counts) < COUNT_MIN:
        return None
    if not all(counts):
        return f"uses {habit}" if counts[0] else f"never uses {habit}"
    ratio = counts[0] / some.words.total() * other.words.total() / counts[1]
    if ratio >= RATIO_MIN:
        return f"uses {habit} {_times(ratio)} as often"
    return f"uses {habit} {_times(1 / ratio)} less often" if 1 / ratio >= RATIO_MIN else None


def _times(ratio: float) -> str:
    return f"{ratio:.1f}x" if ratio < 3 else f"{ratio:.0f}x"


def _length_tell(some: Style, other: Style) -> list[str]:
    """How long sentences are on average, if that differs by a fifth."""
    if min(len(some.lengths), len(other.lengths)) < COUNT_MIN:
        return []
    mine, theirs = fmean(some.lengths), fmean(other.lengths)
    if max(mine, theirs) < 1.2 * min(mine, theirs):
        return []
    return [f"writes sentences of {mine:.0f} words, not {theirs:.0f}"]
