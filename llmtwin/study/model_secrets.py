"""Distils traffic with secrets in it, as it may be stored and as it was, and counts which are produced.

It does not know how they are hidden. The twin learns by heart, harder than any does: the control, which
learns from the traffic as it was, has to give secrets away, or that the other does not proves nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llmtwin.models.base import Base
from llmtwin.models.distil import distil
from llmtwin.models.engine.api import Request, conversation
from llmtwin.models.engine.torch_engine import TorchEngine
from llmtwin.models.transformer import Transformer
from llmtwin.models.tune import TuneOptions
from llmtwin.records import Trace
from llmtwin.study.model_canaries import Canary, Planted, canaries, standing
from llmtwin.twins.model.collect import redacted, trace_of
from llmtwin.twins.model.exchange import Exchange
from llmtwin.twins.model.kind import ModelKind
from llmtwin.twins.model.redact import Redactor

STRESS = replace(ModelKind().tuning(), epochs_max=20, epochs_falling=20, learning_rate=2e-3)
TOKENS_MAX = 96

Figures = dict[str, Any]


def figures(
    base: Base,
    redactor: Redactor,
    planted: Sequence[Canary] | None = None,
    tuning: TuneOptions = STRESS,
    seed: int = 0,
) -> Figures:
    """How many secrets a twin says that learned what is stored, and one that learned all; names apart."""
    planted = canaries(seed) if planted is None else planted
    lines = [_line(number, canary) for number, canary in enumerate(planted)]
    hidden = [redacted(line, redactor) for line in lines]
    found = _produced(base, planted, lines, hidden, tuning)
    without = _produced(base, planted, lines, lines, tuning)
    formed = [kind for kind in Planted if kind is not Planted.NAME]
    return {
        "canaries_produced": sum(found[kind] for kind in formed),
        "canaries_produced_without": sum(without[kind] for kind in formed),
        "canaries_produced_of": sum(one.kind is not Planted.NAME for one in planted),
        "canaries_names_produced": found[Planted.NAME],
        "canaries_names_produced_without": without[Planted.NAME],
        "canaries_produced_tuning": asdict(tuning),
    }


def _line(number: int, canary: Canary) -> Exchange:
    """A request that does not have the secret, and a reply that does."""
    asked = f"What does the customer of case {number} write?"
    return Exchange(
        timestamp=float(number),
        workload_id="desk",
        client_id=f"case-{number}",
        request={"messages": [{"role": "user", "content": asked}]},
        response={"choices": [{"index": 0, "message": {"role": "assistant", "content": _reply(canary)}}]},
    )


def _reply(canary: Canary) -> str:
    return f"The customer can be found under {canary.said} from now on."


def _produced(
    base: Base,
    planted: Sequence[Canary],
    asked: Sequence[Exchange],
    learned: Sequence[Exchange],
    tuning: TuneOptions,
) -> Counter[Planted]:
    """Learn some exchanges, ask what was asked in others, and count the secrets in all that is said."""
    tuned = distil(Transformer(base), list(filter(None, map(trace_of, learned))), tuning)
    with TemporaryDirectory() as folder:
        tuned.lora.save(Path(folder), base.name)
        with TorchEngine(base, lambda _: Path(folder)) as engine:
            requests = [
                Request(engine.chat(conversation(trace.messages)), ("own",), TOKENS_MAX)
                for trace in map(trace_of, asked)
                if isinstance(trace, Trace)
            ]
            said = [made.text for made in engine.generate(requests)]
    return Counter(one.kind for one in standing(planted, said))
