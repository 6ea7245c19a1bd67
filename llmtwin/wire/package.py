"""The adapter package: four files, sealed at the edge, checked before anything of it is believed.

It knows no model: what base, skill and shapes are right is told to it. Weights are only ever read by the
safetensors library; nothing is unpickled or unzipped.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, Field, StringConstraints, ValidationError
from safetensors import SafetensorError, deserialize

from llmtwin.errors import Conflict, InputError, TooLarge, Unavailable, Untrusted
from llmtwin.records import Card, Manifest, Record, now
from llmtwin.wire.files import read_limited, sync_folder, write_durably
from llmtwin.wire.reason import reason
from llmtwin.wire.sign import canonical, sign, verify

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
CARD = "card.json"
MANIFEST = "manifest.json"
FILES = (CONFIG, WEIGHTS, CARD, MANIFEST)

WEIGHTS_BYTES_MAX = 64 * 1024 * 1024
JSON_BYTES_MAX = 1024 * 1024

# The bits of a number, and which of them are all set in NaN and infinity alone.
DTYPES: dict[str, tuple[type[np.unsignedinteger[Any]], int]] = {
    "F32": (np.uint32, 0x7F80_0000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
}


@dataclass(frozen=True)
class Origin:
    """What an edge says of an adapter, beside the digests: base, skill and data are SHA-256 hashes."""

    twin: str
    version: int
    kind: str
    base: str
    data: str
    skill: str | None = None
    created_at: datetime = field(default_factory=now)


@dataclass(frozen=True)
class Expect:
    """What a package must be to be taken. `shapes` is by tensor name; None takes any."""

    twin: str
    base: str
    skill: str | None
    version_after: int
    shapes: Mapping[str, tuple[int, ...]] | None = None


class SignedManifest(Record):
    """The content of manifest.json."""

    manifest: Manifest
    signature: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]


_Parsed = TypeVar("_Parsed", bound=BaseModel)


class _Config(BaseModel):
    """What is believed of a PEFT config: which weights there are, and by what they are scaled."""

    peft_type: Literal["LORA"]
    r: Annotated[int, Field(strict=True, gt=0)]
    lora_alpha: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
    layers_to_transform: Annotated[list[Annotated[int, Field(strict=True, ge=0)]], Field(min_length=1)]


def seal_package(folder: Path, origin: Origin, key: Ed25519PrivateKey) -> Manifest:
    """Write manifest.json beside config, weights and card.

    Raises NotFound if one of them is not there, InputError for an origin that no manifest can say.
    """
    try:
        manifest = Manifest(
            twin=origin.twin,
            version=origin.version,
            kind=origin.kind,
            base=origin.base,
            skill=origin.skill,
            data=origin.data,
            created_at=origin.created_at.astimezone(UTC),
            weights=_digest(_read(folder, WEIGHTS)),
            config=_digest(_read(folder, CONFIG)),
            card=_digest(_read(folder, CARD)),
        )
    except ValidationError as error:
        raise InputError(f"the adapter cannot be sealed: {reason(error)}") from error
    signed = SignedManifest(manifest=manifest, signature=sign(manifest, key))
    write_durably(folder / MANIFEST, canonical(signed.model_dump(mode="json")))
    return manifest


def read_package(folder: Path) -> dict[str, bytes]:
    """The four files of a package, unchecked but for their size. Raises NotFound, TooLarge."""
    return {name: _read(folder, name) for name in FILES}


def check_package(parts: Mapping[str, bytes], public_key: str, expect: Expect) -> Manifest:
    """The manifest of a package that is whole, signed, expected and harmless.

    Raises TooLarge, or Untrusted with the reason. Names and sizes are checked before anything is parsed,
    the signature before anything is believed, the digests before config, card and weights are parsed.
    """
    _check_names_and_sizes(parts)
    manifest = _signed_manifest(parts[MANIFEST], public_key)
    _check_expected(manifest, expect)
    for name, digest in ((CONFIG, manifest.config), (WEIGHTS, manifest.weights), (CARD, manifest.card)):
        if _digest(parts[name]) != digest:
            raise Untrusted(f"{name} is not the file that was signed: its digest differs, push it again")
    _parse(_Config, parts, CONFIG)
    card = _parse(Card, parts, CARD)
    if (card.twin, card.version) != (manifest.twin, manifest.version):
        raise Untrusted(f"{CARD} is the card of {card.twin}@{card.version}, not of this adapter")
    _check_weights(parts[WEIGHTS], expect.shapes)
    return manifest


def write_package_atomic(parts: Mapping[str, bytes], target_folder: Path) -> None:
    """Write a package so that it is seen whole or not at all, also after a crash.

    Raises Conflict if the target is already there, Untrusted for other names than the four.
    """
    _check_names_and_sizes(parts)
    parent = target_folder.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".incoming-", dir=parent) as incoming:
            whole = Path(incoming) / "package"
            whole.mkdir()
            for name in FILES:
                write_durably(whole / name, parts[name])
            sync_folder(whole)
            whole.rename(target_folder)
        sync_folder(parent)
        sync_folder(parent.parent)
    except OSError as error:
        if target_folder.exists():
            raise Conflict(f"{target_folder} is already there: give the adapter a new version") from error
        raise Unavailable(f"{target_folder} cannot be written: {error.strerror}") from error


def data_digest(learned: Iterable[Record]) -> str:
    """What an adapter was made of, as one hash; the order does not matter.

    Paths are left out: they say in plain what a sealed fact is of, and the hash would confirm a guess.
    """
    plain = (one.model_dump_json(exclude={"path", "paths"}) for one in learned)
    return _digest("\n".join(sorted(_digest(line.encode()) for line in plain)).encode())


def bytes_max(name: str) -> int:
    """How large a file of a package may be."""
    return WEIGHTS_BYTES_MAX if name == WEIGHTS else JSON_BYTES_MAX


def _read(folder: Path, name: str) -> bytes:
    return read_limited(folder / name, bytes_max(name))


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def _check_names_and_sizes(parts: Mapping[str, bytes]) -> None:
    if odd := sorted(parts.keys() ^ set(FILES)):
        raise Untrusted(f"a package has exactly the files {', '.join(FILES)}: {odd[0]!r:.80} is wrong")
    for name, content in parts.items():
        if len(content) > bytes_max(name):
            raise TooLarge(f"{name} has {len(content)} bytes: at most {bytes_max(name)} are taken")


def _signed_manifest(content: bytes, public_key: str) -> Manifest:
    try:
        signed = SignedManifest.model_validate_json(content)
    except ValidationError as error:
        raise Untrusted(f"{MANIFEST} is not a signed manifest: {reason(error)}") from error
    verify(signed.manifest, signed.signature, public_key)
    if content != canonical(signed.model_dump(mode="json")):
        raise Untrusted(f"{MANIFEST} is not in the form it was signed in: push it as it was written")
    return signed.manifest


def _check_expected(manifest: Manifest, expect: Expect) -> None:
    for name, got, wanted in (
        ("twin", manifest.twin, expect.twin),
        ("base", manifest.base, expect.base),
        ("skill", manifest.skill, expect.skill),
    ):
        if got != wanted:
            raise Untrusted(f"the adapter is for the {name} {got}, not for {wanted}")
    if manifest.version <= expect.version_after:
        raise Untrusted(f"version {manifest.version} is not after version {expect.version_after}")


def _parse(model: type[_Parsed], parts: Mapping[str, bytes], name: str) -> _Parsed:
    try:
        return model.model_validate_json(parts[name])
    except ValidationError as error:
        raise Untrusted(f"{name} is not what it should be: {reason(error)}") from error


def _check_weights(content: bytes, shapes: Mapping[str, tuple[int, ...]] | None) -> None:
    try:
        tensors = dict(deserialize(content))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise Untrusted(f"{WEIGHTS} is not a whole safetensors file: {error}") from error
    if not tensors:
        raise Untrusted(f"{WEIGHTS} holds no weights")
    if shapes is not None and (odd := sorted(tensors.keys() ^ shapes.keys())):
        raise Untrusted(f"{WEIGHTS} has other tensors than this base takes: {odd[0]:.80}")
    for name, tensor in tensors.items():
        if tensor["dtype"] not in DTYPES:
            raise Untrusted(
                f"the weights {name:.80} are {tensor['dtype']}: only {', '.join(DTYPES)} are taken"
            )
        shape = tuple(tensor["shape"])
        if shapes is not None and shape != tuple(shapes[name]):
            raise Untrusted(f"the weights {name:.80} have the shape {shape}, not {tuple(shapes[name])}")
        bits, special = DTYPES[tensor["dtype"]]
        if np.any(np.frombuffer(tensor["data"], dtype=bits) & special == special):
            raise Untrusted(f"the weights {name:.80} hold NaN or infinity")
