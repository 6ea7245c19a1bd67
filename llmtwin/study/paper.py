"""The page about the LLM-Twin paper, collected from its parts. It measures nothing and knows no part.

A part (`llmtwin study efficiency`, `search`, …) is one file, `paper-NAME.json`, with its figures and
sections; the page is made of these files alone, so that parts can be measured one by one, in any order.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmtwin.errors import InputError
from llmtwin.study import paper_claims
from llmtwin.study.chart import Chart, draw
from llmtwin.study.machine import machine
from llmtwin.study.report import drawing
from llmtwin.study.steps import write as write_json

ORDER = ("efficiency", "search", "table2", "peer", "federated", "privacy")
"""The parts, as they follow each other on the page; those without a file are left out."""
DATA, PAGE = "paper.json", "paper.md"

Table = Sequence[Sequence[str]]
"""Rows of a table, the first its head."""


@dataclass(frozen=True)
class PaperOptions:
    """What a part works with: `work` is for its steps, `out` for its file and the page."""

    cache: Path
    base: str | None = None
    work: Path = Path("out/study-paper")
    out: Path = Path("docs/study")
    seed: int = 7


@dataclass(frozen=True)
class Section:
    """A paragraph in Markdown; below it a table, and a chart, whose drawing is `paper-NAME.svg`."""

    title: str
    text: str
    table: Table = ()
    chart: Chart | None = None
    name: str = ""


@dataclass(frozen=True)
class Part:
    """A part of the study: the figures that `paper.json` collects (rates from 0 to 1), and its sections.

    `data` is what they were made of.
    """

    name: str
    title: str
    figures: Mapping[str, Any]
    sections: Sequence[Section]
    data: Mapping[str, Any] = field(default_factory=dict)


def write(part: Part, folder: Path) -> None:
    """Write the part's file, its drawings and their data as CSV to `folder`, and the page anew."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "title": part.title,
        "machine": machine(),
        "figures": part.figures,
        "sections": [
            {**vars(section), "chart": section.chart and section.chart.data()} for section in part.sections
        ],
        "data": part.data,
    }
    write_json(folder / f"paper-{part.name}.json", content)
    for section in part.sections:
        if section.chart:
            _draw(section.chart, folder / f"paper-{section.name}")
    collect(folder)


def _draw(chart: Chart, place: Path) -> None:
    place.with_suffix(".csv").write_text(_csv(chart), encoding="utf-8")
    metadata: dict[str, Any] = {"Date": None, "Creator": None}
    with drawing():
        draw(chart).savefig(place.with_suffix(".svg"), format="svg", metadata=metadata)


def collect(folder: Path) -> None:
    """Write `paper.json` and `paper.md` from the files of the parts in `folder`.

    Raises InputError where two parts have a figure of one name.
    """
    parts = {
        name: json.loads(file.read_text(encoding="utf-8"))
        for name in ORDER
        if (file := folder / f"paper-{name}.json").exists()
    }
    figures: dict[str, Any] = {}
    for name, part in parts.items():
        if twice := sorted(figures.keys() & part["figures"].keys()):
            raise InputError(f"the figure {twice[0]} of {name} is another part's, too: rename one")
        figures |= part["figures"]
    machines = {name: part["machine"] for name, part in parts.items()}
    write_json(folder / DATA, {"figures": figures, "machines": machines})
    (folder / PAGE).write_text(_page(parts, figures), encoding="utf-8")


def _page(parts: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    blocks = [
        "# The LLM-Twin paper, measured",
        "Made by `llmtwin study` from `paper-*.json`; nothing here is typed by hand.",
        "## What holds",
        "The paper's claims, each with what follows from the figures; below them all that was to be shown. A"
        " lower bound that meets its bar meets it, and one that does not leaves it open.",
        "\n".join(f"- {claim}" for claim in paper_claims.claims(figures)),
        _table(paper_claims.shown(figures)),
    ]
    for name, part in parts.items():
        machine = part["machine"]
        blocks += [
            f"## {part['title']}",
            f"`llmtwin study {name}`, on {machine['cpu']}, {machine['cores']} cores.",
        ]
        for section in part["sections"]:
            blocks += [f"### {section['title']}", section["text"]]
            if section["table"]:
                blocks.append(_table(section["table"]))
            if section["chart"]:
                drawn = f"paper-{section['name']}"
                blocks.append(f"![{section['title']}]({drawn}.svg)\n\n[Its numbers]({drawn}.csv).")
    return "\n\n".join(blocks) + "\n"


def _table(rows: Table) -> str:
    head, *body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def _csv(chart: Chart) -> str:
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(["line", "measured", chart.x, "value", "unit"])
    for lines, unit in ((chart.lines, chart.y), (chart.beside, chart.y_beside)):
        for line in lines:
            kind = "measured" if line.measured else "modelled"
            writer.writerows([line.label, kind, x, y, unit] for x, y in zip(line.x, line.y, strict=True))
    return written.getvalue()
