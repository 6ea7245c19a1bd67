"""What the traffic on record says of a primary, and of what its twin was asked beside it. It asks nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmtwin.edge import mirrored
from llmtwin.primary.nearness import measures
from llmtwin.primary.place import open_store
from llmtwin.settings import Settings

if TYPE_CHECKING:
    from llmtwin.twins.model.running import State


def recorded(name: str, settings: Settings | None = None) -> State:
    """Drift and cost of a primary over all its traffic, and how far from it the twin answered beside it.

    Raises NotFound, or InputError for a twin of another kind, or a record that cannot be read.
    """
    from llmtwin.twins.model.collect import exchanges
    from llmtwin.twins.model.exchange import SHADOWS, Shadow, Tail
    from llmtwin.twins.model.running import Running

    running = Running(measures())
    with open_store(name, settings) as store:
        mirrored.take(store)
        lines = (line for _, line in exchanges(store.known()))
        for line in sorted(lines, key=lambda line: line.timestamp):
            running.exchange(line)
        for shadow in Tail(mirrored.folder(store) / SHADOWS, Shadow).new():
            running.shadow(shadow)
    return running.state()
