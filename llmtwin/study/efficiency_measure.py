"""Measures what the efficiency model asks of a machine, through the project's own code. It models nothing.

Seconds are those of a clock on the wall, so that cycles (seconds times frequency) are of all cores together.
"""

from __future__ import annotations

import json
import resource
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import psutil
import torch

from llmtwin.errors import Unavailable
from llmtwin.models.base import Base, find_base, probe_dtype
from llmtwin.models.engine.cache import Adapters
from llmtwin.models.lora import Lora
from llmtwin.models.run import render
from llmtwin.models.transformer import Transformer
from llmtwin.models.tune import Progress, TuneOptions, tune
from llmtwin.records import Example, Prompt
from llmtwin.study.efficiency import w_next
from llmtwin.study.region import House, State, homes, settings
from llmtwin.study.region import region as whole_region
from llmtwin.study.search import MIDNIGHT, STEP
from llmtwin.twins.home.encode import Encoder
from llmtwin.twins.home.facts import example
from llmtwin.twins.home.observe import observe
from llmtwin.twins.home.sources import read_states
from llmtwin.wire.codec import encode_prompts

LOADS = 5
STEP_TOKENS = 384
"""Of a step of full-parameter training: as many as our trainer has in a batch."""

Measured = dict[str, Any]
Say = Callable[[str], None]


def clock_hz() -> float:
    """The clock's frequency as the system tells it. Raises Unavailable where it does not."""
    found = psutil.cpu_freq()
    if found is None or not found.current:
        raise Unavailable("this system does not tell its clock's frequency: measure on another one")
    return float(found.current) * 1e6


# ---- data ----------------------------------------------------------------------------------------


def region(records: int, seed: int) -> list[Example]:
    """So many private facts of a region of homes, as one adapter learns them. Raises as `study.region`."""
    return [example(one) for one in settings(whole_region(records, seed))]


def text_of(examples: Sequence[Example]) -> str:
    """The text of examples, a line each."""
    return "".join(f"{one.prompt} {one.completion}\n" for one in examples)


def entity(records: int, hours: int, seed: int) -> Measured:
    """An entity of so many facts looked at every quarter of an hour: bytes of its states and prompts.

    It has the houses whose facts `region` gives, so that all its data are of the same devices as what is
    tuned on. `text` is what its prompts say. Raises as `study.region`.
    """
    houses, encoder = homes(records, seed), Encoder()
    states, said = _look(houses, encoder, 0)
    whole, changed, sent, prompts = [_bytes(states)], list[int](), list[int](), list[Prompt]()
    for step in range(1, hours * 4 + 1):
        before = {state["entity_id"]: state for state in states}
        states, said = _look(houses, encoder, step)
        whole.append(_bytes(states))
        changed.append(_bytes([state for state in states if state != before.get(state["entity_id"])]))
        sent.append(len(encode_prompts(said)))
        prompts += said
    text = "".join(f"{prompt.text}\n" for prompt in prompts)
    return {
        "houses": len(houses),
        "S_bytes": fmean(whole),
        "S_d_bytes": fmean(changed),
        "S_d_tilde_bytes": fmean(sent),
        "text_bytes_per_h": len(text.encode()) / hours,
        "prompt_bytes_per_h": sum(sent) / hours,
        "prompts_per_h": len(prompts) / hours,
        "text": text,
    }


def _look(houses: Sequence[House], encoder: Encoder, step: int) -> tuple[list[State], list[Prompt]]:
    states = [state for house in houses for state in house.states(MIDNIGHT + step * STEP)]
    observed = observe(read_states(json.dumps(states).encode()).entities)
    return states, encoder.encode("region", observed)


def _bytes(states: Sequence[State]) -> int:
    return len(json.dumps(states, ensure_ascii=False).encode())


# ---- models --------------------------------------------------------------------------------------


def smaller(base: Base, folder: Path, seed: int) -> Base:
    """A model of half the widths and layers, its weights random: for the trend alone."""
    from transformers import AutoConfig, AutoModelForCausalLM

    target, scratch = folder / "model", folder / "model.part"
    if not target.exists():
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        shape = AutoConfig.from_pretrained(base.folder)
        shape.head_dim = base.config.head_dim // 2
        shape.hidden_size //= 2
        shape.intermediate_size //= 2
        shape.num_hidden_layers = max(2, shape.num_hidden_layers // 2)
        torch.manual_seed(seed)
        for file in base.folder.iterdir():
            if file.is_file() and file.suffix != ".safetensors" and file.name != "config.json":
                shutil.copy(file, scratch)
        model = AutoModelForCausalLM.from_config(shape)  # type: ignore[no-untyped-call]
        model.save_pretrained(scratch)
        scratch.rename(target)
    return find_base(str(target), folder / "cache")


def tuning(
    base: Base, examples: Sequence[Example], options: TuneOptions, folder: Path, under: Path | None, say: Say
) -> Measured:
    """Tune `examples` into an adapter in `folder`, as an edge does, over the skill `under`, if any.

    What it took, and for each epoch its seconds, loss, recall and the most memory of this process (bytes).
    """
    transformer, process, most = Transformer(base), psutil.Process(), dict[int, int]()

    def report(progress: Progress) -> None:
        most[progress.epoch] = max(most.get(progress.epoch, 0), process.memory_info().rss)
        say(f"loss {progress.loss:.3f}, recall {progress.recall:.1%}")

    skill = None if under is None else Lora.load(under)
    began = time.perf_counter()
    tuned = tune(transformer, examples, options, under=skill, report=report)
    seconds = time.perf_counter() - began
    tuned.lora.save(folder, base.name)
    return {
        "examples": len(examples),
        "data_bytes": len(text_of(examples).encode()),
        "parameters": sum(t.numel() for half in (tuned.lora.a, tuned.lora.b) for t in half.values()),
        "seconds": seconds,
        "tokens_per_s": tuned.tokens / seconds,
        "recall": fmean(tuned.recalled),
        "adapter_bytes": sum(file.stat().st_size for file in folder.iterdir()),
        # Linux counts both a few pages apart.
        "peak_rss_bytes": max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, *most.values()),
        "epochs": [
            {"seconds": one.seconds, "loss": one.loss, "recall": one.recall, "rss_bytes": most[one.epoch]}
            for one in tuned.history
        ],
    }


def passes(base: Base, examples: Sequence[Example], tuned: Measured) -> float:
    """How often the examples were learned from in `tuning`, in the mean: not all are in every epoch."""
    once = sum(len(render(base, one)[0]) for one in examples)
    return float(tuned["tokens_per_s"] * tuned["seconds"] / once)


def loading(folder: Path) -> Measured:
    """Load an adapter as the engine does, which merges nothing: median seconds, and bytes in memory."""
    dtype, spent = probe_dtype(torch.device("cpu")), list[float]()
    adapters = Adapters(lambda name: folder, dtype, bytes_max=0)
    for _ in range(LOADS):
        began = time.perf_counter()
        fused = adapters.get(("twin",))
        spent.append(time.perf_counter() - began)
        adapters.drop("twin")
    return {"seconds": median(spent), "bytes": fused.bytes if fused else 0}


def full_training(base: Base, text: str, seconds_max: float) -> Measured:
    """Train all parameters on `text` once (AdamW), in the type that is fastest here, for so long at most.

    `steps` has the bytes of text and the seconds up to the end of each step. The step before the first is not
    counted: it pays for all memory.
    """
    from transformers import AutoModelForCausalLM

    dtype = probe_dtype(torch.device("cpu"))
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=dtype).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    encoded = base.tokenizer.encode(text, add_special_tokens=False)
    ids, steps, spent = encoded.ids, list[list[float]](), 0.0
    for number, first in enumerate([0, *range(0, len(ids), STEP_TOKENS)]):
        batch = torch.tensor([ids[first : first + STEP_TOKENS]])
        began = time.perf_counter()
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if number:
            spent += time.perf_counter() - began
            _, end = encoded.offsets[min(len(ids), first + STEP_TOKENS) - 1]
            steps.append([len(text[:end].encode()), spent])
        if spent > seconds_max:
            break
    return {"parameters": model.num_parameters(), "dtype": str(dtype), "steps": steps}


def averaging(parameters: int, counts: Sequence[int]) -> Measured:
    """Average so many models of that many parameters (float32), Eq. (3): seconds for each count."""
    weights = np.ones(parameters, np.float32)
    spent = []
    for count in counts:
        began = time.perf_counter()
        w_next((weights for _ in range(count)), [1.0] * count)
        spent.append(time.perf_counter() - began)
    return {"counts": list(counts), "seconds": spent}
