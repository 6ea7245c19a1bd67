"""What is written for other programs is there whole, or not at all and in one line."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from llmtwin.edge.export import write_model
from llmtwin.errors import Unavailable
from llmtwin.models.base import Base
from llmtwin.models.lora import Lora
from llmtwin.records import Card, Format, now
from llmtwin.wire.package import CARD, Origin, seal_package
from tests.models import tiny_base


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return tiny_base(tmp_path, "llama")


@pytest.fixture
def version(base: Base, tmp_path: Path) -> Path:
    folder = tmp_path / "version"
    Lora.fresh(base.config, 4, 3, seed=0).save(folder, base.name)
    card = Card(twin="desk", version=1, kind="model", created_at=now())
    (folder / CARD).write_text(card.model_dump_json())
    seal_package(folder, Origin("desk", 1, "model", base.hash, "0" * 64), Ed25519PrivateKey.generate())
    return folder


def test_a_folder_is_written_into_an_empty_one(base: Base, version: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "peft"
    out.mkdir(parents=True)
    write_model(version, base, out, Format.PEFT)
    assert Lora.load(out).rank == 4 and [one.name for one in out.parent.iterdir()] == ["peft"]


@pytest.mark.parametrize("room", [0, 5000])
def test_of_a_folder_that_the_disk_does_not_take_nothing_stays(
    room: int, base: Base, version: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(Unavailable, match="peft cannot be written"):
            write_model(version, base, out / "peft", Format.PEFT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(out.iterdir())


def test_a_place_that_cannot_be_is_named(base: Base, version: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="peft cannot be written"):
        write_model(version, base, tmp_path / "file" / "peft", Format.PEFT)
