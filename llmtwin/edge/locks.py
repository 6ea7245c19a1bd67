"""Locks between processes on what one twin's edge keeps; the system frees them when their process dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from filelock import FileLock, Timeout

from llmtwin.edge.store import EdgeStore
from llmtwin.errors import Conflict, NotFound

Given = ParamSpec("Given")
Made = TypeVar("Made")


@contextmanager
def sending(store: EdgeStore) -> Iterator[None]:
    """Be the only sender of this outbox, so that its order holds; waits for another one to end."""
    with FileLock(store.folder / "outbox.lock"):
        yield


@contextmanager
def acting(store: EdgeStore) -> Iterator[None]:
    """Be the only agent of this twin. Raises Conflict when one is running."""
    with _only(store, "agent.lock", f"an agent is already running on {store.folder}; stop it first"):
        yield


@contextmanager
def learning(store: EdgeStore) -> Iterator[None]:
    """Be the only one who learns from what is here, or forgets it: what is being learned cannot be forgotten.

    Raises Conflict while another one does, NotFound once the twin is forgotten.
    """
    told = f"what is in {store.folder} is being learned or forgotten; wait until that ends, or stop it"
    if not store.folder.exists():  # or the lock would bring it back
        raise NotFound(f"there is no twin in {store.folder} any more")
    with _only(store, "learning.lock", told):
        yield


def alone(
    work: Callable[Concatenate[EdgeStore, Given], Made],
) -> Callable[Concatenate[EdgeStore, Given], Made]:
    """Have work on a store be done under `learning`."""

    @wraps(work)
    def done(store: EdgeStore, /, *args: Given.args, **kwargs: Given.kwargs) -> Made:
        with learning(store):
            return work(store, *args, **kwargs)

    return done


@contextmanager
def _only(store: EdgeStore, name: str, told: str) -> Iterator[None]:
    """Hold a lock that nobody waits for. Raises Conflict, with what is `told`, where it is held."""
    try:
        held = FileLock(store.folder / name).acquire(timeout=0)
    except Timeout as error:
        raise Conflict(told) from error
    with held:
        yield
