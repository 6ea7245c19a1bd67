"""What was counted, and how far chance may have moved it: rates, areas and means with 95 % intervals.

It does not know what is counted. Scores are such that a higher one speaks for a member.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmtwin.twins.gate import interval

Z_95 = 1.959964
TAIL = 0.05
RESAMPLES = 1000
STEPS = 60
"""Halvings of an interval of 1: more than a float64 can tell apart."""

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value of so many items, and its 95 % interval, infinite where nothing bounds it."""

    value: float
    low: float
    high: float
    items: int


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a rate (Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953)."""
    share, z2 = hits / count, Z_95**2 / count
    centre = (share + z2 / 2) / (1 + z2)
    half = Z_95 / (1 + z2) * math.sqrt(share * (1 - share) / count + z2 / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def at_most(hits: int, count: int) -> float:
    """The exact one-sided 95 % upper bound of a rate: 1 - 0.05^(1/count) where nothing was hit.

    It solves for the rate at which so few hits come about one time in twenty (Clopper and Pearson 1934,
    https://doi.org/10.1093/biomet/26.4.404).
    """
    low, high = hits / count, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        if middle < 1 and _so_few(hits, count, middle) > TAIL:
            low = middle
        else:
            high = middle
    return high


def _so_few(hits: int, count: int, share: float) -> float:
    """How likely no more than so many hits are."""
    every = np.arange(hits + 1)
    ways = np.array([math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) for k in every])
    return float(np.exp(ways + every * math.log(share) + (count - every) * math.log1p(-share)).sum())


def rate(hits: Sequence[bool]) -> Estimate:
    """How often it was so, of at least one."""
    return Estimate(sum(hits) / len(hits), *wilson(sum(hits), len(hits)), len(hits))


def mean(values: Sequence[float]) -> Estimate:
    """The mean, with the interval of the sign-flip test as the gate has it: infinite for under six values."""
    every = np.array(values, dtype=np.float64)
    return Estimate(float(every.mean()), *interval(every, np.ones_like(every)), every.size)


def auc(members: Sequence[float], others: Sequence[float], others_apart: int | None = None) -> Estimate:
    """How often a member's score is above another's; ties count half (the area under the ROC curve).

    The interval is Newcombe's fifth (2006, https://doi.org/10.1002/sim.2324), which solves for the areas from
    which the found one is not too far, as Wilson's does for rates; it assumes independent scores. Where
    others hang together, `others_apart` is how many of them do not.
    """
    own, rest = np.array(members, dtype=np.float64), np.sort(np.array(others, dtype=np.float64))
    below = np.searchsorted(rest, own, "left") + np.searchsorted(rest, own, "right")
    area = float(below.mean()) / (2 * rest.size)
    count = others_apart or rest.size
    low, high = _area_low(area, own.size, count), 1 - _area_low(1 - area, own.size, count)
    return Estimate(area, low, high, own.size)


def _area_low(area: float, members: int, others: int) -> float:
    low, high = 0.0, area
    for _ in range(STEPS):
        middle = (low + high) / 2
        if area - middle > Z_95 * _area_error(middle, members, others):
            low = middle
        else:
            high = middle
    return low


def _area_error(area: float, members: int, others: int) -> float:
    """The standard error of an area, by Hanley and McNeil with the mean of both counts in the numerator."""
    half = (members + others) / 2 - 1
    spread = 1 + half * (1 - area) / (2 - area) + half * area / (1 + area)
    return math.sqrt(area * (1 - area) * spread / (members * others))


def tpr(members: Sequence[float], others: Sequence[float], fpr: float) -> Estimate:
    """The share of members found where at most the share `fpr` of others is taken for one.

    The interval is the wider one of a bootstrap over both, by a fixed seed, and Wilson's at the threshold:
    the bootstrap knows nothing beyond 0 and 1, Wilson's takes the threshold for given.
    """
    own, rest = np.array(members, dtype=np.float64), np.array(others, dtype=np.float64)
    rng = np.random.default_rng(0)
    drawn = [
        _found(own[rng.integers(0, own.size, own.size)], rest[rng.integers(0, rest.size, rest.size)], fpr)
        for _ in range(RESAMPLES)
    ]
    found = _found(own, rest, fpr)
    low, high = wilson(round(found * own.size), own.size)
    outer = np.quantile(drawn, [0.025, 0.975])
    return Estimate(found, min(low, float(outer[0])), max(high, float(outer[1])), own.size)


def _found(own: Scores, rest: Scores, fpr: float) -> float:
    """The share above the score that no more than `fpr` of the others are above."""
    taken = math.floor(fpr * rest.size + 1e-9)
    return float((own > np.sort(rest)[rest.size - 1 - taken]).mean())
