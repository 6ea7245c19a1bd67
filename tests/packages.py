"""Adapter packages for tests: tiny weights, honest manifests, and ways to spoil them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import save

from llmtwin.models.engine.echo import EchoEngine
from llmtwin.records import Card, now
from llmtwin.wire.package import CARD, CONFIG, WEIGHTS, Origin, read_package, seal_package

TENSOR = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def make_package(
    folder: Path,
    key: Ed25519PrivateKey,
    twin: str,
    version: int,
    *,
    kind: str = "echo",
    base: str = EchoEngine.base_hash,
    value: float = 0.5,
) -> dict[str, bytes]:
    """The parts of a package of one tensor, 4 x 8, all of `value`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(
        '{"peft_type": "LORA", "r": 4, "lora_alpha": 8.0, "layers_to_transform": [0]}'
    )
    (folder / WEIGHTS).write_bytes(save({TENSOR: np.full((4, 8), value, dtype=np.float32)}))
    card = Card(twin=twin, version=version, kind=kind, created_at=now(), figures={"recall": 1.0})
    (folder / CARD).write_text(card.model_dump_json())
    origin = Origin(twin=twin, version=version, kind=kind, base=base, data="0" * 64)
    seal_package(folder, origin, key)
    return read_package(folder)
