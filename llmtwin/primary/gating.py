"""Whether a version may go live, by held-out sessions. It asks the primary nothing, and changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from functools import partial
from math import exp, isfinite
from typing import TYPE_CHECKING, Any

from llmtwin import serving
from llmtwin.edge import mirrored
from llmtwin.edge.store import EdgeStore
from llmtwin.errors import InputError
from llmtwin.primary.place import open_store
from llmtwin.records import now
from llmtwin.settings import Settings, read_settings
from llmtwin.twins.decisions import Decisions
from llmtwin.twins.sessions import session_means

if TYPE_CHECKING:
    from llmtwin.models.lora import Lora
    from llmtwin.twins.gate import SoFar

LOSS_MAX = 0.02
"""How much less of the primary's probability a token a candidate may give, before it is kept back."""
DECISIONS = "decisions.jsonl"


class Action(StrEnum):
    """What is done with a verdict: nothing; or the candidate answers a share, or all, of the sessions; or
    it was to do so and must not; or it no longer does. Or the server did not confirm what was to be done."""

    NONE = "none"
    CANARY = "canary"
    PROMOTE = "promote"
    REFUSE = "refuse"
    ROLL_BACK = "rollback"
    UNCONFIRMED = "unconfirmed"


def judge(
    store: EdgeStore, candidate: int, in_use: int | None, settings: Settings, since: datetime | None = None
) -> SoFar:
    """The verdict on a version in place of another, or of the base where that is None.

    It is of all held-out sessions, or of what alone they said `since` then. Raises as `scores`, and
    NotFound for a version that is not here.
    """
    from llmtwin.models.lora import Lora
    from llmtwin.twins.gate import decide_so_far

    mirrored.take(store)
    new = Lora.load(store.version_folder(candidate))
    old = Lora.load(store.version_folder(in_use)) if in_use else None
    paired = scores(store.settings().twin, [new, old], settings, since)
    return decide_so_far(*paired, loss_max=LOSS_MAX)


def keep(
    store: EdgeStore,
    candidate: int,
    in_use: int | None,
    found: SoFar,
    action: Action = Action.NONE,
    **more: Any,
) -> None:
    """Add a decision to the twin's log, with its grounds, what is done, and what `more` there is to say.

    Raises as `Decisions.append`.
    """
    twin = store.settings().twin
    entry = {"at": now().isoformat(), "twin": twin, "candidate": candidate, "in_use": in_use}
    decisions(store).append(entry | {"action": action} | more | grounds(found))


def decisions(store: EdgeStore) -> Decisions:
    """The log of the decisions on a twin's versions."""
    return Decisions(store.folder / DECISIONS)


def scores(
    name: str,
    adapters: Sequence[Lora | None],
    settings: Settings | None = None,
    since: datetime | None = None,
) -> list[list[float]]:
    """What each adapter, or the base where it is None, is worth in each held-out session, the oldest first.

    That is how much of the primary's own probability it gives to what the primary said: exp(-KL) a token, the
    mean of the session, from 0 to 1. With `since` only what was said later counts, maybe nothing.
    Raises InputError where nothing is held out yet, and there is no `since`.
    """
    from llmtwin.models.distil import divergences, fits
    from llmtwin.models.transformer import Transformer
    from llmtwin.twins.model import beside
    from llmtwin.twins.model.collect import trace_of

    settings = settings or read_settings()
    base = serving.base(settings)
    with open_store(name, settings) as store:
        lines = beside.held_out(store.known(), fits=partial(fits, base), since=since)
    if not lines and since is None:
        raise InputError("no session is held out yet, or all are too long: collect more traffic")
    traces = [trace for trace in map(trace_of, lines) if trace]
    sessions = [line.session for line in lines]
    return [
        session_means(sessions, [min(1.0, exp(-cost)) for cost in costs])
        for costs in divergences(Transformer(base), traces, adapters)
    ]


def grounds(found: SoFar) -> dict[str, Any]:
    """A decision as JSON takes it: an end that is infinite is left out."""
    every = asdict(found).items()
    return {name: value for name, value in every if not isinstance(value, float) or isfinite(value)}
