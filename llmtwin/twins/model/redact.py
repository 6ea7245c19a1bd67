"""Puts stand-ins in place of what is private in an exchange with a model. It knows no store and no transport.

The same is always the same stand-in, in requests and responses and over all exchanges under one key, so that
a model that copies is still seen to copy. What is no text cannot be read, and is left out.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llmtwin.twins.private.chatted import CHATTED
from llmtwin.twins.private.spans import Marker, Span, SpanKind, again
from llmtwin.twins.private.stand_ins import stand_ins

DEPTH_MAX = 64
"""What is nested deeper is left out."""

Json = dict[str, Any]
FindNames = Callable[[str], Iterable[str]]
_Hide = Callable[[str, str], str]
"""From the name of a field and its text to the text as it may be kept."""

# Fields of the interfaces themselves: what they say is no text of anybody's.
_KEPT = frozenset(
    """
    role id object model type name status finish_reason stop_reason tool_call_id call_id item_id response_id
    previous_response_id system_fingerprint service_tier encoding_format
    """.split()  # noqa: SIM905 (a list of a word a line would hide the rest)
)
_CLIENTS = frozenset({"user", "safety_identifier", "prompt_cache_key", "client_id"})
_SPEAKERS = frozenset({"user", "assistant", "system", "developer"})
# Whoever uses the interface names the fields in here.
_FREE = frozenset({"arguments", "input", "metadata"})
_READ_BY_TOKENS = frozenset({"prompt", "input"})
_OF_THE_TEXT = frozenset({"logprobs", "prompt_logprobs", "token_ids", "prompt_token_ids", "embedding"})
_DATA = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[\w.+=-]+)*;base64,[A-Za-z0-9+/=_-]*")
_BLOB = re.compile(r"[A-Za-z0-9+/_-]{512,}={0,2}")


@dataclass(frozen=True)
class Redacted:
    """An exchange with stand-ins in it, and what of it was left out and why, a line each."""

    request: Json
    response: Json
    left_out: tuple[str, ...] = ()


class Redactor:
    """Hides what is private under one key of at least 16 bytes; `names` finds names in a text.

    Raises InputError for a shorter key.
    """

    def __init__(self, key: bytes, names: FindNames) -> None:
        stand_ins("", (), key)
        self._key = key
        self._names = names

    def exchange(self, request: Mapping[str, Any], response: Mapping[str, Any]) -> Redacted:
        """Both with stand-ins; what is found in one of their texts is hidden in all of them.

        Roles, ids, names of models and tools, and numbers outside of texts stay as they are. Where a text was
        changed, tokens and log-probabilities are of another text, and the exchange loses them.
        """
        texts: list[tuple[str, str]] = []

        def read(field: str, text: str) -> str:
            texts.append((field, text))
            return text

        _Walk(read).over((request, response))
        marker = self._marker(texts)
        walk = _Walk(lambda field, text: self._hidden(marker, field, text))
        hidden_request, hidden_response = walk.over((request, response))
        if walk.changed:
            hidden_request, hidden_response = map(walk.without_tokens, (hidden_request, hidden_response))
        return Redacted(hidden_request, hidden_response, tuple(sorted(walk.left_out)))

    def client(self, client_id: str) -> str:
        """The pseudonym of who asks; who is not named has none."""
        if not client_id:
            return ""
        said = f"client {client_id}".encode(errors="surrogatepass")
        return f"client-{hmac.digest(self._key, said, 'sha256').hex()[:16]}"

    def _marker(self, texts: Iterable[tuple[str, str]]) -> Marker:
        """Marks the names in all of the texts, and whatever a label or its form gave away in one of them."""
        names = {text for field, text in texts if field == _SPEAKER}
        said = {_labelled(field, text) for field, text in texts if field not in {*_CLIENTS, _SPEAKER}}
        for text in said:
            # Half a character of a pair is no text that a tagger takes.
            names.update(self._names(text.encode(errors="replace").decode()))
        marker = Marker(names, also=CHATTED)
        found = {text[span.start : span.end]: span.kind for text in said for span in marker.mark(text)}
        return Marker(names, also=(*CHATTED, again(found)))

    def _hidden(self, marker: Marker, field: str, text: str) -> str:
        if field in _CLIENTS:
            return self.client(text)
        if field == _SPEAKER:
            return stand_ins(text, [Span(start=0, end=len(text), kind=SpanKind.NAME)], self._key)
        before = len(_labelled(field, text)) - len(text)
        spans = [
            span.model_copy(update={"start": max(span.start - before, 0), "end": span.end - before})
            for span in marker.mark(_labelled(field, text))
            if span.end > before
        ]
        return stand_ins(text, spans, self._key)


_SPEAKER = "name of a speaker"


def _labelled(field: str, text: str) -> str:
    """A text as if its field were said before it: `password`, `phone` and `name` tell what comes."""
    return f"{field}:\n{text}"


class _Walk:
    """Goes through JSON and puts what `hide` says in place of each text."""

    def __init__(self, hide: _Hide) -> None:
        self._hide = hide
        self.changed = False
        self.left_out: set[str] = set()

    def over(self, exchange: tuple[Mapping[str, Any], Mapping[str, Any]]) -> tuple[Json, Json]:
        """A request and its response."""
        request, response = (self._fields(one, False, 0) for one in exchange)
        return request, response

    def without_tokens(self, value: Any) -> Any:
        """What was said, without what is known of its tokens."""
        if isinstance(value, list):
            return [self.without_tokens(one) for one in value]
        if not isinstance(value, dict):
            return value
        kept: Json = {}
        for field, one in value.items():
            if field in _OF_THE_TEXT and isinstance(one, dict | list):
                self.left_out.add(f"{field}: the text that they are of was changed")
                kept[field] = [] if isinstance(one, list) else None
            else:
                kept[field] = self.without_tokens(one)
        return kept

    def _fields(self, value: Mapping[str, Any], free: bool, depth: int) -> Json:
        role = value.get("role")
        speaks = not free and isinstance(role, str) and role in _SPEAKERS
        found: Json = {}
        for field, one in value.items():
            if speaks and field == "name" and isinstance(one, str):
                found[field] = self._text(_SPEAKER, one, depth)
            elif not free and field in _KEPT and isinstance(one, str):
                found[field] = one
            else:
                inside = free or (field in _FREE and isinstance(one, Mapping))
                found[self._text("", field, depth) if free else field] = self._value(
                    field, one, inside, depth
                )
        return found

    def _value(self, field: str, value: Any, free: bool, depth: int) -> Any:
        if depth > DEPTH_MAX and isinstance(value, Mapping | list):
            self.left_out.add(f"what is nested deeper than {DEPTH_MAX} levels")
            return {} if isinstance(value, Mapping) else []
        if isinstance(value, Mapping):
            return self._fields(value, free, depth + 1)
        if isinstance(value, list):
            if not free and field in _READ_BY_TOKENS and _is_of_tokens(value):
                self.left_out.add(f"{field}: numbers of tokens cannot be read")
                return []
            return [self._value(field, one, free, depth + 1) for one in value]
        if isinstance(value, str):
            return self._text(field, value, depth)
        is_number = free and isinstance(value, int) and not isinstance(value, bool)
        return self._number(field, value) if is_number else value

    def _text(self, field: str, text: str, depth: int) -> str:
        readable = _DATA.sub("data:,", text)
        if _BLOB.fullmatch(readable):
            readable = ""
        if readable != text:
            self.left_out.add(f"{field or 'a name'}: what is no text cannot be read")
        hidden = self._json(field, readable, depth)
        if hidden is None:
            hidden = self._hide(field, readable)
        self.changed = self.changed or (hidden != text and field not in _CLIENTS)
        return hidden

    def _json(self, field: str, text: str, depth: int) -> str | None:
        """A text that is JSON, as arguments of tools are, with stand-ins; None where it is none."""
        value = _parsed(text)
        if value is None:
            return None
        hidden = self._value(field, value, True, depth + 1)
        return text if hidden == value else json.dumps(hidden, ensure_ascii=False)

    def _number(self, field: str, value: int) -> int:
        """A number in a tool's arguments; an account or a phone is often written as one."""
        hidden = self._hide("" if field in _CLIENTS else field, str(value))
        self.changed = self.changed or hidden != str(value)
        return int(hidden)


def _is_of_tokens(value: list[Any]) -> bool:
    flat = [one for part in value for one in (part if isinstance(part, list) else [part])]
    return bool(flat) and all(isinstance(one, int) for one in flat)


def _parsed(text: str) -> Any:
    """The object or list that a text is; None where it is neither, or says a field twice."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None


def _once(pairs: list[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field is said twice")
    return found
