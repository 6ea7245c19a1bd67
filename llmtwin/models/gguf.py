"""Writes a base with an adapter as one GGUF file, for llama.cpp. It knows no twin and runs nothing.

Only here is an adapter merged into weights: the file is a copy for another program and is never read back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
from torch import Tensor

from llmtwin.errors import InputError
from llmtwin.models.base import Base, Config
from llmtwin.models.files import whole
from llmtwin.models.lora import MODULES, SCALE, Lora
from llmtwin.models.transformer import rope_frequencies

# The pattern by which a tokenizer splits words off before it merges bytes, and llama.cpp's name for it.
_SPLITS = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits + r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+": name
    for digits, name in ((r"\p{N}", "qwen2"), (r"\p{N}{1,3}", "llama-bpe"))
}

_ARCHITECTURES = {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2}


def write_gguf(base: Base, lora: Lora, file: Path) -> None:
    """Write `base` with `lora` merged into it; the file is there whole or not at all.

    It reads text as our engine does: no begin token is added. Raises InputError for a tokenizer that
    llama.cpp has no name for, Unavailable where the file cannot be written.
    """
    with whole(file) as made:
        _write(base, lora, made)


def _write(base: Base, lora: Lora, file: Path) -> None:
    architecture = json.loads((base.folder / "config.json").read_text())["model_type"]
    writer: Any = gguf.GGUFWriter(file, architecture)
    try:
        _add_shape(writer, base)
        _add_tokenizer(writer, base)
        for name, weight in _merged(base, lora, architecture):
            writer.add_tensor(name, weight.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _add_shape(writer: Any, base: Base) -> None:
    config = base.config
    writer.add_name(base.name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_vocab_size(config.vocab)
    writer.add_context_length(config.positions)
    writer.add_block_count(config.layers)
    writer.add_embedding_length(config.hidden)
    writer.add_feed_forward_length(config.intermediate)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)


def _add_tokenizer(writer: Any, base: Base) -> None:
    texts = [f"[PAD{index}]" for index in range(base.config.vocab)]
    types = [gguf.TokenType.UNUSED] * len(texts)
    for text, index in base.tokenizer.get_vocab(with_added_tokens=True).items():
        texts[index], types[index] = text, gguf.TokenType.NORMAL
    for index, added in base.tokenizer.get_added_tokens_decoder().items():
        types[index] = gguf.TokenType.CONTROL if added.special else gguf.TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_split(json.loads((base.folder / "tokenizer.json").read_text())))
    writer.add_token_list(texts)
    writer.add_token_types(types)
    special = gguf.SpecialVocab(
        base.folder, load_merges=True, special_token_types=("bos", "eos", "unk", "pad")
    )
    special.add_special_token = {"bos": False, "eos": False}
    special.add_to_gguf(writer, quiet=True)


def _split(tokenizer: dict[str, Any]) -> str:
    """llama.cpp's name for how a tokenizer (as in tokenizer.json) splits a text into words."""
    before = tokenizer.get("pre_tokenizer") or {}
    match before.get("pretokenizers", [before]):
        case [{"type": "ByteLevel", "use_regex": True, "add_prefix_space": False}]:
            return "gpt-2"
        case [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "use_regex": True}]:
            return "smollm"
        case [{"type": "Split", "pattern": {"Regex": str(pattern)}}, {"type": "ByteLevel"}] if (
            pattern in _SPLITS
        ):
            return _SPLITS[pattern]
    raise InputError(
        "this base's tokenizer splits words in a way that has no name in GGUF: use --format peft"
    )


def _merged(base: Base, lora: Lora, architecture: str) -> Iterator[tuple[str, Tensor]]:
    """All weights with the adapter added, by their names in GGUF.

    The base's matrices are at F16. Those that the adapter changes are at F32: rounding its small changes
    away would turn tokens that are all but as likely as others.
    """
    config, tensors = base.config, base.tensors()
    added = {f"model.layers.{layer}.{MODULES[module]}.weight": (layer, module) for layer, module in lora.a}
    names = gguf.get_tensor_name_map(_ARCHITECTURES[architecture], config.layers)
    if config.tied:
        tensors.pop("lm_head.weight", None)
    for name in list(tensors):
        weight = tensors.pop(name).float()
        if key := added.get(name):
            weight += SCALE * (lora.b[key] @ lora.a[key])
        if architecture == "llama":
            weight = _interleaved(name, weight, config)
        exact = weight.dim() == 1 or name in added
        yield str(names.get_name(name, (".weight", ".bias"))), weight if exact else weight.half()
    if config.rope_scaling:
        plain = replace(config, rope_scaling=None)
        yield "rope_freqs.weight", rope_frequencies(plain) / rope_frequencies(config)


def _interleaved(name: str, weight: Tensor, config: Config) -> Tensor:
    """A query or key projection with each head's rows as llama.cpp rotates them: in pairs, not in halves."""
    heads = {"q_proj.weight": config.heads, "k_proj.weight": config.kv_heads}
    for end, count in heads.items():
        if name.endswith(end):
            rows = weight.view(count, 2, config.head_dim // 2, -1)
            return rows.transpose(1, 2).reshape(weight.shape)
    return weight
