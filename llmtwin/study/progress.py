"""The progress bars of demos and studies: how far, what is said, for how long. It measures nothing."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


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
