"""The test of whether two models write the same: by hand, its error under equality, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pytest

from llmtwin.errors import InputError
from llmtwin.twins.model.equality import equality

RUNS = 300


def texts(rng: np.random.Generator, prompts: int, each: int, weights: list[float]) -> Mapping[str, list[str]]:
    """Texts of up to twelve letters, each letter drawn by the weights."""
    letters = list("abcd")
    return {
        str(prompt): ["".join(rng.choice(letters, rng.integers(6, 13), p=weights)) for _ in range(each)]
        for prompt in range(prompts)
    }


def test_the_estimate_by_hand() -> None:
    """Kernels within: 1 and 1/3; between: 0, 1/3, 0, 1/3 (places of three; the end counts as a place)."""
    found = equality({"p": ["ab", "ab"]}, {"p": ["ba", "abc"]}, places=3)
    kernels = {("ba", "abc"): 0.0, ("ab", "ba"): 1 / 3, ("ab", "abc"): 2 / 3}
    between = (2 * kernels["ab", "ba"] + 2 * kernels["ab", "abc"]) / 4
    assert found.discrepancy == pytest.approx(1 + kernels["ba", "abc"] - 2 * between)
    assert (found.prompts, found.texts) == (1, 4)


def test_the_p_value_is_that_of_all_ways_to_share_the_texts() -> None:
    some, other = ["aaa", "aab", "abb"], ["bbb", "bba", "aab"]
    pool = some + other
    first = equality({"p": some}, {"p": other}).discrepancy
    ways = [
        equality(
            {"p": [pool[at] for at in way]},
            {"p": [pool[at] for at in range(6) if at not in way]},
            permutations=1,
        ).discrepancy
        for way in combinations(range(6), 3)
    ]
    exact = np.mean([one >= first - 1e-12 for one in ways])
    found = equality({"p": some}, {"p": other}, permutations=9999).p_value
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 9999))


def test_equal_models_differ_no_more_often_than_stated_and_others_mostly() -> None:
    rng = np.random.default_rng(0)
    alike, apart = [0.4, 0.3, 0.2, 0.1], [0.7, 0.1, 0.1, 0.1]

    def found(weights: list[float], runs: int) -> float:
        p_values = [
            equality(texts(rng, 5, 8, alike), texts(rng, 5, 6, weights), permutations=99, seed=run).p_value
            for run in range(runs)
        ]
        return float(np.mean(np.array(p_values) <= 0.05))

    assert found(alike, RUNS) == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / RUNS))
    assert found(apart, 40) > 0.8


def test_a_difference_between_prompts_is_none_between_models() -> None:
    """Each prompt has an answer of its own, and both models give it."""
    rng = np.random.default_rng(0)
    some, other = (
        {prompt: [prompt * 3 + rng.choice(list("xy")) for _ in range(6)] for prompt in "abcdef"} for _ in "so"
    )
    assert equality(some, other).p_value > 0.05


def test_tokens_and_texts_beyond_the_places() -> None:
    some = {"p": [("he", "llo", str(at)) for at in range(4)]}
    other = {"p": [("he", "llo", "x")] * 4}
    assert equality(some, other, places=2).p_value == 1
    assert equality(some, other, places=3).p_value < 0.1


def test_what_cannot_be_compared_is_refused() -> None:
    for some, other in (({"p": ["a", "b"]}, {"q": ["a", "b"]}), ({}, {})):
        with pytest.raises(InputError, match="same prompts"):
            equality(some, other)
    with pytest.raises(InputError, match="at least two texts"):
        equality({"p": ["a"]}, {"p": ["a", "b"]})
