"""Asks whoever is to answer: the primary, the twin's server, or any other endpoint. It measures nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import httpx

from llmtwin import serving
from llmtwin.edge.store import EdgeStore
from llmtwin.errors import InputError, Unavailable
from llmtwin.settings import Settings

if TYPE_CHECKING:
    from llmtwin.twins.model.exchange import Exchange
    from llmtwin.twins.model.replay import Change
    from llmtwin.twins.model.reply import Reply

TIMEOUT_S = 120.0
PRIMARY_KEY = "OPENAI_API_KEY"
TRY_KEY = "LLMTWIN_TRY_API_KEY"

Tell = Callable[[int], None]
"""Is told how many requests there will be at most, before the first of these is made."""


def changed(store: EdgeStore, change: Change, settings: Settings) -> httpx.Client:
    """A client of whoever answers under a change.

    A model that is the twin, or a version of it (`model=desk@4`), is asked at the twin's server; any other at
    `base=`, else at the primary. The key in OPENAI_API_KEY goes to the primary's own host alone, the one in
    LLMTWIN_TRY_API_KEY to that of any other `base=`.
    Raises InputError where no primary is known.
    """
    own = store.settings()
    if change.base is None and change.model is not None and change.model.partition("@")[0] == own.twin:
        return serving.openai_client(settings, own.owner_token, own.server)
    address = change.base or own.primary
    if address is None:
        raise InputError(f"{own.twin} has no primary to ask: say where with base=http://host:port/v1")
    primarys = own.primary is not None and _origin(address) == _origin(own.primary)
    return _client(address, PRIMARY_KEY if primarys else TRY_KEY)


def as_on_record(store: EdgeStore) -> httpx.Client:
    """A client of the primary. Raises InputError where none is known."""
    own = store.settings()
    if own.primary is None:
        raise InputError(
            f"{own.twin} has no primary to ask beside the change: say where it answers with"
            f" `llmtwin proxy {own.twin} --primary http://host:port/v1`"
        )
    return _client(own.primary, PRIMARY_KEY)


def ask(client: httpx.Client, request: dict[str, Any]) -> dict[str, Any]:
    """The response to a request. Raises Unavailable where there is none, InputError for what is no reply."""
    from llmtwin.twins.model.exchange import without_halves
    from llmtwin.twins.model.openai import reply

    path = (
        "chat/completions" if "messages" in request else "completions" if "prompt" in request else "responses"
    )
    try:
        answered = client.post(path, json=request).raise_for_status()
        found: dict[str, Any] = without_halves(answered.json())
    except httpx.HTTPStatusError as error:
        raise Unavailable(f"it answers with status {error.response.status_code}") from None
    except (httpx.HTTPError, ValueError) as error:
        raise Unavailable(f"it does not answer ({type(error).__name__})") from None
    reply(found)
    return found


def said(line: Exchange) -> Reply | None:
    """What the primary said on record; None where it said nothing that can be read."""
    from llmtwin.twins.model.openai import reply

    try:
        return reply(line.response)
    except InputError:
        return None


def reasons(failures: Mapping[str, int]) -> str:
    """Why requests have no answer, in words."""
    return "; ".join(f"{count} times: {reason}" for reason, count in failures.items())


def _origin(address: str) -> tuple[str, str, int | None]:
    url = httpx.URL(address)
    return url.scheme, url.host, url.port


def _client(address: str, key_named: str) -> httpx.Client:
    key = os.environ.get(key_named)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=address, headers=headers, timeout=TIMEOUT_S)
