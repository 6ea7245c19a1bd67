"""Draws the page of the model's demo. It measures nothing and needs no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmtwin.study.report import COLORS, drawing, svg, write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = "model_demo.html.jinja"


def write_report(figures: Mapping[str, Any], path: Path) -> None:
    """Write the page to `path`."""
    with drawing():
        plot = svg(plot_nearing(figures))
    write_page(TEMPLATE, {"figures": figures, "plot": plot}, path)


def plot_nearing(figures: Mapping[str, Any]) -> Figure:
    """Held-out divergence: of distilled versions by what was mirrored, of interpolated weights by step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2))
    left, right = figure.subplots(1, 2, sharey=True)
    mirrored = [0, *(one["mirrored"] for one in figures["tunings"] if not one["own_answers"])]
    reached = [figures["kl_base"], *figures["kl_distilled"]]
    left.plot(mirrored, reached[: len(mirrored)], "o-", color=COLORS[0], label="the desk's replies")
    if len(reached) > len(mirrored):
        left.plot(mirrored[-1:], reached[-1:], "D", color=COLORS[2], label="and its own answers")
        left.legend(frameon=False)
    left.set(xlabel="questions mirrored", ylabel="nats a token from the desk, at least", title="distilled")
    steps = [figures["kl_base"], *figures["kl_interpolated"]]
    right.plot(range(len(steps)), steps, "o-", color=COLORS[1])
    right.set(xlabel="steps of 0.9 primary + 0.1 twin", title="weights interpolated")
    left.set_ylim(bottom=0)
    return figure
