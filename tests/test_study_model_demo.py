"""The demo of a model's twin, in miniature: a real llama.cpp, proxy and twin, over a random model."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from llmtwin.settings import Settings
from llmtwin.study import desk_case
from llmtwin.study.model_demo import TWIN, ModelDemoOptions, run
from llmtwin.study.processes import DemoOptions
from llmtwin.twin import Twin
from tests.models import tiny_base

QUIET = Console(quiet=True)


def test_what_people_ask_is_drawn_by_the_seed_from_the_data_or_from_the_project(tmp_path: Path) -> None:
    made = desk_case.utterances(tmp_path, 40, 1)
    assert made == desk_case.utterances(tmp_path, 40, 1) != desk_case.utterances(tmp_path, 40, 2)
    assert len(set(made)) == 40
    (tmp_path / desk_case.TRAINING).write_text("utterance,intent\nwhere is it,track\nstop it,cancel\n")
    assert sorted(desk_case.utterances(tmp_path, 2, 1)) == ["stop it", "where is it"]


def test_what_demos_leave_has_no_name_that_readme_gives_to_a_new_twin(tmp_path: Path) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    made = re.findall(r"^llmtwin new (\S+)", readme, re.MULTILINE)
    assert "desk" in made and not {TWIN, *DemoOptions(tmp_path, tmp_path).names} & set(made)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None,
    reason="llama.cpp is not installed: pip install xllamacpp",
)
def test_a_demo_watches_learns_gates_and_draws(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = str(tiny_base(tmp_path, "llama").folder)
    monkeypatch.setenv("LLMTWIN_BASE", base)
    monkeypatch.setenv("LLMTWIN_ENGINE", "torch")
    own = settings.model_copy(update={"base": base, "engine": "torch"})
    options = ModelDemoOptions(
        own, tmp_path / "out", tmp_path / "none", phases=(16, 16), repeats=6, own_share=0
    )
    found = run(options, QUIET)
    assert [one["mirrored"] for one in found["tunings"]] == [16, 32]
    assert found["tunings"][0]["examples"] < found["tunings"][1]["examples"] <= 38
    assert len(found["kl_distilled"]) == 2 and len(found["kl_interpolated"]) == 3
    assert list(found["gate"]) == ["good", "doubtful", "bad"]
    assert {one["items"] for one in found["gate"].values()} == {found["gate"]["good"]["items"]} != {0}
    assert found["gate"]["bad"]["difference"] < 0
    assert json.loads((tmp_path / "out" / "result.json").read_text())["held_out"] == found["held_out"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<svg" in page
    assert 'src="http' not in page and "<link" not in page and "<script" not in page
    recorded = (own.edge_folder / TWIN / "traffic" / "exchanges.jsonl").read_text()
    assert desk_case.INSTRUCTIONS[:40] not in recorded
    assert Twin.names(own) == [TWIN]
