"""Which twins there are, and which adapter versions of each answer. It knows no token, no command, no HTTP.

An adapter is visible when its row is there, and the row is written after the folder is complete. A folder
without a row is the rest of a killed upload or of a withdrawal, and is swept away when the registry opens.
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from filelock import FileLock
from pydantic import AwareDatetime

from llmtwin.errors import Conflict, NotFound
from llmtwin.records import Adapter, Description, Manifest, Record, TwinId, now
from llmtwin.server.database import Database
from llmtwin.twins.sessions import sampled
from llmtwin.wire.package import write_package_atomic


class TwinInfo(Record):
    """What the server says about a twin. `live_version` is None before the first adapter.

    While there is a `canary_version`, it answers `canary_share` (0 to 1) of the sessions, and the live one
    the others.
    """

    id: TwinId
    kind: str
    cohort: str | None
    enrolled: bool
    live_version: int | None
    canary_version: int | None
    canary_share: float | None
    created_at: AwareDatetime


class Registry:
    """The twins, their descriptions and their adapter versions; safe to call from many threads."""

    def __init__(self, database: Database, folder: Path) -> None:
        """`folder` holds the adapters as `<twin>/<version>/`; it is made where it is not there."""
        self._database = database
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # Between processes too: a second one that opens must not sweep what the first is writing.
        self._folders_lock = FileLock(folder / ".lock")
        with self._folders_lock:
            self._sweep()

    # -- twins

    def create(self, twin: str, kind: str, cohort: str | None) -> TwinInfo:
        """Register a twin. Raises Conflict where the id is taken by an enrolled or a different twin."""
        with self._database.write() as db:
            db.execute(
                "INSERT OR IGNORE INTO twins (id, kind, cohort, created_at) VALUES (?, ?, ?, ?)",
                (twin, kind, cohort, now().isoformat()),
            )
        made = self.twin(twin)
        if made.enrolled or (made.kind, made.cohort) != (kind, cohort):
            raise Conflict("there is a twin of that name already")
        return made

    def twin(self, twin: str) -> TwinInfo:
        """What is known of a twin. Raises NotFound."""
        return _twin_info(self._twin_row(twin))

    def twins(self) -> list[TwinInfo]:
        """All twins, by id."""
        return [_twin_info(row) for row in self._database.rows("SELECT * FROM twins ORDER BY id")]

    def cohort(self, twin: str) -> tuple[str, ...]:
        """The twins of the same kind and cohort, this one included; itself alone where it has no cohort."""
        row = self._twin_row(twin)
        members = self._database.rows(
            "SELECT id FROM twins WHERE kind = ? AND cohort = ? ORDER BY id", row["kind"], row["cohort"]
        )
        return tuple(member["id"] for member in members) or (twin,)

    def public_key(self, twin: str) -> str:
        """The key that the twin's edge signs with. Raises Conflict before the enrolment."""
        key: str | None = self._twin_row(twin)["public_key"]
        if key is None:
            raise Conflict("this twin has no key yet; enrol its edge first")
        return key

    def describe(self, twin: str, description: Description) -> None:
        """Replace the description of a twin."""
        with self._database.write() as db:
            db.execute("UPDATE twins SET description = ? WHERE id = ?", (description.model_dump_json(), twin))

    def description(self, twin: str) -> Description:
        """The description of a twin, empty before the first one was sent."""
        return Description.model_validate_json(self._twin_row(twin)["description"])

    def forget(self, twin: str) -> None:
        """Everything of a twin is gone: its row and all that hangs on it, and its folders."""
        with self._folders_lock:
            with self._database.write() as db:
                db.execute("DELETE FROM twins WHERE id = ?", (twin,))
            _remove(self._folder / twin)
            self._database.empty_log()

    # -- adapters

    def publish(self, manifest: Manifest, parts: dict[str, bytes]) -> Adapter:
        """Keep a checked package and make it live; doing so again with the same package changes nothing.

        While a canary runs it is kept and not made live: what is being compared stays in use.
        Raises Conflict for a version that is there with other content, was withdrawn, or is not the newest.
        """
        with self._folders_lock:
            known = {adapter.manifest.version: adapter for adapter in self.adapters(manifest.twin)}
            if same := known.get(manifest.version):
                if same.withdrawn or same.manifest != manifest:
                    what = "was withdrawn" if same.withdrawn else "is there with other content"
                    raise Conflict(f"version {manifest.version} {what}; publish a higher version")
                return same
            if known and manifest.version < max(known):
                raise Conflict(f"version {manifest.version} is older than {max(known)}, which is there")
            folder = self._adapter_path(manifest.twin, manifest.version)
            _remove(folder)  # the rest of a publication that failed halfway
            write_package_atomic(parts, folder)
            with self._database.write() as db:
                self._insert(db, manifest, sum(map(len, parts.values())))
                if self.twin(manifest.twin).canary_version is None:
                    _set_live(db, manifest.twin, manifest.version)
        return self.adapter(manifest.twin, manifest.version)

    def adapters(self, twin: str) -> list[Adapter]:
        """All versions of a twin, oldest first, withdrawn ones included."""
        live = self._twin_row(twin)["live_version"]
        rows = self._database.rows("SELECT * FROM adapters WHERE twin = ? ORDER BY version", twin)
        return [_adapter(row, live) for row in rows]

    def adapter(self, twin: str, version: int) -> Adapter:
        """One version that may be used. Raises NotFound where there is none or it was withdrawn."""
        for adapter in self.adapters(twin):
            if adapter.manifest.version == version and not adapter.withdrawn:
                return adapter
        raise NotFound(f"this twin has no version {version}")

    def live_adapter(self, twin: str) -> Adapter | None:
        """The version in use, or None where there is none."""
        return next((adapter for adapter in self.adapters(twin) if adapter.live), None)

    def answering_adapter(self, twin: str, session: str) -> Adapter | None:
        """The version that answers a session: the canary for its share of them, else the live one."""
        info = self.twin(twin)
        if info.canary_version is not None and info.canary_share is not None:
            draw = f"{twin}@{info.canary_version}"
            if sampled(session, info.canary_share, draw):
                return self.adapter(twin, info.canary_version)
        return self.live_adapter(twin)

    def adapter_folder(self, twin: str, version: int) -> Path:
        """The PEFT folder of a version that may be used. Raises NotFound."""
        self.adapter(twin, version)
        return self._adapter_path(twin, version)

    def roll_back(self, twin: str, version: int | None = None) -> Adapter:
        """Make a version live for all: the one given, or the one before. A canary ends.

        Before a canary is the live version. Raises NotFound.
        """
        with self._database.write() as db:
            if version is None:
                info = self.twin(twin)
                version = live = info.live_version
                if live is not None and info.canary_version is None:
                    version = self._version_below(twin, live)
                if version is None:
                    raise NotFound("there is no version before the live one")
            self.adapter(twin, version)
            _set_live(db, twin, version)
            return self.adapter(twin, version)

    def set_canary(self, twin: str, version: int, share: float) -> TwinInfo:
        """Have a version answer a share (0 to 1) of the sessions, and the live one the others.

        Of the live version itself the others go to the one before it. Raises NotFound for a version that may
        not be used, Conflict where there is none for the others.
        """
        with self._database.write() as db:
            self.adapter(twin, version)
            live = self._twin_row(twin)["live_version"]
            others = self._version_below(twin, version) if live == version else live
            if others is None:
                raise Conflict(f"there is no other version than {version} to answer the other sessions")
            db.execute(
                "UPDATE twins SET (live_version, canary_version, canary_share) = (?, ?, ?) WHERE id = ?",
                (others, version, share, twin),
            )
        return self.twin(twin)

    def withdraw(self, twin: str, version: int) -> None:
        """Take a version out of use for good and delete its weights.

        Of a live one the version before it becomes live; with a live one or a canary the canary ends.
        Raises NotFound where there is no such version or it was withdrawn before.
        """
        with self._folders_lock:
            with self._database.write() as db:
                was_live, info = self.adapter(twin, version).live, self.twin(twin)
                live = self._version_below(twin, version) if was_live else info.live_version
                db.execute(
                    "UPDATE adapters SET withdrawn = 1 WHERE (twin, version) = (?, ?)", (twin, version)
                )
                if was_live or version == info.canary_version:
                    _set_live(db, twin, live)
            _remove(self._adapter_path(twin, version))

    def _version_below(self, twin: str, version: int) -> int | None:
        row = self._database.row(
            "SELECT max(version) AS below FROM adapters WHERE twin = ? AND version < ? AND NOT withdrawn",
            twin,
            version,
        )
        return row["below"] if row else None

    def _insert(self, db: sqlite3.Connection, manifest: Manifest, adapter_bytes: int) -> None:
        db.execute(
            "INSERT INTO adapters (twin, version, manifest, adapter_bytes) VALUES (?, ?, ?, ?)",
            (manifest.twin, manifest.version, manifest.model_dump_json(), adapter_bytes),
        )

    def _twin_row(self, twin: str) -> sqlite3.Row:
        row = self._database.row("SELECT * FROM twins WHERE id = ?", twin)
        if row is None:
            raise NotFound("there is no such twin")
        return row

    def _adapter_path(self, twin: str, version: int) -> Path:
        return self._folder / twin / str(version)

    def _sweep(self) -> None:
        rows = self._database.rows("SELECT twin, version FROM adapters WHERE NOT withdrawn")
        visible = {self._adapter_path(row["twin"], row["version"]) for row in rows}
        for folder in self._folder.glob("*/*"):
            if folder not in visible:
                _remove(folder)
        for folder in self._folder.glob("*/"):
            if not any(folder.iterdir()):
                folder.rmdir()


def _set_live(db: sqlite3.Connection, twin: str, version: int | None) -> None:
    """Whatever makes a version live makes it so for all sessions."""
    db.execute(
        "UPDATE twins SET (live_version, canary_version, canary_share) = (?, NULL, NULL) WHERE id = ?",
        (version, twin),
    )


def _twin_info(row: sqlite3.Row) -> TwinInfo:
    return TwinInfo(
        id=row["id"],
        kind=row["kind"],
        cohort=row["cohort"],
        enrolled=row["public_key"] is not None,
        live_version=row["live_version"],
        canary_version=row["canary_version"],
        canary_share=row["canary_share"],
        created_at=row["created_at"],
    )


def _adapter(row: sqlite3.Row, live: int | None) -> Adapter:
    return Adapter(
        manifest=Manifest.model_validate_json(row["manifest"]),
        adapter_bytes=row["adapter_bytes"],
        live=row["version"] == live,
        withdrawn=bool(row["withdrawn"]),
    )


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
