"""Tunes the home skill that ships in the package: `make skill`, some 35 minutes on 2 cores.

The result depends on the base and on the seed alone. Sentences of a test set can be kept out by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.progress import Progress as Bar

from llmtwin.models.base import UPPER_SHARE, Base
from llmtwin.models.lora import Lora
from llmtwin.models.transformer import Transformer
from llmtwin.models.tune import Progress, TuneOptions, tune
from llmtwin.twins.home.skill.generate import examples, normal

FOLDER = Path(__file__).parent / "adapter"
OPTIONS = TuneOptions(
    rank=16,
    layers_share=UPPER_SHARE,
    epochs_max=2,
    epochs_falling=2,
    learning_rate=1e-3,
    batch_tokens=1024,
    stop_when_complete=False,
    checkpoint_seconds=120,
)


def build(
    base: Base, checkpoint: Path, count: int, without: frozenset[str], start: Path | None = None
) -> None:
    """Tune the skill for `base` on `count` generated examples, from the skill in `start` or from nothing."""
    rows = examples(count, seed=OPTIONS.seed, without=without)
    with Bar() as bar:
        task = bar.add_task("home skill", total=float(OPTIONS.epochs_max))

        def report(progress: Progress) -> None:
            label = f"home skill: loss {progress.loss:.3f}, {progress.tokens_per_s:.0f} tokens/s"
            bar.update(task, completed=progress.epoch - 1 + progress.share, description=label)

        before = None if start is None else Lora.load(start)
        tuned = tune(Transformer(base), rows, OPTIONS, start=before, checkpoint=checkpoint, report=report)
    tuned.lora.save(FOLDER, base.name)
    (FOLDER / "base").write_text(base.hash)
    checkpoint.unlink(missing_ok=True)


def sentences(folder: Path) -> frozenset[str]:
    """Every test sentence in a folder of Home Assistant's intent tests, normalised."""
    found: set[str] = set()
    for file in folder.rglob("*.yaml"):
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        for test in content.get("tests", []):
            found.update(normal(sentence) for sentence in test["sentences"])
    return frozenset(found)


def main(
    base: Annotated[Path, typer.Option(help="Folder of the base, already dequantised.")],
    base_hash: Annotated[str, typer.Option(help="The base's hash.")],
    checkpoint: Annotated[Path, typer.Option(help="Where a killed run goes on from.")],
    count: Annotated[int, typer.Option(help="How many examples.")] = 14000,
    without: Annotated[Path | None, typer.Option(help="Folder of test sentences to keep out.")] = None,
) -> None:
    """Tune the home skill."""
    build(Base(base, base_hash, base.name), checkpoint, count, sentences(without) if without else frozenset())


if __name__ == "__main__":
    typer.run(main)
