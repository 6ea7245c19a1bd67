"""A call that passed through the proxy, and what is understood of it afterwards. It knows no transport."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import httpx

from llmtwin.twins import sessions
from llmtwin.twins.model.exchange import without_halves
from llmtwin.twins.model.openai import joined

Json = dict[str, Any]
Headers = Sequence[tuple[bytes, bytes]]

OPERATIONS = {"chat/completions": "chat", "completions": "text_completion", "responses": "chat"}
"""The paths below /v1 that are understood, and OpenTelemetry's names of what they do."""
PROVIDER = "openai"
"""Whose interface is spoken, whosever model it is."""

SHADOW_HEADER = b"x-llmtwin-shadow"
"""Marks what is asked of a twin, so that there is no twin of a twin."""
SESSION_HEADER = sessions.SESSION_HEADER.encode()

_SECRET_HEADERS = frozenset({b"authorization", b"proxy-authorization", b"api-key", b"x-api-key", b"cookie"})
_SECRET_FIELDS = frozenset({"key", "api-key", "api_key", "apikey", "token", "access_token"})
SECRET_CHARS_MIN = 8
"""What is shorter is no key, and would be found in any text."""


@dataclass(frozen=True)
class Passed:
    """One call of an understood path: when (seconds since 1970), how long (seconds), what was sent and came.

    `whole` says that the answer came to its end; without it `error` may say what came between. `request` and
    `response` are the bytes that passed, None where they are too many to be kept. `marked` is what asks a
    twin. `secrets` are the keys that it bore: they are taken out of all that is kept.
    """

    endpoint: str
    at_s: float
    duration_s: float
    first_chunk_s: float | None
    status: int | None
    whole: bool
    error: str | None
    session: str | None
    marked: bool
    secrets: tuple[str, ...]
    request: bytes | None
    request_encoding: str
    response: bytes | None
    response_encoding: str
    streamed: bool

    @property
    def succeeded(self) -> bool:
        """Whether the primary answered, as it should, to the end."""
        return self.whole and self.status is not None and 200 <= self.status < 300


def header(headers: Headers, name: bytes) -> str | None:
    """The value of a header, whose name is given in small letters; the first of several."""
    return next((value.decode("latin-1") for key, value in headers if key.lower() == name), None)


def secrets(headers: Headers, query: bytes) -> tuple[str, ...]:
    """The keys that a request bears, in its headers and its query; the longest first."""
    values = [value.decode("latin-1") for name, value in headers if name.lower() in _SECRET_HEADERS]
    values += [value for name, value in parse_qsl(query.decode("latin-1")) if name.lower() in _SECRET_FIELDS]
    found = {word for value in values for word in (value, *value.split())}
    return tuple(sorted((word for word in found if len(word) >= SECRET_CHARS_MIN), key=len, reverse=True))


def understood(passed: Passed) -> tuple[Json, Json] | None:
    """The request and the whole response, without keys; None where they are not JSON, or a stream was cut."""
    try:
        request = json.loads(_decoded(passed.request, passed.request_encoding))
        content = _decoded(passed.response, passed.response_encoding)
        response = joined(content) if passed.streamed else json.loads(content)
        if not isinstance(request, dict) or not isinstance(response, dict):
            return None
        return _kept(request, passed.secrets), _kept(response, passed.secrets)
    except (httpx.DecodingError, RecursionError, ValueError):
        return None


def _decoded(content: bytes | None, encoding: str) -> bytes:
    headers = {"content-encoding": encoding} if encoding else {}
    return httpx.Response(200, headers=headers, content=content).content


def _kept(content: Json, secrets: Iterable[str]) -> Json:
    """Without keys, and such as can be written: what is asked may be half a sign."""
    text = whole = json.dumps(content)
    for secret in secrets:
        text = text.replace(json.dumps(secret)[1:-1], "[key]")
    kept: Json = without_halves(content if text is whole else json.loads(text))
    return kept
