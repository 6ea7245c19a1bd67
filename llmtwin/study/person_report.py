"""Writes the page of the study of persons, with its plots, from its figures alone. It measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from llmtwin.study.report import COLORS, drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = "person.md.jinja"
PAGE = "person.md"

Figures = Mapping[str, Any]


def write_report(figures: Figures, folder: Path) -> None:
    """Write the page and the plots that it shows to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with drawing():
        plots = {
            "person-gain.svg": plot_gain(figures["bits_per_char"]),
            "person-twins.svg": plot_twins(figures["bits_per_char"]),
        }
        if "attribution_detail" in figures:
            plots["person-attribution.svg"] = plot_attribution(figures["attribution_detail"])
        for name, plot in plots.items():
            metadata: dict[str, Any] = {"Date": None, "Creator": None}
            plot.savefig(folder / name, format="svg", metadata=metadata)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    page = environment.get_template(TEMPLATE).render(
        figures=figures, mini=figures["mini"], bar=_bar, ways=tuple(_LINES)
    )
    (folder / PAGE).write_text(page, encoding="utf-8")


def plot_gain(bits: Figures) -> Figure:
    """By how much the own twin and the other authors' twins lower the bits a character of the base."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.5 * len(bits) + 1))
    axis = figure.subplots()
    for place, one in enumerate(bits.values()):
        said = {"own twin": one["gain"], "other authors' twins": one["gain_of_others"]}
        for (label, gain), offset, color in zip(
            said.items(), (0.19, -0.19), (COLORS[0], "#cbd5e1"), strict=True
        ):
            axis.barh(place + offset, 100 * gain, 0.36, color=color, label=label if place == 0 else None)
        interval = one["gain_by_document"]
        axis.plot([100 * interval["low"], 100 * interval["high"]], [place + 0.19] * 2, color="#0f172a", lw=1)
    axis.set_yticks(range(len(bits)), list(bits))
    axis.set(xlabel="fewer bits a character than the base (%); lines: 95 % interval of the mean document")
    axis.grid(axis="y", visible=False)
    axis.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def plot_twins(bits: Figures) -> Figure:
    """How many bits a character each author's held-out text costs under each twin, relative to the base."""
    from matplotlib.figure import Figure

    names = list(bits)
    gains = [[100 * _gain(bits[reader], reader, twin) for twin in names] for reader in names]
    figure = Figure(figsize=(9, 0.45 * len(names) + 2))
    axis = figure.subplots()
    image = axis.imshow(gains, cmap="Blues", aspect="auto")
    for row, line in enumerate(gains):
        limit = (max(map(max, gains)) + min(map(min, gains))) / 2
        for column, gain in enumerate(line):
            color = "white" if gain > limit else "black"
            axis.text(column, row, f"{gain:.1f}", ha="center", va="center", color=color, fontsize=8)
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="twin of", ylabel="held-out text of")
    axis.grid(visible=False)
    figure.colorbar(image, label="fewer bits a character than the base (%)")
    return figure


def _gain(one: Figures, reader: str, twin: str) -> float:
    cost: float = one["own"] if reader == twin else one["others"][twin]
    return 1 - cost / float(one["base"])


def plot_attribution(found: Figures) -> Figure:
    """How often texts are attributed to each author: of the base, of the twin, and their own."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.6 * len(found) + 1))
    axis = figure.subplots()
    for shift, (name, label) in enumerate(_LINES.items()):
        for place, texts in enumerate(found.values()):
            rate = texts.get(name, {}).get("rate")
            if rate:
                _mark(axis, rate, place + 0.15 * (2 - shift), COLORS[shift], label if place == 0 else None)
    axis.set_yticks(range(len(found)), list(found))
    axis.set(xlabel="attributed to the author (%), with 95 % interval", xlim=(-2, 102))
    axis.legend(frameon=False, ncols=5, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


_LINES = {
    "floor": "base (floor)",
    "memory": "with memory",
    "adapter": "with adapter",
    "twin": "twin: both",
    "ceiling": "author's held-out text (ceiling)",
}


def _mark(axis: Any, rate: Mapping[str, float], height: float, color: str, label: str | None) -> None:
    axis.plot([100 * rate["low"], 100 * rate["high"]], [height] * 2, color=color, lw=1.5)
    axis.plot([100 * rate["value"]], [height], "o", color=color, label=label)


def _bar(value: float, least: float) -> str:
    """A figure with whether it reaches its bar."""
    return f"{value:.1%} ({'≥' if value >= least else '**under**'} {least:.0%})"
