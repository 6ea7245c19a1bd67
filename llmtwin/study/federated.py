"""Homes that learn together, or each alone: what each is dealt, learns and sends. It knows no Flower.

Four ways. `full`: all parameters are learned and averaged (FedAvg, arXiv:1602.05629). `lora`: those of an
adapter, A and B apart. `ffa`: B alone, over an A that all share and none learns (FFA-LoRA, arXiv:2403.12313),
so that the average of B gives the average of BA exactly. `twin`: each home learns its own adapter, as an edge
does, and sends it once. Whatever travels has two bytes a number, so that no way gains by its width.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, Protocol

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_, parameters_to_vector, vector_to_parameters

from llmtwin.models.base import Base
from llmtwin.models.batches import in_batches
from llmtwin.models.lora import Lora
from llmtwin.models.run import Row, Run, render
from llmtwin.models.transformer import Transformer
from llmtwin.models.tune import tune
from llmtwin.records import Card, Example, now
from llmtwin.study.region import houses
from llmtwin.twins.home import HomeKind
from llmtwin.twins.home.facts import example
from llmtwin.wire.package import CARD, Origin, read_package, seal_package

FULL, LORA, FFA, TWIN = "full", "lora", "ffa", "twin"
IID, DIRICHLET = "iid", "dirichlet"
ALPHA = 0.3
"""Of the Dirichlet distribution by which the facts of each house are spread over the clients."""

Wire = NDArray[np.float16]


@dataclass(frozen=True)
class Job:
    """One run: how, how many homes, how facts are dealt out, how long each learns, and until when.

    `epochs` are those of a round at each home; those of a twin are the most it may take. Over
    `epochs_falling` of all its epochs a home's learning rate falls to a tenth, where it stays; that of all
    parameters does not fall. A home `keeps_state` where its optimiser goes on from round to round; one of all
    parameters never does, which would take eight bytes of each at every home.
    """

    method: str
    homes: int
    split: str
    facts: int
    epochs: int = 1
    learning_rate: float = 4e-3
    epochs_falling: int = 24
    keeps_state: bool = False
    rounds_max: int = 1
    target: float = 0.95
    seed: int = 7


# ---- data ----------------------------------------------------------------------------------------


def deal(job: Job) -> list[list[Example]]:
    """The facts of each client, none without: all dealt out evenly, or each house's by a Dirichlet draw."""
    by_house = [[example(one) for one in house] for house in houses(job.homes, job.facts, job.seed)]
    if job.split == IID:
        every = [one for house in by_house for one in house]
        Random(job.seed).shuffle(every)
        return [every[client :: job.homes] for client in range(job.homes)]
    rng = np.random.default_rng(job.seed)
    while True:
        dealt: list[list[Example]] = [[] for _ in range(job.homes)]
        for house in by_house:
            shares = rng.dirichlet([ALPHA] * job.homes)
            for one, client in zip(house, rng.choice(job.homes, len(house), p=shares), strict=True):
                dealt[client].append(one)
        if all(dealt):
            return dealt


# ---- homes ---------------------------------------------------------------------------------------


class Client(Protocol):
    """What one home does in a round."""

    def weights(self) -> Wire:
        """What it sends."""

    def take(self, weights: Wire) -> None:
        """Go on from the weights that were sent to it."""

    def learn(self) -> float:
        """Learn from its own facts; the mean loss of the last epoch (nats a token)."""

    def recalled(self) -> list[bool]:
        """Whether each of its facts is what greedy decoding says: the same rule for all ways."""


class AdapterClient:
    """A home whose adapter is learned over the cached trunk by the project's own trainer.

    Its rate falls on from round to round, as in one long run.
    """

    def __init__(
        self, transformer: Transformer, under: Lora | None, facts: Sequence[Example], job: Job
    ) -> None:
        options = replace(
            HomeKind().tuning(),
            learning_rate=job.learning_rate,
            epochs_falling=job.epochs_falling,
            stop_when_complete=False,
        )
        self._epochs, self._keeps_state = job.epochs, job.keeps_state
        self.run = _run(transformer, under, facts, options)
        every = self.run.master
        self.sent = every
        if job.method == FFA:
            self.sent = every[1::2]
            for frozen in self.run.work[0::2]:
                frozen.requires_grad_(False)

    def weights(self) -> Wire:
        """The adapter, or its B."""
        return _packed(self.sent)

    def take(self, weights: Wire) -> None:
        """Go on from these."""
        _unpack(weights, self.sent)
        with torch.no_grad():
            torch._foreach_copy_(self.run.work, self.run.master)
        if not self._keeps_state:
            self.run.optimizer.state.clear()

    def learn(self) -> float:
        """So many epochs."""
        for _ in range(self._epochs):
            self.run.run_epoch(lambda _: None)
        return self.run.history[-1].loss

    def recalled(self) -> list[bool]:
        """Of the adapter as it would be stored."""
        return self.run.greedy(self.run.lora())


class FullClient:
    """A home that trains all parameters of a model (float32, products in bfloat16 where that is faster).

    The model is one for all homes of a process: a home takes weights before it learns or is asked.
    """

    def __init__(self, model: Any, transformer: Transformer, facts: Sequence[Example], job: Job) -> None:
        self._model, self._job = model, job
        self._dtype = transformer.dtype
        self._rows = _rows(transformer, facts)
        self._batches = in_batches(self._rows, HomeKind().tuning().batch_tokens)
        self.sent = list(model.parameters())

    def weights(self) -> Wire:
        """All parameters."""
        return _packed(self.sent)

    def take(self, weights: Wire) -> None:
        """Go on from these."""
        _unpack(weights, self.sent)

    def learn(self) -> float:
        """So many epochs with AdamW, from a new optimiser, which is forgotten."""
        optimizer = torch.optim.AdamW(
            self.sent, lr=self._job.learning_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True
        )
        losses: list[float] = []
        for _ in range(self._job.epochs * len(self._batches)):
            batch = self._batches[len(losses) % len(self._batches)]
            logits, targets, _ = self._forward(batch)
            loss = cross_entropy(logits, targets)
            loss.backward()  # type: ignore[no-untyped-call]
            clip_grad_norm_(self.sent, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
        return fmean(losses[-len(self._batches) :])

    def recalled(self) -> list[bool]:
        """Of the model as it is now."""
        found: list[bool] = []
        with torch.no_grad():
            for batch in self._batches:
                logits, targets, owners = self._forward(batch)
                wrong = set(owners[logits.argmax(-1) != targets].tolist())
                found += [row not in wrong for row in range(len(batch))]
        return found

    def _forward(self, batch: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, vocab) before a batch's completion tokens, the ids (N) of these, the row (N) of each."""
        rows = [self._rows[index] for index in batch]
        ids = torch.zeros(len(rows), max(len(ids) for ids, _ in rows), dtype=torch.long)
        owners, places, targets = list[int](), list[int](), list[int]()
        for row, (tokens, prompt) in enumerate(rows):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            owners += [row] * (len(tokens) - prompt)
            places += range(prompt - 1, len(tokens) - 1)
            targets += tokens[prompt:]
        with torch.autocast("cpu", torch.bfloat16, enabled=self._dtype == torch.bfloat16):
            # Padding comes last, so nobody looks at it; the head sees only what is learned.
            hidden = self._model.model(input_ids=ids).last_hidden_state
            logits = self._model.lm_head(hidden[owners, places])
        return logits.float(), torch.tensor(targets), torch.tensor(owners)


class Site:
    """What the one process of all homes keeps: what it loaded of the base, and the homes of one job."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self._job: Job | None = None
        self._clients: dict[int, Client] = {}
        self._dealt: list[list[Example]] = []
        self._model: Any = None

    @cached_property
    def transformer(self) -> Transformer:
        """The frozen base."""
        return Transformer(self.base)

    @cached_property
    def under(self) -> Lora | None:
        """The home skill, if there is one for this base; every home has it."""
        folder = HomeKind().skill(self.base.hash)
        return None if folder is None else Lora.load(folder)

    def load(self, job: Job) -> None:
        """Have in memory what the job needs: what a process does once is no part of any home's time."""
        if job == self._job:
            return
        is_first = self._job is None
        self._job, self._clients, self._dealt = job, {}, deal(job)
        self._model = _trainable(self.base) if job.method == FULL else None
        if is_first and job.method == TWIN:
            self.twin(0)
        elif is_first:
            # At a rate of zero, nothing changes.
            self._client(0, replace(job, learning_rate=0.0, epochs=1)).learn()

    def facts(self, number: int) -> list[Example]:
        """What a home of the job was dealt."""
        return self._dealt[number]

    def client(self, number: int) -> Client:
        """A home of the job that is loaded, with its cached trunk."""
        assert self._job is not None
        if number not in self._clients:
            self._clients[number] = self._client(number, self._job)
        return self._clients[number]

    def _client(self, number: int, job: Job) -> Client:
        if job.method == FULL:
            return FullClient(self._model, self.transformer, self._dealt[number], job)
        return AdapterClient(self.transformer, self.under, self._dealt[number], job)

    def initial(self) -> Wire:
        """What all homes of the job start from; asked before any has learned."""
        assert self._job is not None
        return self._client(0, self._job).weights()

    def twin(self, number: int) -> Alone:
        """Let a home of the job learn for itself; its seconds are from the examples to the sealed package."""
        assert self._job is not None
        facts = self._dealt[number]
        options = replace(
            HomeKind().tuning(),
            epochs_max=self._job.epochs,
            learning_rate=self._job.learning_rate,
            epochs_falling=self._job.epochs_falling,
        )
        began = time.perf_counter()
        tuned = tune(self.transformer, facts, options, under=self.under)
        package = sealed(tuned.lora, self.base, f"home{number}")
        seconds = time.perf_counter() - began
        return Alone(
            package,
            seconds,
            tuned.history[-1].epoch,
            self._recall(number, tuned.lora),
            self._recall((number + 1) % len(self._dealt), tuned.lora),
        )

    def _recall(self, number: int, lora: Lora) -> float:
        """The share of a home's facts that an adapter recalls, judged as all ways are."""
        return fmean(
            _run(self.transformer, self.under, self._dealt[number], HomeKind().tuning()).greedy(lora)
        )


@dataclass(frozen=True)
class Alone:
    """What a home learned for itself, with its recall of its own and of the next home's facts."""

    package: dict[str, bytes]
    seconds: float
    epochs: int
    recall: float
    recall_next: float


def sealed(lora: Lora, base: Base, twin: str) -> dict[str, bytes]:
    """The four files that an edge sends of an adapter (bf16), signed by a key made for it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        lora.save(folder, base.name)
        card = Card(twin=twin, version=1, kind="home", created_at=now())
        (folder / CARD).write_text(card.model_dump_json())
        seal_package(folder, Origin(twin, 1, "home", base.hash, base.hash), Ed25519PrivateKey.generate())
        return read_package(folder)


def _trainable(base: Base) -> Any:
    """The base, all of whose parameters can be learned."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)


def _run(transformer: Transformer, under: Lora | None, facts: Sequence[Example], options: Any) -> Run:
    """A run of the trainer on some facts, from the adapter that all homes start from."""
    rows = _rows(transformer, facts)
    first = transformer.config.first_of(options.layers_share)
    fresh = Lora.fresh(transformer.config, options.rank, first, options.seed)
    return Run(transformer, rows, in_batches(rows, options.batch_tokens), options, fresh, under)


def _rows(transformer: Transformer, facts: Sequence[Example]) -> list[Row]:
    return sorted((render(transformer.base, one) for one in facts), key=lambda row: len(row[0]))


def _packed(tensors: Sequence[Tensor]) -> Wire:
    with torch.no_grad():
        packed: Wire = parameters_to_vector(list(tensors)).half().numpy()
    return packed


def _unpack(weights: Wire, tensors: Sequence[Tensor]) -> None:
    with torch.no_grad():
        vector_to_parameters(torch.from_numpy(weights).float(), list(tensors))
