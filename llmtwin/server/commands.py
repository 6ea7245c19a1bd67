"""The life of commands: desired, sent, then reported, refused or expired. It knows no device and no HTTP."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from llmtwin.errors import Conflict, InputError, NotFound
from llmtwin.records import Command, CommandState
from llmtwin.server.database import Database

# An edge that took a command and never reported it gets it again; it executes each id at most once.
RESEND_AFTER_S = 30.0


class Commands:
    """The commands of all twins, each kept until its twin is forgotten; safe to call from many threads."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now
        self.bell = Bell()

    def order(self, command: Command) -> Command:
        """Store a checked command as desired; the same command again changes nothing.

        Raises InputError where it has expired, Conflict where its id names another command.
        """
        if command.expires_at <= self._now():
            raise InputError("this command has expired before it was given")
        command = command.model_copy(update={"state": CommandState.DESIRED, "reason": None})
        with self._database.write() as db:
            db.execute(
                "INSERT OR IGNORE INTO commands (id, twin, command, state, expires_at)"
                " VALUES (?, ?, ?, ?, ?)",
                (
                    command.id,
                    command.twin,
                    command.model_dump_json(),
                    command.state,
                    command.expires_at.timestamp(),
                ),
            )
        stored = self.get(command.twin, command.id)
        if (stored.path, stored.value, stored.unit) != (command.path, command.value, command.unit):
            raise Conflict("that id names another command")
        self.bell.ring(command.twin)
        return stored

    def get(self, twin: str, command_id: str) -> Command:
        """One command as it stands now. Raises NotFound."""
        self._expire(twin)
        row = self._database.row("SELECT * FROM commands WHERE (twin, id) = (?, ?)", twin, command_id)
        if row is None:
            raise NotFound("this twin has no such command")
        return _command(row)

    def take(self, twin: str) -> list[Command]:
        """What the edge has to execute, oldest first, marked as sent; again when it was not reported."""
        self._expire(twin)
        now = self._now().timestamp()
        due = "twin = ? AND (state = 'desired' OR (state = 'sent' AND sent_at <= ?))"
        which = (twin, now - RESEND_AFTER_S)
        if not self._database.row(f"SELECT 1 FROM commands WHERE {due}", *which):
            return []  # the common case of a poll costs no write
        with self._database.write() as db:
            rows = db.execute(f"SELECT * FROM commands WHERE {due} ORDER BY number", which).fetchall()
            db.executemany(
                "UPDATE commands SET state = 'sent', sent_at = ? WHERE number = ?",
                [(now, row["number"]) for row in rows],
            )
        return [_command(row).model_copy(update={"state": CommandState.SENT}) for row in rows]

    def report(self, twin: str, command_id: str, state: CommandState, reason: str | None) -> Command:
        """What the edge says became of a command it was sent; the same report again changes nothing.

        A report that comes after the expiry is believed: the edge knows what it executed.
        Raises NotFound; Conflict where the command was never sent or another report is there.
        """
        before = self.get(twin, command_id)
        if before.state in (CommandState.REPORTED, CommandState.REFUSED):
            if before.state is not state:
                raise Conflict(f"this command is {before.state} already")
            return before
        with self._database.write() as db:
            changed = db.execute(
                "UPDATE commands SET state = ?, reason = ? WHERE (twin, id) = (?, ?)"
                " AND sent_at IS NOT NULL AND state IN ('sent', 'expired')",
                (state, reason, twin, command_id),
            )
            if changed.rowcount != 1:
                raise Conflict("this command was never sent to the edge")
        return self.get(twin, command_id)

    def _expire(self, twin: str) -> None:
        overdue = "twin = ? AND state IN ('desired', 'sent') AND expires_at <= ?"
        which = (twin, self._now().timestamp())
        if self._database.row(f"SELECT 1 FROM commands WHERE {overdue}", *which):
            with self._database.write() as db:
                db.execute(f"UPDATE commands SET state = 'expired' WHERE {overdue}", which)


class Bell:
    """Wakes those who wait for commands of a twin, on whatever event loop they wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}

    def ring(self, twin: str) -> None:
        """Wake all who listen now; may be called from any thread."""
        with self._lock:
            for loop, event in self._waiting.get(twin, ()):
                loop.call_soon_threadsafe(event.set)

    @asynccontextmanager
    async def listen(self, twin: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set by the next ring."""
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._waiting.setdefault(twin, set()).add(waiter)
        try:
            yield waiter[1]
        finally:
            with self._lock:
                self._waiting[twin].discard(waiter)
                if not self._waiting[twin]:
                    del self._waiting[twin]


def _command(row: sqlite3.Row) -> Command:
    stored = Command.model_validate_json(row["command"])
    return stored.model_copy(update={"state": CommandState(row["state"]), "reason": row["reason"]})
