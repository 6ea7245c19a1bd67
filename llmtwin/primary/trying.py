"""What if: recorded requests are asked again under a change, of the twin here or of any other model."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from llmtwin.edge import mirrored
from llmtwin.edge.store import EdgeStore
from llmtwin.errors import InputError
from llmtwin.primary.asking import Tell, ask, changed, reasons, said
from llmtwin.primary.nearness import SAMPLE, measures_of_all
from llmtwin.primary.place import open_store
from llmtwin.settings import Settings, read_settings

if TYPE_CHECKING:
    from llmtwin.twins.model.checks import PassRates
    from llmtwin.twins.model.discrepancy import Discrepancy
    from llmtwin.twins.model.discrepancy import Exchange as Pair
    from llmtwin.twins.model.exchange import Exchange
    from llmtwin.twins.model.forecast import Forecast
    from llmtwin.twins.model.measures import Check
    from llmtwin.twins.model.replay import Change

FORECASTS = "forecasts.jsonl"
STAYED = "normalised_match"
"""What is foretold of pairs: that the answer is as on record, but for case and punctuation."""


@dataclass(frozen=True)
class Tried:
    """Answers under a change beside those on record: measured, by checks, those that failed, and foretold.

    `failures` are how many have no answer, by reason. There is a forecast for what stays, and for each check.
    """

    measured: Discrepancy
    rates: tuple[PassRates, ...]
    failures: Mapping[str, int]
    foretold: tuple[Forecast, ...]


def try_change(
    name: str,
    changes: Sequence[str],
    checks: Sequence[str] = (),
    sample: int = SAMPLE,
    settings: Settings | None = None,
    tell: Tell = lambda _: None,
) -> Tried:
    """Ask the newest recorded requests again under a change, and set the answers beside those on record.

    Whom is asked `asking.changed` says, and what checks are `twins.model.checks.read_checks`; they are tried
    on what is on record before anyone is asked. A request that is on record more than once says how far the
    primary is from itself. How many answers will stay, and pass each check, is kept as forecasts.
    Raises InputError for a change or a check that cannot be, or where nothing was answered.
    """
    from llmtwin.twins.model import beside, replay
    from llmtwin.twins.model.discrepancy import discrepancy
    from llmtwin.twins.model.openai import reply

    settings = settings or read_settings()
    change = replay.parse(changes)
    with open_store(name, settings) as store:
        mirrored.take(store)
        lines = recorded(store)[-sample:]
        read = checks_on(lines, checks)
        sessions: dict[str, list[Exchange]] = {}
        for line in lines:
            sessions.setdefault(line.session, []).append(line)
        with changed(store, change, settings) as client:
            tell(len(lines))
            asked = ([(line.request, line.response) for line in session] for session in sessions.values())
            found = replay.replay(asked, change, partial(ask, client))
        if not found.pairs:
            raise InputError(f"nothing was answered under the change: {reasons(found.failures)}")
        places = list(sessions.values())
        answered = [places[one.session][one.item] for one in found.pairs]
        pairs = beside.pairs(answered, [reply(one.after) for one in found.pairs])
        measured = discrepancy(pairs, measures_of_all(read))
        foretold = _foretold(pairs, read, change, shlex.join(changes))
        _keep(store, foretold)
    return Tried(measured, rates(pairs, read), dict(found.failures), foretold)


def recorded(store: EdgeStore) -> list[Exchange]:
    """What was asked and answered so far, the oldest first. Raises InputError where there is nothing."""
    from llmtwin.twins.model.collect import exchanges

    lines = [line for _, line in exchanges(store.known()) if said(line)]
    if not lines:
        raise InputError("nothing is on record yet: collect traffic, or let a proxy record some")
    return sorted(lines, key=lambda line: line.timestamp)


def checks_on(lines: Sequence[Exchange], given: Sequence[str]) -> dict[str, Check]:
    """The checks, each tried on what is on record. Raises InputError for one that is none, or fails."""
    from llmtwin.twins.model.checks import read_checks

    checks = read_checks(given)
    for check in checks.values():
        for reply in filter(None, map(said, lines)):
            check(reply)
    return checks


def rates(pairs: Sequence[Pair], checks: Mapping[str, Check]) -> tuple[PassRates, ...]:
    """How many replies pass each check, as on record and under the change."""
    from llmtwin.twins.model.checks import pass_rates

    return tuple(filter(None, (pass_rates(pairs, name, check) for name, check in checks.items())))


def _foretold(
    pairs: Sequence[Pair], checks: Mapping[str, Check], change: Change, told: str
) -> tuple[Forecast, ...]:
    from llmtwin.twins.model import forecast
    from llmtwin.twins.model.measures import NormalisedMatch

    scores = {STAYED: [NormalisedMatch().score(pair.primary, pair.twin) for pair in pairs]}
    for name, check in checks.items():
        scores[name] = [score for pair in pairs if (score := check(pair.twin)) is not None]
    return tuple(
        forecast.foretell(found, told, name, len(found), change.hash)
        for name, found in scores.items()
        if len(found) >= forecast.ITEMS_MIN
    )


def _keep(store: EdgeStore, foretold: Sequence[Forecast]) -> None:
    from llmtwin.twins.model import forecast

    for one in foretold:
        forecast.append(store.folder / FORECASTS, one)
