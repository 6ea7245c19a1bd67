"""Measures how near a twin of a model is to its primary, and lets the gate compare it with the one in use.

It never tunes, and asks nobody: what the primary said, and how likely it found that, is on record.
"""

from __future__ import annotations

from statistics import fmean

from llmtwin.edge.voice import Heard, InUse
from llmtwin.errors import Conflict
from llmtwin.models.distil import divergences
from llmtwin.models.lora import Lora
from llmtwin.models.transformer import Transformer
from llmtwin.twins.gate import Verdict, decide
from llmtwin.twins.kind import Lessons
from llmtwin.twins.sessions import session_means


def compare(transformer: Transformer, lessons: Lessons, new: Lora, rival: InUse | None) -> Heard:
    """Measure `new` on the held-out replies, and compare it with its rival, else with the base.

    The items are the sessions, the score is the mean of nats a token from the primary, less being better.
    Raises Conflict where the new version is beyond chance further from the primary.
    """
    if not lessons.held_traces:
        return Heard({}, ())
    adapters = [None, new, *([rival.lora] if rival else [])]
    base, own, *others = divergences(transformer, list(lessons.held_traces.values()), adapters)
    sessions = [lessons.held_sessions[address] for address in lessons.held_traces]
    name = f"version {rival.version}" if rival else "the base"
    mine, before = (session_means(sessions, costs) for costs in (own, others[0] if rival else base))
    found = decide([-cost for cost in mine], [-cost for cost in before])
    if found.verdict is Verdict.FAIL:
        raise Conflict(
            f"the new version is {-found.difference:.3f} ({-found.high:.3f} to {-found.low:.3f}) nats a token"
            f" further from the primary than {name} on {found.items} sessions that it never saw:"
            f" {'the version in use stays' if rival else 'it is not published'}"
        )
    figures = {"kl_base": fmean(base), "kl": fmean(own), "kl_reduction": 1 - fmean(own) / fmean(base)}
    items = f"{len(sessions)} held-out replies of {found.items} sessions"
    return Heard(figures | found.figures(), (f"{items} against {name}: {found.verdict}",))
