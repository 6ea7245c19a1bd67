"""Draws a demo's report: one HTML page with its plots inside. It measures nothing and needs no network."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from llmtwin.records import Answer, Fact
from llmtwin.study.measure import Figures, table
from llmtwin.study.truth import HomeTruth

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = "report.html.jinja"
COLORS = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#0891b2", "#dc2626", "#ca8a04", "#64748b")
BUSY = frozenset({"on", "open", "detected", "unlocked", "playing", "heat", "cool", "heat_cool"})
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#94a3b8",
    "axes.grid": True,
    "grid.color": "#e2e8f0",
    "svg.fonttype": "path",
    "svg.hashsalt": "llmtwin",
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True)
class Shown:
    """A question with its answer, for the page."""

    twin: str
    topic: str
    text: str
    answer: Answer


@dataclass(frozen=True)
class Report:
    """What a page is made of.

    `tunings` has the loss, recall and seconds of each epoch of a twin; `traffic` its bytes, raw and sent.
    """

    made_at: datetime
    figures: Figures
    tunings: Mapping[str, Sequence[Mapping[str, float]]]
    traffic: Mapping[str, tuple[int, int]]
    home: HomeTruth
    answers: Sequence[Shown]


def write_report(report: Report, path: Path) -> None:
    """Write the page to `path`."""
    with drawing():
        plots = {
            "tuning": svg(plot_tuning(report.tunings)),
            "timeline": svg(plot_timeline(report.home)),
            "traffic": svg(plot_traffic(report.traffic)),
        }
    page = {
        "report": report,
        "rows": table(report.figures),
        "area": busiest_area(report.home),
        "plots": plots,
    }
    write_page(TEMPLATE, page, path)


@contextmanager
def drawing() -> Iterator[None]:
    """Plots made within have the style of all of ours."""
    import matplotlib

    matplotlib.use("svg")
    with matplotlib.rc_context(STYLE):
        yield


def write_page(template: str, page: Mapping[str, Any], path: Path) -> None:
    """Write a page of this folder's template to `path`."""
    folder = Path(__file__).parent
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)
    path.write_text(environment.get_template(template).render(page), encoding="utf-8")


def plot_tuning(tunings: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Loss and recall over the seconds of each home's tuning."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2))
    loss, recall = figure.subplots(1, 2)
    for color, (twin, history) in zip(COLORS * len(tunings), tunings.items(), strict=False):
        seconds = [entry["seconds"] for entry in history]
        loss.plot(seconds, [entry["loss"] for entry in history], color=color, label=twin)
        recall.plot(seconds, [100 * entry["recall"] for entry in history], color=color, label=twin)
    loss.set(xlabel="seconds", ylabel="loss (nats a token)", yscale="log")
    recall.set(xlabel="seconds", ylabel="facts surely recalled (%)", ylim=(0, 103))
    recall.legend(frameon=False, loc="lower right")
    return figure


def busiest_area(home: HomeTruth) -> str:
    """The room that most was said of."""
    areas = [fact.area for fact in home.sent if fact.area]
    return max(sorted(set(areas)), key=areas.count)


def plot_timeline(home: HomeTruth) -> Figure:
    """What was sent of one room over the day: numbers as steps, the rest as bands while something goes on."""
    from matplotlib.dates import ConciseDateFormatter
    from matplotlib.figure import Figure

    area = busiest_area(home)
    first, last = min(home.seen), max(home.seen)
    names = {property.path: f"{device.name}: {property.name}" for device, property in home.live}
    lines: dict[str, list[Fact]] = {}
    for fact in sorted(home.sent, key=lambda fact: fact.at):
        if fact.area == area and fact.path in names:
            lines.setdefault(fact.path, []).append(fact)
    numbers = [path for path, found in lines.items() if _moves(found) and not isinstance(found[0].value, str)]
    bands = [path for path, found in lines.items() if isinstance(found[0].value, str) and _moves(found)]
    figure = Figure(figsize=(9, 0.95 * len(numbers) + 0.3 * len(bands) + 0.9))
    heights = [3.0] * len(numbers) + [max(1.0, len(bands))]
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for color, path, axis in zip(COLORS * len(axes), numbers, axes, strict=False):
        times = [max(fact.at, first) for fact in lines[path]]
        values = [float(fact.value) for fact in lines[path]]
        axis.step([*times, last], [*values, values[-1]], where="post", color=color)
        unit = lines[path][0].unit
        axis.set_title(f"{names[path]}{f' ({unit})' if unit else ''}", loc="left", fontsize=8)
    for place, path in enumerate(bands):
        found = lines[path]
        for fact, after in zip(found, [*found[1:], None], strict=True):
            if fact.value in BUSY:
                start, end = max(fact.at, first), max(after.at if after else last, first)
                axes[-1].broken_barh([(start, end - start)], (place - 0.35, 0.7), color=COLORS[place % 8])
    axes[-1].set_yticks(range(len(bands)), [names[path] for path in bands], fontsize=8)
    axes[-1].set_ylim(-0.6, max(0, len(bands) - 1) + 0.6)
    axes[-1].set_xlim(first, last)
    axes[-1].xaxis_date()
    shown = ConciseDateFormatter(axes[-1].xaxis.get_major_locator())  # type: ignore[no-untyped-call]
    axes[-1].xaxis.set_major_formatter(shown)
    return figure


def plot_traffic(traffic: Mapping[str, tuple[int, int]]) -> Figure:
    """Bytes of a day's raw states and of what was sent of them, a home each, on a logarithmic scale."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.55 * len(traffic) + 0.9))
    axis = figure.subplots()
    for place, (raw, sent) in enumerate(traffic.values()):
        axis.barh(place + 0.19, raw / 1024, 0.36, color="#cbd5e1", label="raw states" if place == 0 else None)
        axis.barh(
            place - 0.19, sent / 1024, 0.36, color=COLORS[0], label="prompts sent" if place == 0 else None
        )
        axis.annotate(
            f"1 : {raw / max(sent, 1):.0f}", (sent / 1024, place - 0.19), (4, -3), textcoords="offset points"
        )
    axis.set_yticks(range(len(traffic)), list(traffic))
    axis.set(xlabel="KiB a day", xscale="log")
    axis.grid(axis="y", visible=False)
    axis.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def _moves(found: Sequence[Fact]) -> bool:
    return len({fact.value for fact in found}) > 1


def svg(figure: Figure) -> Markup:
    """A figure as SVG that can stand within HTML."""
    written = io.StringIO()
    metadata: dict[str, Any] = {"Date": None, "Creator": None}
    figure.savefig(written, format="svg", transparent=True, metadata=metadata)
    text = written.getvalue()
    return Markup(text[text.index("<svg") :])
