"""What was foretold of changes, beside what is on record since. It asks nobody.

What happened is the traffic since the forecast whose requests are as the change would have them. Whether an
answer stayed can be told where the request was on record before, too; a check needs the new answer alone.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmtwin.edge import mirrored
from llmtwin.errors import InputError
from llmtwin.primary.asking import said
from llmtwin.primary.place import open_store
from llmtwin.primary.trying import FORECASTS, STAYED, checks_on, recorded
from llmtwin.settings import Settings, read_settings

if TYPE_CHECKING:
    from llmtwin.twins.model.exchange import Exchange
    from llmtwin.twins.model.forecast import Calibration, Checked, Forecast
    from llmtwin.twins.model.measures import Check
    from llmtwin.twins.model.replay import Change

ELSEWHERE = "what is on record does not say who answered"


@dataclass(frozen=True)
class Since:
    """A forecast; what its score is on average over so many answers since, and whether that is as foretold.

    It is judged by the first `items_ahead` answers, `checked` being None until there are as many; `share` is
    that of all, or None without any. `note` says why nothing can be compared.
    """

    forecast: Forecast
    answers: int
    share: float | None
    checked: Checked | None
    note: str | None = None


@dataclass(frozen=True)
class Foretold:
    """All forecasts, the oldest first, and how many of those that could be judged held, None for none."""

    since: tuple[Since, ...]
    calibration: Calibration | None


def foretold(name: str, checks: Sequence[str] = (), settings: Settings | None = None) -> Foretold:
    """Set what was foretold of a twin beside what happened; forecasts of a check need the check again.

    A system prompt with something private in it is on record with stand-ins, and is not found again.
    Raises NotFound where nothing was foretold yet, InputError for a check that cannot be.
    """
    from llmtwin.twins.model import forecast

    with open_store(name, settings or read_settings()) as store:
        mirrored.take(store)
        made = forecast.read(store.folder / FORECASTS)
        lines = recorded(store)
        read = checks_on(lines, checks)
    since = tuple(_since(one, lines, read) for one in made)
    judged = [one.checked for one in since if one.checked is not None]
    return Foretold(since, forecast.calibration(judged) if judged else None)


def _since(made: Forecast, lines: Sequence[Exchange], checks: Mapping[str, Check]) -> Since:
    from llmtwin.twins.model import forecast

    try:
        scores = _scores(made, _change(made), lines, checks)
    except InputError as error:
        return Since(made, 0, None, None, str(error))
    if not scores:
        return Since(made, 0, None, None)
    whole = len(scores) >= made.items_ahead
    checked = forecast.check(made, scores[: made.items_ahead]) if whole else None
    return Since(made, len(scores), sum(scores) / len(scores), checked)


def _change(made: Forecast) -> Change:
    """What was changed. Raises InputError where that cannot be told any more, or not from traffic."""
    from llmtwin.twins.model import replay

    try:
        change = replay.parse(shlex.split(made.change))
    except ValueError as error:
        raise InputError(f"the change cannot be read: {error}") from error
    if change.base is not None:
        raise InputError(ELSEWHERE)
    if change.hash != made.change_hash:
        raise InputError("the system prompt is not that of the forecast any more")
    return change


def _scores(
    made: Forecast, change: Change, lines: Sequence[Exchange], checks: Mapping[str, Check]
) -> list[float]:
    """The score of each answer since the forecast, under its change, the oldest first."""
    from llmtwin.twins.model.measures import NormalisedMatch

    at_s = made.at.timestamp()
    new = [
        (line, reply)
        for line in lines
        if line.timestamp > at_s and change.holds(line.request) and (reply := said(line))
    ]
    if made.score == STAYED:
        before = {
            key: reply
            for line in lines
            if line.timestamp <= at_s and (key := _key(change, line)) and (reply := said(line))
        }
        keyed = [(before.get(_key(change, line)), reply) for line, reply in new]
        return [NormalisedMatch().score(old, reply) for old, reply in keyed if old is not None]
    if made.score not in checks:
        raise InputError(f"give its check again: --check {made.score}")
    return [score for _, reply in new if (score := checks[made.score](reply)) is not None]


def _key(change: Change, line: Exchange) -> str:
    """Names a request as it is under a change; empty where the change has no place in it."""
    try:
        asked: dict[str, Any] = change.of(line.request)
    except InputError:
        return ""
    return json.dumps(asked, sort_keys=True)
