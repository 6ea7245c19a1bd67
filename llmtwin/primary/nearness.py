"""How near a version is to its primary on held-out replies. It asks the primary nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from llmtwin import serving
from llmtwin.edge import mirrored
from llmtwin.errors import Unavailable
from llmtwin.primary.place import open_store
from llmtwin.settings import Settings, read_settings
from llmtwin.twins.model.discrepancy import Discrepancy
from llmtwin.wire.files import write_durably

if TYPE_CHECKING:
    from llmtwin.models.base import Base
    from llmtwin.twins.model.exchange import Exchange
    from llmtwin.twins.model.measures import Check, Measure

SAMPLE = 64
FILE = "nearness.json"
"""What was measured, beside the version."""


@dataclass(frozen=True)
class Nearness:
    """How near a version is to its primary on held-out replies.

    `kl` and `kl_base` are mean nats a token from the primary, at least, of the version and of the base alone;
    `kl_of` are those of the version by the ids of the exchanges.
    """

    version: int
    kl: float
    kl_base: float
    measured: Discrepancy
    kl_of: Mapping[str, float]


def measure(name: str, version: int, sample: int = SAMPLE, settings: Settings | None = None) -> Nearness:
    """Compare a version with the primary's replies in the newest held-out sessions.

    What was measured is kept beside the version, and not measured again while the replies are the same.
    Raises NotFound for a version that is not here, InputError where nothing is held out yet.
    """
    from llmtwin.models.distil import fits
    from llmtwin.twins.model import beside
    from llmtwin.twins.model.measures import TokenDivergence

    settings = settings or read_settings()
    base = serving.base(settings)
    with open_store(name, settings) as store:
        mirrored.take(store)
        lines = beside.held_out(store.known(), sample, partial(fits, base))
        folder = store.version_folder(version)
    # At least, as the nats a token are: the primary's second answer names few tokens as well.
    compared = [TokenDivergence("kl", "low"), *measures_of_all()]
    what = [base.hash, *(measure.name for measure in compared), *(line.id for line in lines)]
    of = sha256("\n".join(what).encode()).hexdigest()
    found = _kept(folder / FILE, of)
    if found is None:
        found = _measured(version, lines, folder, base, compared)
        write_durably(folder / FILE, json.dumps({"of": of, "found": asdict(found)}).encode())
    return found


def _measured(
    version: int, lines: Sequence[Exchange], folder: Path, base: Base, compared: Sequence[Measure]
) -> Nearness:
    from llmtwin.models.distil import divergences, tops
    from llmtwin.models.engine.torch_engine import TorchEngine
    from llmtwin.models.lora import Lora
    from llmtwin.twins.model import beside
    from llmtwin.twins.model.collect import trace_of
    from llmtwin.twins.model.discrepancy import discrepancy

    traces = [trace for trace in map(trace_of, lines) if trace]
    lora = Lora.load(folder)
    with TorchEngine(base, lambda _: folder) as engine:
        said = beside.replies(engine, lines, (str(version),))
        own, alone = divergences(engine.model, traces, [lora, None])
        read = tops(engine.model, traces, lora)
    said = [beside.reading(*each) for each in zip(said, traces, read, strict=True)]
    found = discrepancy(beside.pairs(lines, said), compared)
    kl_of = dict(zip((line.id for line in lines), own, strict=True))
    return Nearness(version, fmean(own), fmean(alone), found, kl_of)


def _kept(file: Path, of: str) -> Nearness | None:
    """What was measured of the same; None where there is nothing, or only half of it was written."""
    try:
        kept = json.loads(file.read_bytes())
        return TypeAdapter(Nearness).validate_python(kept["found"]) if kept["of"] == of else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def measures_of_all(checks: Mapping[str, Check] | None = None) -> Sequence[Measure]:
    """As `measures`, and how near the answers' meanings are where sentence embeddings are installed."""
    return [*measures(checks), *_of_meaning()]


def measures(checks: Mapping[str, Check] | None = None) -> Sequence[Measure]:
    """How two answers are compared at little cost, as beside a proxy.

    Of checks, that is by how often one passes and the other does not.
    """
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


@cache
def _of_meaning() -> tuple[Measure, ...]:
    from llmtwin.memory.embed import Embedder
    from llmtwin.twins.model.measures import EmbeddingDistance

    try:
        return (EmbeddingDistance(Embedder()),)
    except Unavailable:
        return ()
