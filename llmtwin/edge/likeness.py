"""Measures how near a twin of a model is to its primary, and lets the gate compare it with the one in use.

It never tunes, and asks nobody: what the primary said, and how likely it found that, is on record.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from llmtwin.edge.voice import Heard, InUse
from llmtwin.errors import Conflict
from llmtwin.models.distil import divergences
from llmtwin.models.lora import Lora
from llmtwin.models.transformer import Transformer
from llmtwin.records import Trace
from llmtwin.twins.gate import Verdict, decide


def compare(transformer: Transformer, held_out: Mapping[str, Trace], new: Lora, rival: InUse | None) -> Heard:
    """Measure `new` on held-out replies (by address), and compare it with its rival, else with the base.

    The items are the replies, the score is nats a token from the primary, less being better. Raises Conflict
    where the new version is beyond chance further from the primary.
    """
    if not held_out:
        return Heard({}, ())
    adapters = [None, new, *([rival.lora] if rival else [])]
    base, own, *others = divergences(transformer, list(held_out.values()), adapters)
    before = others[0] if rival else base
    name = f"version {rival.version}" if rival else "the base"
    found = decide([-cost for cost in own], [-cost for cost in before])
    if found.verdict is Verdict.FAIL:
        raise Conflict(
            f"the new version is {-found.difference:.3f} ({-found.high:.3f} to {-found.low:.3f}) nats a token"
            f" further from the primary than {name} on {found.items} replies that it never saw:"
            f" {'the version in use stays' if rival else 'it is not published'}"
        )
    figures = {"kl_base": fmean(base), "kl": fmean(own), "kl_reduction": 1 - fmean(own) / fmean(base)}
    return Heard(figures | found.figures(), (f"held-out replies against {name}: {found.verdict}",))
