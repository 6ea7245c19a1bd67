"""Who may do what: tokens, roles and enrolment. It knows nothing of HTTP and keeps no token, only hashes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from llmtwin.errors import Denied, InputError, NotFound, Unauthenticated
from llmtwin.server.database import Database
from llmtwin.wire.files import read_or_create

TOKEN_BYTES_MAX = 1024


class Role(StrEnum):
    """What a token is good for; all but ADMIN are for one twin."""

    ADMIN = "admin"
    OWNER = "owner"
    EDGE = "edge"
    READER = "reader"


@dataclass(frozen=True)
class Caller:
    """Whom a token speaks for; `twin` is None for the admin."""

    role: Role
    twin: str | None

    def require(self, twin: str, roles: Collection[Role]) -> None:
        """Raise Denied unless this caller has one of the roles for that twin.

        Who has no token of the twin is told the same whether the twin exists or not.
        """
        if self.role is not Role.ADMIN and self.twin != twin:
            raise Denied("this token is not for this twin")
        if self.role not in roles:
            raise Denied(f"this token is of the role {self.role}; this takes {' or '.join(sorted(roles))}")


class Access:
    """The tokens of all twins. A token is 256 random bits, so that a plain SHA-256 hides it well enough."""

    def __init__(self, database: Database, admin_token: str | None) -> None:
        self._database = database
        self._admin_hash = _hash(admin_token) if admin_token else None

    def caller(self, token: str | None) -> Caller:
        """Whom the token speaks for. Raises Unauthenticated where there is none, or nobody knows it."""
        if token:
            hashed = _hash(token)
            if self._admin_hash and hmac.compare_digest(hashed, self._admin_hash):
                return Caller(Role.ADMIN, None)
            row = self._database.row("SELECT twin, role FROM tokens WHERE hash = ?", hashed)
            if row:
                return Caller(Role(row["role"]), row["twin"])
        raise Unauthenticated("this needs a valid token, sent as `Authorization: Bearer TOKEN`")

    def grant(self, twin: str, role: Role) -> str:
        """A new token of that role. Raises NotFound where the twin has just been forgotten."""
        token = _new_token()
        with self._database.write() as db:
            if not db.execute("SELECT 1 FROM twins WHERE id = ?", (twin,)).fetchone():
                raise NotFound("there is no such twin")
            db.execute("INSERT INTO tokens (hash, twin, role) VALUES (?, ?, ?)", (_hash(token), twin, role))
        return token

    def invite(self, twin: str) -> str:
        """A one-time enrolment token; an earlier one of the same twin is void."""
        token = _new_token()
        with self._database.write() as db:
            db.execute("INSERT OR REPLACE INTO enrolments (hash, twin) VALUES (?, ?)", (_hash(token), twin))
        return token

    def enrol(self, enrolment: str, twin: str, kind: str, public_key: str) -> dict[Role, str]:
        """Give the twin its key, once, and an owner's and an edge's token.

        Raises Denied, always in the same words, where the token, the twin and the kind do not go together.
        """
        granted = {role: _new_token() for role in (Role.OWNER, Role.EDGE)}
        with self._database.write() as db:
            used = db.execute(
                "DELETE FROM enrolments WHERE hash = ? AND twin = ?"
                " AND EXISTS (SELECT 1 FROM twins WHERE id = ? AND kind = ? AND public_key IS NULL)",
                (_hash(enrolment), twin, twin, kind),
            )
            if used.rowcount != 1:
                raise Denied("this enrolment token is not good for this twin and kind, or was used before")
            db.execute("UPDATE twins SET public_key = ? WHERE id = ?", (public_key, twin))
            db.executemany(
                "INSERT INTO tokens (hash, twin, role) VALUES (?, ?, ?)",
                [(_hash(token), twin, role) for role, token in granted.items()],
            )
        return granted


def load_or_create_admin_token(path: Path) -> str:
    """The admin's token in that file; a new one, readable by the file's owner only, where there is none.

    Raises InputError where the file holds none, Unavailable where it cannot be written.
    """
    content = read_or_create(path, lambda: _new_token().encode(), TOKEN_BYTES_MAX)
    if not content.strip() or not content.isascii():
        raise InputError(f"{path} holds no token: remove it, and the next start makes one")
    return content.decode().strip()


def _new_token() -> str:
    return secrets.token_urlsafe(32)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
