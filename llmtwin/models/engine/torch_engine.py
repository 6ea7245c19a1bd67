"""The embedded engine: batches requests of different twins together over one base, in this process.

It knows tokens, adapters by name, grammars and sampling; nothing of twins, plans or HTTP.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from llmtwin.errors import InputError
from llmtwin.models.base import Base
from llmtwin.models.engine.api import Completion, Request
from llmtwin.models.engine.cache import Adapters, Prefixes, Rows
from llmtwin.models.engine.grammar import Grammars, Matcher
from llmtwin.models.lora import Fused
from llmtwin.models.transformer import Transformer

HALF = "\ufffd"
"""What some of the bytes of a sign decode to: the limit may have cut it in two."""

Scored = tuple[str, str, tuple[str, ...]]


@dataclass(frozen=True)
class TorchEngineOptions:
    """How much the engine takes on at once and keeps."""

    batch_max: int = 64
    adapter_bytes_max: int = 1 << 30
    prefixes_max: int = 16


@dataclass
class _Row:
    """One request under way."""

    request: Request
    future: Future[Completion]
    prompt: list[int]
    fused: Fused | None
    matcher: Matcher | None
    generator: torch.Generator | None
    pending: list[int]
    written: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    chosen: int = 0
    finish: str | None = None


class TorchEngine:
    """An engine over one base. `source` maps an adapter's name to its folder; a name that is to stand for
    other weights is dropped first.

    Callers of any thread block until their own completions are there; whatever waits at that time shares
    a batch.
    """

    def __init__(
        self,
        base: Base,
        source: Callable[[str], Path],
        options: TorchEngineOptions | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Load `base` (a second or so for 135M parameters)."""
        self.base, self.options = base, options or TorchEngineOptions()
        self.model = Transformer(base, dtype)
        self._adapters = Adapters(source, self.model.dtype, self.options.adapter_bytes_max)
        self._grammars = Grammars(base)
        self._prefixes = Prefixes(self.model, self.options.prefixes_max)
        self._waiting: queue.SimpleQueue[Callable[[], None] | tuple[Request, Future[Completion]]] = (
            queue.SimpleQueue()
        )
        self._open = True
        self._thread = threading.Thread(target=self._work, name="llmtwin-engine", daemon=True)
        self._thread.start()

    @property
    def base_hash(self) -> str:
        """The hash that names the base."""
        return self.base.hash

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The messages in the base's own chat template."""
        return self.base.chat(messages)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request; where the base reads no further, it ends.

        Raises InputError for a bad grammar or a prompt longer than the base reads, and as `source` does.
        """
        futures: list[Future[Completion]] = []
        for request in requests:
            futures.append(Future())
            self._waiting.put((request, futures[-1]))
        return [future.result() for future in futures]

    def score(self, requests: Sequence[Scored]) -> list[float]:
        """Log-probabilities (nats, summed over tokens, without the end token) of completions given prompts.

        Completions of one prompt share its computation. Raises InputError where the base cannot read both.
        """
        future: Future[list[float]] = Future()

        def job() -> None:
            try:
                future.set_result(self._score(requests))
            except Exception as error:
                future.set_exception(error)

        self._waiting.put(job)
        return future.result()

    def drop(self, adapter: str) -> None:
        """Let go of an adapter's weights; its name may then stand for others."""

        def job() -> None:
            self._adapters.drop(adapter)
            self._prefixes.drop(adapter)

        self._waiting.put(job)

    def close(self) -> None:
        """Let go of everything once what waits is done; the engine is of no use afterwards."""

        def job() -> None:
            self._open = False

        self._waiting.put(job)
        # A thread that is still within torch when the process ends takes it down.
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @torch.inference_mode()
    def _work(self) -> None:
        """The engine's own thread: takes what waits, a batch at a time, until it is closed."""
        while self._open:
            item = self._waiting.get()
            if callable(item):
                item()
                continue
            batch, jobs = [item], []
            while len(batch) < self.options.batch_max:
                try:
                    more = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if callable(more):
                    jobs.append(more)
                    break
                batch.append(more)
            self._generate(batch)
            for job in jobs:
                job()

    def _generate(self, batch: Sequence[tuple[Request, Future[Completion]]]) -> None:
        rows: list[_Row] = []
        for request, future in batch:
            try:
                rows.append(self._admit(request, future))
            except Exception as error:
                future.set_exception(error)
        try:
            if rows:
                self._decode(sorted(rows, key=lambda row: row.request.adapters))
        except Exception as error:
            for row in rows:
                if not row.future.done():
                    row.future.set_exception(error)

    def _admit(self, request: Request, future: Future[Completion]) -> _Row:
        prompt = self.base.encode(request.prompt)
        self._check_fits(len(prompt) + 1)
        room = self.base.config.positions - len(prompt)
        request = replace(request, tokens_max=min(request.tokens_max, room))
        seeded = None if request.seed is None else torch.Generator().manual_seed(request.seed)
        matcher = None if request.grammar is None else self._grammars.matcher(request.grammar)
        forced = [] if matcher is None else matcher.compute_ff_tokens()
        row = _Row(
            request, future, prompt, self._adapters.get(request.adapters), matcher, seeded, [*prompt, *forced]
        )
        if matcher is not None and forced:
            matcher.consume_tokens(forced)
            row.written += forced
        return row

    def _check_fits(self, tokens: int) -> None:
        if tokens > (most := self.base.config.positions):
            raise InputError(f"this takes {tokens} tokens, and the base reads {most}: give it a shorter text")

    def _decode(self, rows: list[_Row]) -> None:
        """Run a batch to its end; a row's future is set as soon as the row is done."""
        room = max(len(row.prompt) + row.request.tokens_max for row in rows) + 16
        cache = Rows(self.model, len(rows), room)
        for index, row in enumerate(rows):
            filled = self._prefixes.fill(cache, index, row.prompt, row.request.adapters, row.fused)
            row.pending = row.pending[filled:]
        while rows:
            logits = self._next_logits(cache, rows)
            self._choose(rows, logits)
            going = [index for index, row in enumerate(rows) if row.finish is None]
            for row in rows:
                if row.finish is not None:
                    row.future.set_result(self._completion(row))
            if len(going) < len(rows):
                rows = [rows[index] for index in going]
                cache = cache.select(going)

    def _next_logits(self, cache: Rows, rows: Sequence[_Row]) -> Tensor:
        """Logits (B, vocab) after each row's pending tokens."""
        pending = [row.pending for row in rows]
        hidden = cache.extend(pending, [row.fused for row in rows])
        return self.model.logits(hidden[_lasts(pending)])

    def _choose(self, rows: Sequence[_Row], logits: Tensor) -> None:
        """Pick each row's next token, and take in what its grammar then forces."""
        logprobs = torch.log_softmax(logits, dim=-1)
        allowed = self._grammars.forbid(logits, [row.matcher for row in rows])
        greedy = allowed.argmax(dim=-1).tolist()
        for index, row in enumerate(rows):
            token = greedy[index]
            if row.request.temperature > 0:
                token = _sample(allowed[index], row.request, row.generator)
            row.logprobs.append(float(logprobs[index, token]))
            self._take(row, token)

    def _take(self, row: _Row, token: int) -> None:
        row.chosen += 1
        if token in self.base.end_ids:
            row.finish = "stop"
            return
        row.pending = [token]
        if row.matcher is not None:
            row.matcher.consume_token(token)
            forced = row.matcher.compute_ff_tokens()
            row.matcher.consume_tokens(forced)
            row.pending += [t for t in forced if t not in self.base.end_ids]
            if row.matcher.is_stopped():
                row.finish = "stop"
        row.written += row.pending
        if row.finish is None and len(row.written) >= row.request.tokens_max:
            row.finish = "length"

    def _completion(self, row: _Row) -> Completion:
        text = self.base.tokenizer.decode(row.written, skip_special_tokens=False)
        if row.finish == "length":
            text = text.rstrip(HALF)
        return Completion(
            text=text,
            probability=math.exp(sum(row.logprobs) / len(row.logprobs)),
            logprobs=tuple(row.logprobs),
            token_ids=tuple(row.written),
            tokens_prompt=len(row.prompt),
            tokens_completion=len(row.written),
            finish="stop" if row.finish == "stop" else "length",
        )

    def _score(self, requests: Sequence[Scored]) -> list[float]:
        scores = [0.0] * len(requests)
        by_prompt: dict[tuple[tuple[str, ...], str], list[int]] = {}
        for index, (prompt, _, names) in enumerate(requests):
            by_prompt.setdefault((names, prompt), []).append(index)
        prompts = sorted(by_prompt)
        for first in range(0, len(prompts), self.options.batch_max):
            chunk = prompts[first : first + self.options.batch_max]
            cache, logits = self._prefill(chunk)
            wanted = [(row, index) for row, key in enumerate(chunk) for index in by_prompt[key]]
            for start in range(0, len(wanted), self.options.batch_max):
                self._score_rows(
                    cache, logits, chunk, wanted[start : start + self.options.batch_max], requests, scores
                )
        return scores

    def _prefill(self, keys: Sequence[tuple[tuple[str, ...], str]]) -> tuple[Rows, Tensor]:
        encoded = [self.base.encode(prompt) for _, prompt in keys]
        self._check_fits(max(map(len, encoded)))
        cache = Rows(self.model, len(keys), max(map(len, encoded)) + 64)
        stacks = [self._adapters.get(names) for names, _ in keys]
        for row, ((names, _), fused) in enumerate(zip(keys, stacks, strict=True)):
            encoded[row] = encoded[row][self._prefixes.fill(cache, row, encoded[row], names, fused) :]
        hidden = cache.extend(encoded, stacks)
        return cache, self.model.logits(hidden[_lasts(encoded)])

    def _score_rows(
        self,
        cache: Rows,
        logits: Tensor,
        keys: Sequence[tuple[tuple[str, ...], str]],
        wanted: Sequence[tuple[int, int]],
        requests: Sequence[Scored],
        scores: list[float],
    ) -> None:
        """Score completions `wanted` (row of the prefilled prompt, index of the request) into `scores`."""
        completions = [self.base.encode(requests[index][1]) for _, index in wanted]
        rows = [row for row, _ in wanted]
        self._check_fits(
            max(int(cache.length[row]) + len(ids) for row, ids in zip(rows, completions, strict=True))
        )
        first = torch.log_softmax(logits, dim=-1)
        for (row, index), ids in zip(wanted, completions, strict=True):
            scores[index] = float(first[row, ids[0]]) if ids else 0.0
        longer = [place for place, ids in enumerate(completions) if len(ids) > 1]
        if not longer:
            return
        fed = [completions[place][:-1] for place in longer]
        stacks = [self._adapters.get(keys[rows[place]][0]) for place in longer]
        hidden = cache.select([rows[place] for place in longer]).extend(fed, stacks)
        logprobs = torch.log_softmax(self.model.logits(hidden), dim=-1)
        ends = _lasts(fed)
        for place, ids, end in zip(longer, fed, ends, strict=True):
            index, rest = wanted[place][1], torch.tensor(completions[place][1:])
            scores[index] += float(logprobs[end - len(ids) + 1 + torch.arange(len(rest)), rest].sum())


def _lasts(rows: Sequence[Sequence[int]]) -> list[int]:
    """Where each row's last token stands when the rows are laid one after another."""
    return [end - 1 for end in accumulate(len(row) for row in rows)]


def _sample(logits: Tensor, request: Request, generator: torch.Generator | None) -> int:
    """One token by temperature and nucleus sampling (Holtzman et al. 2020, https://arxiv.org/abs/1904.09751)."""
    probabilities = torch.softmax(logits / request.temperature, dim=-1)
    ordered, ids = probabilities.sort(descending=True)
    ordered[ordered.cumsum(dim=-1) - ordered >= request.top_p] = 0
    return int(ids[torch.multinomial(ordered, 1, generator=generator)])
