"""Simulates how often the gate and the drift alarm err if one looks after every item. It knows no model.

Beside each stands what a naive rule does on the same streams: to look again and again at a point estimate,
or at an interval that holds for one look.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from llmtwin.twins.gate import OUTSIDE_SHARE, Verdict, decide_so_far
from llmtwin.twins.intervals import Z_95
from llmtwin.twins.model.drift import Bets, beyond_noise, departures, p_values
from llmtwin.twins.sequential import log_capitals

STREAMS = 1000
ITEMS = 1000
LOSS_MAX = 0.05
FIRST_LOOK = 50
"""The naive rules start here; the gate looks from the first item."""
FORECAST_ITEMS = 100
ALPHA = 0.05
ANCHOR = 200
WRONG_SHARE = 0.1
WRONG_SHARE_CHANGED = 0.3
PROBES = 3
PROBE_ANCHOR = 100
PROBE_CHECKS = 200
PROBE_TOKENS_MAX = 10
BATCHED_SHARE = 0.3
"""How often batching disturbs log-probabilities, by a normal deviate of one unit; else they are exact."""
PROBE_SHIFT = 10.0
"""The scatter of how a changed model moves the probes, in that unit."""

Array = NDArray[np.float64]


def model_gate(streams: int = STREAMS, items: int = ITEMS, seed: int = 0) -> dict[str, Any]:
    """All figures, each rate with its exact binomial 95 % interval, of `streams` of `items` each."""
    settings = {"streams": streams, "items": items, "loss_max": LOSS_MAX, "alpha": ALPHA, "seed": seed}
    pairs, early, scores, tokens = np.random.default_rng(seed).spawn(4)
    return (
        settings
        | gate(pairs, streams, items)
        | forecast(early, max(1, streams // 5), items)
        | outputs(scores, streams, items)
        | probes(tokens, streams)
    )


def gate(rng: np.random.Generator, streams: int, items: int) -> dict[str, Any]:
    """How often candidates exactly at the limit are decided on, of tasks or of grades the more; and power.

    Power is the share decided by so many items: of an equal candidate, and of one that loses twice the limit.
    """
    forms = ("task", "graded")
    at_limit = {form: draw(rng, form, -LOSS_MAX, (streams, items)) for form in forms}
    first = {form: decided_at(one) for form, one in at_limit.items()}
    found: dict[str, Any] = {
        "false_promotion": _worst([rate(np.isfinite(passed)) for passed, _ in first.values()]),
        "false_rejection": _worst([rate(np.isfinite(failed)) for _, failed in first.values()]),
        "false_promotion_point_estimate": _worst(
            [rate(_ever(_naive(one, 0.0))) for one in at_limit.values()]
        ),
        "false_promotion_fixed_interval": _worst(
            [rate(_ever(_naive(one, Z_95))) for one in at_limit.values()]
        ),
    }
    for name, loss, side in (("power_better", 0.0, 0), ("power_worse", 2 * LOSS_MAX, 1)):
        for form in forms:
            when = decided_at(draw(rng, form, -loss, (streams, items)))[side]
            steps = sorted({items // 10, items // 4, items // 2, items})
            found[f"{name}_{form}"] = {str(step): rate(np.less_equal(when, step)) for step in steps}
    return found


def draw(rng: np.random.Generator, form: str, mean: float, shape: tuple[int, int]) -> Array:
    """Paired differences of exactly this mean: of tasks passed or not, or of grades in hundredths."""
    if form == "graded":
        return mean + rng.integers(-25, 26, shape) / 100
    lost, won = 0.08 - min(mean, 0.0) / 2, 0.08 + min(mean, 0.0) / 2
    chance = rng.random(shape)
    drawn: Array = np.where(chance < lost, -1.0, np.where(chance < lost + won, 1.0, 0.0))
    return drawn


def decided_at(differences: Array) -> tuple[Array, Array]:
    """After how many items each stream (S, N) first passes, and fails: `decide_so_far` of all at once."""
    better, limit = (1 + differences) / 2, (1 - LOSS_MAX) / 2
    enough = np.log(2 / OUTSIDE_SHARE)
    passed, failed = (
        log_capitals(side, at) >= enough for side, at in ((better, limit), (1 - better, 1 - limit))
    )
    return _first(passed), _first(failed)


def forecast(rng: np.random.Generator, streams: int, items: int) -> dict[str, Any]:
    """What `items_more` said of an equal candidate, over how many it needed, where it was not yet decided."""
    early = min(FORECAST_ITEMS, items // 4)
    differences = draw(rng, "task", 0.0, (streams, items))
    ratios = []
    for stream, needed in zip(differences, decided_at(differences)[0], strict=True):
        new = np.maximum(stream[:early], 0)
        found = decide_so_far(new, new - stream[:early], loss_max=LOSS_MAX)
        if found.verdict is Verdict.INCONCLUSIVE and needed < np.inf and found.items_more:
            ratios.append(found.items_more / (needed - early))
    return {"items_more_ratio": quantiles(np.array(ratios)), "items_more_after": early}


def outputs(rng: np.random.Generator, streams: int, items: int) -> dict[str, Any]:
    """Drift of a score of outputs that is wrong in a tenth of cases, and after a change in three tenths."""
    anchor, same, changed = (
        (rng.random((streams, count)) < share).astype(np.float64)
        for count, share in (
            (ANCHOR, WRONG_SHARE),
            (items, WRONG_SHARE),
            (items, WRONG_SHARE_CHANGED),
        )
    )
    when = _first(watched(rng, anchor, changed))
    return {
        "false_alarm": rate(_ever(watched(rng, anchor, same))),
        "false_alarm_rechecked_z": rate(_ever(_rechecked_z(anchor, same))),
        "detected": rate(np.isfinite(when)),
        "observations_to_detect": quantiles(when),
    }


def watched(rng: np.random.Generator, anchor: Array, stream: Array) -> NDArray[np.bool_]:
    """Whether `Drift` alarms, for streams (S, N) side by side, after each number."""
    known, bets = np.hstack([anchor, stream]), Bets(ALPHA, two_sided=True, shape=anchor.shape[:1])
    alarms = np.zeros(stream.shape, bool)
    for at in range(stream.shape[1]):
        seen = anchor.shape[1] + at
        bets.place(p_values(known[:, :seen], known[:, seen], rng.random(len(known))))
        alarms[:, at] = bets.e_values >= 1 / ALPHA
    return alarms


def probes(rng: np.random.Generator, streams: int) -> dict[str, Any]:
    """Drift of probe tokens under the noise of batching, and how many of them show a changed model.

    The noise is of each probe alone or common to a check, whichever is worse.
    """
    alarms, one_by_one, detected, tokens = [], [], [], []
    for together in (False, True):
        anchor, same, changed = (
            served(rng, (streams, checks, PROBES), together)
            for checks in (PROBE_ANCHOR, PROBE_CHECKS, PROBE_TOKENS_MAX)
        )
        changed += PROBE_SHIFT * rng.normal(size=(streams, 1, PROBES))
        alarms.append(rate(_ever(probed(rng, anchor, same))))
        one_by_one.append(rate(_ever(_token_by_token(rng, anchor, same))))
        tokens.append(PROBES * _first(probed(rng, anchor, changed)))
        detected.append(rate(np.less_equal(tokens[-1], PROBE_TOKENS_MAX)))
    return {
        "probe_false_alarm": _worst(alarms),
        "probe_false_alarm_token_by_token": _worst(one_by_one),
        f"probe_detected_in_{PROBE_TOKENS_MAX}": min(detected, key=lambda one: one["rate"]),
        "probe_tokens_simulated": quantiles(np.concatenate(tokens)),
    }


def served(rng: np.random.Generator, shape: tuple[int, int, int], together: bool) -> Array:
    """What a server tells of log-probabilities (S, checks, P), less what they are, in units of its noise."""
    disturbed = rng.random((*shape[:2], 1 if together else shape[2])) < BATCHED_SHARE
    told: Array = rng.normal(size=shape) * disturbed
    return told


def probed(rng: np.random.Generator, anchor: Array, stream: Array) -> NDArray[np.bool_]:
    """Whether `ProbeDrift` alarms, for streams (S, checks, P) side by side, after each check."""
    known, bets = np.hstack([anchor, stream]), Bets(ALPHA, two_sided=False, shape=(len(anchor),))
    alarms = np.zeros(stream.shape[:2], bool)
    for at in range(stream.shape[1]):
        apart = departures(known[:, : anchor.shape[1] + at + 1])
        bets.place(beyond_noise(apart[:, :-1], apart[:, -1], rng.random(len(known))))
        alarms[:, at] = bets.e_values >= 1 / ALPHA
    return alarms


def rate(hits: NDArray[np.bool_]) -> dict[str, float]:
    """A share with its exact binomial 95 % interval (Clopper and Pearson 1934), and of how many streams."""
    interval = binomtest(int(hits.sum()), hits.size).proportion_ci(method="exact")
    return {
        "rate": float(hits.mean()),
        "low": float(interval.low),
        "high": float(interval.high),
        "streams": hits.size,
    }


def _worst(rates: list[dict[str, float]]) -> dict[str, float]:
    return max(rates, key=lambda one: one["rate"])


def quantiles(numbers: Array) -> Mapping[str, float | None]:
    """Tenth, fiftieth and ninetieth percentile; None where it is beyond the end of the streams."""
    ordered, found = np.sort(numbers), {}
    for percent in (10, 50, 90):
        one = float(ordered[int((len(ordered) - 1) * percent / 100)]) if len(ordered) else np.inf
        found[f"p{percent}"] = one if np.isfinite(one) else None
    return found


def _naive(differences: Array, errors: float) -> NDArray[np.bool_]:
    """Whether the mean less so many standard errors is at the limit or above, at each look (S, N)."""
    count = np.arange(1, differences.shape[1] + 1)
    mean = differences.cumsum(axis=1) / count
    variance = (differences**2).cumsum(axis=1) / count - mean**2
    error = np.sqrt(np.maximum(variance, 0) / count)
    found: NDArray[np.bool_] = np.greater_equal(mean - errors * error, -LOSS_MAX)
    found[:, : FIRST_LOOK - 1] = False
    return found


def _rechecked_z(anchor: Array, stream: Array) -> NDArray[np.bool_]:
    """Whether a two-sample z-test, meant for one look, sees a change, after each number."""
    count = np.arange(1, stream.shape[1] + 1)
    mean = stream.cumsum(axis=1) / count
    variance = anchor.var(axis=1, keepdims=True)
    error = np.sqrt(variance * (1 / anchor.shape[1] + 1 / count))
    found: NDArray[np.bool_] = np.greater(np.abs(mean - anchor.mean(axis=1, keepdims=True)), Z_95 * error)
    found[:, : FIRST_LOOK - 1] = False
    return found


def _token_by_token(rng: np.random.Generator, anchor: Array, stream: Array) -> NDArray[np.bool_]:
    """What `probed` would say if it bet on each token of a check by itself."""
    known, bets = np.hstack([anchor, stream]), Bets(ALPHA, two_sided=False, shape=(len(anchor),))
    alarms = np.zeros(stream.shape[:2], bool)
    for at in range(stream.shape[1]):
        for probe in range(stream.shape[2]):
            apart = departures(known[:, : anchor.shape[1] + at + 1, probe : probe + 1])
            bets.place(p_values(apart[:, :-1], apart[:, -1], rng.random(len(known))))
            alarms[:, at] |= bets.e_values >= 1 / ALPHA
    return alarms


def _ever(happened: NDArray[np.bool_]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.isfinite(_first(happened))
    return found


def _first(happened: NDArray[np.bool_]) -> Array:
    """After how many steps it first happened in each row (S, N); infinite where it did not."""
    found: Array = np.where(happened.any(axis=1), happened.argmax(axis=1) + 1, np.inf)
    return found
