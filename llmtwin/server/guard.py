"""Who a request is from and what the routes need of the app: FastAPI dependencies, nothing else."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from llmtwin.errors import Denied
from llmtwin.records import TwinId
from llmtwin.server.access import Caller, Role
from llmtwin.server.core import Core
from llmtwin.server.log import Metrics

_bearer = HTTPBearer(auto_error=False, description="The token of an owner, an edge or a reader of one twin")


def _core(request: Request) -> Core:
    return cast(Core, request.app.state.core)


def _metrics(request: Request) -> Metrics:
    return cast(Metrics, request.app.state.metrics)


CoreOf = Annotated[Core, Depends(_core)]
MetricsOf = Annotated[Metrics, Depends(_metrics)]


def _caller(
    request: Request, core: CoreOf, sent: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    caller = core.access.caller(sent.credentials if sent else None)
    note(request, caller)
    return caller


def note(request: Request, caller: Caller, twin: str | None = None) -> None:
    """Tell the log who was let in, and to which twin."""
    request.state.role = caller.role
    request.state.twin = twin or caller.twin


CallerOf = Annotated[Caller, Depends(_caller)]


class _Allow:
    """The caller, when it has one of the roles for the twin of the path."""

    def __init__(self, *roles: Role) -> None:
        self._roles = roles

    def __call__(self, request: Request, twin: TwinId, caller: CallerOf) -> Caller:
        caller.require(twin, self._roles)
        note(request, caller, twin)
        return caller


def _admin(caller: CallerOf) -> Caller:
    if caller.role is not Role.ADMIN:
        raise Denied("this takes the admin's token")
    return caller


Admin = Annotated[Caller, Depends(_admin)]
Owner = Annotated[Caller, Depends(_Allow(Role.OWNER))]
OwnerOrAdmin = Annotated[Caller, Depends(_Allow(Role.OWNER, Role.ADMIN))]
Edge = Annotated[Caller, Depends(_Allow(Role.EDGE))]
Pusher = Annotated[Caller, Depends(_Allow(Role.EDGE, Role.OWNER))]
Asker = Annotated[Caller, Depends(_Allow(Role.OWNER, Role.READER))]
Member = Annotated[Caller, Depends(_Allow(Role.OWNER, Role.EDGE, Role.READER))]
MemberOrAdmin = Annotated[Caller, Depends(_Allow(*Role))]
