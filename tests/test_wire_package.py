"""The adapter package: a good one passes, and every bad one is refused with its reason."""

from __future__ import annotations

import io
import json
import math
import pickle
import stat
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from llmtwin.errors import Conflict, InputError, LlmtwinError, NotFound, TooLarge, Unavailable, Untrusted
from llmtwin.records import Card, Manifest
from llmtwin.wire.files import write_durably
from llmtwin.wire.package import (
    CARD,
    CONFIG,
    FILES,
    JSON_BYTES_MAX,
    MANIFEST,
    WEIGHTS,
    WEIGHTS_BYTES_MAX,
    Expect,
    Origin,
    check_package,
    read_package,
    seal_package,
    write_package_atomic,
)
from llmtwin.wire.sign import load_key, new_key, public_key_text, sign, verify

BASE, SKILL, DATA = (name * 64 for name in "abc")
KEY = Ed25519PrivateKey.generate()
PUBLIC_KEY = public_key_text(KEY)
SHAPES = {"layers.20.q_proj.lora_A.weight": (2, 8), "layers.20.q_proj.lora_B.weight": (8, 2)}
EXPECT = Expect(twin="home1", base=BASE, skill=SKILL, version_after=2, shapes=SHAPES)
ORIGIN = Origin(twin="home1", version=3, kind="home", base=BASE, skill=SKILL, data=DATA)
GOOD = {name: np.full(shape, 0.5, np.float32) for name, shape in SHAPES.items()}


def card(version: int = 3) -> bytes:
    made_at = datetime(2026, 3, 1, tzinfo=UTC)
    return Card(twin="home1", version=version, kind="home", created_at=made_at).model_dump_json().encode()


def config(**values: Any) -> bytes:
    good = {"peft_type": "LORA", "r": 2, "lora_alpha": 4.0, "layers_to_transform": [20]}
    return json.dumps(good | values).encode()


def package(folder: Path, origin: Origin = ORIGIN, **parts: bytes) -> dict[str, bytes]:
    """A sealed package of these parts: whatever they hold, the edge's own key signed it."""
    (folder / CONFIG).write_bytes(parts.get("config", config()))
    (folder / WEIGHTS).write_bytes(parts.get("weights", save(GOOD)))
    (folder / CARD).write_bytes(parts.get("card", card()))
    seal_package(folder, origin, KEY)
    return read_package(folder)


def refusal(parts: dict[str, bytes], expect: Expect = EXPECT, public_key: str = PUBLIC_KEY) -> str:
    with pytest.raises((Untrusted, TooLarge)) as caught:
        check_package(parts, public_key, expect)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_good_package_passes(tmp_path: Path) -> None:
    parts = package(tmp_path)
    manifest = check_package(parts, PUBLIC_KEY, EXPECT)
    assert (manifest.twin, manifest.version, manifest.base) == ("home1", 3, BASE)
    assert manifest.weights == sha256(parts[WEIGHTS]).hexdigest()
    assert check_package(parts, PUBLIC_KEY, replace(EXPECT, shapes=None)) == manifest


def test_a_time_in_any_zone_can_be_sealed(tmp_path: Path) -> None:
    elsewhere = datetime(2026, 3, 1, tzinfo=timezone(timedelta(hours=5, minutes=45, seconds=7)))
    parts = package(tmp_path, replace(ORIGIN, created_at=elsewhere))
    assert check_package(parts, PUBLIC_KEY, EXPECT).created_at == elsewhere


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return package(tmp_path_factory.mktemp("sealed"))


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(FILES), data=st.data())
def test_no_change_of_any_file_goes_unseen(sealed: dict[str, bytes], name: str, data: st.DataObject) -> None:
    content = sealed[name]
    start = data.draw(st.integers(0, len(content)), "start")
    end = data.draw(st.integers(start, min(start + 4, len(content))), "end")
    changed = content[:start] + data.draw(st.binary(max_size=4), "instead") + content[end:]
    if changed == content:
        check_package(sealed, PUBLIC_KEY, EXPECT)
    else:
        refusal(sealed | {name: changed})


# --- bad adapters, one by one ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expect", "reason"),
    [
        (replace(EXPECT, base="d" * 64), "base"),
        (replace(EXPECT, skill=None), "skill"),
        (replace(EXPECT, twin="home2"), "twin"),
        (replace(EXPECT, version_after=3), "version 3 is not after version 3"),
    ],
)
def test_an_adapter_for_something_else(tmp_path: Path, expect: Expect, reason: str) -> None:
    assert reason in refusal(package(tmp_path), expect)


def test_wrong_shapes(tmp_path: Path) -> None:
    wrong = {name: array.reshape(4, 4) for name, array in GOOD.items()}
    assert "shape (4, 4)" in refusal(package(tmp_path, weights=save(wrong)))


@pytest.mark.parametrize("names", [list(SHAPES)[:1], [*SHAPES, "lm_head.weight"], ["../../x", *SHAPES]])
def test_other_tensors(tmp_path: Path, names: list[str]) -> None:
    tensors = {name: GOOD.get(name, np.zeros(1, np.float32)) for name in names}
    assert "other tensors" in refusal(package(tmp_path, weights=save(tensors)))


def test_no_tensors(tmp_path: Path) -> None:
    assert "no weights" in refusal(package(tmp_path, weights=save({})), replace(EXPECT, shapes=None))


@pytest.mark.parametrize("kept", [0, 7, 8, 100, -1])
def test_a_truncated_file(tmp_path: Path, kept: int) -> None:
    whole = package(tmp_path)
    assert "digest" in refusal(whole | {WEIGHTS: whole[WEIGHTS][:kept]})
    assert "safetensors" in refusal(package(tmp_path, weights=save(GOOD)[:kept]))


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, CARD])
def test_a_wrong_digest(tmp_path: Path, name: str) -> None:
    parts = package(tmp_path)
    assert refusal(parts | {name: parts[name] + b" "}).startswith(name)


def test_a_signature_by_another_key(tmp_path: Path) -> None:
    stranger = public_key_text(Ed25519PrivateKey.generate())
    assert "signature" in refusal(package(tmp_path), public_key=stranger)


@pytest.mark.parametrize("public_key", ["", "zz", "ab" * 31])
def test_a_public_key_that_is_none(tmp_path: Path, public_key: str) -> None:
    assert "public key" in refusal(package(tmp_path), public_key=public_key)


def test_a_missing_signature(tmp_path: Path) -> None:
    parts = package(tmp_path)
    bare = Manifest.model_validate_json(
        parts[MANIFEST][len('{"manifest":') : parts[MANIFEST].index(b',"signature"')]
    )
    unsigned = f'{{"manifest":{bare.model_dump_json()}}}'.encode()
    empty = f'{{"manifest":{bare.model_dump_json()},"signature":""}}'.encode()
    assert "signature" in refusal(parts | {MANIFEST: unsigned})
    assert "signature" in refusal(parts | {MANIFEST: empty})


def test_a_pickle_as_weights(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return Path.touch, (tmp_path / "exploded",)  # type: ignore[return-value]

    assert "safetensors" in refusal(package(tmp_path, weights=pickle.dumps(Bomb())))
    assert not (tmp_path / "exploded").exists()


def test_a_zip_bomb_as_weights(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("data.pkl", bytes(10_000_000))
    assert "safetensors" in refusal(package(tmp_path, weights=archive.getvalue()))


@pytest.mark.parametrize(
    ("name", "bytes_max"),
    [(WEIGHTS, WEIGHTS_BYTES_MAX), (CONFIG, JSON_BYTES_MAX), (MANIFEST, JSON_BYTES_MAX)],
)
def test_a_file_too_large(tmp_path: Path, name: str, bytes_max: int) -> None:
    parts = package(tmp_path)
    too_large = bytes(bytes_max + 1)
    with pytest.raises(TooLarge, match="bytes"):
        check_package(parts | {name: too_large}, PUBLIC_KEY, EXPECT)
    (tmp_path / name).write_bytes(too_large)
    with pytest.raises(TooLarge, match="bytes"):
        read_package(tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_weights_that_are_no_numbers(tmp_path: Path, bad: float, dtype: type[np.floating]) -> None:
    tensors = {name: array.astype(dtype) for name, array in GOOD.items()}
    check_package(package(tmp_path, weights=save(tensors)), PUBLIC_KEY, EXPECT)
    tensors[list(SHAPES)[1]][-1, -1] = bad
    assert "NaN" in refusal(package(tmp_path, weights=save(tensors)))


@pytest.mark.parametrize("bits", [0x7F80, 0xFF80, 0x7FC0])
def test_bfloat16_weights_that_are_no_numbers(tmp_path: Path, bits: int) -> None:
    # numpy has no bfloat16: half floats of the same bits, with the dtype renamed in the header
    largest = {name: np.full(shape, 0x7F7F, np.uint16).view(np.float16) for name, shape in SHAPES.items()}
    renamed = save(largest).replace(b'"dtype":"F16"', b'"dtype":"BF16"').replace(b"  {", b"{")
    header = renamed.index(b"}}") + 2
    start = renamed.index(b"{")
    padded = (header - start + 7) // 8 * 8
    weights = padded.to_bytes(8, "little") + renamed[start:header].ljust(padded) + renamed[-64:]
    check_package(package(tmp_path, weights=weights), PUBLIC_KEY, EXPECT)
    assert "NaN" in refusal(package(tmp_path, weights=weights[:-2] + bits.to_bytes(2, "little")))


@pytest.mark.parametrize("dtype", [np.float64, np.int8, np.int64])
def test_another_kind_of_number(tmp_path: Path, dtype: type[np.number]) -> None:
    assert "only F32" in refusal(
        package(tmp_path, weights=save({n: a.astype(dtype) for n, a in GOOD.items()}))
    )


@pytest.mark.parametrize("name", ["../card.json", "/etc/passwd", "card.json/..", "adapter_model.bin", ""])
def test_other_names(tmp_path: Path, name: str) -> None:
    parts = package(tmp_path)
    assert "exactly the files" in refusal(parts | {name: b"{}"})
    assert "exactly the files" in refusal({**{n: parts[n] for n in FILES if n != CARD}, name: parts[CARD]})
    with pytest.raises(Untrusted):
        write_package_atomic(parts | {name: b"{}"}, tmp_path / "server" / "3")
    assert not (tmp_path / "server").exists()


@pytest.mark.parametrize(
    ("part", "content"),
    [
        (CONFIG, b"{"),
        (CONFIG, b"[" * 500_000),
        (CONFIG, config(peft_type="IA3")),
        *((CONFIG, config(r=rank)) for rank in (0, -1, 2.5, "2", None)),
        *((CONFIG, config(lora_alpha=alpha)) for alpha in (0, -1.0, math.nan, math.inf, "4", None)),
        *((CONFIG, config(layers_to_transform=layers)) for layers in ([], [-1], [0.5], ["1"], 1, None)),
        (CARD, b"[]"),
        (CARD, card(version=4)),
    ],
)
def test_a_config_or_card_that_is_none(tmp_path: Path, part: str, content: bytes) -> None:
    parts = package(tmp_path, config=content) if part == CONFIG else package(tmp_path, card=content)
    assert part in refusal(parts)


@pytest.mark.parametrize("content", [b"", b"{}", b"null", b"\xff", b"[" * 500_000])
def test_a_manifest_that_is_none(tmp_path: Path, content: bytes) -> None:
    assert MANIFEST in refusal(package(tmp_path) | {MANIFEST: content})


def test_a_manifest_in_another_form(tmp_path: Path) -> None:
    parts = package(tmp_path)
    indented = json.dumps(json.loads(parts[MANIFEST]), indent=1).encode()
    assert "form" in refusal(parts | {MANIFEST: indented})


# --- files -----------------------------------------------------------------------------------------------


def test_a_package_is_written_whole_and_never_over_another(tmp_path: Path) -> None:
    (edge := tmp_path / "edge").mkdir()
    parts = package(edge)
    target = tmp_path / "server" / "home1" / "3"
    write_package_atomic(parts, target)
    assert read_package(target) == parts
    with pytest.raises(Conflict, match="new version"):
        write_package_atomic(parts | {CARD: b"{}"}, target)
    assert read_package(target) == parts
    assert [folder.name for folder in target.parent.iterdir()] == ["3"]


@pytest.mark.parametrize("calls", range(1, 6))
def test_a_disk_that_fails_leaves_no_half_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    (edge := tmp_path / "edge").mkdir()
    parts = package(edge)
    left = iter(range(calls - 1))

    def failing(handle: int) -> None:
        if next(left, None) is None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", failing)
    target = tmp_path / "server" / "3"
    with pytest.raises(LlmtwinError, match="No space left"):
        write_package_atomic(parts, target)
    assert list(target.parent.iterdir()) == []


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="card cannot be written: No such file"):
        write_durably(tmp_path / "none" / "card", b"")


def test_a_package_without_a_file_is_not_found(tmp_path: Path) -> None:
    package(tmp_path)
    (tmp_path / CARD).unlink()
    with pytest.raises(NotFound, match=CARD):
        read_package(tmp_path)
    with pytest.raises(NotFound, match=CARD):
        seal_package(tmp_path, ORIGIN, KEY)


def test_what_no_manifest_can_say_is_not_sealed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="twin"):
        package(tmp_path, replace(ORIGIN, twin="../home1"))


# --- keys ------------------------------------------------------------------------------------------------


def test_a_key_is_kept_private_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "home1" / "key.pem"
    key = new_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert public_key_text(load_key(path)) == public_key_text(key)
    with pytest.raises(Conflict, match="already there"):
        new_key(path)
    assert public_key_text(load_key(path)) == public_key_text(key)


def test_a_file_without_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        load_key(tmp_path / "key.pem")
    (tmp_path / "key.pem").write_bytes(b"no key")
    with pytest.raises(InputError, match="no readable private key"):
        load_key(tmp_path / "key.pem")


def test_a_signature_is_of_one_manifest(tmp_path: Path) -> None:
    package(tmp_path)
    manifest = seal_package(tmp_path, ORIGIN, KEY)
    verify(manifest, sign(manifest, KEY), PUBLIC_KEY)
    with pytest.raises(Untrusted, match="signature"):
        verify(manifest.model_copy(update={"version": 4}), sign(manifest, KEY), PUBLIC_KEY)
