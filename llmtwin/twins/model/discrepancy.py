"""Says how far a twin is from its primary, as a multiple of how far the primary is from itself.

It knows measures by what they return, and no model: replies come from the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmtwin.errors import InputError
from llmtwin.twins.gate import interval
from llmtwin.twins.intervals import Estimate
from llmtwin.twins.model.logprobs import NotComparable
from llmtwin.twins.model.measures import Better, Measure
from llmtwin.twins.model.reply import Reply, Token

NO_REPEAT = "no noise floor: the primary was not asked twice"
NO_FLOOR = "the primary never differed from itself, so there is no multiple to give"
NOTHING = "nothing to measure in any pair"
NO_TOKENS = "not comparable token by token"

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Exchange:
    """What primary and twin said to one input; `repeat` is what the primary said to it a second time.

    Exchanges of one session hang together, and count as one draw; without a session each stands alone.
    """

    primary: Reply
    twin: Reply
    repeat: Reply | None = None
    session: str | None = None


@dataclass(frozen=True)
class Answered:
    """What primary and twin said to a request that `asked` names; `twin` is None where it did not answer."""

    asked: str
    primary: Reply
    twin: Reply | None
    session: str | None = None


@dataclass(frozen=True)
class Measured:
    """One measure: its mean discrepancy, 0 being alike, its noise floor, and the first over the second.

    What is None is not known; `note` says why.
    """

    name: str
    discrepancy: Estimate | None
    floor: Estimate | None
    ratio: Estimate | None
    note: str | None


@dataclass(frozen=True)
class Discrepancy:
    """All measures of the same exchanges."""

    exchanges: int
    measures: tuple[Measured, ...]

    def dump(self) -> dict[str, Any]:
        """As JSON takes it: an end that is infinite is null."""
        made: dict[str, Any] = _finite(asdict(self))
        return made


def pairs(answered: Iterable[Answered]) -> list[Exchange]:
    """An exchange for each request that the twin answered, in their order.

    What the primary said to the same request another time is its repeat.
    """
    alike: dict[str, list[Answered]] = {}
    for one in answered:
        alike.setdefault(one.asked, []).append(one)
    found = []
    for group in alike.values():
        for one in group:
            if one.twin is not None:
                repeat = next((other.primary for other in group if other is not one), None)
                found.append(Exchange(one.primary, one.twin, repeat, one.session))
                break
    return found


def discrepancy(exchanges: Sequence[Exchange], measures: Sequence[Measure]) -> Discrepancy:
    """Measure the exchanges, each by every measure.

    Agreements (`Better.HIGHER`) are taken from 1, so that less is always more alike. Intervals are those of
    the gate (`twins.gate.interval`) over sessions: few say nothing, and the interval has no end. The ratio is
    that of sums over the exchanges with a repeat, so that what an input has of its own is in both of them.
    A primary that samples says something else the second time: tokens are then compared until they part.
    Raises InputError without exchanges, for two measures of one name, and what a measure raises but
    NotComparable: pairs whose tokens do not line up are left out, and the note says so.
    """
    names = [measure.name for measure in measures]
    if not exchanges:
        raise InputError("there are no exchanges to measure: mirror some traffic, or give a record of it")
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"two measures are called {', '.join(sorted(twice))}: give each a name of its own")
    sessions = _sessions(exchanges)
    return Discrepancy(len(exchanges), tuple(_measured(exchanges, sessions, one) for one in measures))


def mean(exchanges: Sequence[Exchange], values: Array) -> Estimate | None:
    """The mean of a value an exchange (N,), with its 95 % interval over sessions; NaN is left out.

    None where there is no value.
    """
    return _estimate(values, np.ones_like(values), _sessions(exchanges))


def _measured(exchanges: Sequence[Exchange], sessions: NDArray[np.intp], measure: Measure) -> Measured:
    apart, why = _distances([(one.primary, one.twin) for one in exchanges], measure)
    noise, _ = _distances([(one.primary, one.repeat) for one in exchanges], measure, one_model=True)
    found = _estimate(apart, np.ones_like(apart), sessions)
    floor = _estimate(noise, np.ones_like(noise), sessions)
    both = np.where(np.isnan(apart), np.nan, noise)
    ratio = _estimate(apart, both, sessions) if np.nansum(both) > 0 else None
    if why is None and found is None:
        why = NOTHING
    elif why is None and floor is None:
        why = NO_REPEAT
    elif why is None and ratio is None:
        why = NO_FLOOR
    return Measured(measure.name, found, floor, ratio, why)


def _distances(
    pairs: Sequence[tuple[Reply, Reply | None]], measure: Measure, one_model: bool = False
) -> tuple[Array, str | None]:
    """How far each pair is apart (N,), NaN where the measure says nothing; and why it did not of some."""
    found = np.full(len(pairs), np.nan)
    odd: list[NotComparable] = []
    for at, (one, other) in enumerate(pairs):
        if other is None:
            continue
        try:
            score = _score(measure, one, other, one_model)
        except NotComparable as error:
            odd.append(error)
            continue
        if score is not None:
            found[at] = 1 - score if measure.better is Better.HIGHER else score
    return found, f"{NO_TOKENS} in {len(odd)} of {len(pairs)} pairs: {odd[0]}" if odd else None


def _score(measure: Measure, one: Reply, other: Reply, one_model: bool) -> float | None:
    try:
        return measure.score(one, other)
    except NotComparable:
        if not one_model:
            raise
        return measure.score(*_until_they_part(one, other))


def _until_they_part(one: Reply, other: Reply) -> tuple[Reply, Reply]:
    """Both with the tokens that they share, and the next, as what the other tells of the one's.

    Up to there a model of one tokenizer was at the same places in both.
    """
    pairs = list(zip(one.tokens or (), other.tokens or (), strict=False))
    shared = [theirs for _, theirs in takewhile(lambda pair: pair[0].text == pair[1].text, pairs)]
    if len(shared) < len(pairs):
        mine, theirs = pairs[len(shared)]
        shared.append(Token(mine.text, theirs.top.get(mine.text), theirs.top))
    return replace(one, tokens=(one.tokens or ())[: len(shared)]), replace(other, tokens=tuple(shared))


def _estimate(tops: Array, bottoms: Array, sessions: NDArray[np.intp]) -> Estimate | None:
    told = ~np.isnan(tops) & ~np.isnan(bottoms)
    if not told.any():
        return None
    _, session = np.unique(sessions[told], return_inverse=True)
    above, below = (np.bincount(session, weights=side[told]).astype(np.float64) for side in (tops, bottoms))
    low, high = interval(above, below)
    return Estimate(float(above.sum() / below.sum()), low, high, int(told.sum()))


def _sessions(exchanges: Sequence[Exchange]) -> NDArray[np.intp]:
    numbers: dict[object, int] = {}
    keys = (at if one.session is None else one.session for at, one in enumerate(exchanges))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.intp)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value
