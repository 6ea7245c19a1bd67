"""The words of a text as they are compared: folded, stemmed, without those that say nothing. English only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import snowballstemmer

# Words of grammar.
FUNCTION_WORDS = frozenset(
    """
    a about above after again against all almost alone along already also although always am among an and
    another any anybody anyone anything are aren around as at away back be because been before being below
    between both but by came can cannot could couldn did didn do does doesn doing don done down during each
    either else enough even ever every everybody everyone everything few first for from further get gets
    getting give given go goes going got had hadn has hasn have haven having he hence her here hers herself
    him himself his how however i if in indeed instead into is isn it its itself just keep kept let like ll
    made make makes making many may me might mine more most much must my myself need neither never no nobody
    none nor not nothing now of off often on once one only onto or other others otherwise our ours ourselves
    out over own per perhaps put quite rather re really s said same say says see seem seems several shall she
    should shouldn since so some somebody someone something sometimes still such t take than that the their
    theirs them themselves then there therefore these they this those though through thus to together too
    toward towards under until up upon us use used uses using ve very want was wasn way we well went were
    weren what whatever when whenever where whether which while who whole whom whose why will with within
    without won would wouldn yet you your yours yourself yourselves
    """.split()  # noqa: SIM905 (a list of a word a line would hide the rest)
)
# Words with which a person is asked for what they wrote; they say nothing of what it is about.
ASKING_WORDS = frozenset(
    """
    ask asked believe concern concerned concerns describe described discuss discussed explain explained feel
    felt happen happened idea know mean meant mention mentioned opinion point recall remember remembered
    remind tell talk talked think thinking thought thoughts told view views wonder write writes writing
    written wrote
    """.split()  # noqa: SIM905 (a list of a word a line would hide the rest)
)

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


def words(text: str) -> list[str]:
    """The words of a text in its order, folded; of a contraction the part before the apostrophe."""
    return [re.split(r"['\u2019]", found)[0].casefold() for found in _WORD.findall(text)]


def content_words(text: str) -> list[str]:
    """The words that say what a text is about, in its order, each once."""
    return [
        word for word in dict.fromkeys(words(text)) if word not in FUNCTION_WORDS and word not in ASKING_WORDS
    ]


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """The part of a folded word that its inflections share."""
    stemmed: str = _stemmer().stemWord(word)
    return stemmed


def stems(found: Iterable[str]) -> frozenset[str]:
    """The stems of words."""
    return frozenset(map(stem, found))


@cache
def _stemmer() -> snowballstemmer.base_stemmer.BaseStemmer:
    import snowballstemmer

    # The stemmer of the index, so that what shares a stem here was found there.
    return snowballstemmer.stemmer("porter")
