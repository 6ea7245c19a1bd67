"""Twins: made by the admin, enrolled by their edge, described, shared by tokens, forgotten."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response

from llmtwin.records import Description, Hash, Record, TwinId
from llmtwin.server.access import Role
from llmtwin.server.guard import Admin, CallerOf, CoreOf, Member, MemberOrAdmin, Owner, OwnerOrAdmin, Pusher
from llmtwin.server.registry import TwinInfo
from llmtwin.twins.kind import kind

router = APIRouter(prefix="/v1", tags=["twins"])


class NewTwin(Record):
    """A twin to be; twins of one kind and cohort may be compared."""

    id: TwinId
    kind: str
    cohort: TwinId | None = None


class Invitation(Record):
    """What the edge of a new twin needs to enrol, once."""

    enrolment: str


class Enrolment(Record):
    """An edge that brings its key."""

    enrolment: str
    twin: TwinId
    kind: str
    public_key: Hash


class Granted(Record):
    """The first tokens of a twin. They are shown only here."""

    owner: str
    edge: str


class NewToken(Record):
    """The role of a token to be."""

    role: Literal[Role.READER, Role.EDGE, Role.OWNER]


class Token(Record):
    """A new token. It is shown only here."""

    token: str


@router.post("/twins")
def create(new: NewTwin, admin: Admin, core: CoreOf) -> Invitation:
    """Make a twin, or, before its edge enrolled, a new enrolment token in place of the old."""
    kind(new.kind)
    core.registry.create(new.id, new.kind, new.cohort)
    return Invitation(enrolment=core.access.invite(new.id))


@router.post("/enrol")
def enrol(sent: Enrolment, core: CoreOf) -> Granted:
    """Exchange an enrolment token and a public key for the twin's first tokens."""
    granted = core.access.enrol(sent.enrolment, sent.twin, sent.kind, sent.public_key)
    return Granted(owner=granted[Role.OWNER], edge=granted[Role.EDGE])


@router.get("/twins")
def twins(caller: CallerOf, core: CoreOf) -> list[TwinInfo]:
    """The twins the caller may see: its own, or all of them for the admin."""
    return core.registry.twins() if caller.twin is None else [core.registry.twin(caller.twin)]


@router.get("/twins/{twin}")
def twin_info(twin: TwinId, caller: MemberOrAdmin, core: CoreOf) -> TwinInfo:
    """What the server knows of a twin."""
    return core.registry.twin(twin)


@router.delete("/twins/{twin}", status_code=204)
def forget(twin: TwinId, caller: OwnerOrAdmin, core: CoreOf) -> Response:
    """Forget everything of a twin: prompts, adapters, commands, tokens."""
    core.forget(twin)
    return Response(status_code=204)


@router.put("/twins/{twin}/description", status_code=204)
def describe(twin: TwinId, description: Description, caller: Pusher, core: CoreOf) -> Response:
    """Replace the twin's description."""
    core.registry.describe(twin, description)
    return Response(status_code=204)


@router.get("/twins/{twin}/description")
def description(twin: TwinId, caller: Member, core: CoreOf) -> Description:
    """What there is to ask of the twin and to order from it."""
    return core.registry.description(twin)


@router.post("/twins/{twin}/tokens")
def grant(twin: TwinId, new: NewToken, caller: Owner, core: CoreOf) -> Token:
    """Make a token for somebody else, or for another program."""
    return Token(token=core.access.grant(twin, new.role))
