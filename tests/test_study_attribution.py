"""The blind verifier: it finds authors by their writing, and its figures come with honest intervals."""

from __future__ import annotations

import random

import numpy as np
import pytest

from llmtwin.errors import InputError
from llmtwin.study.attribution import CosineDelta, Estimate, Ngrams, Verifier, attribution, chunks, mean, rate

VOICES = {
    "ann": ["the", "of", "and", "so", "it", "was", "that", "when", "we", "came;", "home"],
    "bob": ["a", "to", "but", "i", "am", "very", "very", "much", "—", "indeed!", "rather"],
    "cat": ["you", "will", "not", "find", "any", "such", "thing", "here,", "or", "there,", "perhaps"],
}
SHARED = ["dog", "house", "tree", "river", "bridge", "stone", "paper", "window"]


def written(author: str, count: int, seed: int) -> list[str]:
    rng = random.Random(f"{author}/{seed}")
    return [" ".join(rng.choices(VOICES[author] + SHARED, k=100)) for _ in range(count)]


LEARNED = {author: written(author, 8, 1) for author in VOICES}


@pytest.fixture(scope="module", params=[Ngrams, CosineDelta])
def verifier(request: pytest.FixtureRequest) -> Verifier:
    made: Verifier = request.param(LEARNED)
    return made


@pytest.mark.parametrize("author", VOICES)
def test_new_texts_are_attributed_to_their_author(verifier: Verifier, author: str) -> None:
    found = attribution(verifier, author, written(author, 10, 2))
    assert (found.rate.value, found.rank.value, found.rate.count) == (1.0, 1.0, 10)


def test_texts_of_others_are_not(verifier: Verifier) -> None:
    found = attribution(verifier, "ann", written("bob", 5, 2) + written("cat", 5, 2))
    assert found.rate.value == 0
    assert found.rank.value >= 2


def test_the_same_texts_give_the_same_verifier(verifier: Verifier) -> None:
    texts = written("ann", 3, 5)
    assert np.array_equal(verifier.scores(texts), type(verifier)(LEARNED).scores(texts))  # type: ignore[call-arg]


def test_two_authors_are_enough_and_one_is_not(verifier: Verifier) -> None:
    two = {author: LEARNED[author] for author in ("ann", "bob")}
    assert attribution(type(verifier)(two), "bob", written("bob", 4, 3)).rate.value == 1  # type: ignore[call-arg]
    with pytest.raises(InputError, match="two authors"):
        type(verifier)({"ann": LEARNED["ann"]})  # type: ignore[call-arg]
    with pytest.raises(InputError, match="dora"):
        attribution(verifier, "dora", ["a text"])
    with pytest.raises(InputError, match="give texts"):
        attribution(verifier, "ann", [])


def test_cosine_delta_is_the_cosine_of_z_scores_to_the_authors_means() -> None:
    verifier, texts = CosineDelta(LEARNED), written("bob", 2, 4)
    everything = [text for author in sorted(LEARNED) for text in LEARNED[author]]
    words = sorted(
        {word for text in everything for word in "".join(c if c.isalpha() else " " for c in text).split()}
    )

    def profile(text: str) -> list[float]:
        said = "".join(c if c.isalpha() else " " for c in text).split()
        return [said.count(word) / len(said) for word in words]

    known = np.array([profile(text) for text in everything])
    z = (known - known.mean(axis=0)) / known.std(axis=0)
    means = [z[place : place + 8].mean(axis=0) for place in (0, 8, 16)]
    for line, text in zip(verifier.scores(texts), texts, strict=True):
        mine = (np.array(profile(text)) - known.mean(axis=0)) / known.std(axis=0)
        cosines = [mine @ m / np.linalg.norm(mine) / np.linalg.norm(m) for m in means]
        assert line == pytest.approx(cosines)


def test_a_rate_has_wilsons_interval() -> None:
    got = rate(8, 10)
    assert (got.value, got.count) == (0.8, 10)
    assert (got.low, got.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert rate(0, 5).low == 0


def test_a_mean_has_a_seeded_interval_around_it() -> None:
    got = mean([1.0, 2.0, 3.0, 4.0])
    assert got == mean([1.0, 2.0, 3.0, 4.0])
    assert got.low < got.value == 2.5 < got.high
    assert mean([2.0, 2.0]) == Estimate(2.0, 2.0, 2.0, 2)


def test_chunks_are_of_one_length_and_leave_the_rest() -> None:
    assert chunks(["a b\nc", "d  e f g"], 3) == ["a b c", "d e f"]
    assert chunks(["a b"], 3) == []
