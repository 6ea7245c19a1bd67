"""The progress bars of demos and studies: how far, what is said, for how long. It measures nothing."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Report = Callable[[str, float], None]
"""Is told what goes on, and which share of it is done."""


class Advance(Protocol):
    """Is told how many steps were done."""

    def __call__(self, count: int = 1) -> None:
        """Take them into account."""


def counting(report: Report, said: str, total: int) -> Advance:
    """Counts towards a total and tells the share."""
    done = 0
    lock = Lock()

    def advance(count: int = 1) -> None:
        nonlocal done
        with lock:
            done += count
            report(said, done / total)

    return advance


def bars_on(console: Console) -> Progress:
    """Bars with a field `said`."""
    return Progress(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        TextColumn("{task.fields[said]}"),
        TimeElapsedColumn(),
        console=console,
    )
