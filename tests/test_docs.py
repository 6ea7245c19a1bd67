"""What the documents say, held against the code: figures, verbs, targets, layers."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import typer.main

from llmtwin.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("figures", ROOT / "docs" / "figures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_verbs_stand_in_the_readme_in_the_order_of_help() -> None:
    verbs = re.findall(r"^\| `llmtwin (\w+)", README, re.MULTILINE)
    assert verbs == list(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_every_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"):
        named = set(re.findall(r"`make ([a-z-]+)", (ROOT / document).read_text()))
        assert named <= targets, (
            f"{document} names {sorted(named - targets)}, which the Makefile does not have"
        )


def test_the_layers_stand_in_the_architecture_as_they_are_checked() -> None:
    layers = PYPROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    assert "\n".join(f"    {layer}" for layer in layers) in ARCHITECTURE


def test_every_part_of_the_library_is_in_the_tree_of_the_architecture() -> None:
    for part in sorted((ROOT / "llmtwin").iterdir()):
        if not part.name.startswith("__"):
            name = part.name + "/" * part.is_dir()
            assert re.search(rf"^ +{re.escape(name)} ", ARCHITECTURE, re.MULTILINE), (
                f"{name} is not in the tree"
            )


def test_the_constraints_pin_every_dependency_to_one_version() -> None:
    pins = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    project = PYPROJECT["project"]
    wanted = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    names = {re.split(r"[\[>=<]", one)[0].lower() for one in wanted} - {"llmtwin"}
    assert names <= pins.keys()
    assert pins["torch"] == "2.13.0"


def test_the_table_of_figures_is_rewritten_between_its_marks(figures: ModuleType) -> None:
    result = {"recall_trained": 0.995, "recall_trained_n": 212, "adapter_bytes": 1234567}
    once = figures.rewrite("before\n<!-- figures -->\nold\n<!-- /figures -->\nafter\n", figures.table(result))
    assert "| 0.995 | 212 | ≥ 0.99 |" in once and "| 1,234,567 |" in once
    assert "old" not in once and "recall_unseen" not in once
    missed = figures.table({"recall_trained": 0.98, "invalid_accepted": 0})
    assert "| ≥ 0.99: **missed** |" in missed and "| = 0 |" in missed
    assert once.startswith("before\n") and once.endswith("after\n")
    assert figures.rewrite(once, figures.table(json.loads(json.dumps(result)))) == once


def test_the_readme_has_its_marks_once(figures: ModuleType) -> None:
    assert figures.rewrite(README, "") != ""
    with pytest.raises(ValueError, match="needs one"):
        figures.rewrite("no marks", "")
