"""Bounds the mean of bounded numbers at all times together, by betting. It knows neither scores nor verdicts.

Whoever bets on numbers from 0 to 1 that their mean is above m, with stakes that are never more than all there
is, can expect to lose or stay even if it is not (Waudby-Smith and Ramdas 2024, arXiv:2010.09686): the capital
is a test martingale, and ever multiplies by 1 / alpha in at most a share alpha of streams (Ville 1939).
"""

from __future__ import annotations

from math import ceil, log

import numpy as np
from numpy.typing import NDArray

BETTORS = 16
STAKES = np.sin(np.pi / 2 * (np.arange(BETTORS) + 0.5) / BETTORS) ** 2
"""The capital is split over bettors, each of which always stakes the same share of what it has.

The shares are quantiles of the arcsine law, under which little is lost against the best of all shares,
chosen in hindsight (Cover and Ordentlich 1996, https://doi.org/10.1109/18.485708).
"""
HALVINGS = 32

Array = NDArray[np.float64]


def log_capitals(numbers: Array, mean: float) -> Array:
    """What a start of 1 has become (..., N), in logs, after each of `numbers` (..., N), against `mean`."""
    capital: Array = np.full(numbers.shape, -np.inf)
    for stake in STAKES:
        np.logaddexp(capital, np.log1p(stake * (numbers / mean - 1)).cumsum(axis=-1), out=capital)
    return capital - log(BETTORS)


def low_end(numbers: Array, alpha: float) -> float:
    """The least mean that the numbers (N,) leave possible; too high, at any time, in at most `alpha`."""
    excluded, possible = 0.0, float(numbers.mean())
    for _ in range(HALVINGS):
        middle = (excluded + possible) / 2
        if middle > 0 and _log_mean(_growth(numbers, middle)) >= log(1 / alpha):
            excluded = middle
        else:
            possible = middle
    return excluded


def items_to(numbers: Array, mean: float, alpha: float) -> int | None:
    """About how many more it takes to exclude `mean` from below, if they are like those so far (N,)."""
    each = _growth(numbers, mean) / numbers.size
    best = float(each.max())
    if best <= 0:
        return None
    short, enough = numbers.size, ceil(log(BETTORS / alpha) / best)
    while enough - short > 1:
        middle = (short + enough) // 2
        short, enough = (short, middle) if _log_mean(middle * each) >= log(1 / alpha) else (middle, enough)
    return max(1, enough - numbers.size)


def _growth(numbers: Array, mean: float) -> Array:
    """The log of what each bettor (S,) makes of a capital of 1 by all numbers (N,)."""
    grown: Array = np.log1p(STAKES[:, None] * (numbers / mean - 1)).sum(axis=1)
    return grown


def _log_mean(logs: Array) -> float:
    return float(np.logaddexp.reduce(logs)) - log(len(logs))
