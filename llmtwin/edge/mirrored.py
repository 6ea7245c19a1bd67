"""Takes in what a proxy recorded beside a twin's own store. It knows neither proxy nor what is on record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llmtwin.edge.store import EdgeStore
from llmtwin.records import Document
from llmtwin.twins.kind import Known, kind

FOLDER = "traffic"


def folder(store: EdgeStore) -> Path:
    """Where a proxy records for the twin of this store."""
    return store.folder / FOLDER


def take(store: EdgeStore) -> None:
    """Keep what came on record as documents; taking it twice changes nothing.

    It has its stand-ins already: no key is given. Raises InputError for a record that cannot be read.
    """
    place = folder(store)
    if not any(place.glob("*.jsonl")):
        return
    own, state = store.settings(), store.encoder_state()
    found = kind(own.kind).read([str(place)], Known(own.twin, own.names, own.sealed, state))
    if found.documents or found.state != state:
        store.record(found.observations, found.prompts, found.state, found.documents)


def forget(store: EdgeStore, documents: Sequence[Document]) -> None:
    """Take these off the record, so that they are not taken again. Raises Unavailable where it cannot be."""
    place = folder(store)
    if any(place.glob("*.jsonl")):
        kind(store.settings().kind).unrecord(place, documents)
