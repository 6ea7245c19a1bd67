"""What texts cost in bits under a base and under many adapters over it. It does not know who wrote them.

The frozen trunk below the adapters runs once for all of them: only the layers above it differ.

Two ways of scoring, each the same for base and adapters. `raw` takes a text as it is, without a chat template
and without a prompt: that is the definition of bits per character here, and the fairest, since plain text is
what a base was trained on, while a twin, which learned texts as answers to prompts, gets no help from a form
that only it knows. `answered` takes a completion given its prompt as the twin learns it: it says what the
twin's use is like, but part of the gain there is only the form, since a chat model expects another answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from llmtwin.models.lora import Fused, Lora
from llmtwin.models.transformer import Transformer, causal
from llmtwin.models.tune import render
from llmtwin.records import Example

WINDOW_TOKENS = 512
OVERLAP_TOKENS = 128
BATCH_TOKENS = 1024


@dataclass(frozen=True)
class Row:
    """A text to score: the ids before `first` are context only; the rest make up `characters`."""

    ids: tuple[int, ...]
    first: int
    characters: int


@dataclass(frozen=True)
class Bits:
    """What the scored part of one or more texts costs."""

    bits: float
    characters: int

    @property
    def per_character(self) -> float:
        """Bits a character."""
        return self.bits / self.characters

    @classmethod
    def total(cls, parts: Sequence[Bits]) -> Bits:
        """All of several texts, so that each counts by its length."""
        return cls(sum(part.bits for part in parts), sum(part.characters for part in parts))


@dataclass(frozen=True)
class Window:
    """The ids from `start` up to `end` of a text, of which those from `scored` on are scored."""

    start: int
    scored: int
    end: int


def raw(transformer: Transformer, text: str) -> Row:
    """A text as it is; its first token, which nothing leads to, is not scored."""
    found = transformer.base.tokenizer.encode(text, add_special_tokens=False)
    opening = found.offsets[0][1] if found.ids else 0
    return Row(tuple(found.ids), 1, len(text) - opening)


def stretches(transformer: Transformer, text: str) -> list[Row]:
    """A text as it is, a row a window: together they cost what it costs whole."""
    found = transformer.base.tokenizer.encode(text, add_special_tokens=False)
    ends = [end for _, end in found.offsets]
    return [
        Row(
            ids=tuple(found.ids[window.start : window.end]),
            first=window.scored - window.start,
            characters=ends[window.end - 1] - ends[window.scored - 1],
        )
        for window in windows(len(found.ids), 1)
    ]


def answered(transformer: Transformer, example: Example) -> Row:
    """A completion given its prompt. Its end is not scored: where a passage was cut is nobody's style."""
    ids, prompt = render(transformer.base, example)
    return Row(tuple(ids[:-1]), prompt, len(example.completion))


def windows(
    length: int, first: int, size: int = WINDOW_TOKENS, overlap: int = OVERLAP_TOKENS
) -> list[Window]:
    """Windows in which each id from `first` on is scored once, after all before it or at least `overlap`."""
    found: list[Window] = []
    start, scored = 0, first
    while scored < length:
        end = min(length, max(start + size, scored + size - overlap))
        found.append(Window(start, scored, end))
        start, scored = end - overlap, end
    return found


@dataclass(frozen=True)
class Pass:
    """What one window of a row became under one adapter: both by their place in what was given.

    `hidden` (S, hidden) are the states after the last layer that foretell `ids` (S,), those that are scored.
    """

    adapter: int
    row: int
    hidden: Tensor
    ids: Tensor


@torch.inference_mode()
def score(
    transformer: Transformer,
    rows: Sequence[Row],
    adapters: Sequence[Lora | None],
    advance: Callable[[int], object] = lambda tokens: None,
) -> list[list[Bits]]:
    """What each row costs under each adapter (None is the base alone): a list an adapter, of one a row.

    `advance` is told how many tokens were scored.
    """
    nats = [[0.0] * len(rows) for _ in adapters]
    for one in passes(transformer, rows, adapters, advance):
        cost = -float(transformer.token_logprobs(one.hidden, one.ids[:, None]).sum())
        nats[one.adapter][one.row] += cost
    return [
        [Bits(cost / log(2), row.characters) for cost, row in zip(total, rows, strict=True)] for total in nats
    ]


def passes(
    transformer: Transformer,
    rows: Sequence[Row],
    adapters: Sequence[Lora | None],
    advance: Callable[[int], object] = lambda tokens: None,
) -> Iterator[Pass]:
    """Every window of every row under each adapter; those of one row come in their order.

    `advance` is told how many tokens were scored.
    """
    fused = [None if lora is None else Fused(lora, transformer.dtype) for lora in adapters]
    for batch in _batches(rows):
        cut = [rows[place].ids[window.start : window.end] for place, window in batch]
        for adapter, hidden in enumerate(hidden_under(transformer, cut, fused)):
            for states, own, (place, window) in zip(hidden, cut, batch, strict=True):
                first, last = window.scored - window.start, window.end - window.start
                yield Pass(adapter, place, states[first - 1 : last - 1], torch.tensor(own[first:last]))
        advance(sum(window.end - window.scored for _, window in batch))


def hidden_under(
    transformer: Transformer, rows: Sequence[Sequence[int]], adapters: Sequence[Fused | None]
) -> Iterator[Tensor]:
    """Hidden states (B, T, hidden) of B rows of ids after the last layer, under each adapter in turn.

    A row shorter than T is filled up at its end. The layers below all adapters run once.
    """
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    rope = transformer.rope(torch.arange(ids.shape[1])[None])
    attend = causal(ids.shape[1], transformer.dtype)
    layers = transformer.config.layers
    first = min((each.first for each in adapters if each), default=layers)
    low = transformer.run(transformer.embed(ids), rope, attend, range(first))
    for delta in adapters:
        yield transformer.run(low, rope, attend, range(first, layers), delta)


def _batches(rows: Sequence[Row]) -> Iterator[list[tuple[int, Window]]]:
    """All windows of all rows with their places, such of about one length together."""
    every = [(place, window) for place, row in enumerate(rows) for window in windows(len(row.ids), row.first)]
    every.sort(key=lambda one: one[1].end - one[1].start)
    batch: list[tuple[int, Window]] = []
    for place, window in every:
        if batch and (len(batch) + 1) * (window.end - window.start) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append((place, window))
    if batch:
        yield batch
