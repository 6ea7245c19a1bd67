"""Twins as small adapters over one shared language model: `llmtwin.Twin` is the Python interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmtwin.twin import Twin

    __version__: str

__all__ = ["Twin", "__version__"]


def __getattr__(name: str) -> object:
    # Imported on first use, so that who needs one part of the package does not load all of it.
    if name == "Twin":
        from llmtwin.twin import Twin

        return Twin
    if name == "__version__":
        from importlib.metadata import version

        return version("llmtwin")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
