"""Adapters: published by the edge, listed, tried on a share, rolled back, withdrawn; and their cards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi import Path as InPath
from pydantic import Field
from starlette.datastructures import UploadFile as UploadedFile

from llmtwin.records import Adapter, Card, Record, TwinId
from llmtwin.server.guard import CoreOf, Member, MetricsOf, Owner, Pusher
from llmtwin.server.registry import TwinInfo
from llmtwin.wire.package import FILES

router = APIRouter(prefix="/v1/twins/{twin}", tags=["adapters"])

Version = Annotated[int, InPath(ge=1, le=2**31)]

# The form is read by hand, after the caller was let in; so the API page is told what it holds.
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": sorted(FILES),
                    "properties": {name: {"type": "string", "format": "binary"} for name in FILES},
                }
            }
        },
    }
}


async def _parts(request: Request, caller: Pusher) -> Mapping[str, bytes]:
    """The files of the form by name, read only after the caller was let in."""
    async with request.form(max_files=len(FILES), max_fields=0) as form:
        files = {name: file for name, file in form.multi_items() if isinstance(file, UploadedFile)}
        return {name: await file.read() for name, file in files.items()}


class Published(Record):
    """An adapter that is there; `live` says whether it answers now."""

    version: int
    live: bool


class Canary(Record):
    """A version, and which share of the sessions it is to answer."""

    version: int = Field(ge=1)
    share: float = Field(gt=0, lt=1)


class Rollback(Record):
    """The version to go back to; the one before the live one where none is given."""

    version: int | None = Field(default=None, ge=1)


@router.post("/adapters", openapi_extra=_FORM)
def publish(
    twin: TwinId, parts: Annotated[Mapping[str, bytes], Depends(_parts)], core: CoreOf, metrics: MetricsOf
) -> Published:
    """Check a signed adapter package and make it live. The same package again changes nothing."""
    adapter = core.publish(twin, dict(parts))
    metrics.adapters.inc()
    return Published(version=adapter.manifest.version, live=adapter.live)


@router.get("/adapters")
def adapters(twin: TwinId, caller: Member, core: CoreOf) -> list[Adapter]:
    """All versions, oldest first, withdrawn ones included."""
    return core.registry.adapters(twin)


@router.delete("/adapters/{version}", status_code=204)
def withdraw(twin: TwinId, version: Version, caller: Owner, core: CoreOf) -> Response:
    """Take a version out of use for good and delete its weights."""
    core.withdraw(twin, version)
    return Response(status_code=204)


@router.post("/rollback")
def roll_back(twin: TwinId, to: Rollback, caller: Owner, core: CoreOf, metrics: MetricsOf) -> Published:
    """Make an earlier version, or the one that is given, live for all sessions."""
    live = core.registry.twin(twin).live_version or 0
    adapter = core.registry.roll_back(twin, to.version)
    metrics.decisions.labels("promote" if adapter.manifest.version > live else "rollback").inc()
    return Published(version=adapter.manifest.version, live=adapter.live)


@router.put("/canary")
def set_canary(twin: TwinId, canary: Canary, caller: Owner, core: CoreOf, metrics: MetricsOf) -> TwinInfo:
    """Have a version answer a share of the sessions; a session stays with its version."""
    info = core.registry.set_canary(twin, canary.version, canary.share)
    metrics.decisions.labels("canary").inc()
    return info


@router.get("/card")
def card(twin: TwinId, caller: Member, core: CoreOf, version: int | None = None) -> Card:
    """The report card of a version, of the live one where none is given."""
    return core.card(twin, version)
