"""LoRA weights in memory and as PEFT-format folders. It knows nothing of tuning, serving or signatures.

LoRA adds `(alpha / r) * B @ A` to a frozen weight (Hu et al. 2021, https://arxiv.org/abs/2106.09685).
Two adapters stack exactly by concatenating their ranks: [B1 B2] @ [A1; A2] = B1 A1 + B2 A2.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from llmtwin.errors import InputError
from llmtwin.models.base import Config

MODULES = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
PARTS = {"qkv": ("q", "k", "v"), "o": ("o",), "gate_up": ("gate", "up"), "down": ("down",)}
SCALE = 2.0
"""alpha / r of every adapter that we make."""


def sizes(config: Config) -> dict[str, tuple[int, int]]:
    """(in, out) features of each adapted module."""
    attention, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    hidden, wide = config.hidden, config.intermediate
    return {
        "q": (hidden, attention),
        "k": (hidden, kv),
        "v": (hidden, kv),
        "o": (attention, hidden),
        "gate": (hidden, wide),
        "up": (hidden, wide),
        "down": (wide, hidden),
    }


@dataclass(frozen=True)
class Lora:
    """An adapter over the layers `first` … `config.layers - 1`.

    `a[layer, module]` is (r, in), `b[layer, module]` is (out, r); the added weight is SCALE * b @ a.
    """

    rank: int
    first: int
    a: dict[tuple[int, str], Tensor]
    b: dict[tuple[int, str], Tensor]

    @classmethod
    def fresh(cls, config: Config, rank: int, first: int, seed: int) -> Lora:
        """A new adapter that changes nothing yet: A is random, B is zero."""
        generator = torch.Generator().manual_seed(seed)
        a, b = {}, {}
        for layer in range(first, config.layers):
            for module, (width, out) in sizes(config).items():
                a[layer, module] = torch.randn(rank, width, generator=generator) / math.sqrt(width)
                b[layer, module] = torch.zeros(out, rank)
        return cls(rank, first, a, b)

    @classmethod
    def load(cls, folder: Path) -> Lora:
        """Read a PEFT-format folder that `save` wrote; InputError if it is not one."""
        try:
            config = json.loads((folder / "adapter_config.json").read_text())
            tensors = load_file(folder / "adapter_model.safetensors")
            fold = config["lora_alpha"] / config["r"] / SCALE
            layers, rank = config["layers_to_transform"], int(config["r"])
            a = {(i, m): tensors[_name(i, m, "A")].float() for i in layers for m in MODULES}
            b = {(i, m): tensors[_name(i, m, "B")].float() * fold for i in layers for m in MODULES}
            return cls(rank, min(layers), a, b)
        except (OSError, ValueError, KeyError, TypeError, ArithmeticError, SafetensorError) as error:
            raise InputError(f"{folder} is no adapter of ours: {error}") from error

    def save(self, folder: Path, base_name: str) -> None:
        """Write a folder that stock `peft` loads over the stock base; weights are stored as bf16."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {_name(i, m, "A"): t for (i, m), t in self.a.items()}
        tensors |= {_name(i, m, "B"): t for (i, m), t in self.b.items()}
        save_file(
            {name: t.to(torch.bfloat16).contiguous() for name, t in tensors.items()},
            folder / "adapter_model.safetensors",
            metadata={"format": "pt"},
        )
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_name,
            "r": self.rank,
            "lora_alpha": SCALE * self.rank,
            "lora_dropout": 0.0,
            "bias": "none",
            "inference_mode": True,
            "target_modules": sorted(module.rsplit(".", 1)[1] for module in MODULES.values()),
            "layers_to_transform": sorted({layer for layer, _ in self.a}),
            "layers_pattern": "layers",
        }
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2))

    def rounded(self) -> Lora:
        """The adapter as it is after a save and a load: its weights as bf16 can hold them."""
        a = {key: t.bfloat16().float() for key, t in self.a.items()}
        b = {key: t.bfloat16().float() for key, t in self.b.items()}
        return Lora(self.rank, self.first, a, b)


def stack(adapters: list[Lora]) -> Lora:
    """Several adapters of one base as one, by rank concatenation: exact, nothing is merged.

    Raises InputError for adapters of bases of different shapes.
    """
    widest = min(adapters, key=lambda lora: lora.first)
    every = [_padded(lora, widest) for lora in adapters]
    try:
        a = {key: torch.cat([lora.a[key] for lora in every]) for key in widest.a}
        b = {key: torch.cat([lora.b[key] for lora in every], dim=1) for key in widest.b}
    except RuntimeError as error:
        raise InputError("only adapters of the same base can be stacked") from error
    return Lora(sum(lora.rank for lora in every), widest.first, a, b)


def interpolated(first: Lora, second: Lora, share: float) -> Lora:
    """The weights `1 - share` of the way from `second` to `first`, exactly: each is scaled, then stacked.

    A share of 0.1 is the moving average 0.9 first + 0.1 second. Raises InputError as `stack` does, and for a
    share that is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise InputError(f"a share of {share} cannot be; give one between 0 and 1")
    return stack([_scaled(first, 1 - share), _scaled(second, share)])


def _scaled(lora: Lora, factor: float) -> Lora:
    return Lora(lora.rank, lora.first, lora.a, {key: t * factor for key, t in lora.b.items()})


def _padded(lora: Lora, like: Lora) -> Lora:
    """`lora` with zeros in the layers of `like` that it does not touch."""
    if not lora.a.keys() <= like.a.keys():
        raise InputError("only adapters of the same base can be stacked")
    a = {key: lora.a.get(key, t.new_zeros(lora.rank, t.shape[1])) for key, t in like.a.items()}
    b = {key: lora.b.get(key, t.new_zeros(t.shape[0], lora.rank)) for key, t in like.b.items()}
    return Lora(lora.rank, like.first, a, b)


def shapes(config: Config, rank: int, first: int) -> dict[str, tuple[int, ...]]:
    """The tensors that a stored adapter of this rank must hold, by name."""
    found: dict[str, tuple[int, ...]] = {}
    for layer in range(first, config.layers):
        for module, (width, out) in sizes(config).items():
            found[_name(layer, module, "A")] = (rank, width)
            found[_name(layer, module, "B")] = (out, rank)
    return found


class Fused:
    """A frozen adapter laid out for speed: one A and one block-diagonal B per fused projection."""

    def __init__(self, lora: Lora, dtype: torch.dtype) -> None:
        """Lay `lora` out in `dtype`, with its scale folded into B."""
        self.bytes, self.first = 0, lora.first
        self.a: dict[tuple[int, str], Tensor] = {}
        self.b: dict[tuple[int, str], Tensor] = {}
        for layer in sorted({layer for layer, _ in lora.a}):
            for projection, parts in PARTS.items():
                a = torch.cat([lora.a[layer, part] for part in parts])
                blocks = [lora.b[layer, part] for part in parts]
                b = torch.block_diag(*blocks) * SCALE  # type: ignore[no-untyped-call]
                self.a[layer, projection] = a.to(dtype).contiguous()
                self.b[layer, projection] = b.to(dtype).contiguous()
                self.bytes += (a.numel() + b.numel()) * dtype.itemsize

    def add(self, layer: int, projection: str, x: Tensor, y: Tensor) -> Tensor:
        """`y` plus the adapter's share; layers below the adapter are left alone."""
        a = self.a.get((layer, projection))
        return y if a is None else y + F.linear(F.linear(x, a), self.b[layer, projection])


def _name(layer: int, module: str, half: str) -> str:
    return f"base_model.model.model.layers.{layer}.{MODULES[module]}.lora_{half}.weight"
