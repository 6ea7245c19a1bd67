"""How fast this machine tunes one adapter and serves many, over the configured base. It judges nothing."""

from __future__ import annotations

import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from llmtwin.models.base import Base
from llmtwin.models.engine.api import Request, turn
from llmtwin.models.engine.torch_engine import TorchEngine
from llmtwin.models.lora import Lora
from llmtwin.models.transformer import Transformer
from llmtwin.models.tune import TuneOptions, tune
from llmtwin.records import Example
from llmtwin.serving import base
from llmtwin.settings import read_settings

STREAMS = (1, 16, 64)
TOKENS = 32
EPOCHS = 3


def adapter(model: Base, folder: Path, seed: int) -> None:
    """A random adapter of the default rank, so that no two streams say the same."""
    lora = Lora.fresh(model.config, TuneOptions().rank, model.config.boundary, seed)
    generator = torch.Generator().manual_seed(seed)
    noise = {key: torch.randn(t.shape, generator=generator) * 1e-3 for key, t in lora.b.items()}
    replace(lora, b=noise).save(folder / f"a{seed}", model.name)


def tuning(model: Base) -> float:
    """Tokens a second of a run of EPOCHS over 200 examples."""
    facts = [
        Example(prompt=f"What is setting {i} of the lamp?", completion=f"{i} percent") for i in range(200)
    ]
    options = TuneOptions(epochs_max=EPOCHS, stop_when_complete=False)
    tuned = tune(Transformer(model), facts, options)
    return tuned.tokens / tuned.history[-1].seconds


def serving(engine: TorchEngine, streams: int) -> float:
    """Tokens a second of `streams` requests at once, an adapter each; a first call warms up."""
    prompt = engine.chat(turn("Tell me about the lamps of this home."))
    requests = [
        Request(prompt, (f"a{i}",), tokens_max=TOKENS, temperature=1.0, seed=i) for i in range(streams)
    ]
    engine.generate(requests)
    began = time.perf_counter()
    done = engine.generate(requests)
    return sum(one.tokens_completion for one in done) / (time.perf_counter() - began)


def main() -> None:
    """Measure and show."""
    model = base(read_settings())
    table = Table("what", "tokens/s", title=f"{model.name}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for seed in range(max(STREAMS)):
            adapter(model, folder, seed)
        table.add_row("tuning one adapter", f"{tuning(model):.0f}")
        with TorchEngine(model, lambda name: folder / name) as engine:
            for streams in STREAMS:
                table.add_row(f"{streams} streams, {streams} adapters", f"{serving(engine, streams):.0f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    Console().print(table, f"peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
