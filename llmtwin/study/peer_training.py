"""The peer of our tuning: stock PEFT under the Trainer of transformers. It knows no twin.

A run is meant for a process of its own, so that the most memory of that process is the run's.
"""

from __future__ import annotations

import resource
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from llmtwin.models.base import Base
from llmtwin.models.lora import MODULES, SCALE
from llmtwin.models.run import Row

IGNORED = -100
"""The label of a token that nothing is learned from."""
WARM_UP_STEPS = 10
SAMPLED = 8
"""After an epoch one row in so many is asked first."""

Measured = dict[str, Any]
Batch = dict[str, Tensor]


class Precision(StrEnum):
    """How the peer computes; the adapter itself is in float32, as PEFT makes it."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    MIXED = "mixed"
    """Weights in float32, products in bfloat16 (the Trainer's `bf16`)."""


@dataclass(frozen=True)
class Training:
    """One run over what `choose` left in `folder`: an adapter over `layers`, `together` rows in a step.

    The learning rate falls to a tenth over all `epochs`. The run ends earlier after `seconds_max` or
    `steps_max`, or with the first epoch after which the share `recall` of the rows is recalled.
    """

    folder: Path
    rows: Sequence[Row]
    together: int
    rank: int
    layers: range
    precision: Precision
    learning_rate: float
    epochs: int
    seconds_max: float
    seed: int
    steps_max: int | None = None
    recall: float = 1.0


def _merge(base: Base, skill: Path | None, folder: Path) -> None:
    """Write the stock model with a skill merged into it below `folder`, in each type that is trained in."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    _quiet()
    model: Any = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    if skill is not None:
        model = PeftModel.from_pretrained(model, skill).merge_and_unload()
    for dtype in (torch.float32, torch.bfloat16):
        model.to(dtype).save_pretrained(_stored(folder, dtype))


def _stored(folder: Path, dtype: torch.dtype) -> Path:
    return folder / str(dtype).removeprefix("torch.")


def choose(
    base: Base,
    skill: Path | None,
    training: Training,
    rates: Sequence[float],
    some: Sequence[Row],
    seconds: float,
) -> Measured:
    """The precision with the most tokens a second, and the learning rates from the best on: by their recall
    of `some` rows after so many seconds, and where that is the same by their mean loss.

    The models that are trained over are left in the folder of `training`: the stock ones, with the skill in
    their weights.
    """
    _merge(base, skill, training.folder)
    speeds = {
        one: _tokens_per_s(replace(training, precision=one, steps_max=2 * WARM_UP_STEPS)) for one in Precision
    }
    training = replace(training, precision=max(speeds, key=speeds.__getitem__), rows=some)
    trials = {}
    for rate in rates:
        done = train(replace(training, learning_rate=rate, seconds_max=seconds))
        trials[rate] = done["recall"], done["loss"]
    best_first = sorted(rates, key=lambda rate: (-trials[rate][0], trials[rate][1]))
    return {
        "precision": training.precision,
        "learning_rates": best_first,
        "speeds": speeds,
        "trials": [{"learning_rate": rate, "recall": of[0], "loss": of[1]} for rate, of in trials.items()],
    }


def _tokens_per_s(training: Training) -> float:
    """Of the steps after the first few, which pay for memory."""
    steps = train(training)["steps"]
    (tokens, began), (tokens_last, ended) = steps[len(steps) // 2 - 1], steps[-1]
    return float((tokens_last - tokens) / (ended - began))


def train(task: Training, adapter: Path | None = None) -> Measured:
    """Train, and leave the adapter in a folder, if any.

    The clock runs from the first step on, but not while recall is asked for. `steps` has the tokens and the
    seconds up to the end of each step; `epochs` the seconds, and the recall, at the end of each epoch, also
    of a last one that was broken off; `loss` is the mean of all steps (nats a token).
    """
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, PrinterCallback, Trainer

    _quiet()
    dtype = torch.bfloat16 if task.precision is Precision.BFLOAT16 else torch.float32
    model: Any = AutoModelForCausalLM.from_pretrained(_stored(task.folder, dtype), dtype=dtype)
    config = LoraConfig(
        r=task.rank,
        lora_alpha=int(SCALE * task.rank),
        target_modules=[module.rpartition(".")[2] for module in MODULES.values()],
        layers_to_transform=list(task.layers),
        layers_pattern="layers",
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(task.seed)
    model = get_peft_model(model, config)
    watch = _watch(task)
    dataset: Any = [_item(row) for row in task.rows]
    trainer = Trainer(model, _arguments(task), _collate, dataset, callbacks=[watch])
    trainer.remove_callback(PrinterCallback)
    done = trainer.train()
    if adapter is not None:
        model.save_pretrained(adapter)
    return {
        "loss": done.training_loss,
        "recall": watch.epochs[-1]["recall"],
        "steps": watch.steps,
        "epochs": watch.epochs,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _arguments(task: Training) -> Any:
    from transformers import TrainingArguments

    return TrainingArguments(
        per_device_train_batch_size=task.together,
        num_train_epochs=task.epochs,
        learning_rate=task.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=WARM_UP_STEPS,
        adam_beta2=0.99,
        train_sampling_strategy="group_by_length",
        bf16=task.precision is Precision.MIXED,
        include_num_input_tokens_seen="non_padding",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=task.seed,
    )


def _item(row: Row) -> dict[str, list[int]]:
    ids, prompt = row
    return {"input_ids": ids, "labels": [IGNORED] * prompt + ids[prompt:]}


def _collate(items: Sequence[dict[str, list[int]]]) -> Batch:
    ids = [torch.tensor(item["input_ids"]) for item in items]
    labels = [torch.tensor(item["labels"]) for item in items]
    return {
        "input_ids": pad_sequence(ids, batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(one) for one in ids], batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
    }


def recalled(model: torch.nn.Module, rows: Sequence[Row], together: int) -> float:
    """The share of rows whose completion is the likeliest one, token by token: what greedy decoding gives."""
    items = [_item(row) for row in sorted(rows, key=lambda row: len(row[0]))]
    right = 0
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for first in range(0, len(items), together):
            batch = _collate(items[first : first + together])
            labels = batch.pop("labels")[:, 1:]
            said = model(**batch).logits.argmax(-1)[:, :-1]
            right += int(((said == labels) | (labels == IGNORED)).all(-1).sum())
    model.train(was_training)
    return right / len(rows)


def _watch(task: Training) -> Any:
    """A callback of the Trainer that keeps the time, asks for recall, and ends the run."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def __init__(self) -> None:
            self.steps: list[tuple[int, float]] = []
            self.epochs: list[Measured] = []
            self._began = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self._began = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            spent = time.perf_counter() - self._began
            self.steps.append((int(state.num_input_tokens_seen), spent))
            enough = task.steps_max is not None and len(self.steps) >= task.steps_max
            control.should_training_stop |= enough or spent > task.seconds_max

        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            asked = time.perf_counter()
            # All rows are asked only where a sample has the recall that is wanted.
            found = recalled(kwargs["model"], task.rows[::SAMPLED], task.together)
            if found >= task.recall:
                found = recalled(kwargs["model"], task.rows, task.together)
            self.epochs.append({"seconds": asked - self._began, "recall": found})
            self._began += time.perf_counter() - asked
            control.should_training_stop |= found >= task.recall

    return Watch()


def _quiet() -> None:
    """Keep off the terminal, on which the study shows how far it is."""
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    warnings.filterwarnings("ignore", category=FutureWarning)
