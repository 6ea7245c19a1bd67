"""Forgets at the server and then at the edge, and says what went. What waits is left to the next push."""

from __future__ import annotations

import os
import shutil

from llmtwin.edge import mirrored
from llmtwin.edge.link import Link
from llmtwin.edge.locks import alone, sending
from llmtwin.edge.results import Forgotten
from llmtwin.edge.store import CHECKPOINTS, EdgeStore
from llmtwin.errors import NotFound
from llmtwin.records import Document


@alone
def forget_all(store: EdgeStore, link: Link) -> Forgotten:
    """Forget everything of a twin; the store is closed, and its folder is gone.

    Raises Conflict while the twin learns.
    """
    versions = _versions(link)
    gone = Forgotten(
        documents=tuple(one.address for one in store.documents()),
        prompts=link.forget_prompts(),
        corrections=len(store.corrections()),
        versions=versions,
        facts=len(store.observations()),
    )
    link.forget()
    store.close()
    shutil.rmtree(store.folder)
    return gone


@alone
def forget_source(store: EdgeStore, link: Link, source: str) -> Forgotten:
    """Forget the documents of what is named, with all that was made of them.

    Raises NotFound where there are none, Conflict while the twin learns.
    """
    mirrored.take(store)
    documents = _documents(store, source) or _documents(store, source and os.path.realpath(source))
    if not documents:
        there = ", ".join(sorted({one.source for one in store.documents()})) or "none"
        name = store.settings().twin
        raise NotFound(f"{name} has no document of {source}; its sources are: {there}")
    with sending(store):  # a version that is on its way now would arrive after the others are withdrawn
        versions = _versions(link)
        prompts = sum(link.forget_prompts(one.path) for one in documents)
        for version in versions:
            link.withdraw(version)
        shutil.rmtree(store.folder / "adapters", ignore_errors=True)
        for checkpoint in CHECKPOINTS:
            (store.folder / checkpoint).unlink(missing_ok=True)
        mirrored.forget(store, documents)
        corrections = store.drop(documents)
    return Forgotten(tuple(one.address for one in documents), prompts, corrections, versions)


def _documents(store: EdgeStore, source: str) -> list[Document]:
    return [one for one in store.documents() if one.is_of(source)]


def _versions(link: Link) -> tuple[int, ...]:
    return tuple(one.manifest.version for one in link.adapters() if not one.withdrawn)
