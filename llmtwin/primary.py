"""What only the twin of a model does: a proxy before its primary, how near it is to it, and its gate.

All of it is on this machine, in the twin's folder; nothing is asked of the primary.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp, isfinite
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import httpx

from llmtwin import serving
from llmtwin.edge import mirrored
from llmtwin.edge.store import SEAL_KEY, EdgeStore
from llmtwin.errors import InputError, NotFound, Unavailable
from llmtwin.records import now
from llmtwin.settings import Settings, read_settings
from llmtwin.wire.seal import Sealer, load_or_create

if TYPE_CHECKING:
    from llmtwin.models.lora import Lora
    from llmtwin.proxy.app import ProxyOptions
    from llmtwin.twins.gate import SoFar
    from llmtwin.twins.model.discrepancy import Discrepancy
    from llmtwin.twins.model.forecast import Forecast

SAMPLE = 64
LOSS_MAX = 0.02
"""How much less of the primary's probability a token a candidate may give, before it is kept back."""
DECISIONS, FORECASTS = "decisions.jsonl", "forecasts.jsonl"
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Nearness:
    """How near a version is to its primary on held-out replies.

    `kl` and `kl_base` are mean nats a token from the primary, at least, of the version and of the base alone.
    """

    version: int
    kl: float
    kl_base: float
    measured: Discrepancy


@dataclass(frozen=True)
class Tried:
    """Answers under a change beside those on record; how many failed, by reason; and what is foretold."""

    measured: Discrepancy
    failures: Mapping[str, int]
    foretold: Forecast | None


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


def try_change(
    name: str, changes: Sequence[str], sample: int = SAMPLE, settings: Settings | None = None
) -> Tried:
    """Ask the newest recorded requests again under a change, and set the answers beside those on record.

    A model that is the twin, or a version of it (`model=desk@4`), is asked here; any other at `base=`, else
    at the primary, with the key in OPENAI_API_KEY if there is one. What share of answers will stay as they
    are is kept as a forecast. Raises InputError for a change that cannot be, or where nothing was answered.
    """
    from llmtwin.twins.model import forecast, replay
    from llmtwin.twins.model.collect import exchanges
    from llmtwin.twins.model.discrepancy import Exchange as Pair
    from llmtwin.twins.model.discrepancy import discrepancy
    from llmtwin.twins.model.measures import NormalisedMatch
    from llmtwin.twins.model.openai import reply

    settings = settings or read_settings()
    change = replay.parse(changes)
    with _store(name, settings) as store:
        mirrored.take(store)
        lines = sorted((line for _, line in exchanges(store.known())), key=lambda line: line.timestamp)
        sessions: dict[str, list[tuple[Any, Any]]] = {}
        for number, line in enumerate(lines[-sample:]):
            sessions.setdefault(line.client_id or str(number), []).append((line.request, line.response))
        with _endpoint(store, change.model, change.base, settings) as client:
            found = replay.replay(sessions.values(), change, lambda request: _asked(client, request))
        pairs = [Pair(reply(one.before), reply(one.after), session=str(one.session)) for one in found.pairs]
        if not pairs:
            raise InputError(f"nothing was answered under the change: {_reasons(found.failures)}")
        same = [NormalisedMatch().score(pair.primary, pair.twin) for pair in pairs]
        foretold = None
        if len(same) >= forecast.ITEMS_MIN:
            foretold = forecast.foretell(same, " ".join(changes), "normalised_match", len(same))
            forecast.append(store.folder / FORECASTS, foretold)
    return Tried(discrepancy(pairs, _measures()), dict(found.failures), foretold)


def _endpoint(store: EdgeStore, model: str | None, base: str | None, settings: Settings) -> httpx.Client:
    """A client of whoever is to answer."""
    own = store.settings()
    if base is None and model is not None and model.partition("@")[0] == own.twin:
        return serving.openai_client(settings, own.owner_token, own.server)
    address = base or own.primary
    if address is None:
        raise InputError(f"{own.twin} has no primary to ask: say where with base=http://host:port/v1")
    key = os.environ.get("OPENAI_API_KEY")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=address, headers=headers, timeout=TIMEOUT_S)


def _asked(client: httpx.Client, request: dict[str, Any]) -> dict[str, Any]:
    """Raises Unavailable where there is no answer."""
    path = (
        "chat/completions" if "messages" in request else "completions" if "prompt" in request else "responses"
    )
    try:
        found: dict[str, Any] = client.post(path, json=request).raise_for_status().json()
    except httpx.HTTPStatusError as error:
        raise Unavailable(f"it answers with status {error.response.status_code}") from None
    except (httpx.HTTPError, ValueError) as error:
        raise Unavailable(f"it does not answer ({type(error).__name__})") from None
    return found


def _reasons(failures: Mapping[str, int]) -> str:
    return "; ".join(f"{count} times: {reason}" for reason, count in failures.items())


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
