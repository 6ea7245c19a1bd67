"""One twin's line to its server: a method for each call of the HTTP API, its errors as ours.

It keeps nothing and repeats nothing. The server's app within the process is only another transport of
the same `httpx.Client`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import AwareDatetime, BaseModel, ConfigDict, HttpUrl, TypeAdapter, ValidationError

from llmtwin.errors import (
    Conflict,
    Denied,
    InputError,
    LlmtwinError,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Untrusted,
)
from llmtwin.records import (
    Adapter,
    Answer,
    Card,
    Command,
    CommandState,
    Description,
    Hash,
    Material,
    Prompt,
    State,
    TwinId,
    Value,
)
from llmtwin.wire.codec import encode_prompts

TIMEOUT_S = 30.0

Said = TypeVar("Said")

STATUS_ERRORS: Mapping[int, type[LlmtwinError]] = {
    400: InputError,
    401: Unauthenticated,
    403: Denied,
    404: NotFound,
    405: InputError,
    408: Unavailable,
    409: Conflict,
    413: TooLarge,
    429: Unavailable,
}


# What a proxy may say on the server's behalf. Any other answer without a code is of no llmtwin server, and
# means nothing for what was sent.
PROXY_STATUSES = frozenset({401, 403, 413})


class Reply(BaseModel):
    """What a server says; fields that a newer server adds are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Health(Reply):
    """That the server is there, and the hash of its base model."""

    status: str
    version: str
    base: Hash


class TwinInfo(Reply):
    """A twin as the server's registry shows it; `live_version` is None before the first adapter.

    A `canary_version` answers `canary_share` (0 to 1) of the sessions in place of the live one.
    """

    id: TwinId
    kind: str
    cohort: str | None
    enrolled: bool
    live_version: int | None
    canary_version: int | None = None
    canary_share: float | None = None
    created_at: AwareDatetime


class Invitation(Reply):
    """What a new edge enrols with, once."""

    enrolment: str


class Token(Reply):
    """A new token, as it is shown only once."""

    token: str


class Tokens(Reply):
    """What enrolment gives: the person's token, and the one of this edge."""

    owner: str
    edge: str


class RefusedPrompt(Reply):
    """A prompt of a batch that the server does not take."""

    index: int
    reason: str


class Stored(Reply):
    """What became of a batch of prompts; `known` counts those the server had already."""

    stored: int
    known: int
    refused: tuple[RefusedPrompt, ...] = ()


class Forgotten(Reply):
    """How many prompts are gone."""

    forgotten: int


class Published(Reply):
    """What became of an adapter."""

    version: int
    live: bool


class Recalled(Reply):
    """What an adapter completes a prompt with, and how sure the model was (0 to 1)."""

    text: str
    probability: float


class Recall(Reply):
    """Completions in the order of the prompts, and the adapter they came from."""

    completions: tuple[Recalled, ...]
    version: int
    weights: Hash


class Link:
    """The calls about one twin, over a client that has the server's address and a bearer token.

    Every method raises Unavailable when the server cannot be reached or is out of order, and the error
    of `llmtwin.errors` that the server names otherwise.
    """

    def __init__(self, client: httpx.Client, twin: str) -> None:
        self._client = client
        self._twin = f"/v1/twins/{quote(twin, safe='')}"
        self.twin = twin

    def health(self) -> Health:
        """That the server is there, its version and its base."""
        return self._call(Health, "GET", "/healthz")

    def create(self, kind: str, cohort: str | None = None) -> str:
        """Make room for this twin; the administrator's call. Returns the one-time enrolment token."""
        body = {"id": self.twin, "kind": kind, "cohort": cohort}
        return self._call(Invitation, "POST", "/v1/twins", json=body).enrolment

    def enrol(self, enrolment: str, kind: str, public_key: str) -> Tokens:
        """Give the server this edge's public key for a one-time enrolment token."""
        body = {"enrolment": enrolment, "twin": self.twin, "kind": kind, "public_key": public_key}
        return self._call(Tokens, "POST", "/v1/enrol", json=body)

    def twins(self) -> list[TwinInfo]:
        """The twins that the caller may see."""
        return self._call(list[TwinInfo], "GET", "/v1/twins")

    def info(self) -> TwinInfo:
        """What the server has of this twin."""
        return self._call(TwinInfo, "GET", self._twin)

    def forget(self) -> None:
        """Have the server forget everything of this twin."""
        self._send("DELETE", self._twin)

    def issue_token(self, role: str) -> str:
        """A new token of the role `reader`, `edge` or `owner`."""
        return self._call(Token, "POST", f"{self._twin}/tokens", json={"role": role}).token

    def describe(self, description: Description) -> None:
        """Put this description in the place of the one before."""
        self._send("PUT", f"{self._twin}/description", json=description.model_dump(mode="json"))

    def description(self) -> Description:
        """What there is to ask and to order."""
        return self._call(Description, "GET", f"{self._twin}/description")

    def send_prompts(self, prompts: Sequence[Prompt]) -> Stored:
        """Send a batch; the bad ones come back refused by index, the rest is stored."""
        json_type = {"content-type": "application/json"}
        body = encode_prompts(prompts)
        return self._call(Stored, "POST", f"{self._twin}/prompts", content=body, headers=json_type)

    def search(self, text: str, limit: int = 10) -> list[Prompt]:
        """The prompts nearest to a text, best first."""
        query = {"search": text, "limit": limit}
        return self._call(list[Prompt], "GET", f"{self._twin}/prompts", params=query)

    def prompts(self) -> list[Prompt]:
        """All of the twin's prompts, by id."""
        found: list[Prompt] = []
        query = {"after": ""}
        while page := self._call(list[Prompt], "GET", f"{self._twin}/prompts/all", params=query):
            found += page
            query = {"after": page[-1].id}
        return found

    def state(self, path: str, at: datetime | None = None) -> State:
        """The state of a path, now or at a time."""
        query = {"path": path} | ({"at": at.isoformat()} if at else {})
        return self._call(State, "GET", f"{self._twin}/state", params=query)

    def states(self) -> list[State]:
        """The latest state of every path."""
        return self._call(list[State], "GET", f"{self._twin}/state")

    def forget_prompts(self, path: str | None = None) -> int:
        """Have the server forget the prompts about one path, or all; how many are gone."""
        query = {} if path is None else {"path": path}
        return self._call(Forgotten, "DELETE", f"{self._twin}/prompts", params=query).forgotten

    def send_adapter(self, parts: Mapping[str, bytes]) -> Published:
        """Send a signed package, its files by name."""
        files = [(name, (name, data)) for name, data in parts.items()]
        return self._call(Published, "POST", f"{self._twin}/adapters", files=files)

    def adapters(self) -> list[Adapter]:
        """All versions that the server has."""
        return self._call(list[Adapter], "GET", f"{self._twin}/adapters")

    def withdraw(self, version: int) -> None:
        """Take a version away from everyone, for good."""
        self._send("DELETE", f"{self._twin}/adapters/{version}")

    def roll_back(self, version: int | None = None) -> Published:
        """Make an earlier version live for all: the one given, or the one before. A canary ends."""
        return self._call(Published, "POST", f"{self._twin}/rollback", json={"version": version})

    def set_canary(self, version: int, share: float) -> TwinInfo:
        """Have a version answer a share (0 to 1, both excluded) of the sessions."""
        body = {"version": version, "share": share}
        return self._call(TwinInfo, "PUT", f"{self._twin}/canary", json=body)

    def card(self, version: int | None = None) -> Card:
        """The report card of a version, or of the live one."""
        query = {} if version is None else {"version": version}
        return self._call(Card, "GET", f"{self._twin}/card", params=query)

    def order(self, path: str, value: Value, unit: str | None = None) -> Command:
        """Order a value; the server checks it against the description."""
        body = {"path": path, "value": value, "unit": unit}
        return self._call(Command, "POST", f"{self._twin}/commands", json=body)

    def command(self, command_id: str) -> Command:
        """One command and what became of it."""
        return self._call(Command, "GET", f"{self._twin}/commands/{quote(command_id, safe='')}")

    def commands(self, wait_s: float) -> list[Command]:
        """The commands for this edge's devices; the server waits up to `wait_s` seconds for one."""
        return self._call(
            list[Command],
            "GET",
            f"{self._twin}/commands",
            params={"wait": wait_s},
            timeout=httpx.Timeout(TIMEOUT_S, read=wait_s + TIMEOUT_S),
        )

    def report(self, command_id: str, state: CommandState, reason: str | None = None) -> None:
        """Say what became of a command: reported by the device, or refused with a reason."""
        path = f"{self._twin}/commands/{quote(command_id, safe='')}/report"
        self._send("POST", path, json={"state": state, "reason": reason})

    def ask(
        self,
        text: str,
        at: datetime | None = None,
        version: int | None = None,
        material: Material | None = None,
    ) -> Answer:
        """Ask the twin; the text goes to the server as it is (see `edge.sealed` for what must not)."""
        body = {
            "text": text,
            "at": at.isoformat() if at else None,
            "version": version,
            **({"material": material.model_dump()} if material else {}),
        }
        return self._call(Answer, "POST", f"{self._twin}/ask", json=body)

    def recall(self, prompts: Sequence[str], version: int | None = None) -> Recall:
        """What the adapter alone completes these prompts with."""
        body = {"prompts": list(prompts), "version": version}
        recall = self._call(Recall, "POST", f"{self._twin}/recall", json=body)
        if len(recall.completions) != len(prompts):
            raise Unavailable("the server's answer is not one of llmtwin (completions are missing)")
        return recall

    def _call(self, said: type[Said], method: str, path: str, **request: Any) -> Said:
        response = self._send(method, path, **request)
        try:
            return TypeAdapter(said).validate_json(response.content)
        except ValidationError as error:
            what = f"{method} {response.url.path}: {error.errors()[0]['msg']}"
            raise Unavailable(f"the server's answer is not one of llmtwin ({what})") from error

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            response = self._client.request(method, path, **request)
        except httpx.HTTPError as error:
            where = self._client.base_url
            why = str(error) or type(error).__name__
            raise Unavailable(
                f"the server {where} cannot be reached ({why}): is `llmtwin serve` running there?"
            ) from error
        except UnicodeEncodeError as error:
            raise InputError("the text holds half a character: write it in UTF-8") from error
        if not response.is_success:
            raise _error(response)
        return response


def open_link(server: str, token: str | None, twin: str) -> Link:
    """A link to the server at that address. Raises InputError when it is no address."""
    return Link(connect(server, token), twin)


def connect(server: str, token: str | None, below: str = "/", timeout_s: float = TIMEOUT_S) -> httpx.Client:
    """A client for the paths below that one of the server. Raises InputError when it is no address."""
    try:
        address = TypeAdapter(HttpUrl).validate_python(server)
    except ValidationError as error:
        raise InputError(f"{server!r} is not the address of a server, as http://host:8420 is") from error
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return httpx.Client(base_url=f"{str(address).rstrip('/')}{below}", headers=headers, timeout=timeout_s)


def _error(response: httpx.Response) -> LlmtwinError:
    code, message = _said(response)
    if not code and response.status_code not in PROXY_STATUSES:
        return Unavailable(message)
    if response.status_code == 422:
        return Untrusted(message) if code == "untrusted" else InputError(message)
    kind = STATUS_ERRORS.get(response.status_code, Unavailable)
    return kind(message)


def _said(response: httpx.Response) -> tuple[str, str]:
    """The server's code and message; a proxy in between may say neither."""
    try:
        error = response.json()["error"]
        return str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        return "", f"the server answered {response.status_code} {response.reason_phrase}"
