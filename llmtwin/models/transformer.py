"""One decoder forward pass for Llama and Qwen2 shapes, shared by tuning and serving.

It knows nothing of caches, batching or where adapters come from: the caller hands in how to attend and
what to add to each projection.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from llmtwin.models.base import Base, Config, probe_dtype
from llmtwin.models.head import token_logprobs

PROJECTIONS = ("qkv", "o", "gate_up", "down")

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, q (B, heads, T, D), k (B, kv_heads, T, D), v) -> attention output (B, heads, T, D)."""
Places = tuple[Tensor, Tensor]
"""Some places of a batch: the row (N) and the position (N) of each."""


class Delta(Protocol):
    """What adapters add to a projection of a layer."""

    def add(self, layer: int, projection: str, x: Tensor, y: Tensor) -> Tensor:
        """`y` (..., out) plus the adapter's share for input `x` (..., in)."""
        ...


@dataclass(frozen=True)
class Layer:
    """One layer's frozen weights, with q/k/v and gate/up fused into one matrix each."""

    input_norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    o: Tensor
    post_norm: Tensor
    gate_up: Tensor
    down: Tensor


class Transformer:
    """The frozen base in memory."""

    def __init__(self, base: Base, dtype: torch.dtype | None = None, device: str = "cpu") -> None:
        """Load the weights of `base`; without a dtype, the faster one on this machine is taken."""
        self.base = base
        self.config: Config = base.config
        self.device = torch.device(device)
        self.dtype = dtype or probe_dtype(self.device)
        tensors = base.tensors()
        self.embedding = self._take(tensors, "model.embed_tokens.weight")
        self.layers: list[Layer | None] = [None] * self.config.layers
        self._load(tensors)
        self.norm = self._take(tensors, "model.norm.weight")
        self.head_weight = self.embedding if self.config.tied else self._take(tensors, "lm_head.weight")
        self._frequencies = rope_frequencies(self.config).to(self.device)

    def release(self, layers: range) -> None:
        """Let go of the weights of some layers; they are read again when they are next run through."""
        for index in layers:
            self.layers[index] = None

    def _take(self, tensors: dict[str, Tensor], *names: str) -> Tensor:
        # Always a copy: one tensor that stays mapped keeps all of the file's pages that were read.
        return torch.cat([tensors.pop(name) for name in names]).to(self.device, self.dtype)

    # What is read while nothing is learned may be learned over later.
    @torch.inference_mode(False)
    def _load(self, tensors: dict[str, Tensor]) -> list[Layer]:
        """Read the layers that are not in memory, and give all."""
        found = [
            self._layer(f"model.layers.{index}.", tensors) if layer is None else layer
            for index, layer in enumerate(self.layers)
        ]
        self.layers = list(found)
        return found

    def _layer(self, prefix: str, tensors: dict[str, Tensor]) -> Layer:
        take = partial(self._take, tensors)
        attention, mlp = prefix + "self_attn.", prefix + "mlp."
        qkv = [f"{attention}{x}_proj" for x in "qkv"]
        biased = f"{qkv[0]}.bias" in tensors
        return Layer(
            input_norm=take(prefix + "input_layernorm.weight"),
            qkv=take(*(f"{name}.weight" for name in qkv)),
            qkv_bias=take(*(f"{name}.bias" for name in qkv)) if biased else None,
            o=take(attention + "o_proj.weight"),
            post_norm=take(prefix + "post_attention_layernorm.weight"),
            gate_up=take(mlp + "gate_proj.weight", mlp + "up_proj.weight"),
            down=take(mlp + "down_proj.weight"),
        )

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids (B, T) to hidden states (B, T, hidden)."""
        return F.embedding(ids, self.embedding)

    def rope(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines (B, 1, T, head_dim) for positions (B, T)."""
        angles = positions[:, None, :, None].float() * self._frequencies
        angles = torch.cat([angles, angles], dim=-1)
        return angles.cos().to(self.dtype), angles.sin().to(self.dtype)

    def run(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        attend: Attend,
        layers: range,
        delta: Delta | None = None,
        wanted: Places | None = None,
    ) -> Tensor:
        """Push hidden states x (B, T, hidden) through `layers`; the final norm is left to `logits`.

        Where only some places are `wanted`, those alone come out, as (N, hidden): above the last layer's keys
        and values no other place matters.
        """
        for index in layers:
            x = self._run_layer(index, x, rope, attend, delta, wanted if index == layers[-1] else None)
        return x

    def _run_layer(
        self,
        index: int,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        attend: Attend,
        delta: Delta | None,
        wanted: Places | None,
    ) -> Tensor:
        config = self.config
        layer = self.layers[index] or self._load(self.base.tensors())[index]
        rows, length, _ = x.shape

        def project(name: str, h: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
            y = F.linear(h, weight, bias)
            return y if delta is None else delta.add(index, name, h, y)

        h = F.rms_norm(x, (config.hidden,), layer.input_norm, config.norm_eps)
        qkv = project("qkv", h, layer.qkv, layer.qkv_bias)
        heads = qkv.view(rows, length, -1, config.head_dim).transpose(1, 2)
        q, k, v = torch.split(heads, [config.heads, config.kv_heads, config.kv_heads], dim=1)
        attended = attend(index, _rotate(q, rope), _rotate(k, rope), v).transpose(1, 2)
        attended = attended.reshape(rows, length, -1)
        if wanted is not None:
            x, attended = x[wanted], attended[wanted]
        x = x + project("o", attended, layer.o)
        h = F.rms_norm(x, (config.hidden,), layer.post_norm, config.norm_eps)
        gate, up = project("gate_up", h, layer.gate_up).chunk(2, dim=-1)
        return x + project("down", F.silu(gate) * up, layer.down)

    def logits(self, x: Tensor) -> Tensor:
        """Hidden states (..., hidden) after the last layer to float32 logits (..., vocab)."""
        return F.linear(self.normed(x), self.head_weight).float()

    def normed(self, x: Tensor) -> Tensor:
        """Hidden states (..., hidden) after the last layer as the vocabulary head takes them."""
        return F.rms_norm(x, (self.config.hidden,), self.norm, self.config.norm_eps)

    def token_logprobs(self, x: Tensor, targets: Tensor) -> Tensor:
        """Log-probabilities (N, K, nats) of ids (N, K), from hidden states (N, hidden) of the last layer."""
        return token_logprobs(self.normed(x), self.head_weight, targets)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Grouped-query attention of q (B, heads, T, D) over k, v (B, kv_heads, S, D) with mask (B or 1, T, S).

    `mask` is added to the scores. The query heads of one K/V head are one matrix: on a CPU this beats
    `scaled_dot_product_attention` for the short rows of tuning and for one-token decoding.
    """
    rows, heads, length, width = q.shape
    kv_heads, span = k.shape[1], k.shape[2]
    grouped = q.reshape(rows * kv_heads, -1, width) * width**-0.5
    scores = torch.bmm(grouped, k.reshape(-1, span, width).transpose(1, 2))
    scores = scores.view(rows, heads, length, span) + mask[:, None]
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(v.dtype)
    mixed = torch.bmm(weights.view(rows * kv_heads, -1, span), v.reshape(-1, span, width))
    return mixed.view(rows, heads, length, width)


KeysValues = list[tuple[Tensor, Tensor]]
"""K and V (B, kv_heads, T, D) of consecutive layers."""


def causal(length: int, dtype: torch.dtype, before: KeysValues | None = None, first: int = 0) -> Attend:
    """Attention within right-padded rows of `length`: padding comes last, so nobody looks at it.

    `before` are keys and values, from layer `first` on, of one row of tokens that all rows begin with.
    """
    mask = _no_later(length, before[0][0].shape[2] if before else 0, dtype)

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if before:
            k, v = (
                torch.cat([kept.expand(k.shape[0], -1, -1, -1), new], dim=2)
                for kept, new in zip(before[layer - first], (k, v), strict=True)
            )
        return attention(q, k, v, mask)

    return attend


def packed(rows: int, length: int, common: int, dtype: torch.dtype) -> Attend:
    """Attention within one sequence: `common` tokens, and so many rows of `length` that each go on from them.

    As `causal` with the common tokens before, but that these go through the layers with the rows.
    """
    within, mask = causal(common, dtype), _no_later(length, common, dtype)

    def apart(x: Tensor) -> Tensor:
        heads, _, width = x.shape[1:]
        return x[0, :, common:].reshape(heads, rows, length, width).transpose(0, 1)

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        begin = [x[:, :, :common] for x in (q, k, v)]
        keys, values = (
            torch.cat([x.expand(rows, -1, -1, -1), apart(whole)], dim=2)
            for x, whole in zip(begin[1:], (k, v), strict=True)
        )
        each = attention(apart(q), keys, values, mask)
        together = each.transpose(0, 1).reshape(1, q.shape[1], rows * length, q.shape[3])
        return torch.cat([within(layer, *begin), together], dim=2) if common else together

    return attend


def _no_later(length: int, common: int, dtype: torch.dtype) -> Tensor:
    """The mask (1, length, common + length): a token sees what is common, itself, and what came before it."""
    own = torch.full((1, length, length), float("-inf"), dtype=dtype).triu(1)
    return torch.cat([own.new_zeros(1, length, common), own], dim=-1)


def recording(attend: Attend, kept: KeysValues) -> Attend:
    """`attend`, with every layer's keys and values appended to `kept`."""

    def recorded(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        kept.append((k, v))
        return attend(layer, q, k, v)

    return recorded


def _rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = rope
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def rope_frequencies(config: Config) -> Tensor:
    """Inverse frequencies (head_dim / 2), with Llama 3's rescaling of long wavelengths where configured."""
    exponents = torch.arange(0, config.head_dim, 2).float() / config.head_dim
    frequencies: Tensor = 1.0 / config.rope_theta**exponents
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = scaling["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    blend: Tensor = ((turns - low) / (high - low)).clamp(0, 1)
    rescaled: Tensor = frequencies * (blend + (1 - blend) / scaling["factor"])
    return rescaled
