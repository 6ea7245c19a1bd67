"""The smallest model twin there is: watch a primary, move the twin towards it, plot what was between them.

    python examples/numpy_tutorial.py out/tutorial.png

It follows the example of Uysal and Uysal, "LLM Twin: Revolutionizing Digital Twins with Large Language
Models", in NumPy alone. A "model" is one matrix here, and its "output" is a product with it.

What the plot shows is algebra, not learning. With twin' = 0.9 * primary + 0.1 * twin,

    twin' - primary = 0.1 * (twin - primary),

so the gap shrinks tenfold at every step, whatever the input, and whatever the models are good for. It takes
a primary whose weights can be read, and a twin of equal architecture; it proves nothing about how either
behaves. As printed, the example starts the twin as a copy, with no gap to close: here it starts elsewhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

INPUTS, OUTPUTS = 100, 50
STEPS = 10
TOWARDS_PRIMARY = 0.9

Array = NDArray[np.float64]


def monitor(primary: Array, twin: Array, given: Array) -> float:
    """How far apart the outputs are for an input (INPUTS,): the Euclidean norm of their difference."""
    return float(np.linalg.norm(given @ primary - given @ twin))


def optimise(primary: Array, twin: Array) -> Array:
    """The twin's next weights (INPUTS, OUTPUTS): nine tenths of the primary, one tenth of what they were."""
    return TOWARDS_PRIMARY * primary + (1 - TOWARDS_PRIMARY) * twin


def run(steps: int = STEPS, seed: int = 0) -> list[float]:
    """The gap before each step, for a primary, a twin and an input drawn by the seed."""
    rng = np.random.default_rng(seed)
    primary, twin = rng.random((2, INPUTS, OUTPUTS))
    given = rng.random(INPUTS)
    gaps = []
    for _ in range(steps):
        gaps.append(monitor(primary, twin, given))
        twin = optimise(primary, twin)
    return gaps


def visualise(gaps: list[float], path: Path) -> None:
    """Plot the gaps on a logarithmic axis, where a tenfold shrinking is a straight line."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.semilogy(range(len(gaps)), gaps, marker="o")
    axes.set(xlabel="step", ylabel="gap between outputs", xticks=range(len(gaps)))
    axes.set_title("Tenfold a step: by algebra, not by learning")
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Write the plot to the path given, and say what it does not prove."""
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/numpy_tutorial.py PLOT.png")
    gaps = run()
    visualise(gaps, Path(sys.argv[1]))
    print(f"gap {gaps[0]:.3g} -> {gaps[-1]:.3g} in {len(gaps) - 1} steps: {sys.argv[1]}")
    print(
        "It shrinks tenfold a step by algebra, for equal architectures only; it proves nothing of behaviour."
    )


if __name__ == "__main__":
    main()
