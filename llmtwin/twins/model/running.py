"""Says, as traffic comes, how far a twin is from its primary, whether that drifts, and what both cost.

It is fed with exchanges and with a twin's answers to them, from a proxy or from a record, and knows neither.
It keeps the latest replies, and of those before them only counts, and a number each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from statistics import fmean
from typing import Any, TypeVar

from llmtwin.errors import InputError
from llmtwin.twins.model.discrepancy import Answered, Discrepancy, discrepancy, pairs
from llmtwin.twins.model.drift import Drift
from llmtwin.twins.model.exchange import Exchange, Shadow
from llmtwin.twins.model.measures import Measure
from llmtwin.twins.model.openai import reply, usage
from llmtwin.twins.model.reply import Reply

LATEST = 256
"""Of so many exchanges the replies are kept, and compared."""
ANCHOR = 50
"""So many first replies say what the primary is like."""
ALPHA = 0.05

MEAN_LOGPROB, LENGTH = "mean_logprob", "length"

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Tokens:
    """What a model was given and what it said, as it counts itself; where it does not tell, nothing."""

    asked: int = 0
    said: int = 0

    def plus(self, used: tuple[int, int] | None) -> Tokens:
        """With those of one call more."""
        asked, said = used or (0, 0)
        return Tokens(self.asked + asked, self.said + said)


@dataclass(frozen=True)
class Drifting:
    """How strongly the replies since the anchor speak for a change: at `level` it alarms.

    `number` says what is watched of each: the mean log-probability of its tokens, or its characters.
    """

    number: str
    e_value: float
    level: float
    replies: int

    @property
    def alarm(self) -> bool:
        """Whether it alarms now."""
        return self.e_value >= self.level


@dataclass(frozen=True)
class State:
    """What is known so far: counts are of all that came, the discrepancy is of the latest.

    `discrepancy` is None before the twin answered, `drift` before the anchor is full.
    """

    exchanges: int
    shadows: int
    discrepancy: Discrepancy | None
    drift: Drifting | None
    tokens_primary: Tokens
    tokens_twin: Tokens

    def dump(self) -> dict[str, Any]:
        """As JSON takes it. Notes are left out, since they may quote tokens: it holds no text of anybody."""
        found = asdict(replace(self, discrepancy=None))
        if self.discrepancy is not None:
            found["discrepancy"] = self.discrepancy.dump()
            for one in found["discrepancy"]["measures"]:
                del one["note"]
        return found


class Running:
    """The state of a stream. Replies are watched for drift in the order in which they come.

    Which number of a reply is watched is settled when the anchor is full: its mean log-probability where all
    replies of the anchor told it, and then those that do not are passed over; else its length. An alarm says
    that replies are no longer like the first ones, be it for the primary or for what it is asked. It takes
    replies for exchangeable, which those of one long session are not quite.
    """

    def __init__(self, measures: Sequence[Measure], latest: int = LATEST) -> None:
        self._measures = measures
        self._latest_max = latest
        self._latest: dict[str, Answered] = {}
        self._early: dict[str, Reply] = {}
        self._anchor: list[Mapping[str, float | None]] = []
        self._drift: Drift | None = None
        self._number = MEAN_LOGPROB
        self._exchanges = self._shadows = 0
        self._tokens_primary = self._tokens_twin = Tokens()

    def exchange(self, line: Exchange) -> None:
        """Take what the primary said to a request; a response that is no reply is counted, and no more."""
        self._exchanges += 1
        self._tokens_primary = self._tokens_primary.plus(usage(line.response))
        try:
            said = reply(line.response)
        except InputError:
            return
        self._watch(_numbers(said))
        asked, twin = (
            sha256(json.dumps(line.request, sort_keys=True).encode()),
            self._early.pop(line.id, None),
        )
        answered = Answered(asked.hexdigest(), _without_tokens(said), twin, line.client_id or None)
        self._keep(self._latest, line.id, answered)

    def shadow(self, line: Shadow) -> None:
        """Take what a twin said to the request of an exchange, which comes before it or soon after."""
        self._shadows += 1
        self._tokens_twin = self._tokens_twin.plus(usage(line.response))
        try:
            said = _without_tokens(reply(line.response))
        except InputError:
            return
        if line.exchange in self._latest:
            self._latest[line.exchange] = replace(self._latest[line.exchange], twin=said)
        else:
            self._keep(self._early, line.exchange, said)

    def state(self) -> State:
        """What is known now. Raises what a measure raises."""
        told = pairs(self._latest.values())
        return State(
            exchanges=self._exchanges,
            shadows=self._shadows,
            discrepancy=discrepancy(told, self._measures) if told else None,
            drift=self._drifting(),
            tokens_primary=self._tokens_primary,
            tokens_twin=self._tokens_twin,
        )

    def _drifting(self) -> Drifting | None:
        if self._drift is None:
            return None
        return Drifting(self._number, self._drift.e_value, 1 / ALPHA, self._drift.observations)

    def _watch(self, numbers: Mapping[str, float | None]) -> None:
        if self._drift is not None:
            if (number := numbers[self._number]) is not None:
                self._drift.update(number)
            return
        self._anchor.append(numbers)
        if len(self._anchor) < ANCHOR:
            return
        if any(each[MEAN_LOGPROB] is None for each in self._anchor):
            self._number = LENGTH
        told = (each[self._number] for each in self._anchor)
        self._drift = Drift([number for number in told if number is not None], ALPHA)
        self._anchor.clear()

    def _keep(self, kept: dict[str, Kept], key: str, value: Kept) -> None:
        kept[key] = value
        if len(kept) > self._latest_max:
            del kept[next(iter(kept))]


def _numbers(said: Reply) -> Mapping[str, float | None]:
    """What may be watched of a reply; None where it does not tell."""
    told = [token.logprob for token in said.tokens or () if token.logprob is not None]
    return {MEAN_LOGPROB: fmean(told) if told else None, LENGTH: float(len(said.text))}


def _without_tokens(said: Reply) -> Reply:
    """They are many, and a twin's answer has none to compare them with."""
    return replace(said, tokens=None)
