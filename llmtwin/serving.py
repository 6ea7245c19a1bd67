"""The server as the settings say it: its data, its base, its engine. It knows no twin and no command line.

fastapi and torch are imported only where a server is made or a model is used: most commands need neither.
"""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache, cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import httpx

from llmtwin.edge.link import Link, Tokens, connect, open_link
from llmtwin.errors import InputError
from llmtwin.models.engine.api import Completion, Request
from llmtwin.models.engine.echo import EchoEngine
from llmtwin.server.access import Role, load_or_create_admin_token
from llmtwin.server.core import Core, ServerOptions
from llmtwin.settings import Settings
from llmtwin.twins.kind import GROUP, kind

if TYPE_CHECKING:
    from fastapi import FastAPI

    from llmtwin.models.base import Base
    from llmtwin.models.engine.torch_engine import TorchEngine

SKILL = "skill:"
IN_PROCESS = "http://in-process"
ASK_TIMEOUT_S = 120.0

Item = TypeVar("Item")


def base(settings: Settings) -> Base:
    """The configured base model. Raises Unavailable where there is none, InputError where it is of no use."""
    from llmtwin.models.base import find_base

    return find_base(settings.base, settings.cache_folder)


def make_app(settings: Settings) -> FastAPI:
    """The app of this machine's server. Raises Unavailable where there is no base."""
    from llmtwin.server.app import create_app

    options = server_options(settings)
    _ = options.engine.base_hash  # a missing base is told now, not to the first who asks
    return create_app(options)


def run(app: FastAPI, settings: Settings) -> None:
    """Serve the app over HTTP until stopped; a JSON line a request goes to stderr."""
    import uvicorn

    from llmtwin.server.log import log_to

    log_to(sys.stderr)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=3,
    )


@cache
def in_process(settings: Settings) -> httpx.BaseTransport:
    """The server's app within this process, one for all twins; it lives until the process ends."""
    from llmtwin.inprocess import InProcessTransport
    from llmtwin.server.app import create_app

    transport = InProcessTransport(create_app(server_options(settings)))
    atexit.register(transport.close)
    return transport


def link(settings: Settings, token: str | None, twin: str, server: str | None = None) -> Link:
    """A line to the configured server, else to the one given, else to that within this process."""
    if address := settings.server or server:
        return open_link(address, token, twin)
    return Link(_client(settings, token, IN_PROCESS), twin)


def openai_client(settings: Settings, token: str | None, server: str | None = None) -> httpx.Client:
    """A client of the OpenAI-compatible interface of the same server, below `/v1`. Raises as `open_link`."""
    if address := settings.server or server:
        return connect(address, token, "/v1", ASK_TIMEOUT_S)
    return _client(settings, token, f"{IN_PROCESS}/v1")


def _client(settings: Settings, token: str | None, base_url: str) -> httpx.Client:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return httpx.Client(transport=in_process(settings), base_url=base_url, headers=headers)


def invite(settings: Settings, twin: str, kind_name: str, cohort: str | None) -> str:
    """Make a twin on this machine's server; the one-time token that its edge enrols with.

    Raises Conflict where an enrolled twin has that name, InputError for an unknown kind.
    """
    kind(kind_name)
    with closing(Core(server_options(settings))) as core:
        core.registry.create(twin, kind_name, cohort)
        return core.access.invite(twin)


def enrol(
    settings: Settings,
    twin: str,
    kind_name: str,
    public_key: str,
    cohort: str | None = None,
    enrolment: str | None = None,
) -> Tokens:
    """Bring a twin's key to the configured server, or to this machine's, which takes its owner's word.

    Raises InputError where a configured server is given no `enrolment` token, Denied for a bad one.
    """
    if settings.server is not None:
        if enrolment is None:
            raise InputError(
                f"the server {settings.server} takes an enrolment token (--enrolment): "
                f"its operator gets one with `llmtwin enrol {twin}`"
            )
        return open_link(settings.server, None, twin).enrol(enrolment, kind_name, public_key)
    token = enrolment or invite(settings, twin, kind_name, cohort)
    with closing(Core(server_options(settings))) as core:
        granted = core.access.enrol(token, twin, kind_name, public_key)
    return Tokens(owner=granted[Role.OWNER], edge=granted[Role.EDGE])


def server_options(settings: Settings) -> ServerOptions:
    """The options of this machine's server; the model is found and loaded when it is first needed."""
    data = settings.server_folder
    admin_token = load_or_create_admin_token(data / "admin.token")
    if settings.engine == "echo":
        # It needs no skill to understand plans: they are its own language.
        skills = dict.fromkeys(entry_points(group=GROUP).names, EchoEngine.base_hash)
        return ServerOptions(
            data,
            EchoEngine(),
            admin_token,
            skills,
            cohort_size_min=settings.cohort_size_min,
            audit_max=dict(settings.audit_max),
        )
    engine = LazyEngine(settings)
    return ServerOptions(
        data,
        engine,
        admin_token,
        skills=_Lazy(engine.skills),
        shapes=_Lazy(engine.shapes),
        cohort_size_min=settings.cohort_size_min,
        audit_max=dict(settings.audit_max),
        on_adapter_gone=engine.drop,
    )


class LazyEngine:
    """The torch engine over the configured base; both are loaded by the first call that needs them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.RLock()
        self._base: Base | None = None
        self._engine: TorchEngine | None = None

    @property
    def base(self) -> Base:
        """The base; raises as `serving.base` does."""
        with self._lock:
            self._base = self._base or base(self._settings)
            return self._base

    @property
    def base_hash(self) -> str:
        """The hash that names the base."""
        return self.base.hash

    def skills(self) -> dict[str, str]:
        """The hash of the skill of each kind that has one for this base."""
        from llmtwin.edge.learn import skill_hash

        folders = {name: kind(name).skill(self.base_hash) for name in entry_points(group=GROUP).names}
        return {name: skill_hash(folder) for name, folder in folders.items() if folder}

    def shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """What the tensors of an adapter are, by the kind of its twin."""
        from llmtwin.models.lora import shapes

        config = self.base.config
        tuning = {name: kind(name).tuning() for name in entry_points(group=GROUP).names}
        return {
            name: shapes(config, options.rank, config.first_of(options.layers_share))
            for name, options in tuning.items()
        }

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The messages in the base's own chat template."""
        return self.base.chat(messages)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """As the torch engine."""
        return self._loaded().generate(requests)

    def score(self, requests: Sequence[tuple[str, str, tuple[str, ...]]]) -> list[float]:
        """As the torch engine."""
        return self._loaded().score(requests)

    def drop(self, adapter: str) -> None:
        """Let go of an adapter that is gone: nothing of it stays in memory."""
        with self._lock:
            if self._engine is not None:
                self._engine.drop(adapter)

    def _loaded(self) -> TorchEngine:
        from llmtwin.models.engine.torch_engine import TorchEngine

        with self._lock:
            self._engine = self._engine or TorchEngine(self.base, self._folder)
            return self._engine

    def _folder(self, adapter: str) -> Path:
        """Where the weights of `skill:<kind>` or `<twin>@<version>#<hash>` lie."""
        if adapter.startswith(SKILL):
            folder = kind(adapter.removeprefix(SKILL)).skill(self.base_hash)
            assert folder is not None, "a skill is only named where there is one"
            return folder
        twin, _, version = adapter.partition("#")[0].rpartition("@")
        return self._settings.server_folder / "adapters" / twin / version


class _Lazy(Mapping[str, Item]):
    """A mapping that is made when it is first looked into."""

    def __init__(self, make: Callable[[], Mapping[str, Item]]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> Mapping[str, Item]:
        return self._make()

    def __getitem__(self, key: str) -> Item:
        return self._made[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)
