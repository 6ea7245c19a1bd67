"""Prompts: pushed by the edge, searched, shown as state, forgotten."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AwareDatetime

from llmtwin.errors import InputError, NotFound
from llmtwin.records import Path, Prompt, Record, State, TwinId
from llmtwin.server.access import Role
from llmtwin.server.guard import CoreOf, Member, MetricsOf, Owner, Pusher
from llmtwin.wire.codec import Refused

router = APIRouter(prefix="/v1/twins/{twin}", tags=["prompts"])


async def _body(request: Request, caller: Pusher) -> bytes:
    """The body, read only after the caller was let in."""
    return await request.body()


class Pushed(Record):
    """What became of a batch: new, known before, refused."""

    stored: int
    known: int
    refused: list[Refused]


class Forgotten(Record):
    """How many prompts are gone."""

    forgotten: int


@router.post("/prompts")
def push(twin: TwinId, body: Annotated[bytes, Depends(_body)], core: CoreOf, metrics: MetricsOf) -> Pushed:
    """Store a JSON list of prompts; a bad one is refused by its index, the others are stored."""
    result = core.append(twin, body)
    metrics.prompts.inc(result.stored)
    return Pushed(stored=result.stored, known=result.known, refused=result.refused)


@router.get("/prompts")
def search(
    twin: TwinId,
    caller: Member,
    core: CoreOf,
    search: Annotated[str, Query(min_length=1, max_length=1000)],
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
) -> list[Prompt]:
    """The twin's prompts that fit a text best, best first."""
    return core.memory.search(twin, search, limit)


@router.get("/prompts/all")
def prompts(
    twin: TwinId,
    caller: Owner,
    core: CoreOf,
    after: Annotated[str, Query(max_length=64)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> list[Prompt]:
    """The twin's prompts by id, a page at a time: those whose ids come after `after`."""
    return core.memory.prompts(twin, after, limit)


@router.get("/state")
def state(
    twin: TwinId,
    caller: Member,
    core: CoreOf,
    path: Path | None = None,
    at: AwareDatetime | None = None,
) -> State | list[State]:
    """The latest state of one path, or with `at` the one in force then; without a path those of all paths."""
    if path is None:
        if at is not None:
            raise InputError("a state at a time needs a path")
        return core.memory.snapshot(twin)
    found = core.memory.latest(twin, path) if at is None else core.memory.as_of(twin, path, at)
    if found is None:
        raise NotFound("nothing is known of that path at that time")
    return found


@router.delete("/prompts")
def forget(twin: TwinId, caller: Pusher, core: CoreOf, path: Path | None = None) -> Forgotten:
    """Forget what the prompts of a twin say about one path, or, as its owner, all of them."""
    if path is None:
        caller.require(twin, (Role.OWNER,))
    return Forgotten(forgotten=core.memory.forget(twin, path))
