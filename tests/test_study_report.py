"""The demo's page: whole, readable without network, and safe with any text in it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llmtwin.records import AdapterUse, Answer, CohortUse, Command, Outcome, PromptUse, Receipts
from llmtwin.study.measure import Figures
from llmtwin.study.report import Report, Shown, busiest_area, write_report
from tests.study_homes import END, simulate

FIGURES: Figures = {
    "homes": 2,
    "facts": 150,
    "recall_unseen": 0.91,
    "recall_unseen_n": 208,
    "invalid_accepted": 0.0,
    "tune_seconds": 31.5,
    "ask_p50_ms": 412.0,
    "seconds_total": 500.25,
    "cpu": "a <fast> processor",
}
HISTORY = [
    {"seconds": float(second), "loss": 3.0 / second, "recall": min(1.0, second / 9)}
    for second in range(1, 10)
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    home, _ = simulate("home1")
    command = Command(twin="home1", path="light.a/brightness", value=40, created_at=END, expires_at=END)
    receipts = Receipts(
        adapter=AdapterUse(version=3, weights="ab" * 32, probability=0.987),
        prompts=(PromptUse(id="1", at=END, text="Bedroom lamp: on."),),
        cohort=CohortUse(size=4, oldest_at=END, newest_at=END),
    )
    answer = Answer(
        text="It is <script>alert(1)</script>.",
        outcome=Outcome.ORDERED,
        commands=(command,),
        receipts=receipts,
    )
    report = Report(
        made_at=datetime(2026, 1, 20, 20, 0, tzinfo=UTC),
        figures=FIGURES,
        tunings={"home1": HISTORY, "home2": HISTORY[:4]},
        traffic={"home1": (8_000_000, 120_000), "home2": (7_000_000, 0)},
        home=home,
        answers=[Shown("home1", "an order", "Brighter & <b>faster</b>!", answer)],
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(report, path)
    return path.read_text(encoding="utf-8")


def test_the_page_needs_nothing_from_elsewhere(page: str) -> None:
    assert re.findall(r"<(?:script|link|img|iframe)\b", page) == []
    assert re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", page) == []
    assert re.findall(r"@import|url\((?!#)", page) == []


def test_every_plot_is_whole(page: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(drawings) == 3
    for drawing in drawings:
        assert len(list(ET.fromstring(drawing).iter("{http://www.w3.org/2000/svg}path"))) > 10


def test_every_figure_is_there_with_its_bar(page: str) -> None:
    for name in FIGURES:
        assert name.endswith("_n") or f"<code>{name}</code>" in page
    row = re.search(r"<code>recall_unseen</code>.*?</tr>", page, flags=re.DOTALL)
    assert row and "0.9100" in row[0] and "208" in row[0] and "≥ 0.95" in row[0] and "missed" in row[0]
    row = re.search(r"<code>invalid_accepted</code>.*?</tr>", page, flags=re.DOTALL)
    assert row and 'class="met"' in row[0]


def test_answers_have_their_receipts_and_any_text_is_only_text(page: str) -> None:
    assert "It is &lt;script&gt;" in page and "&lt;b&gt;faster" in page and "a &lt;fast&gt; processor" in page
    for part in (
        "adapter version 3",
        "abababababab",
        "99%",
        "Bedroom lamp: on.",
        "4 homes",
        "light.a/brightness",
    ):
        assert part in page


def test_the_busiest_room_is_one_of_the_home() -> None:
    home, _ = simulate("home2")
    area = busiest_area(home)
    assert area in {device.area for device in home.description.devices}


def test_the_same_report_is_written_the_same(tmp_path: Path) -> None:
    home, _ = simulate("home1", steps=4)
    report = Report(END, FIGURES, {"home1": HISTORY}, {"home1": (9, 1)}, home, [])
    first, second = tmp_path / "1.html", tmp_path / "2.html"
    write_report(report, first)
    write_report(report, second)
    assert first.read_bytes() == second.read_bytes()
