"""Writes a version for other programs: what reads PEFT's folders, and llama.cpp."""

from __future__ import annotations

from pathlib import Path

from llmtwin.errors import Conflict
from llmtwin.models.base import Base
from llmtwin.models.files import whole
from llmtwin.models.gguf import write_gguf
from llmtwin.models.lora import Lora, stack
from llmtwin.records import Format
from llmtwin.twins.kind import kind
from llmtwin.wire.package import MANIFEST, SignedManifest, read_package


def write_model(version: Path, base: Base, target: Path, format: Format) -> None:
    """Write skill and twin of the version in that folder for another program: PEFT's, or llama.cpp's.

    Raises Conflict where the version is for another base, Unavailable where it cannot be written, and as
    `write_gguf` does.
    """
    manifest = SignedManifest.model_validate_json(read_package(version)[MANIFEST]).manifest
    if manifest.base != base.hash:
        raise Conflict(f"version {manifest.version} is for another base than {base.name}")
    skill = kind(manifest.kind).skill(base.hash) if manifest.skill else None
    lora = stack([Lora.load(part) for part in (skill, version) if part])
    if format is Format.GGUF:
        write_gguf(base, lora, target)
    else:
        with whole(target) as made:
            lora.save(made, base.name)
