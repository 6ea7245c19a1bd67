"""One run of the trainer: LoRA in the upper layers, over a cached trunk. It knows not what is learned.

The frozen layers below the adapters run once per example; each epoch touches only the layers above, and the
vocabulary head only the positions whose next token is learned.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from llmtwin.models.base import Base
from llmtwin.models.batches import common_prompt, filled, in_batches, rounded
from llmtwin.models.engine.api import turn
from llmtwin.models.lora import PARTS, SCALE, Fused, Lora
from llmtwin.models.transformer import Attend, KeysValues, Transformer, causal, packed, recording
from llmtwin.records import Example


@dataclass(frozen=True)
class TuneOptions:
    """How to tune."""

    rank: int = 8
    layers_share: float = 0.2
    """The share of the base's layers, from the top, that the adapter touches."""
    epochs_max: int = 40
    epochs_falling: int = 20
    """Over so many epochs the learning rate falls to a tenth, where it stays."""
    learning_rate: float = 4e-3
    rate_ratio: float = 1.0
    """How many times faster B learns than A (LoRA+, arXiv:2402.12354)."""
    few_share: float = 1.0
    few_epochs: int = 0
    """So many epochs at first are of a share of the batches alone, at the full rate: many facts at once keep
    a run long on the plateau where it learns how to look them up (arXiv:2503.21676)."""
    average_share: float = 0.0
    """What is stored is a running mean of the weights (Polyak and Juditsky 1992), in which a step's count
    falls e-fold over this share of all steps, and that begins where the run does; with 0 the last ones."""
    batch_tokens: int = 384
    seed: int = 0
    probability_min: float = 0.7
    """Recall is complete when every token of every completion is the likeliest by at least this much."""
    preference_beta: float = 0.1
    """How far `prefer` may go from where it starts: the larger the nearer it stays."""
    reverse_share: float = 0.0
    """How much of the loss of `distil` is the reverse divergence: 0 covers all that the primary says, 1 keeps
    to what it is likeliest to say."""
    stop_when_complete: bool = True
    """Let batches that are recalled rest, and stop when all are."""
    checkpoint_seconds: float = 30.0


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a step or an epoch."""

    epoch: int
    epochs_max: int
    share: float
    loss: float
    recall: float
    seconds: float
    tokens_per_s: float


@dataclass(frozen=True)
class Tuned:
    """What a run gave: the adapter as stored, its history, one entry an epoch, and what it recalls.

    `recalled` says of each example, in the order given, whether the stored adapter completes it exactly, and
    is empty where the run was not for recall (`stop_when_complete`);
    `tokens` is how many were learned from, over all epochs.
    """

    lora: Lora
    history: tuple[Progress, ...]
    recalled: tuple[bool, ...]
    tokens: int


Report = Callable[[Progress], None]
Row = tuple[list[int], int]
"""Token ids, and how many of them are the prompt."""
Loss = Callable[[list[int], Tensor, Tensor], Tensor]
"""From a batch of rows, log-probabilities (N, K) at their places, and the row (N) of each, to the loss."""


def render(base: Base, example: Example) -> Row:
    """Token ids of an example as a one-turn chat, and how many of them are its prompt.

    One without a prompt is plain text, of which only the first token is given.
    """
    if not example.prompt:
        return base.encode(example.completion), 1
    prompt = base.encode(base.chat(turn(example.prompt)))
    return prompt + base.encode(example.completion + base.end), len(prompt)


def tuned(run: Run, rows: Sequence[Row], digest: str, checkpoint: Path | None, report: Report) -> Tuned:
    """Run to the end, from the checkpoint if there is one; what came of each of `rows`."""
    options = run.options
    if checkpoint is not None:
        run.resume(checkpoint, digest)
    saved = time.monotonic()
    while run.epoch < options.epochs_max and not run.complete:
        run.run_epoch(report)
        last = run.complete or run.epoch == options.epochs_max
        if checkpoint is not None and (last or time.monotonic() - saved > options.checkpoint_seconds):
            run.save(checkpoint, digest)
            saved = time.monotonic()
    lora = run.lora()
    if not options.stop_when_complete:
        return Tuned(lora, tuple(run.history), (), run.tokens)
    # A complete run has judged this very adapter.
    recalled = [True] * len(rows) if run.complete else run.recalled(lora)
    by_row = {id(row): recalled[place] for place, row in enumerate(run.rows)}
    return Tuned(lora, tuple(run.history), tuple(by_row[id(row)] for row in rows), run.tokens)


class Run:
    """The state of one run: trunk activations, working weights, optimiser."""

    def __init__(
        self,
        transformer: Transformer,
        rows: list[Row],
        batches: list[list[int]],
        options: TuneOptions,
        start: Lora,
        under: Lora | None,
    ) -> None:
        self.transformer, self.options, self.start = transformer, options, start
        self.rows = rows
        self.loss: Loss = _likelihood
        self.wanted = [[[token] for token in ids[prompt:]] for ids, prompt in rows]
        """The K ids at each place of a completion that the loss is told of; the first is the token itself."""
        self.keys = list(start.a)
        self.master = [t.clone() for key in self.keys for t in (start.a[key], start.b[key])]
        self.stored = [t.clone() for t in self.master] if options.average_share else self.master
        # Copies even in float32, where `to` would give the master itself.
        self.work = [t.to(transformer.dtype, copy=True).requires_grad_() for t in self.master]
        halves = [
            {"params": self.master[half::2], "ratio": (1.0, options.rate_ratio)[half]} for half in (0, 1)
        ]
        self.optimizer = torch.optim.AdamW(halves, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
        frozen = None if under is None else Fused(under, transformer.dtype)
        self.delta = _Trained(self._working(), frozen)
        self._common = common_prompt(self.rows)
        self._before = cache_trunk(transformer, self.rows[:1], start.first, frozen)[0][: self._common]
        self.trunk = cache_trunk(transformer, self.rows, start.first, frozen, self._common)
        transformer.release(range(start.first))
        self.epoch, self.seconds, self.complete = 0, 0.0, False
        self.steps, self.tokens = 0, 0
        self.sure = [False] * len(self.rows)
        self.history: list[Progress] = []
        # Always the same batches: every new shape of a batch costs time and memory in the matrix library.
        self._batches = batches
        apart = round(1 / options.few_share)
        self.turns = [options.few_epochs if place % apart else 0 for place in range(len(batches))]

    def _working(self) -> dict[tuple[int, str], tuple[Tensor, Tensor]]:
        return {key: (self.work[2 * i], self.work[2 * i + 1]) for i, key in enumerate(self.keys)}

    def lora(self) -> Lora:
        """The adapter so far, as it is stored."""
        a = {key: self.stored[2 * i].clone() for i, key in enumerate(self.keys)}
        b = {key: self.stored[2 * i + 1].clone() for i, key in enumerate(self.keys)}
        return Lora(self.start.rank, self.start.first, a, b).rounded()

    def run_epoch(self, report: Report) -> None:
        """Learn from every batch whose turn it is; then see whether all rows are recalled."""
        began, seconds, tokens, losses = time.monotonic(), self.seconds, self.tokens, list[float]()
        now = max(self.epoch, min(self.turns))  # where all rest, those whose turn is next
        due = [place for place, turn in enumerate(self.turns) if turn <= now]
        random.Random(f"{self.options.seed}/{self.epoch}").shuffle(due)
        for count, place in enumerate(due):
            self._set_rate(self.epoch + count / len(due))
            loss, sure = self._step(self._batches[place])
            losses.append(loss)
            self._note(place, sure)
            self.tokens += sum(len(self.rows[i][0]) for i in self._batches[place])
            spent = time.monotonic() - began
            self.seconds = seconds + spent
            speed = (self.tokens - tokens) / max(spent, 1e-9)
            report(self._progress((count + 1) / len(due), losses, speed))
        self.history.append(self._progress(1.0, losses, speed))
        # The rows were judged before each step changed the weights: judge once more before believing it.
        if self.options.stop_when_complete and self.history[-1].recall >= 0.98:
            self.complete = self._complete()
        self.epoch += 1

    def _complete(self) -> bool:
        """Whether the adapter, as it is stored, recalls all rows surely; a batch that it does not is next.

        Those are asked first that were not sure of late.
        """
        self._take(self.lora())
        batches, least = self._batches, self.options.probability_min
        unsure_first = sorted(range(len(batches)), key=lambda at: all(self.sure[row] for row in batches[at]))
        wrong = next((at for at in unsure_first if not all(self._sure(batches[at], least))), None)
        self._use(self.master)
        if wrong is not None:
            self.turns[wrong] = self.epoch + 1
        return wrong is None

    def _note(self, place: int, sure: list[bool]) -> None:
        """A batch of rows that are all recalled rests for an epoch."""
        for row, right in zip(self._batches[place], sure, strict=True):
            self.sure[row] = right
        rest = all(sure) and self.options.stop_when_complete
        self.turns[place] = self.epoch + 1 + rest

    def recalled(self, lora: Lora) -> list[bool]:
        """Whether each row, in the order of `rows`, is completed exactly under `lora`."""
        self._take(lora)
        return [right for batch in self._batches for right in self._sure(batch, 0.5)]

    def greedy(self, lora: Lora) -> list[bool]:
        """Whether each row, in the order of `rows`, is what greedy decoding under `lora` says."""
        self._take(lora)
        found: list[bool] = []
        with torch.no_grad():
            for batch in self._batches:
                x, target, owners = self._last(batch)
                wrong = set(owners[self.transformer.logits(x).argmax(-1) != target[:, 0]].tolist())
                found += [row not in wrong for row in range(len(batch))]
        return found

    def _take(self, lora: Lora) -> None:
        self._use([t for key in self.keys for t in (lora.a[key], lora.b[key])])

    def _use(self, weights: list[Tensor]) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self.work, weights)

    def sums(self) -> list[float]:
        """The log-probability of each row's completion (nats) as the weights are now."""
        found = [0.0] * len(self.rows)
        with torch.no_grad():
            for batch in self._batches:
                logprobs, owners = self._forward(batch)
                for row, total in zip(batch, by_row(logprobs[:, 0], owners).tolist(), strict=True):
                    found[row] = total
        return found

    def _progress(self, share: float, losses: list[float], tokens_per_s: float) -> Progress:
        return Progress(
            epoch=self.epoch + 1,
            epochs_max=self.options.epochs_max,
            share=share,
            loss=sum(losses) / len(losses),
            recall=sum(self.sure) / len(self.rows),
            seconds=self.seconds,
            tokens_per_s=tokens_per_s,
        )

    def _set_rate(self, epochs: float) -> None:
        """A short warm-up, then a cosine down to a tenth."""
        self.steps += 1
        warm = min(1.0, self.steps / 10)
        fallen = min(1.0, max(0.0, epochs - self.options.few_epochs) / self.options.epochs_falling)
        decay = 0.1 + 0.45 * (1 + math.cos(math.pi * fallen))
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * group["ratio"] * warm * decay

    def _step(self, batch: list[int]) -> tuple[float, list[bool]]:
        """One optimiser step; returns the loss (nats a token) and which rows were recalled surely."""
        logprobs, owners = self._forward(batch)
        loss = self.loss(batch, logprobs, owners)
        loss.backward()  # type: ignore[no-untyped-call]
        for master, work in zip(self.master, self.work, strict=True):
            master.grad = work.grad.float() if work.grad is not None else None
            work.grad = None
        torch.nn.utils.clip_grad_norm_(self.master, 1.0)
        self.optimizer.step()
        self._use(self.master)
        with torch.no_grad():
            if self.options.average_share:
                averaged = self.options.average_share * self.options.epochs_max * len(self._batches)
                torch._foreach_lerp_(self.stored, self.master, min(1.0, 1 / averaged))
        return float(loss.detach()), _all_over(self.options.probability_min, logprobs[:, 0], owners)

    def _sure(self, batch: list[int], probability_min: float) -> list[bool]:
        """Whether each row's completion tokens are all at least that probable; over 0.5 is likeliest."""
        with torch.no_grad():
            logprobs, owners = self._forward(batch)
        return _all_over(probability_min, logprobs[:, 0], owners)

    def _forward(self, batch: list[int]) -> tuple[Tensor, Tensor]:
        """Log-probabilities (N, K) of what is wanted at a batch's completion tokens, the row (N) of each."""
        x, target, owner = self._last(batch)
        count = sum(len(self.wanted[index]) for index in batch)
        return self.transformer.token_logprobs(x, target)[:count], owner[:count]

    def _last(self, batch: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Last hidden states (N, hidden) before a batch's completion tokens, the ids (N, K) that are wanted
        there, and the row (N) of each; so that shapes are few, the first place may be there again at the end.

        What all rows begin with goes through the layers once, before them in one sequence, and every row
        attends to it.
        """
        model, common = self.transformer, self._common
        length = rounded(max(len(self.rows[index][0]) for index in batch) - common)
        x = torch.zeros(1, common + len(batch) * length, model.config.hidden, dtype=model.dtype)
        x[0, :common] = self._before
        owners, places, targets = list[int](), list[int](), list[list[int]]()
        for row, index in enumerate(batch):
            ids, prompt = self.rows[index]
            start = common + row * length
            x[0, start : start + len(ids) - common] = self.trunk[index]
            owners += [row] * (len(ids) - prompt)
            places += range(start + prompt - 1 - common, start + len(ids) - 1 - common)
            targets += self.wanted[index]
        at = [torch.arange(common), torch.arange(common, common + length).repeat(len(batch))]
        attend = packed(len(batch), length, common, model.dtype)
        layers = range(self.start.first, model.config.layers)
        owner, place, target = (filled(each, rounded(len(owners))) for each in (owners, places, targets))
        wanted = torch.zeros_like(place), place
        x = model.run(x, model.rope(torch.cat(at)[None]), attend, layers, self.delta, wanted)
        return x, target, owner

    def save(self, path: Path, digest: str) -> None:
        """Write the run's state beside `path` and put it there whole."""
        tensors = {f"master.{i}": t for i, t in enumerate(self.master)}
        tensors |= {f"stored.{i}": t for i, t in enumerate(self.stored) if t is not self.master[i]}
        for i, t in enumerate(self.master):
            state = self.optimizer.state[t]
            tensors |= {f"{name}.{i}": state[name] for name in ("exp_avg", "exp_avg_sq", "step")}
        meta = {
            "digest": digest,
            "epoch": str(self.epoch),
            "complete": str(int(self.complete)),
            "steps": str(self.steps),
            "tokens": str(self.tokens),
            "sure": json.dumps(self.sure),
            "turns": json.dumps(self.turns),
            "history": json.dumps([asdict(entry) for entry in self.history]),
        }
        scratch = path.with_suffix(".part")
        save_file(tensors, scratch, metadata=meta)
        os.replace(scratch, path)

    def resume(self, path: Path, digest: str) -> None:
        """Take up the state saved at `path`, if it is of the same run."""
        if not path.exists():
            return
        try:
            with safe_open(path, "pt") as file:
                meta = file.metadata() or {}
                if meta.get("digest") != digest:
                    return
                for i, t in enumerate(self.master):
                    t.copy_(file.get_tensor(f"master.{i}"))
                    if self.stored[i] is not t:
                        self.stored[i].copy_(file.get_tensor(f"stored.{i}"))
                    names = ("exp_avg", "exp_avg_sq", "step")
                    self.optimizer.state[t] = {name: file.get_tensor(f"{name}.{i}") for name in names}
        except SafetensorError:
            return
        self._use(self.master)
        self.epoch, self.complete = int(meta["epoch"]), meta["complete"] == "1"
        self.steps, self.tokens = int(meta["steps"]), int(meta["tokens"])
        self.sure, self.turns = json.loads(meta["sure"]), json.loads(meta["turns"])
        self.history = [Progress(**entry) for entry in json.loads(meta["history"])]
        self.seconds = self.history[-1].seconds


def _all_over(probability_min: float, logprobs: Tensor, owners: Tensor) -> list[bool]:
    """For each row whether all its tokens are at least that probable."""
    weak = set(owners[logprobs < math.log(probability_min)].tolist())
    return [row not in weak for row in range(int(owners[-1]) + 1)]


def _likelihood(batch: list[int], logprobs: Tensor, owners: Tensor) -> Tensor:
    """Nats a token of all completions of a batch."""
    return -logprobs[:, 0].mean()


def by_row(logprobs: Tensor, owners: Tensor) -> Tensor:
    """Sums (R) of token log-probabilities (N) by row."""
    return torch.zeros(int(owners[-1]) + 1).index_add(0, owners, logprobs.float())


def digest_of(
    transformer: Transformer, rows: Sequence[object], options: TuneOptions, *loras: Lora | None
) -> str:
    """A hash of all that a run depends on; `rows` are what goes into JSON."""
    digest = hashlib.sha256(json.dumps([transformer.base.hash, asdict(options), rows]).encode())
    for lora in loras:
        for tensor in [] if lora is None else [*lora.a.values(), *lora.b.values()]:
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def cache_trunk(
    transformer: Transformer, rows: list[Row], first: int, under: Fused | None, begin: int = 0
) -> list[Tensor]:
    """Hidden states (tokens, hidden) of every row below layer `first`, from its token `begin` on.

    All rows have the same tokens before that, which go through the layers once.
    """
    cached: list[Tensor] = []
    before, layers = KeysValues(), range(first)

    def run(ids: Tensor, start: int, attend: Attend) -> Tensor:
        rope = transformer.rope(torch.arange(start, start + ids.shape[1])[None])
        return transformer.run(transformer.embed(ids), rope, attend, layers, under)

    with torch.no_grad():
        if begin:
            common = torch.tensor([rows[0][0][:begin]])
            run(common, 0, recording(causal(begin, transformer.dtype), before))
        for batch in in_batches(rows, 1024):
            length = max(len(rows[index][0]) for index in batch) - begin
            ids = torch.zeros(len(batch), length, dtype=torch.long)
            for row, index in enumerate(batch):
                ids[row, : len(rows[index][0]) - begin] = torch.tensor(rows[index][0][begin:])
            x = run(ids, begin, causal(length, transformer.dtype, before))
            cached += [x[row, : len(rows[index][0]) - begin].clone() for row, index in enumerate(batch)]
    return cached


class _Trained:
    """The adapter being learned, over a frozen one."""

    def __init__(self, weights: dict[tuple[int, str], tuple[Tensor, Tensor]], under: Fused | None) -> None:
        self.weights, self.under = weights, under

    def add(self, layer: int, projection: str, x: Tensor, y: Tensor) -> Tensor:
        parts = [self.weights[layer, part] for part in PARTS[projection]]
        low = F.linear(x, torch.cat([a for a, _ in parts])).chunk(len(parts), dim=-1)
        own = torch.cat([F.linear(h, b) for h, (_, b) in zip(low, parts, strict=True)], dim=-1)
        y = torch.add(y, own, alpha=SCALE)
        return y if self.under is None else self.under.add(layer, projection, x, y)
