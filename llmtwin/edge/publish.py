"""Makes a signed package of a tuned adapter and queues it. It knows neither tuning nor the server."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from llmtwin.edge.store import EdgeStore
from llmtwin.records import Card, Description, Manifest, now
from llmtwin.wire.files import write_durably
from llmtwin.wire.package import (
    CARD,
    CONFIG,
    WEIGHTS,
    Origin,
    read_package,
    seal_package,
    write_package_atomic,
)


@dataclass(frozen=True)
class Tuned:
    """A tuned adapter: its folder in PEFT's format, what it was made of, what was measured of it.

    `base`, `skill` and `data` are SHA-256 hashes in hexadecimal; `figures` and `notes` go on its card.
    """

    folder: Path
    base: str
    data: str
    skill: str | None = None
    figures: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def publish(store: EdgeStore, tuned: Tuned, key: Ed25519PrivateKey, description: Description) -> Manifest:
    """Give the adapter the next version, sign it, and queue it and the description; returns what was signed.

    The card and the manifest are written into `tuned.folder`, and all of it is kept in
    `store.adapter_folder(version)`. Raises NotFound when the folder lacks a file of the adapter, TooLarge.
    """
    own = store.settings()
    made_at = now()
    version = store.reserve_version()
    card = Card(
        twin=own.twin,
        version=version,
        kind=own.kind,
        created_at=made_at,
        figures=tuned.figures,
        notes=tuned.notes,
    )
    write_durably(tuned.folder / CARD, card.model_dump_json().encode())
    origin = Origin(
        twin=own.twin,
        version=version,
        kind=own.kind,
        base=tuned.base,
        data=tuned.data,
        skill=tuned.skill,
        created_at=made_at,
    )
    manifest = seal_package(tuned.folder, origin, key)
    write_package_atomic(read_package(tuned.folder), store.adapter_folder(version))
    store.enqueue_description(description)
    store.enqueue_adapter(version)
    return manifest


def publish_again(
    store: EdgeStore,
    package: Mapping[str, bytes],
    made: Manifest,
    card: Card,
    key: Ed25519PrivateKey,
    description: Description,
) -> Manifest:
    """Give the weights of a `package` that is here already the next version, with the figures of `card`.

    `made` says what they are made of. A version is never changed: what is said anew takes a new one.
    """
    with tempfile.TemporaryDirectory(dir=store.folder) as scratch:
        folder = Path(scratch)
        for name in (CONFIG, WEIGHTS):
            write_durably(folder / name, package[name])
        tuned = Tuned(
            folder=folder,
            base=made.base,
            data=made.data,
            skill=made.skill,
            figures=card.figures,
            notes=card.notes,
        )
        return publish(store, tuned, key, description)
