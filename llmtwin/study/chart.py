"""Lines over one axis, as data and as a drawing. It measures nothing and knows no study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from llmtwin.study.report import COLORS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Line:
    """One line: modelled ones are drawn through, measured ones as points."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    measured: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines, with the names and units of both axes; `beside` has an axis of its own, to the right."""

    x: str
    y: str
    lines: tuple[Line, ...]
    x_log: bool = True
    y_log: bool = True
    y_beside: str = ""
    beside: tuple[Line, ...] = ()

    def data(self) -> dict[str, Any]:
        """The chart as JSON."""
        return asdict(self)


def draw(chart: Chart) -> Figure:
    """The chart as a figure."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator, StrMethodFormatter

    figure = Figure(figsize=(9, 4))
    axis = figure.subplots()
    handles = _draw_lines(axis, chart.lines, COLORS)
    axis.set(xlabel=chart.x, ylabel=chart.y)
    for is_log, set_scale, side in (
        (chart.x_log, axis.set_xscale, axis.xaxis),
        (chart.y_log, axis.set_yscale, axis.yaxis),
    ):
        if is_log:
            set_scale("log")
            side.set_minor_locator(NullLocator())
            side.set_major_formatter(StrMethodFormatter("{x:g}"))
    if chart.beside:
        right = axis.twinx()
        handles += _draw_lines(right, chart.beside, COLORS[len(chart.lines) :])
        right.set(ylabel=chart.y_beside)
        right.set_ylim(bottom=0)
        right.spines["right"].set_visible(True)
        right.grid(visible=False)
    axis.legend(handles=handles, frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def _draw_lines(axis: Any, lines: Sequence[Line], colors: Sequence[str]) -> list[Any]:
    return [
        axis.plot(
            line.x,
            line.y,
            "o" if line.measured else "-" if place < len(colors) else "--",
            color=colors[place % len(colors)],
            label=line.label,
        )[0]
        for place, line in enumerate(lines)
    ]
