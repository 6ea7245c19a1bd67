"""The gate: laws of the decision, and how often it errs on data that are as it assumes."""

from __future__ import annotations

from itertools import product
from math import inf, nan
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmtwin.edge.learn import LOST_SHARE_MAX
from llmtwin.errors import InputError
from llmtwin.twins.gate import OUTSIDE_SHARE, SoFar, Verdict, decide, decide_so_far, interval
from llmtwin.twins.sequential import log_capitals

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


# ---- looking after every item -------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=30), st.randoms())
def test_so_far_is_fair_to_both_and_to_any_order(pairs: list[tuple[int, int]], shuffled: Random) -> None:
    new, old = [a / 4 for a, _ in pairs], [b / 4 for _, b in pairs]
    one, other = (decide_so_far(*both, loss_max=0.1) for both in ((new, old), (old, new)))
    assert (one.difference, one.low, one.high) == (-other.difference, -other.high, -other.low)
    assert one.low <= one.difference <= one.high and one.items == len(pairs)
    again = shuffled.sample(pairs, len(pairs))
    mixed = decide_so_far([a / 4 for a, _ in again], [b / 4 for _, b in again], loss_max=0.1)
    assert (mixed.low, mixed.high) == pytest.approx((one.low, one.high))


@given(st.integers(-8, 8), st.integers(1, 60), st.integers(0, 9))
def test_so_far_knows_no_unit(first: int, items: int, seed: int) -> None:
    new, old = np.random.default_rng(seed).integers(0, 5, (2, items)) / 4
    plain = decide_so_far(new, old, loss_max=0.25)
    scaled = decide_so_far(first + 4 * new, first + 4 * old, loss_max=1, score_min=first, score_max=first + 4)
    assert (scaled.verdict, scaled.items_more) == (plain.verdict, plain.items_more)
    assert (scaled.low / 4, scaled.high / 4) == pytest.approx((plain.low, plain.high))


@pytest.mark.parametrize("better", [True, False])
def test_more_of_the_same_decides_when_it_was_said_to(better: bool) -> None:
    """One item in ten differs; as many more of these kinds as were announced are needed, and enough."""

    def decided(tens: int) -> SoFar:
        new, old = [1.0] * 10 * tens, ([1.0] * 9 + [0.0]) * tens
        return decide_so_far(*((new, old) if better else (old, new)), loss_max=0.02)

    found = decided(4)
    assert found.verdict is Verdict.INCONCLUSIVE and found.items_more
    tens = 4 + found.items_more // 10
    assert decided(tens).verdict is Verdict.INCONCLUSIVE
    assert decided(tens + 1).verdict is (Verdict.PASS if better else Verdict.FAIL)


def test_equal_versions_pass_once_a_loss_would_have_shown() -> None:
    """Of items without a failure 72 show that at most 5 % are lost: log(0.025) / log(0.95)."""
    items = next(n for n in range(500) if decide_so_far([1] * n, [1] * n, loss_max=0.05).verdict == "pass")
    assert 72 <= items <= 100
    said = decide_so_far([1] * 40, [1] * 40, loss_max=0.05).items_more
    assert said == items - 40
    assert decide_so_far([1] * 40, [1] * 40, loss_max=0.05).figures()["gate_items_more"] == said
    assert "gate_items_more" not in decide_so_far([1] * items, [1] * items, loss_max=0.05).figures()


def test_the_verdict_is_that_of_who_bets_against_the_limit() -> None:
    """So its errors are those of a martingale, which the study of the gate counts (test_study_model_gate)."""
    rng = np.random.default_rng(3)
    for loss in (0.0, 0.1, 0.3):
        new, old = rng.random(150) < 0.8 - loss, rng.random(150) < 0.8
        better = (1 + new.astype(float) - old) / 2
        won = [log_capitals(side, limit)[-1] for side, limit in ((better, 0.45), (1 - better, 0.55))]
        verdict = decide_so_far(new, old, loss_max=0.1).verdict
        assert [verdict is Verdict.PASS, verdict is Verdict.FAIL] == [one >= np.log(40) for one in won]


def test_what_cannot_be_decided_so_far_is_said() -> None:
    assert decide_so_far([], [], loss_max=0.1).items_more is None
    for bad in ([1.01], [-0.01], [nan]):
        with pytest.raises(InputError, match="not within 0"):
            decide_so_far(bad, [1.0], loss_max=0.1)
    with pytest.raises(InputError, match="loss_max must be positive"):
        decide_so_far([1.0], [1.0], loss_max=0.0)


def test_the_interval_of_a_ratio_says_where_there_is_nothing_to_divide_by() -> None:
    tops, bottoms = np.arange(1.0, 11), np.ones(10)
    assert interval(tops, bottoms) == interval(2 * tops, 2 * bottoms)
    assert interval(tops, np.eye(10)[0])[1] == inf
    assert interval(tops, 0 * bottoms) == (-inf, inf)
