"""A blind verifier: says which of some authors wrote a text. It knows no twin and no prompt.

Two of them, of different make: character n-grams with a linear classifier, and Cosine Delta over the
commonest words. What they learn is the caller's business: never what a twin learned or what is judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, bootstrap

from llmtwin.errors import InputError, Unavailable

try:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics.pairwise import cosine_similarity
    from sklearn.neighbors import NearestCentroid
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler
except ImportError as error:
    raise Unavailable("the study needs scikit-learn: run `pip install 'llmtwin[study]'`") from error

CHUNK_WORDS = 200
COMMONEST_WORDS = 200
AUTHORS_MIN = 2

Texts = Mapping[str, Sequence[str]]


class Verifier(Protocol):
    """Has seen texts of some authors."""

    authors: list[str]

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """How much each text is each author's: a line a text, higher is likelier."""
        ...


class Ngrams:
    """Character 3- to 5-grams, weighed by how telling they are, and logistic regression."""

    def __init__(self, texts: Texts) -> None:
        """Learn the authors' texts; each author counts the same, however much there is."""
        self.authors = _authors(texts)
        self._model = make_pipeline(
            TfidfVectorizer(
                analyzer="char", ngram_range=(3, 5), lowercase=False, min_df=2, sublinear_tf=True
            ),
            LogisticRegression(C=30.0, class_weight="balanced", max_iter=1000),
        )
        self._model.fit(*_labelled(texts, self.authors))

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The probability of each author."""
        found: NDArray[np.float64] = self._model.predict_proba(list(texts))
        return found


class CosineDelta:
    """How often the commonest words are used, by the angle to each author's mean (Smith & Aldridge 2011)."""

    def __init__(self, texts: Texts) -> None:
        """Learn the authors' texts, which are of about one length."""
        self.authors = _authors(texts)
        counts = TfidfVectorizer(
            max_features=COMMONEST_WORDS,
            token_pattern=r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*",
            use_idf=False,
            norm="l1",
        )
        dense = FunctionTransformer(lambda found: found.toarray(), accept_sparse=True)
        self._profile = make_pipeline(counts, dense, StandardScaler())
        said, labels = _labelled(texts, self.authors)
        self._means = NearestCentroid().fit(self._profile.fit_transform(said), labels).centroids_

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The cosine to each author."""
        found: NDArray[np.float64] = cosine_similarity(self._profile.transform(list(texts)), self._means)
        return found


@dataclass(frozen=True)
class Estimate:
    """A figure of `count` cases, with its 95 % interval."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Attribution:
    """How often texts are attributed to an author, and which place among all the author has on average."""

    rate: Estimate
    rank: Estimate


def attribution(verifier: Verifier, author: str, texts: Sequence[str]) -> Attribution:
    """How much of `author` is found in the texts. Raises InputError without texts or such an author."""
    if not texts or author not in verifier.authors:
        raise InputError(f"nothing can be attributed to {author}: give texts and an author that was learned")
    scores = verifier.scores(texts)
    own = scores[:, [verifier.authors.index(author)]]
    ranks = 1 + (scores > own).sum(axis=1)
    return Attribution(rate(int((ranks == 1).sum()), len(ranks)), mean(ranks.tolist()))


def rate(hits: int, count: int) -> Estimate:
    """A share with its interval (Wilson)."""
    interval = binomtest(hits, count).proportion_ci(method="wilson")
    return Estimate(hits / count, float(interval.low), float(interval.high), count)


def mean(values: Sequence[float]) -> Estimate:
    """A mean with its interval (bootstrap, seeded)."""
    middle = float(np.mean(values))
    if len(set(values)) == 1:
        return Estimate(middle, middle, middle, len(values))
    found: Any = bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(0))
    interval = found.confidence_interval
    return Estimate(middle, float(interval.low), float(interval.high), len(values))


def chunks(texts: Iterable[str], words: int = CHUNK_WORDS) -> list[str]:
    """Texts joined and cut into parts of exactly so many words, so that all are equally hard to attribute.

    The words are joined by single blanks: how lines are wrapped is an editor's habit, not an author's.
    """
    every = [word for text in texts for word in text.split()]
    return [" ".join(every[at : at + words]) for at in range(0, len(every) - words + 1, words)]


def _authors(texts: Texts) -> list[str]:
    if len(texts) < AUTHORS_MIN or not all(texts.values()):
        raise InputError("a verifier needs texts of two authors or more, and some of each")
    return sorted(texts)


def _labelled(texts: Texts, authors: Sequence[str]) -> tuple[list[str], list[str]]:
    said = [text for author in authors for text in texts[author]]
    return said, [author for author in authors for _ in texts[author]]
