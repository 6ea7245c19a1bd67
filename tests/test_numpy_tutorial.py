"""The NumPy tutorial runs as its readers run it, and its gap does what its text says."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "examples" / "numpy_tutorial.py"


def test_it_writes_its_plot_and_says_what_that_proves(tmp_path: Path) -> None:
    plot = tmp_path / "new" / "plot.png"
    said = subprocess.run(
        [sys.executable, SCRIPT, plot], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "tenfold a step by algebra" in said and "proves nothing of behaviour" in said
    assert subprocess.run([sys.executable, SCRIPT], capture_output=True, timeout=120).returncode == 1


def test_the_gap_shrinks_tenfold_whatever_the_models_are() -> None:
    run = runpy.run_path(str(SCRIPT))["run"]
    for seed in range(3):
        gaps = run(steps=8, seed=seed)
        assert gaps[0] > 0
        assert gaps == pytest.approx([gaps[0] * 0.1**step for step in range(8)], rel=1e-6)
