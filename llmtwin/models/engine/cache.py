"""What the torch engine keeps between tokens and between requests: K/V rows, shared prefixes, adapters.

It knows no requests: token ids, rows and adapter stacks only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from llmtwin.models.lora import Fused, Lora, stack
from llmtwin.models.transformer import KeysValues, Transformer, attention, causal, recording

Stack = tuple[str, ...]
PREFIX_TOKENS_MIN = 8


class Adapters:
    """Adapter stacks in memory, the least recently used dropped first; `source` finds a name's folder."""

    def __init__(self, source: Callable[[str], Path], dtype: torch.dtype, bytes_max: int) -> None:
        """Nothing is loaded yet; stacks are loaded by `get`."""
        self._source, self._dtype, self._bytes_max = source, dtype, bytes_max
        self._stacks: OrderedDict[Stack, Fused] = OrderedDict()

    def get(self, names: Stack) -> Fused | None:
        """The stack of these adapters, None for the bare base. Raises what `source` raises."""
        if not names:
            return None
        if names not in self._stacks:
            self._stacks[names] = Fused(stack([Lora.load(self._source(name)) for name in names]), self._dtype)
        self._stacks.move_to_end(names)
        while len(self._stacks) > 1 and sum(s.bytes for s in self._stacks.values()) > self._bytes_max:
            self._stacks.popitem(last=False)
        return self._stacks[names]

    def drop(self, name: str) -> None:
        """Forget every stack that holds this adapter."""
        for names in [names for names in self._stacks if name in names]:
            del self._stacks[names]


class Mixed:
    """The adapters of a batch whose rows are sorted by stack: each stack sees only its own rows' tokens."""

    def __init__(self, stacks: Sequence[Fused | None], counts: Sequence[int]) -> None:
        """`stacks` and `counts` have one entry a row: its adapters, and how many tokens it brings."""
        self._groups: list[tuple[slice, Fused]] = []
        first = 0
        for fused, rows in groupby(zip(stacks, counts, strict=True), key=lambda row: row[0]):
            last = first + sum(count for _, count in rows)
            if fused is not None:
                self._groups.append((slice(first, last), fused))
            first = last

    def add(self, layer: int, projection: str, x: Tensor, y: Tensor) -> Tensor:
        """`y` (N, 1, out) plus each token's own adapter."""
        for tokens, fused in self._groups:
            y[tokens] = fused.add(layer, projection, x[tokens], y[tokens])
        return y


class Rows:
    """Keys and values of a batch of rows of different length, room for `capacity` tokens each."""

    def __init__(self, model: Transformer, rows: int, capacity: int) -> None:
        """All rows start empty."""
        config = model.config
        shape = (rows, config.kv_heads, capacity, config.head_dim)
        self._model = model
        self.k = [torch.zeros(shape, dtype=model.dtype, device=model.device) for _ in range(config.layers)]
        self.v = [torch.zeros_like(k) for k in self.k]
        self.length = torch.zeros(rows, dtype=torch.long)

    def select(self, rows: Sequence[int]) -> Rows:
        """A copy that holds only these rows, in this order; a row may be taken more than once."""
        chosen = Rows.__new__(Rows)
        index = torch.tensor(rows, dtype=torch.long)
        chosen._model = self._model
        chosen.k, chosen.v = [k[index] for k in self.k], [v[index] for v in self.v]
        chosen.length = self.length[index]
        return chosen

    def extend(self, tokens: Sequence[Sequence[int]], stacks: Sequence[Fused | None]) -> Tensor:
        """Append tokens to every row; returns the hidden states (N, hidden) of all, row after row.

        Rows differ in how many tokens they bring, since grammars force some: only attention sees padding,
        all else runs over the N tokens alone.
        """
        model, counts = self._model, [len(row) for row in tokens]
        width = max(counts)
        row = torch.repeat_interleave(torch.arange(len(tokens)), torch.tensor(counts))
        place = torch.cat([torch.arange(count) for count in counts])
        positions = self.length[row] + place
        span = int(positions.max()) + 1
        self._reserve(span)
        mask = torch.zeros(len(tokens), width, span, dtype=model.dtype)
        reach = self.length[:, None] + torch.arange(width)
        mask.masked_fill_(torch.arange(span) > reach[:, :, None], float("-inf"))

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self.k[layer][row, :, positions] = k[:, :, 0]
            self.v[layer][row, :, positions] = v[:, :, 0]
            padded = q.new_zeros(len(tokens), width, q.shape[1], q.shape[3])
            padded[row, place] = q[:, :, 0]
            past = self.k[layer][:, :, :span], self.v[layer][:, :, :span]
            return attention(padded.transpose(1, 2), *past, mask)[row, :, place][:, :, None]

        ids = torch.tensor([token for added in tokens for token in added])[:, None]
        every, delta = range(model.config.layers), Mixed(stacks, counts)
        hidden = model.run(model.embed(ids), model.rope(positions[:, None]), attend, every, delta)
        self.length = self.length + torch.tensor(counts)
        return hidden[:, 0]

    def _reserve(self, tokens: int) -> None:
        short = tokens - self.k[0].shape[2]
        if short > 0:
            self.k = [torch.nn.functional.pad(k, (0, 0, 0, short + 16)) for k in self.k]
            self.v = [torch.nn.functional.pad(v, (0, 0, 0, short + 16)) for v in self.v]


@dataclass
class _Prefix:
    """Tokens that several prompts begin with: trunk K/V for everybody, the other layers' for each stack."""

    ids: list[int]
    trunk: KeysValues
    boundary: Tensor
    upper: dict[Stack, KeysValues] = field(default_factory=dict)


class Prefixes:
    """Prompt beginnings seen more than once; their trunk is computed once for the twins of all kinds."""

    def __init__(self, model: Transformer, entries_max: int) -> None:
        """Nothing is known yet."""
        self._model, self._entries_max = model, entries_max
        self._entries: list[_Prefix] = []
        self._recent: list[list[int]] = []

    def fill(self, rows: Rows, row: int, ids: list[int], names: Stack, fused: Fused | None) -> int:
        """Put the longest known beginning of `ids` into an empty row; returns how many tokens it covers."""
        usable = ids[:-1]
        best = max(self._entries, key=lambda entry: _common(entry.ids, usable), default=None)
        count = 0 if best is None else _common(best.ids, usable)
        if best is None or count < PREFIX_TOKENS_MIN:
            self._notice(usable)
            return 0
        layers = self._layers(best, names, fused)
        for layer, (k, v) in enumerate(layers):
            rows.k[layer][row, :, :count] = k[0, :, :count]
            rows.v[layer][row, :, :count] = v[0, :, :count]
        rows.length[row] = count
        return count

    def drop(self, name: str) -> None:
        """Forget what was computed with this adapter."""
        for entry in self._entries:
            entry.upper = {names: kept for names, kept in entry.upper.items() if name not in names}

    def _notice(self, ids: list[int]) -> None:
        if self._entries_max == 0:
            return
        for seen in self._recent:
            if (count := _common(seen, ids)) >= PREFIX_TOKENS_MIN:
                self._entries = [self._compute(ids[:count]), *self._entries][: self._entries_max]
                return
        self._recent = [ids, *self._recent][: self._entries_max]

    def _compute(self, ids: list[int]) -> _Prefix:
        model = self._model
        x = model.embed(torch.tensor([ids]))
        boundary, trunk = self._run(x, range(model.config.boundary), None)
        return _Prefix(ids, trunk, boundary)

    def _layers(self, prefix: _Prefix, names: Stack, fused: Fused | None) -> KeysValues:
        """K/V of all layers under these adapters; those that touch the trunk share none of it."""
        own = fused is not None and fused.first < self._model.config.boundary
        if names not in prefix.upper:
            while len(prefix.upper) >= 4 * self._entries_max:
                prefix.upper.pop(next(iter(prefix.upper)))
            first = 0 if own else self._model.config.boundary
            x = self._model.embed(torch.tensor([prefix.ids])) if own else prefix.boundary
            prefix.upper[names] = self._run(x, range(first, self._model.config.layers), fused)[1]
        return prefix.upper[names] if own else prefix.trunk + prefix.upper[names]

    def _run(self, x: Tensor, layers: range, fused: Fused | None) -> tuple[Tensor, KeysValues]:
        model, kept = self._model, KeysValues()
        length = x.shape[1]
        attend = recording(causal(length, model.dtype), kept)
        return model.run(x, model.rope(torch.arange(length)[None]), attend, layers, fused), kept


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count
