"""Decides whether a new version may take the place of the one in use. It knows no model and no kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtwin.errors import InputError
from llmtwin.twins.sequential import items_to, low_end

OUTSIDE_SHARE = 0.05
"""How often an interval may miss the true difference."""
SUBSETS = 4095
SEED = 0


class Verdict(StrEnum):
    """Beyond chance no worse; beyond chance worse; or too close to tell."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Decision:
    """A verdict and its grounds: the mean difference, its 95 % interval, and over how many items.

    Differences are new less in use, in the unit of the scores. An end of the interval is infinite where there
    are too few items to say.
    """

    verdict: Verdict
    difference: float
    low: float
    high: float
    items: int

    def figures(self) -> dict[str, float]:
        """The grounds as a card takes them; what is not finite is left out."""
        found = {
            "gate_items": float(self.items),
            "gate_difference": self.difference,
            "gate_difference_low": self.low,
            "gate_difference_high": self.high,
        }
        return {name: value for name, value in found.items() if isfinite(value)}


@dataclass(frozen=True)
class SoFar(Decision):
    """A decision that may be taken anew after every item, and about how many more it needs.

    `items_more` is what it takes if all are like those so far, a rough figure while these are few. It is None
    where it is decided, or where the items so far do not point to either side.
    """

    items_more: int | None

    def figures(self) -> dict[str, float]:
        """The grounds as a card takes them, and how many more items it needs where that can be told."""
        more = {} if self.items_more is None else {"gate_items_more": float(self.items_more)}
        return super().figures() | more


def decide(
    new: Sequence[float], in_use: Sequence[float], *, loss_max: float = 0.0, sampled: bool = True
) -> Decision:
    """Compare two versions by their scores on the same items: a pair an item, higher is better.

    PASS where the whole interval of the mean difference is at `-loss_max` or above, FAIL where all of it is
    below, else INCONCLUSIVE: one that is just at the limit passes, and fails, in at most 2.5 % of cases.
    The interval is that of the sign-flip test: the means of subsets of the differences are typical values of
    their centre (Hartigan 1969). It assumes that the differences are independent and each as likely to be so
    far above their common centre as below it; of what form they are otherwise, and how many, does not matter,
    but under six say nothing. It holds for one look at the data. Without `sampled` the items are all that
    there are, and nothing is left to chance: the interval is the difference itself.
    Raises InputError for a score that is no finite number.
    """
    differences = np.subtract(new, in_use, dtype=np.float64)
    if not np.isfinite(differences).all():
        raise InputError("a score is no finite number: the new version cannot be compared, and is not used")
    if not differences.size:
        return Decision(Verdict.INCONCLUSIVE, 0.0, -inf, inf, 0)
    mean = float(differences.mean())
    low, high = interval(differences, np.ones_like(differences)) if sampled else (mean, mean)
    return Decision(_verdict(low, high, -loss_max), mean, low, high, differences.size)


def decide_so_far(
    new: Sequence[float],
    in_use: Sequence[float],
    *,
    loss_max: float,
    score_min: float = 0.0,
    score_max: float = 1.0,
) -> SoFar:
    """Compare as `decide` does, but after every item if one likes, for as long as one likes.

    The interval is a confidence sequence: in at least 95 % of streams it holds the true mean difference at
    all times together, so that one exactly at the limit ever passes, or ever fails, in at most 2.5 %. It
    assumes that scores lie within `score_min` to `score_max`, and that each item's difference has the same
    mean given those before it: let an item be a session where requests of one hang together. The price of
    looking is a wider interval than that of `decide`. As an equal version's mean is 0, it can pass only
    where something may be lost. Forgets nothing: of a version in use, give the latest items and not all.
    Raises InputError for a score outside of its range, or a `loss_max` that is not positive.
    """
    if not loss_max > 0:
        raise InputError("loss_max must be positive: no number of items shows that nothing at all is lost")
    scores = np.array([new, in_use], dtype=np.float64)
    if not ((score_min <= scores) & (scores <= score_max)).all():
        raise InputError(f"a score is not within {score_min} to {score_max}: give its true range")
    if not scores.size:
        return SoFar(Verdict.INCONCLUSIVE, 0.0, -inf, inf, 0, None)
    differences, span = scores[0] - scores[1], score_max - score_min
    better, worse = (0.5 + differences / span / 2, 0.5 - differences / span / 2)
    outside = OUTSIDE_SHARE / 2
    low, high = (2 * low_end(better, outside) - 1) * span, (1 - 2 * low_end(worse, outside)) * span
    mean, limit = float(differences.mean()), -loss_max
    verdict, more = _verdict(low, high, limit), None
    if verdict is Verdict.INCONCLUSIVE:
        side = (better, 0.5 + limit / span / 2) if mean >= limit else (worse, 0.5 - limit / span / 2)
        more = items_to(*side, outside)
    return SoFar(verdict, mean, low, high, differences.size, more)


def interval(tops: NDArray[np.float64], bottoms: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of a ratio: what all `tops` sum to, to what all `bottoms` do, an item of each (N,).

    It is that of the sign-flip test: between the ratios of subsets (M), sorted, each of the M + 1 gaps is as
    likely to hold the centre. Bottoms are not negative, and a subset of nothing but zeros says nothing.
    """
    subsets = _subsets(tops.size)
    above, below = subsets @ tops, subsets @ bottoms
    ratios, told = above / np.where(below > 0, below, 1), below > 0
    lows, highs = (np.sort(np.where(told, ratios, untold)) for untold in (-inf, inf))
    outside = int(OUTSIDE_SHARE / 2 * (len(subsets) + 1))
    return (float(lows[outside - 1]), float(highs[-outside])) if outside else (-inf, inf)


def _verdict(low: float, high: float, limit: float) -> Verdict:
    if low >= limit:
        return Verdict.PASS
    return Verdict.FAIL if high < limit else Verdict.INCONCLUSIVE


def _subsets(items: int) -> NDArray[Any]:
    """Rows (M, items) of 0 and 1, none of them empty: all there are, or so many drawn by the seed."""
    if 2**items <= SUBSETS + 1:
        return np.arange(1, 2**items)[:, None] >> np.arange(items) & 1
    drawn = np.random.default_rng(SEED).integers(0, 2, (SUBSETS, items))
    return drawn[drawn.any(axis=1)]
