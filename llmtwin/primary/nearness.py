"""How near a version is to its primary on held-out replies. It asks the primary nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from llmtwin import serving
from llmtwin.edge import mirrored
from llmtwin.primary.place import open_store, version_folder
from llmtwin.settings import Settings, read_settings

if TYPE_CHECKING:
    from llmtwin.twins.model.discrepancy import Discrepancy
    from llmtwin.twins.model.measures import Check

SAMPLE = 64


@dataclass(frozen=True)
class Nearness:
    """How near a version is to its primary on held-out replies.

    `kl` and `kl_base` are mean nats a token from the primary, at least, of the version and of the base alone.
    """

    version: int
    kl: float
    kl_base: float
    measured: Discrepancy


def measure(name: str, version: int, sample: int = SAMPLE, settings: Settings | None = None) -> Nearness:
    """Compare a version with the primary's replies in the newest held-out sessions.

    Raises NotFound for a version that is not here, InputError where nothing is held out yet.
    """
    from llmtwin.models.distil import divergences
    from llmtwin.models.engine.torch_engine import TorchEngine
    from llmtwin.models.lora import Lora
    from llmtwin.twins.model import beside
    from llmtwin.twins.model.collect import trace_of
    from llmtwin.twins.model.discrepancy import discrepancy

    settings = settings or read_settings()
    with open_store(name, settings) as store:
        mirrored.take(store)
        lines = beside.held_out(store.known(), sample)
        folder = version_folder(store, version)
        traces = [trace for trace in map(trace_of, lines) if trace]
        with TorchEngine(serving.base(settings), lambda _: folder) as engine:
            pairs = beside.pairs(lines, beside.replies(engine, lines, (str(version),)))
            own, base = divergences(engine.model, traces, [Lora.load(folder), None])
        found = discrepancy(pairs, measures())
    return Nearness(version, fmean(own), fmean(base), found)


def measures(checks: Mapping[str, Check] | None = None) -> Sequence[Any]:
    """How two answers are compared; of checks, by how often one passes and the other does not."""
    from llmtwin.twins.model.measures import (
        CheckDifference,
        ExactMatch,
        LengthRatio,
        NormalisedMatch,
        refuses,
    )

    checked = {"refusal": refuses} | dict(checks or {})
    return [
        ExactMatch(),
        NormalisedMatch(),
        LengthRatio(),
        *(CheckDifference(name, check) for name, check in checked.items()),
    ]
