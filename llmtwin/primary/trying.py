"""What if: recorded requests are asked again under a change, of the twin here or of any other model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from llmtwin import serving
from llmtwin.edge import mirrored
from llmtwin.edge.store import EdgeStore
from llmtwin.errors import InputError, Unavailable
from llmtwin.primary.nearness import SAMPLE, measures
from llmtwin.primary.place import open_store
from llmtwin.settings import Settings, read_settings

if TYPE_CHECKING:
    from llmtwin.twins.model.discrepancy import Discrepancy
    from llmtwin.twins.model.forecast import Forecast

FORECASTS = "forecasts.jsonl"
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Tried:
    """Answers under a change beside those on record; how many failed, by reason; and what is foretold."""

    measured: Discrepancy
    failures: Mapping[str, int]
    foretold: Forecast | None


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
    with open_store(name, settings) as store:
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
    return Tried(discrepancy(pairs, measures()), dict(found.failures), foretold)


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
