"""Commands: ordered by the owner, waited for by the edge, and what became of them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import AwareDatetime, Field

from llmtwin.records import Command, CommandState, Path, Record, RecordId, TwinId, Value
from llmtwin.server.guard import CoreOf, Edge, Owner, Pusher

router = APIRouter(prefix="/v1/twins/{twin}/commands", tags=["commands"])

WAIT_S_MAX = 25.0


class NewCommand(Record):
    """An order. An `id` of the caller's own makes it safe to send it again."""

    path: Path
    value: Value
    unit: str | None = Field(default=None, max_length=32)
    id: RecordId | None = None
    expires_at: AwareDatetime | None = None


class Report(Record):
    """What became of a command at the device."""

    state: Literal[CommandState.REPORTED, CommandState.REFUSED]
    reason: str | None = Field(default=None, max_length=500)


@router.post("")
def order(twin: TwinId, new: NewCommand, caller: Owner, core: CoreOf) -> Command:
    """Order one device to do one thing, when the twin's description allows it."""
    command = core.new_command(twin, new.path, new.value, new.unit, new.id, new.expires_at)
    return core.order(command)


@router.get("")
async def take(
    twin: TwinId, caller: Edge, core: CoreOf, wait: Annotated[float, Query(ge=0, le=WAIT_S_MAX)] = 0
) -> list[Command]:
    """What the edge has to execute; waits up to `wait` seconds for it. Marks it as sent.

    Waiting holds no thread, so that many edges can wait at once.
    """
    async with core.commands.bell.listen(twin) as rung:
        if commands := await run_in_threadpool(core.commands.take, twin):
            return commands
        with suppress(TimeoutError):
            await asyncio.wait_for(rung.wait(), wait)
    return await run_in_threadpool(core.commands.take, twin)


@router.get("/{command}")
def command(twin: TwinId, command: RecordId, caller: Pusher, core: CoreOf) -> Command:
    """One command as it stands now."""
    return core.commands.get(twin, command)


@router.post("/{command}/report")
def report(twin: TwinId, command: RecordId, report: Report, caller: Edge, core: CoreOf) -> Command:
    """Tell what became of a command; telling it again changes nothing."""
    return core.commands.report(twin, command, report.state, report.reason)
