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
    low, high = _interval(differences) if sampled else (mean, mean)
    return Decision(_verdict(low, high, -loss_max), mean, low, high, differences.size)


def _verdict(low: float, high: float, limit: float) -> Verdict:
    if low >= limit:
        return Verdict.PASS
    return Verdict.FAIL if high < limit else Verdict.INCONCLUSIVE


def _interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Between the subset means (M), sorted, each of the M + 1 gaps is as likely to hold the centre."""
    subsets = _subsets(differences.size)
    means = np.sort(subsets @ differences / subsets.sum(axis=1))
    outside = int(OUTSIDE_SHARE / 2 * (len(means) + 1))
    return (float(means[outside - 1]), float(means[-outside])) if outside else (-inf, inf)


def _subsets(items: int) -> NDArray[Any]:
    """Rows (M, items) of 0 and 1, none of them empty: all there are, or so many drawn by the seed."""
    if 2**items <= SUBSETS + 1:
        return np.arange(1, 2**items)[:, None] >> np.arange(items) & 1
    drawn = np.random.default_rng(SEED).integers(0, 2, (SUBSETS, items))
    return drawn[drawn.any(axis=1)]
