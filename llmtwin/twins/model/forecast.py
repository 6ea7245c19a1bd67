"""Keeps what was foretold of a change, and compares it with what happened. It knows no score and no model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite, lgamma, sqrt
from pathlib import Path

import numpy as np
from pydantic import AwareDatetime, Field, ValidationError

from llmtwin.errors import InputError, NotFound
from llmtwin.records import Hash, Record, RecordId, new_id, now
from llmtwin.twins.model.exchange import append_lines

INSIDE_SHARE = 0.95
"""How many of the forecasts should hold."""
ITEMS_MIN = 2
TEXT_MAX = 10_000
_DRAWS, _SEED = 200_000, 0


class Forecast(Record):
    """What the mean of a score will be under a change, over `items_ahead` items, and its 95 % interval.

    It was foretold from `items` items; all of it is in the unit of the score. `change` says the change to a
    person, and `change_hash` names it, where it is known.
    """

    id: RecordId = Field(default_factory=new_id)
    at: AwareDatetime = Field(default_factory=now)
    change: str = Field(min_length=1, max_length=TEXT_MAX)
    change_hash: Hash | None = None
    score: str = Field(min_length=1, max_length=TEXT_MAX)
    mean: float
    low: float
    high: float
    items: int = Field(ge=ITEMS_MIN)
    items_ahead: int = Field(ge=1)


class Checked(Record):
    """A forecast beside what happened: the mean of so many items, and how far it lies above the forecast."""

    forecast: RecordId
    observed: float
    items: int
    error: float
    inside: bool


@dataclass(frozen=True)
class Calibration:
    """Of so many forecasts that were checked, how many held, and which share that is (0 to 1)."""

    checked: int
    inside: int
    share: float


def foretell(
    scores: Sequence[float], change: str, score: str, items_ahead: int, change_hash: Hash | None = None
) -> Forecast:
    """A forecast out of the scores of a replay, for the mean of `items_ahead` items that are yet to come.

    The interval holds both what the replay cannot know of the true mean, and how the coming mean scatters
    about that: Student's t; of scores that are all 0 or 1 the beta-binomial after Jeffreys' prior, as items
    that all agree do not say that no other will come. It assumes that the items to come are like those of
    the replay, and independent. Raises InputError for fewer than two scores, or one that is not finite.
    """
    count = len(scores)
    if count < ITEMS_MIN or items_ahead < 1 or not all(map(isfinite, scores)):
        raise InputError(
            f"a forecast takes {ITEMS_MIN} finite scores and an item ahead; there are {count} scores"
        )
    low, high = (_of_shares if set(scores) <= {0, 1} else _of_numbers)(scores, items_ahead)
    return Forecast(
        change=change,
        change_hash=change_hash,
        score=score,
        mean=float(np.mean(scores)),
        low=low,
        high=high,
        items=count,
        items_ahead=items_ahead,
    )


def _of_numbers(scores: Sequence[float], items_ahead: int) -> tuple[float, float]:
    count, mean = len(scores), float(np.mean(scores))
    drawn = np.random.default_rng(_SEED).standard_t(count - 1, _DRAWS)
    reach = float(np.quantile(np.abs(drawn), INSIDE_SHARE))
    half = reach * float(np.std(scores, ddof=1)) * sqrt(1 / count + 1 / items_ahead)
    return mean - half, mean + half


def _of_shares(scores: Sequence[float], items_ahead: int) -> tuple[float, float]:
    passed, failed = sum(scores) + 0.5, len(scores) - sum(scores) + 0.5
    # Of each count that may pass: (m over k) B(passed + k, failed + m - k), but for a factor that all share.
    logs = [
        _log_beta(passed + ahead, failed + items_ahead - ahead)
        - _log_beta(ahead + 1, items_ahead - ahead + 1)
        for ahead in range(items_ahead + 1)
    ]
    chances = np.exp(np.array(logs) - max(logs))
    so_far = np.cumsum(chances) / np.sum(chances)
    low, high = np.searchsorted(so_far, [(1 - INSIDE_SHARE) / 2, (1 + INSIDE_SHARE) / 2])
    return float(low / items_ahead), float(high / items_ahead)


def _log_beta(one: float, other: float) -> float:
    return lgamma(one) + lgamma(other) - lgamma(one + other)


def check(forecast: Forecast, observed: Sequence[float]) -> Checked:
    """Compare a forecast with the scores that came. Raises InputError where there are none, or not finite."""
    if not observed or not all(map(isfinite, observed)):
        raise InputError("there is nothing to compare the forecast with: give finite scores")
    mean = float(np.mean(observed))
    return Checked(
        forecast=forecast.id,
        observed=mean,
        items=len(observed),
        error=mean - forecast.mean,
        inside=forecast.low <= mean <= forecast.high,
    )


def calibration(checked: Iterable[Checked]) -> Calibration:
    """How many of the forecasts held. Raises NotFound where none was checked."""
    held = [one.inside for one in checked]
    if not held:
        raise NotFound("no forecast was compared with what happened yet")
    return Calibration(len(held), sum(held), sum(held) / len(held))


def append(path: Path, forecast: Forecast) -> None:
    """Add a line and wait until it is on the disk. Raises Unavailable where it cannot be written."""
    append_lines(path, [f"{forecast.model_dump_json()}\n".encode()])


def read(path: Path) -> list[Forecast]:
    """All forecasts of a file, the oldest first. Raises NotFound, or InputError that names a broken line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise NotFound(f"there are no forecasts in {path} yet") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read") from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(Forecast.model_validate_json(line))
        except ValidationError as error:
            raise InputError(f"{path.name}:{number} is no forecast; take the line out") from error
    return found
