"""Drift: a martingale while nothing changes, an alarm soon after something does, calm after it is undone."""

from __future__ import annotations

from itertools import pairwise
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmtwin.errors import InputError
from llmtwin.twins.model.drift import ANCHOR_MIN, Bets, Drift, ProbeDrift, departures, p_values

ALPHA = 0.05
PROBES = 3


@given(st.lists(st.floats(-9, 9), min_size=2, max_size=20, unique=True), st.floats(0.01, 0.99))
def test_whichever_number_came_last_every_rank_is_as_likely(numbers: list[float], chance: float) -> None:
    count = len(numbers)
    known = np.array([numbers[:at] + numbers[at + 1 :] for at in range(count)])
    found = p_values(known, np.array(numbers), np.full(count, chance))
    assert np.sort(found) == pytest.approx((np.arange(count) + chance) / count)


@given(st.lists(st.integers(0, 2), min_size=2, max_size=12))
def test_ties_are_broken_evenly(numbers: list[int]) -> None:
    """Over which came last and over chance the p-value is below each level as often as the level says."""
    count, chances = len(numbers), (np.arange(100) + 0.5) / 100
    known = np.array([numbers[:at] + numbers[at + 1 :] for at in range(count)], float)
    found = np.array([p_values(known, np.array(numbers, float), chance) for chance in chances])
    for level in (0.05, 0.3, 0.8):
        assert (found <= level).mean() == pytest.approx(level, abs=0.011)


@given(st.permutations([(0.1, 1), (0.1, 2), (0.2, 5), (0.7, 1), (-3.0, 1), (5.0, 9)]))
def test_departures_know_no_order_and_no_unit(checks: list[tuple[float, float]]) -> None:
    apart = departures(np.array(checks))
    assert np.sort(apart) == pytest.approx(np.sort(departures(np.array(sorted(checks)))))
    assert departures(np.array(checks) * [7, 0.1] + [3, 4]) == pytest.approx(apart)


@pytest.mark.parametrize("two_sided", [True, False])
def test_who_bets_on_nothing_expects_to_win_nothing(two_sided: bool) -> None:
    """The mean capital after one and after two bets, by quadrature that is dense at both ends."""
    places = np.linspace(-60, 60, 601)
    p = 1 / (1 + np.exp(-places))
    weights = p * (1 - p) * (places[1] - places[0])
    bets = Bets(1e-9, two_sided=two_sided, shape=(601, 601))
    for all_p in (p[:, None], p[None, :]):
        bets.place(np.broadcast_to(all_p, (601, 601)))
        # A little below, since p-values are kept from 0.
        assert 0.97 < weights @ bets.e_values @ weights <= 1 + 1e-6


def ever(anchor: NDArray[np.float64], stream: NDArray[np.float64], rng: np.random.Generator) -> float:
    """In what share of streams (S, T) with their anchors (S, N) it ever alarms."""
    known, size = np.hstack([anchor, stream]), anchor.shape[1]
    bets, alarmed = Bets(ALPHA, two_sided=True, shape=anchor.shape[:1]), np.zeros(len(anchor), bool)
    for at in range(size, known.shape[1]):
        bets.place(p_values(known[:, :at], known[:, at], rng.random(len(anchor))))
        alarmed |= bets.e_values >= 1 / ALPHA
    return float(alarmed.mean())


@pytest.mark.parametrize("form", ["ties", "heavy tails"])
def test_alarms_without_cause_are_few_however_long_one_looks(form: str) -> None:
    rng = np.random.default_rng(0)
    shape = (300, 320)
    drawn = (rng.random(shape) < 0.1).astype(float) if form == "ties" else rng.standard_cauchy(shape)
    alarms = ever(drawn[:, :20], drawn[:, 20:], rng)
    assert 0 < alarms <= ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / 300)


@pytest.mark.parametrize(("before", "after"), [(0.1, 0.6), (0.9, 0.4)])
def test_a_change_alarms_and_what_is_undone_calms(before: float, after: float) -> None:
    rng = np.random.default_rng(0)

    def draw(rate: float, count: int) -> list[float]:
        return [float(one) for one in rng.random(count) < rate]

    drift = Drift(draw(before, 200))
    assert max(map(drift.update, draw(before, 300))) < 1 / ALPHA and not drift.alarm
    changed = [drift.update(x) for x in draw(after, 60)]
    assert drift.alarm and max(changed) == pytest.approx(10 / ALPHA)
    for x in draw(before, 60):
        drift.update(x)
    assert not drift.alarm and drift.observations == 420


def checks(rng: np.random.Generator, count: int, together: bool) -> NDArray[np.float64]:
    """Log-probabilities as a server gives them: batching disturbs three in ten, alone or `together`."""
    disturbed = rng.random((count, 1 if together else PROBES)) < 0.3
    made: NDArray[np.float64] = -1.5 + 0.02 * rng.normal(size=(count, PROBES)) * disturbed
    return made


@pytest.mark.parametrize("together", [True, False])
def test_a_changed_model_is_found_with_ten_probe_tokens(together: bool) -> None:
    """Each probe is moved by some ten times the noise, up or down, in each of 40 models."""
    tokens = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        drift = ProbeDrift(checks(rng, 100, together).tolist(), seed=seed)
        moved = rng.normal(size=PROBES) * 0.2
        while not drift.alarm and drift.observations < 30:
            drift.update(list(checks(rng, 1, together)[0] + moved))
        tokens.append(drift.observations)
    assert np.quantile(tokens, 0.9) <= 10


@pytest.mark.parametrize("together", [True, False])
def test_noise_of_serving_is_no_change(together: bool) -> None:
    """Also where a load disturbs all probes at once."""
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        drift = ProbeDrift(checks(rng, 50, together).tolist(), seed=seed)
        alarms += any(drift.update(list(check)) >= 1 / ALPHA for check in checks(rng, 80, together))
    assert alarms <= 40 * ALPHA + 3 * np.sqrt(40 * ALPHA * (1 - ALPHA))


def test_without_noise_the_least_change_shows_and_so_does_a_token_no_longer_told() -> None:
    anchor = [[-1.5] * PROBES] * 50
    for changed in (-1.5000001, None):
        drift = ProbeDrift(anchor)
        found = [drift.update([-1.5, -1.5, changed]) for _ in range(4)]
        assert drift.alarm and drift.observations == 12 and all(a < b for a, b in pairwise(found[:3]))
    same = ProbeDrift(anchor)
    assert max(same.update([-1.5] * PROBES) for _ in range(50)) < 1 / ALPHA


def test_what_cannot_be_watched_is_refused() -> None:
    good = [0.0] * ANCHOR_MIN
    with pytest.raises(InputError, match="at least 10"):
        Drift(good[1:])
    with pytest.raises(InputError, match="finite"):
        Drift([*good, nan])
    with pytest.raises(InputError, match="alpha"):
        Drift(good, alpha=1)
    with pytest.raises(InputError, match="finite number"):
        Drift(good).update(inf)
    for bad in ([], [[]], [[0.0, 1.0], [0.0]]):
        with pytest.raises(InputError, match="the same probes"):
            ProbeDrift(bad)
    with pytest.raises(InputError, match="at least 10"):
        ProbeDrift([[0.0]] * 9)
    with pytest.raises(InputError, match="2 probes, and the anchor 1"):
        ProbeDrift([[0.0]] * 10).update([0.0, 1.0])
