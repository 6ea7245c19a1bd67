"""Whether a version may go live, by held-out sessions. It asks the primary nothing, and tunes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from math import exp, isfinite
from statistics import fmean
from typing import TYPE_CHECKING, Any

from llmtwin import serving
from llmtwin.edge import mirrored
from llmtwin.errors import InputError
from llmtwin.primary.place import open_store, version_folder
from llmtwin.records import now
from llmtwin.settings import Settings, read_settings

if TYPE_CHECKING:
    from llmtwin.models.lora import Lora
    from llmtwin.twins.gate import SoFar

LOSS_MAX = 0.02
"""How much less of the primary's probability a token a candidate may give, before it is kept back."""
DECISIONS = "decisions.jsonl"


def gate(name: str, candidate: int, in_use: int | None = None, settings: Settings | None = None) -> SoFar:
    """Whether a version may take the place of another, or of the base, by held-out sessions so far.

    It may be looked at as often as one likes. The decision is kept in the twin's log, whose lines are
    chained. Raises as `scores`, and NotFound for a version that is not here.
    """
    from llmtwin.models.lora import Lora
    from llmtwin.twins.decisions import Decisions
    from llmtwin.twins.gate import decide_so_far

    settings = settings or read_settings()
    with open_store(name, settings) as store:
        mirrored.take(store)
        new = Lora.load(version_folder(store, candidate))
        old = Lora.load(version_folder(store, in_use)) if in_use else None
        found = decide_so_far(*scores(name, [new, old], settings), loss_max=LOSS_MAX)
        entry = {"at": now().isoformat(), "twin": name, "candidate": candidate, "in_use": in_use}
        Decisions(store.folder / DECISIONS).append(entry | grounds(found))
    return found


def scores(name: str, adapters: Sequence[Lora | None], settings: Settings | None = None) -> list[list[float]]:
    """What each adapter, or the base where it is None, is worth in each held-out session, the oldest first.

    That is how much of the primary's own probability it gives to what the primary said: exp(-KL) a token, the
    mean of the session, from 0 to 1. Raises InputError where nothing is held out yet.
    """
    from llmtwin.models.distil import divergences
    from llmtwin.models.transformer import Transformer
    from llmtwin.twins.model import beside
    from llmtwin.twins.model.collect import trace_of

    settings = settings or read_settings()
    with open_store(name, settings) as store:
        lines = beside.held_out(store.known())
    if not lines:
        raise InputError("no session is held out yet: collect more traffic")
    traces = [trace for trace in map(trace_of, lines) if trace]
    found = []
    for costs in divergences(Transformer(serving.base(settings)), traces, adapters):
        sessions: dict[str, list[float]] = {}
        for number, (line, cost) in enumerate(zip(lines, costs, strict=True)):
            sessions.setdefault(line.client_id or str(number), []).append(min(1.0, exp(-cost)))
        found.append([fmean(each) for each in sessions.values()])
    return found


def grounds(found: SoFar) -> dict[str, Any]:
    """A decision as JSON takes it: an end that is infinite is left out."""
    every = asdict(found).items()
    return {name: value for name, value in every if not isinstance(value, float) or isfinite(value)}
