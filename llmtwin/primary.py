"""What only the twin of a model does: a proxy before its primary, how near it is to it, and its gate.

All of it is on this machine, in the twin's folder; nothing is asked of the primary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import exp, isfinite
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from llmtwin import serving
from llmtwin.edge import mirrored
from llmtwin.edge.store import SEAL_KEY, EdgeStore
from llmtwin.errors import InputError, NotFound
from llmtwin.records import now
from llmtwin.settings import Settings, read_settings
from llmtwin.wire.files import load_or_create
from llmtwin.wire.seal import Sealer

if TYPE_CHECKING:
    from llmtwin.models.lora import Lora
    from llmtwin.proxy.app import ProxyOptions
    from llmtwin.twins.gate import SoFar
    from llmtwin.twins.model.discrepancy import Discrepancy

SAMPLE = 64
LOSS_MAX = 0.02
"""How much less of the primary's probability a token a candidate may give, before it is kept back."""
DECISIONS = "decisions.jsonl"


@dataclass(frozen=True)
class Nearness:
    """How near a version is to its primary on held-out replies.

    `kl` and `kl_base` are mean nats a token from the primary, at least, of the version and of the base alone.
    """

    version: int
    kl: float
    kl_base: float
    measured: Discrepancy


def is_of_model(name: str, settings: Settings | None = None) -> bool:
    """Whether the twin of that name is one of a model. Raises NotFound."""
    from llmtwin.twin import Twin

    settings = settings or read_settings()
    with Twin.open(name, settings), EdgeStore(settings.edge_folder / name) as store:
        return store.settings().kind == "model"


def set_primary(name: str, url: str, settings: Settings | None = None) -> None:
    """Keep where the primary of a twin answers, up to and with `/v1`. Raises InputError for no address."""
    from pydantic import HttpUrl, TypeAdapter, ValidationError

    try:
        TypeAdapter(HttpUrl).validate_python(url)
    except ValidationError:
        raise InputError(f"{url[:200]!r} is no address: give the primary's as http://host:port/v1") from None
    with _store(name, settings) as store:
        store.save_settings(store.settings().model_copy(update={"primary": url.rstrip("/")}))


def proxy_options(
    name: str,
    host: str,
    port: int,
    mirror: float = 0.0,
    settings: Settings | None = None,
) -> ProxyOptions:
    """A proxy before a twin's primary, which records the share `mirror` (0 to 1) of the sessions.

    Raises InputError where no primary is known, or the share cannot be.
    """
    from llmtwin.proxy.app import ProxyOptions
    from llmtwin.proxy.mirror import MirrorOptions
    from llmtwin.twins.model.collect import Hide

    with _store(name, settings) as store:
        own = store.settings()
        if own.primary is None:
            raise InputError(f"{name} has no primary: give its address with `llmtwin new … --primary URL`")
        key = Sealer(load_or_create(store.folder / SEAL_KEY)).stand_in_key()
        recorded = MirrorOptions(mirrored.folder(store), name, Hide(key), mirror) if mirror else None
        return ProxyOptions(own.primary, host, port, mirror=recorded)


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
    with _store(name, settings) as store:
        mirrored.take(store)
        lines = beside.held_out(store.known(), sample)
        folder = _version(store, version)
        traces = [trace for trace in map(trace_of, lines) if trace]
        with TorchEngine(serving.base(settings), lambda _: folder) as engine:
            pairs = beside.pairs(lines, beside.replies(engine, lines, (str(version),)))
            own, base = divergences(engine.model, traces, [Lora.load(folder), None])
        found = discrepancy(pairs, _measures())
    return Nearness(version, fmean(own), fmean(base), found)


def gate(name: str, candidate: int, in_use: int | None = None, settings: Settings | None = None) -> SoFar:
    """Whether a version may take the place of another, or of the base, by held-out sessions so far.

    It may be looked at as often as one likes. The decision is kept in the twin's log, whose lines are
    chained. Raises as `scores`, and NotFound for a version that is not here.
    """
    from llmtwin.models.lora import Lora
    from llmtwin.twins.decisions import Decisions
    from llmtwin.twins.gate import decide_so_far

    settings = settings or read_settings()
    with _store(name, settings) as store:
        mirrored.take(store)
        new = Lora.load(_version(store, candidate))
        old = Lora.load(_version(store, in_use)) if in_use else None
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
    with _store(name, settings) as store:
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


def _measures() -> Sequence[Any]:
    from llmtwin.twins.model.measures import (
        CheckDifference,
        ExactMatch,
        LengthRatio,
        NormalisedMatch,
        refuses,
    )

    return [ExactMatch(), NormalisedMatch(), LengthRatio(), CheckDifference("refusal", refuses)]


def grounds(found: SoFar) -> dict[str, Any]:
    """A decision as JSON takes it: an end that is infinite is left out."""
    every = asdict(found).items()
    return {name: value for name, value in every if not isinstance(value, float) or isfinite(value)}


def _version(store: EdgeStore, version: int) -> Path:
    folder = store.adapter_folder(version)
    if not folder.exists():
        raise NotFound(f"version {version} of {store.settings().twin} is not on this machine")
    return folder


def _store(name: str, settings: Settings | None) -> EdgeStore:
    """The store of a twin of a model. Raises NotFound, or InputError for a twin of another kind."""
    settings = settings or read_settings()
    if not is_of_model(name, settings):
        raise InputError(f"{name} is no twin of a model: make one with `llmtwin new NAME --kind model`")
    return EdgeStore(settings.edge_folder / name)
