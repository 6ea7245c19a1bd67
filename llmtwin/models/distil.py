"""Learns another model's replies from how likely it found its tokens. It does not know where they come from.

Of each place the likeliest tokens are known, and for the rest only what is left for all of them: the rest is
one class, here as in the twin. The divergence over these classes is a lower bound of the whole one, which
lumping can only lessen (log-sum inequality, Cover & Thomas, Theorem 2.7.1).

As in GKD (arXiv:2306.13649) forward and reverse divergence are mixed, and the twin's own samples are learned
from, too: they are traces like any other, whoever asked the primary about them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from pathlib import Path

import torch
from torch import Tensor

from llmtwin.errors import InputError
from llmtwin.models.base import Base
from llmtwin.models.batches import in_batches
from llmtwin.models.engine.api import conversation
from llmtwin.models.likelihood import BATCH_TOKENS, hidden_under
from llmtwin.models.lora import Fused, Lora
from llmtwin.models.run import Report, Row, Run, Tuned, TuneOptions, digest_of, tuned
from llmtwin.models.transformer import Transformer
from llmtwin.records import Trace

CHOICES = 21
"""At a place: the token itself, and the likeliest ones, of which OpenAI's interface gives twenty at most."""
LEAST = 1e-6
"""No class is taken to be less likely: what a model names in four digits says no more."""

TOKENS_MAX = 2048
"""Of a reply with what was asked: what a step keeps of attention grows with the square of its longest row."""


@dataclass(frozen=True)
class Taught:
    """A trace in the twin's own tokens.

    At each place of the completion are K ids, the token itself first, and the primary's natural
    log-probability of each; minus infinity is one that the primary did not name, which is among the rest.
    `soft` is whether the primary said how likely its tokens were, in tokens that the twin has, too.
    """

    row: Row
    ids: list[list[int]]
    logprobs: list[list[float]]
    soft: bool


def distil(
    transformer: Transformer,
    traces: Sequence[Trace],
    options: TuneOptions,
    *,
    start: Lora | None = None,
    under: Lora | None = None,
    checkpoint: Path | None = None,
    report: Report = lambda _: None,
) -> Tuned:
    """Learn the replies of another model into an adapter above `under`, from `start` or from nothing.

    The loss is the divergence of primary and twin, forward and reverse by `options.reverse_share` (as in GKD,
    arXiv:2306.13649, Eq. 1, with a sum in place of the Jensen-Shannon mix). A reply that did not say how
    likely its tokens were is learned as it is written. Otherwise as `tune`.
    """
    if not traces:
        raise InputError("there is nothing to distil: no traffic")
    taught = sorted((taught_by(transformer.base, trace) for trace in traces), key=lambda one: len(one.row[0]))
    rows = [one.row for one in taught]
    first = start.first if start else transformer.config.first_of(options.layers_share)
    fresh = Lora.fresh(transformer.config, options.rank, first, options.seed)
    batches = in_batches(rows, options.batch_tokens)
    run = Run(transformer, rows, batches, options, start or fresh, under)
    run.wanted = [one.ids for one in taught]
    run.loss = _Divergence(taught, options.reverse_share)
    said = [[row, one.logprobs] for row, one in zip(rows, taught, strict=True)]
    return tuned(run, rows, digest_of(transformer, said, options, start, under), checkpoint, report)


@torch.inference_mode()
def divergences(
    transformer: Transformer, traces: Sequence[Trace], adapters: Sequence[Lora | None]
) -> list[list[float]]:
    """Mean nats a token from the primary to the twin (a lower bound) of each trace, a list an adapter.

    None is the base alone. A trace without log-probabilities costs what its own tokens do. The layers below
    all adapters run once.
    """
    taught = [taught_by(transformer.base, trace) for trace in traces]
    costs = [[0.0] * len(taught) for _ in adapters]
    for adapter, place, own in _found(transformer, taught, adapters):
        said = torch.tensor(taught[place].logprobs)
        costs[adapter][place] = float(divergence(said, own, 0.0).mean())
    return costs


@torch.inference_mode()
def tops(
    transformer: Transformer, traces: Sequence[Trace], adapter: Lora | None
) -> list[list[dict[str, float]]]:
    """How likely a twin finds what the primary named at each token of each reply: natural logs by text.

    Of more than CHOICES it is the first ones. A trace without log-probabilities, or in other tokens than the
    twin's, has no places here.
    """
    taught = [taught_by(transformer.base, trace) for trace in traces]
    vocabulary = _vocabulary(transformer.base)
    found: list[list[dict[str, float]]] = [[] for _ in traces]
    for _, place, own in _found(transformer, taught, [adapter]):
        trace, one = traces[place], taught[place]
        said = zip(trace.tokens, trace.tops, one.ids, own.tolist(), strict=False) if one.soft else ()
        for token, top, ids, logprobs in said:
            by_id = dict(zip(ids, logprobs, strict=True))
            named = {text: vocabulary.get(text) for text in (token, *top)}
            found[place].append({text: by_id[at] for text, at in named.items() if at in by_id})
    return found


def _found(
    transformer: Transformer, taught: Sequence[Taught], adapters: Sequence[Lora | None]
) -> Iterator[tuple[int, int, Tensor]]:
    """The places of an adapter and a trace, and the log-probabilities (T, K) under it of the trace's ids."""
    by_length = sorted(range(len(taught)), key=lambda place: len(taught[place].row[0]))
    fused = [None if lora is None else Fused(lora, transformer.dtype) for lora in adapters]
    for batch in in_batches([taught[place].row for place in by_length], BATCH_TOKENS) if taught else ():
        ones = [taught[by_length[index]] for index in batch]
        wanted = torch.tensor([ids for one in ones for ids in one.ids])
        every = hidden_under(transformer, [one.row[0] for one in ones], fused)
        for adapter, hidden in enumerate(every):
            told = [row[one.row[1] - 1 : len(one.row[0]) - 1] for row, one in zip(hidden, ones, strict=True)]
            own = transformer.token_logprobs(torch.cat(told), wanted)
            for index, part in zip(batch, torch.split(own, [len(one.ids) for one in ones]), strict=True):
                yield adapter, by_length[index], part


def fits(base: Base, trace: Trace) -> bool:
    """Whether a trace is short enough to be learned and measured."""
    asked = len(base.encode(base.chat(conversation(trace.messages))))
    said = max(len(base.encode(trace.completion)), len(trace.tokens))
    return asked + said <= min(TOKENS_MAX, base.config.positions)


def taught_by(base: Base, trace: Trace) -> Taught:
    """A trace in the tokens of `base`; hard where they do not line up, or nothing was said of them."""
    prompt = base.encode(base.chat(conversation(trace.messages)))
    end = base.encode(base.end)
    vocabulary = _vocabulary(base)
    own = [vocabulary.get(token) for token in trace.tokens]
    known = [token for token in own if token is not None]
    soft = bool(known) and len(known) == len(own) == len(trace.tops)
    if not soft:
        known = base.encode(trace.completion)
    tops = [_named(top, vocabulary) for top in trace.tops] if soft else [{token: 0.0} for token in known]
    untold = end if trace.ended and known[-len(end) :] != end else []
    every = [*zip(known, tops, strict=True), *((token, {token: 0.0}) for token in untold)]
    if not every:
        raise InputError("a reply without a single token teaches nothing")
    places = [_filled(token, top) for token, top in every]
    ids = prompt + [token for token, _ in every]
    return Taught((ids, len(prompt)), [ids for ids, _ in places], [said for _, said in places], soft)


def _named(top: dict[str, float], vocabulary: dict[str, int]) -> dict[int, float]:
    """The likeliest tokens as ids; those that the twin does not have are among the rest."""
    return {vocabulary[text]: logprob for text, logprob in top.items() if text in vocabulary}


def _filled(token: int, top: dict[int, float]) -> tuple[list[int], list[float]]:
    """The token first, then the others; filled up with the token again, as one that was not named."""
    others = [(other, logprob) for other, logprob in top.items() if other != token]
    pairs = [(token, top.get(token, -inf)), *others, *[(token, -inf)] * CHOICES][:CHOICES]
    return [each for each, _ in pairs], [logprob for _, logprob in pairs]


@lru_cache(maxsize=1)
def _vocabulary(base: Base) -> dict[str, int]:
    """Ids by the text that each token stands for, but for tokens that are parts of a sign.

    No text stands for the end: servers that show no special tokens, as llama.cpp, name it so.
    """
    ids = range(base.tokenizer.get_vocab_size())
    texts = (base.tokenizer.decode([token], skip_special_tokens=False) for token in ids)
    whole = {text: token for token, text in zip(ids, texts, strict=True) if "\ufffd" not in text}
    return whole | {"": base.encode(base.end)[0]}


def divergence(primary: Tensor, twin: Tensor, reverse_share: float) -> Tensor:
    """Nats (N) between log-probabilities (N, K) of the same tokens; the rest of both is one more class.

    `primary` is minus infinity for what it did not name: that is among the rest.
    """
    named = primary.isfinite()
    p = primary.exp()
    q = torch.where(named, twin.exp(), 0.0)
    rest_p, rest_q = ((1 - each.sum(1)).clamp(min=LEAST) for each in (p, q))
    gap = torch.where(named, primary, 0.0) - torch.where(named, twin, 0.0)
    rest_gap = rest_p.log() - rest_q.log()
    forward = (p * gap).sum(1) + rest_p * rest_gap
    if not reverse_share:
        return forward
    reverse = -(q * gap).sum(1) - rest_q * rest_gap
    return (1 - reverse_share) * forward + reverse_share * reverse


class _Divergence:
    """The loss of a batch: the mean divergence over its places."""

    def __init__(self, taught: Sequence[Taught], reverse_share: float) -> None:
        self._said = [torch.tensor(one.logprobs) for one in taught]
        self._reverse_share = reverse_share

    def __call__(self, batch: list[int], logprobs: Tensor, owners: Tensor) -> Tensor:
        said = torch.cat([self._said[row] for row in batch])
        return divergence(said, logprobs, self._reverse_share).mean()
