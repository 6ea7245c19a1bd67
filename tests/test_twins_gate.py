"""The gate: laws of the decision, and how often it errs on data that are as it assumes."""

from __future__ import annotations

from itertools import product
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmtwin.edge.learn import LOST_SHARE_MAX
from llmtwin.errors import InputError
from llmtwin.twins.gate import OUTSIDE_SHARE, Verdict, decide

GOOD = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)
# Quarters, whose sums are exact.
scores = st.lists(st.tuples(st.integers(-80, 80), st.integers(-80, 80)), max_size=20).map(
    lambda pairs: ([a / 4 for a, _ in pairs], [b / 4 for _, b in pairs])
)


@given(scores)
def test_what_is_won_by_one_is_lost_by_the_other(pair: tuple[list[float], list[float]]) -> None:
    one, other = decide(*pair), decide(*reversed(pair))
    assert (one.difference, one.low, one.high) == (-other.difference, -other.high, -other.low)
    assert one.items == other.items == len(pair[0])
    if one.verdict is Verdict.FAIL:
        assert other.verdict is Verdict.PASS


@given(scores, st.integers(0, 40), st.data())
def test_a_version_that_is_better_on_all_items_or_on_one_fares_no_worse(
    pair: tuple[list[float], list[float]], more: int, data: st.DataObject
) -> None:
    new, old = pair
    before = decide(new, old)
    after = decide([score + more / 4 for score in new], old)
    assert GOOD.index(after.verdict) >= GOOD.index(before.verdict)
    assert (after.low, after.high) == pytest.approx((before.low + more / 4, before.high + more / 4))
    if new:
        place = data.draw(st.integers(0, len(new) - 1))
        risen = decide([score + more * (at == place) for at, score in enumerate(new)], old)
        assert GOOD.index(risen.verdict) >= GOOD.index(before.verdict)
        assert risen.low >= before.low and risen.high >= before.high


@given(st.lists(st.floats(-1e6, 1e6), max_size=20), st.booleans())
def test_identical_scores_pass_as_soon_as_there_are_enough(same: list[float], sampled: bool) -> None:
    found = decide(same, same, sampled=sampled)
    enough = len(same) >= (6 if sampled else 1)
    assert found.verdict is (Verdict.PASS if enough else Verdict.INCONCLUSIVE)
    assert found.difference == 0
    assert set(found.figures()) >= {"gate_items", "gate_difference"}
    assert ("gate_difference_low" in found.figures()) is enough


@given(scores, st.integers(0, 40))
def test_of_all_items_that_there_are_the_mean_alone_decides(
    pair: tuple[list[float], list[float]], loss: int
) -> None:
    found = decide(*pair, loss_max=loss / 4, sampled=False)
    if not pair[0]:
        assert found.verdict is Verdict.INCONCLUSIVE
    else:
        kept = found.difference >= -loss / 4
        assert found.verdict is (Verdict.PASS if kept else Verdict.FAIL)
        assert found.low == found.difference == found.high


@given(st.integers(0, 30), st.integers(1, 3000))
def test_of_a_hundred_facts_one_may_be_lost_and_no_more(lost: int, facts: int) -> None:
    lost = min(lost, facts)
    kept = [True] * (facts - lost) + [False] * lost
    found = decide(kept, [True] * facts, loss_max=LOST_SHARE_MAX, sampled=False)
    assert found.verdict is (Verdict.FAIL if 100 * lost > facts else Verdict.PASS)


@given(st.lists(st.integers(-9, 9), min_size=6, max_size=9), st.integers(-36, 36))
def test_few_items_are_judged_by_the_sign_flip_test(differences: list[int], quarters: int) -> None:
    """A limit is outside the interval just where the test, over all flips, finds it too low or too high."""
    limit = quarters / 4
    found = decide(differences, [0] * len(differences))
    flips = list(product((1, -1), repeat=len(differences)))
    sums = [sum(sign * (d - limit) for sign, d in zip(flip, differences, strict=True)) for flip in flips]
    above, below = (sum(op * one >= op * sums[0] for one in sums) / len(flips) for op in (1, -1))
    assert (limit < found.low) == (above <= OUTSIDE_SHARE / 2)
    assert (limit > found.high) == (below <= OUTSIDE_SHARE / 2)


@pytest.mark.parametrize("items", [8, 14, 40])
@pytest.mark.parametrize("form", ["normal", "standard_cauchy"])
def test_by_chance_alone_a_version_fails_and_passes_no_more_often_than_stated(items: int, form: str) -> None:
    rng = np.random.default_rng(items)
    runs = 600
    draws: NDArray[np.float64] = getattr(rng, form)(size=(runs, items))
    # Items may differ in how much they scatter: no more than symmetry is assumed.
    verdicts = [decide(draw * rng.uniform(0.1, 3, items), np.zeros(items)).verdict for draw in draws]
    error = 3 * np.sqrt(OUTSIDE_SHARE / 2 / runs)
    for verdict in (Verdict.FAIL, Verdict.PASS):
        assert abs(verdicts.count(verdict) / runs - OUTSIDE_SHARE / 2) < error


def test_what_is_clearly_worse_fails_and_clearly_better_passes() -> None:
    noise = np.random.default_rng(0).normal(size=(100, 20))
    assert {decide(one - 2, np.zeros(20)).verdict for one in noise} == {Verdict.FAIL}
    assert {decide(one + 2, np.zeros(20)).verdict for one in noise} == {Verdict.PASS}


@pytest.mark.parametrize("odd", [nan, inf, -inf])
def test_a_score_that_is_no_number_compares_with_nothing(odd: float) -> None:
    for new, old in (([1.0, odd], [1.0, 1.0]), ([1.0, 1.0], [odd, 1.0])):
        with pytest.raises(InputError, match="no finite number"):
            decide(new, old)
