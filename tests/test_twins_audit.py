"""The attacks of the audit on scores whose answer is known, and the intervals on draws whose truth is."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, log, log2, sqrt
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtwin.errors import InputError
from llmtwin.records import Card, now
from llmtwin.twins import audit
from llmtwin.twins.audit import Adversary, Audit, Found
from llmtwin.twins.intervals import Estimate, at_most, auc, mean, rate, tpr, wilson

SCORES = st.lists(st.floats(-100, 100), min_size=1, max_size=30)


# ---- intervals


@given(st.integers(1, 2000).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_the_interval_holds_the_share_and_narrows(case: tuple[int, int]) -> None:
    hits, count = case
    low, high = wilson(hits, count)
    assert 0 <= low <= hits / count + 1e-9 and hits / count - 1e-9 <= high <= 1
    narrow_low, narrow_high = wilson(10 * hits, 10 * count)
    assert narrow_high - narrow_low < high - low


def test_the_interval_is_that_of_the_tables() -> None:
    assert wilson(10, 100) == pytest.approx((0.0552, 0.1744), abs=1e-4)
    found = rate([True] * 10 + [False] * 90)
    assert (found.value, found.items) == (0.1, 100)


def test_nothing_of_many_allows_three_of_as_many() -> None:
    assert at_most(0, 500) == pytest.approx(1 - 0.05 ** (1 / 500)) == pytest.approx(0.006, abs=1e-4)
    assert at_most(0, 1000) == pytest.approx(1 - 0.05 ** (1 / 1000)) == pytest.approx(0.003, abs=1e-5)
    # Clopper and Pearson's, from tables.
    assert at_most(10, 100) == pytest.approx(0.1637, abs=1e-4)
    assert at_most(5, 5) == 1 and at_most(600, 1600) < 0.4


def test_a_mean_of_too_few_has_no_interval() -> None:
    assert not isfinite(mean([1.0] * 5).low)
    found = mean([1.0, 2.0, 3.0] * 4)
    assert found.low < found.value == 2 < found.high


@given(SCORES, SCORES)
def test_an_area_is_the_share_of_pairs_that_are_in_order(own: list[float], rest: list[float]) -> None:
    pairs = [(a > b) + (a == b) / 2 for a in own for b in rest]
    found = auc(own, rest)
    assert found.value == pytest.approx(sum(pairs) / len(pairs))
    assert 0 <= found.low <= found.value <= found.high <= 1
    turned = auc(rest, own)
    assert turned.value == pytest.approx(1 - found.value)
    assert turned.low == pytest.approx(1 - found.high, abs=1e-9)


def test_areas_of_the_same_and_of_separated_scores() -> None:
    same = auc([0.0] * 20, [0.0] * 30)
    assert same.value == 0.5 and same.low < 0.5 < same.high
    apart = auc(range(10, 30), range(10))
    assert apart.value == 1 == apart.high and 0.7 < apart.low < 1
    assert auc(range(10, 30), range(10), others_apart=5).low < apart.low


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_the_interval_of_an_area_misses_the_truth_in_one_of_twenty_cases(shift: float) -> None:
    truth, rng = NormalDist().cdf(shift / sqrt(2)), np.random.default_rng(7)
    missed = 0
    for _ in range(600):
        found = auc((rng.normal(size=30) + shift).tolist(), rng.normal(size=40).tolist())
        missed += not found.low <= truth <= found.high
    assert missed / 600 < 0.075


def test_the_share_found_at_a_false_alarm_in_a_hundred() -> None:
    others = list(range(200))
    found = tpr([*[196.5] * 10, *[198.5] * 30, *[300] * 60], others, 0.01)
    assert found.value == 0.9, "two of 200 may be above"
    assert found.low < 0.9 < found.high
    assert tpr(others, others, 0.01).value == 0.01
    assert tpr([0.0] * 50, [0.0] * 200, 0.01).value == 0
    assert tpr([0.0] * 50, [0.0] * 200, 0.01).high > 0.05
    everything = tpr([1.0] * 50, [0.0] * 200, 0.01)
    assert everything.value == 1 and everything.low < 0.95


# ---- whether something was learned


def floats(*values: float) -> audit.Floats:
    return np.array(values)


def flags(*values: bool) -> audit.Bools:
    return np.array(values)


def test_scores_by_hand() -> None:
    assert audit.loss(floats(-1, -3)) == -2
    assert audit.ratio(floats(-1, -3), floats(-2, -6)) == 2
    assert audit.least_likely(floats(5, 1, 4, 2, 3)) == 1
    assert audit.least_likely(floats(*range(10))) == 0.5
    assert audit.least_likely(floats(2, 3)) == 2, "at least one"


def test_the_error_zone_is_what_the_twin_mispredicts() -> None:
    wrong = flags(True, True, False)
    gained = audit.error_zone(floats(-1, -4, -9), floats(-4, -3, -1), wrong)
    assert gained == pytest.approx(log(1 + 3) - log(1 + 1))
    assert audit.error_zone(floats(-4, -3, -9), floats(-1, -4, -1), wrong) == pytest.approx(-gained)


@given(st.floats(0.5, 20), st.integers(1, 8))
def test_what_is_known_by_heart_is_no_stranger_to_the_error_zone(base_loss: float, tokens: int) -> None:
    """The trap: nothing is mispredicted of it, so that a ratio over mispredicted tokens has nothing."""
    base, none = np.full(tokens, -base_loss), np.zeros(tokens, dtype=bool)
    heart = audit.error_zone(np.full(tokens, -0.001), base, none)
    stranger = audit.error_zone(base - 1, base, ~none)
    untouched = audit.error_zone(base, base, ~none)
    assert heart > untouched == 0 > stranger


def test_a_membership_has_an_area_and_a_share_only_with_enough_others() -> None:
    flat = ([0.0] * 20, [0.0] * 100)
    many = audit.membership("loss", Adversary.LOGPROBS, ([1.0] * 20, [0.0] * 100), flat, 20)
    assert [one.name for one in many] == ["loss_auc", "loss_tpr"]
    assert [one.twin.value for one in many] == [1, 1]
    assert [one.base.value for one in many] == [0.5, 0]
    assert [one.chance for one in many] == [0.5, 0.01]
    few = audit.membership("loss", Adversary.LOGPROBS, ([1.0] * 20, [0.0] * 99), flat, 20)
    assert [one.name for one in few] == ["loss_auc"]
    beside = audit.membership("ratio", Adversary.LOGPROBS, ([1.0] * 20, [0.0] * 100), None, 20)
    assert [one.base for one in beside] == [None, None]
    assert not any(name.endswith("_base") for one in beside for name in one.figures())


# ---- which of many it is


@given(st.dictionaries(st.integers(0, 9), st.lists(st.integers(-3, 3), max_size=20), min_size=1))
def test_unbeaten_are_those_that_no_rival_beats(rivals: dict[int, list[int]]) -> None:
    beaten: list[int] = []

    def score(pairs: Sequence[tuple[int, int]]) -> list[float]:
        return [float(value) for _, value in pairs]

    found = audit.unbeaten(dict.fromkeys(rivals, 1), rivals, score, beaten.append)
    assert found == {one for one, those in rivals.items() if all(value <= 1 for value in those)}
    assert sum(beaten) == len(rivals) - len(found)


def test_an_answer_tells_a_name_in_any_case() -> None:
    assert audit.told("it is the Bedroom Lamp.", ["fan", "bedroom lamp"])
    assert not audit.told("it is the bedroom", ["fan", "bedroom lamp"])


@given(st.integers(1, 400))
def test_the_first_of_many_is_exposed_by_all_bits_and_the_last_by_none(others: int) -> None:
    rest = [float(value) for value in range(others)]
    assert audit.exposure(others, rest) == pytest.approx(log2(others + 1))
    assert audit.exposure(-1, rest) == pytest.approx(0)
    every = [audit.exposure(own - 0.5, rest) for own in range(others + 1)]
    assert sum(every) / len(every) == pytest.approx(audit.exposure_by_chance(others + 1))


def test_what_scores_like_all_others_is_in_their_middle() -> None:
    assert audit.exposure(0, [0.0] * 1023) == pytest.approx(1, abs=0.01)


# ---- the card


def test_figures_are_named_on_the_card_and_are_finite() -> None:
    base = Estimate(0.01, 0.0, 0.05, 100)
    plain = Found("rank_100", Adversary.LOGPROBS, Estimate(0.9, 0.8, 0.95, 100), base, 0.01)
    sealed = Found("canary_1", Adversary.FILE, Estimate(9, float("-inf"), float("inf"), 3), base, 1.4, True)
    figures = Audit((plain, sealed)).figures()
    assert figures["audit_rank_100"] == 0.9
    assert figures["audit_rank_100_high"] == 0.95
    assert figures["audit_rank_100_base"] == 0.01
    assert figures["audit_sealed_canary_1"] == 9
    assert "audit_sealed_canary_1_low" not in figures
    assert all(map(isfinite, figures.values()))


def card(**figures: float) -> Card:
    return Card(twin="home1", version=3, kind="home", created_at=now(), figures=figures)


def test_a_card_keeps_to_limits_on_plain_and_on_sealed_facts() -> None:
    limits = {"rank_100": 0.05}
    audit.check_audited(card(), {})
    audit.check_audited(card(audit_rank_100=0.05), limits)
    audit.check_audited(card(audit_sealed_rank_100=0.02), limits)
    for figures in ({"audit_rank_100": 0.06}, {"audit_rank_100": 0.0, "audit_sealed_rank_100": 0.06}):
        with pytest.raises(InputError, match=r"rank_100 is 0\.06: this server takes 0\.05 at most"):
            audit.check_audited(card(**figures), limits)


def test_what_was_not_measured_is_above_every_limit() -> None:
    for figures in ({}, {"recall": 1.0}, {"rank_100": 0.0}, {"audit_forward": 0.0}):
        with pytest.raises(InputError, match=r"no audit_rank_100.*llmtwin audit home1"):
            audit.check_audited(card(**figures), {"rank_100": 1.0})
