"""Says when a model is no longer the one it was, looking after every number it gives. It knows no model.

Numbers are compared with those of an anchor, taken when the model was as it should be. While it is the
same, each new number is as likely to have any rank among all before it; who bets against that (conformal
test martingale: Vovk, Gammerman and Shafer 2005; Volkhonskiy et al. 2017, arXiv:1706.03415) multiplies a
capital of 1 by 1 / alpha, ever, in at most a share alpha of streams (Ville 1939), whatever form the numbers
are of.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmtwin.errors import InputError

ANCHOR_MIN = 10
"""Of fewer numbers, each new one has so few possible ranks that a change would go unseen for long."""
CENSORED = -9999.0
"""What counts for a log-probability that the model does not tell, being below those that it tells."""
NOISE_FACTOR = 2.0
"""So many times the noise on record may a check be off before that speaks for a change."""
POWERS = np.array([0.1, 0.2, 0.4, 0.6, 0.8])
CAP = 10
"""The capital is held at so many times what alarms, so that it is soon below once a model is as it was."""
_TINY = 1e-12

Array = NDArray[np.float64]


class Bets:
    """A capital of 1, or several side by side, bet on ranks being extreme; `e_values` is what it has become.

    Bettors hold that small p-values, or if `two_sided` large ones too, come more often: the density of a
    bet is c p^(c-1), c being one of POWERS. All at once would have lost most of it before a late change:
    therefore 1 / (n (n + 1)) of the first capital is put in before the n-th bet, and the rest waits.
    """

    def __init__(self, alpha: float, *, two_sided: bool, shape: tuple[int, ...] = ()) -> None:
        self._cap = CAP / alpha
        self._two_sided = two_sided
        self._placed: Array = np.zeros((*shape, len(POWERS) * (1 + two_sided)))
        self.bets = 0

    @property
    def e_values(self) -> Array:
        """What each capital is now (shape)."""
        found: Array = self._placed.sum(axis=-1) + self._waiting
        return found

    @property
    def _waiting(self) -> float:
        return 1 / (self.bets + 1)

    def place(self, p_values: Array) -> None:
        """Bet once more, on p-values (shape) that are uniform while nothing has changed."""
        before = self._waiting
        self.bets += 1
        p = np.clip(p_values, _TINY, 1 - _TINY)[..., None]
        odds = [POWERS * side ** (POWERS - 1) for side in ((p, 1 - p) if self._two_sided else (p,))]
        self._placed += (before - self._waiting) / self._placed.shape[-1]
        self._placed *= np.concatenate(odds, axis=-1)
        placed = self._placed.sum(axis=-1, keepdims=True)
        self._placed *= np.minimum(1, (self._cap - self._waiting) / placed)


class _Watch:
    """What both watches say of their bets."""

    _bets: Bets
    _level: float

    @property
    def e_value(self) -> float:
        """How strongly all so far speaks for a change: 1 is not at all, and 1 / alpha alarms."""
        return float(self._bets.e_values)

    @property
    def alarm(self) -> bool:
        """Whether it alarms now: a model that is again as it was does not for long."""
        return self.e_value >= self._level


class Drift(_Watch):
    """Watches any numbers of a model, such as scores of its replies, against those of an anchor.

    The numbers, anchor and stream together, must be exchangeable while nothing changes: taken in the same
    way, over the same mix of inputs and load, in an order that says nothing. A change to higher or to lower
    values is found, also a late one. It remembers all numbers, eight bytes each.
    """

    def __init__(self, anchor: Sequence[float], alpha: float = 0.05, seed: int = 0) -> None:
        """Raises InputError for less than ten numbers, one not finite, or an alpha not within 0 to 1."""
        self._level = _level(alpha)
        self._known = _anchor(anchor)
        self._bets = Bets(alpha, two_sided=True)
        self._rng = np.random.default_rng(seed)

    def update(self, x: float) -> float:
        """Take one more number, and return the e-value. Raises InputError for one that is not finite."""
        new = _finite(x)
        self._bets.place(p_values(self._known, new, self._rng.random()))
        self._known = np.append(self._known, new)
        return self.e_value

    @property
    def observations(self) -> int:
        """How many numbers it has taken since the anchor."""
        return self._bets.bets


class ProbeDrift(_Watch):
    """Watches the log-probabilities of a few probe tokens, all measured together at each check.

    A probe is a token at a place of a fixed text; what a change will make of it need not be known, since any
    departure from the middle of its own measures counts, in units of how they scatter. The anchor is checks
    (N, P) of the model as it should be. Checks must be exchangeable while nothing changes: what batching does
    to the numbers may be common to all probes of a check, but the anchor must have been taken under the loads
    that come later. Loads last, so that disturbed checks come in clumps, and are not quite exchangeable: a
    change has to be beyond twice the noise (`beyond_noise`). Only ranks matter, and a check is worth at most
    about (N + 1) / 4 as an e-value: a few probes and a hundred checks let the alarm come at the second or
    third one (`study.model_gate`).
    """

    def __init__(self, anchor: Sequence[Sequence[float]], alpha: float = 0.05, seed: int = 0) -> None:
        """Raises InputError for less than ten checks, of unequal length, without probes or not finite.

        A token that the anchor model does not always tell of is no good probe. Raises it also for an alpha
        that is not within 0 to 1.
        """
        self._level = _level(alpha)
        self._probes = len(anchor[0]) if anchor else 0
        if not self._probes or any(len(check) != self._probes for check in anchor):
            raise InputError("each check of the anchor must measure the same probes, at least one")
        self._known = _anchor(anchor)
        self._bets = Bets(alpha, two_sided=False)
        self._rng = np.random.default_rng(seed)

    def update(self, check: Sequence[float | None]) -> float:
        """Take one more check (P,), None for what the model does not tell; return the e-value.

        Raises InputError for another number of probes, or a measure that is not finite.
        """
        if len(check) != self._probes:
            raise InputError(f"the check has {len(check)} probes, and the anchor {self._probes}")
        new = [CENSORED if logprob is None else _finite(logprob) for logprob in check]
        self._known = np.vstack([self._known, new])
        apart = departures(self._known)
        self._bets.place(beyond_noise(apart[:-1], apart[-1], self._rng.random()))
        return self.e_value

    @property
    def observations(self) -> int:
        """How many probe tokens it has taken since the anchor: checks times probes."""
        return self._bets.bets * self._probes


def p_values(known: Array, new: Array | float, chance: Array | float) -> Array:
    """The rank from above of `new` (...) in `known` (..., N) with it, as a share: uniform if exchangeable.

    Ties are broken by `chance` (...), uniform from 0 to 1.
    """
    above = (known > np.asarray(new)[..., None]).sum(axis=-1)
    level = (known == np.asarray(new)[..., None]).sum(axis=-1)
    found: Array = (above + chance * (level + 1)) / (known.shape[-1] + 1)
    return found


def beyond_noise(known: Array, new: Array, chance: Array | float) -> Array:
    """As `p_values`, of departures, as if the new one were NOISE_FACTOR times smaller.

    That only makes the p-value larger: it stays valid, and alarms less where checks hang together.
    """
    return p_values(known, new / NOISE_FACTOR, chance)


def departures(checks: Array) -> Array:
    """How far each of the checks (..., N, P) is from the middle of all, whatever their order: (..., N).

    The distances of each probe from its median, in units of their mean, summed over the probes.
    """
    apart = np.abs(checks - np.median(checks, axis=-2, keepdims=True))
    scatter = apart.mean(axis=-2, keepdims=True)
    found: Array = (apart / np.where(scatter > 0, scatter, 1)).sum(axis=-1)
    return found


def _level(alpha: float) -> float:
    if not 0 < alpha < 1:
        raise InputError(f"alpha is the share of false alarms, between 0 and 1, and not {alpha}")
    return 1 / alpha


def _anchor(given: Sequence[float] | Sequence[Sequence[float]]) -> Array:
    found = np.array(given, dtype=np.float64)
    if len(found) < ANCHOR_MIN or not np.isfinite(found).all():
        raise InputError(f"an anchor of {len(found)} is too few, or not finite: give at least {ANCHOR_MIN}")
    return found


def _finite(x: float) -> float:
    if not np.isfinite(x):
        raise InputError(f"{x} cannot be compared with an anchor: give a finite number")
    return x
