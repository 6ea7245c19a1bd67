"""A twin in one signed file, for another machine. It knows no store and no server.

The file is a zip of members that are all named here. They are read one by one into memory, never unpacked,
and nothing of them is believed before the signature and their digests are checked.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import StringConstraints, TypeAdapter, ValidationError

from llmtwin.errors import InputError, TooLarge, Untrusted
from llmtwin.records import Card, Description, Hash, Prompt, Provenance, Record
from llmtwin.wire.archive import Archive, open_archive
from llmtwin.wire.codec import encode_prompts
from llmtwin.wire.files import create_private, read_limited
from llmtwin.wire.package import CARD, FILES, Expect, bytes_max, check_package
from llmtwin.wire.reason import reason
from llmtwin.wire.sign import canonical, sign, verify

BUNDLE = "bundle.json"
PROMPTS = "prompts.json"
DESCRIPTION = "description.json"
MIB = 1 << 20
MEMBER_BYTES_MAX = {
    BUNDLE: MIB,
    PROMPTS: 64 * MIB,
    DESCRIPTION: 8 * MIB,
    **{name: bytes_max(name) for name in FILES},
}
BUNDLE_BYTES_MAX = sum(MEMBER_BYTES_MAX.values()) + MIB

_PROMPTS = TypeAdapter(tuple[Prompt, ...])

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Bundle:
    """What is given of a twin: a signed adapter package, what may be quoted, and where it comes from."""

    origin: Provenance
    package: Mapping[str, bytes]
    prompts: tuple[Prompt, ...]
    description: Description

    @property
    def card(self) -> Card:
        """The report card of the version."""
        return Card.model_validate_json(self.package[CARD])


class Contents(Record):
    """What is signed: the format's version, the origin, and the SHA-256 of every other member."""

    format: Literal[1] = 1
    origin: Provenance
    members: dict[str, Hash]


class SignedContents(Record):
    """The content of bundle.json."""

    contents: Contents
    signature: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]


def write_bundle(file: Path, bundle: Bundle, key: Ed25519PrivateKey) -> None:
    """Write and sign a bundle that only its owner can read.

    Raises Conflict if the file is already there, TooLarge for what no machine would take.
    """
    members = {
        **bundle.package,
        PROMPTS: encode_prompts(bundle.prompts),
        DESCRIPTION: bundle.description.model_dump_json().encode(),
    }
    digests = {name: sha256(content).hexdigest() for name, content in members.items()}
    contents = Contents(origin=bundle.origin, members=digests)
    signed = SignedContents(contents=contents, signature=sign(contents, key))
    members[BUNDLE] = canonical(signed.model_dump(mode="json"))
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:
        for name, bytes_most in MEMBER_BYTES_MAX.items():
            if len(members[name]) > bytes_most:
                raise TooLarge(f"{name} has {len(members[name])} bytes: a bundle holds at most {bytes_most}")
            archive.writestr(zipfile.ZipInfo(name), members[name])
    create_private(file, written.getvalue())


def read_bundle(file: Path, base: str, now: datetime) -> Bundle:
    """A bundle that is whole, signed by the twin's own key, for the base of that hash, and not expired.

    Raises NotFound, InputError for what is no bundle, TooLarge, or Untrusted with the reason.
    """
    members = _members(read_limited(file, BUNDLE_BYTES_MAX))
    contents = _contents(members.pop(BUNDLE))
    origin = contents.origin
    if members.keys() != contents.members.keys():
        raise Untrusted(f"{BUNDLE} names other files than the bundle holds: have it exported again")
    for name, content in members.items():
        if sha256(content).hexdigest() != contents.members[name]:
            raise Untrusted(f"{name} is not the file that was signed: its digest differs, copy it again")
    package = {name: members[name] for name in FILES}
    manifest = origin.manifest
    expect = Expect(manifest.twin, base, manifest.skill, version_after=0)
    if check_package(package, origin.public_key, expect) != manifest:
        raise Untrusted(f"the adapter is another one than {BUNDLE} names: have it exported again")
    expires_at = origin.licence.expires_at
    if expires_at is not None and expires_at <= now:
        raise Untrusted(
            f"the licence of {manifest.twin} ended on {expires_at:%Y-%m-%d}: ask for a new bundle"
        )
    prompts = _read(_PROMPTS, members, PROMPTS)
    if any(prompt.twin != manifest.twin for prompt in prompts):
        raise Untrusted(f"{PROMPTS} speaks of another twin than {manifest.twin}")
    return Bundle(origin, package, prompts, _read(TypeAdapter(Description), members, DESCRIPTION))


def _members(content: bytes) -> dict[str, bytes]:
    """The members by name, read after all names and sizes were checked."""
    with open_archive(content) as archive:
        if odd := sorted({*archive.names} ^ {*MEMBER_BYTES_MAX}):
            raise InputError(f"this is no bundle of a twin: {odd[0]!r:.80} is missing or has no place in it")
        if len(archive.names) > len(MEMBER_BYTES_MAX):
            raise InputError("this is no bundle of a twin: a name is in it twice")
        return {name: _member(archive, name) for name in MEMBER_BYTES_MAX}


def _member(archive: Archive, name: str) -> bytes:
    try:
        return archive.read(name, MEMBER_BYTES_MAX[name])
    except InputError as error:
        raise type(error)(f"{name} in the bundle: {error}") from error


def _contents(content: bytes) -> Contents:
    try:
        signed = SignedContents.model_validate_json(content)
    except ValidationError as error:
        raise Untrusted(f"{BUNDLE} is not what it should be: {reason(error)}") from error
    try:
        verify(signed.contents, signed.signature, signed.contents.origin.public_key)
    except Untrusted as error:
        raise Untrusted(f"{BUNDLE} was not signed with the key that it names: do not use it") from error
    return signed.contents


def _read(kind: TypeAdapter[Parsed], members: Mapping[str, bytes], name: str) -> Parsed:
    try:
        return kind.validate_json(members[name])
    except ValidationError as error:
        raise Untrusted(f"{name} is not what it should be: {reason(error)}") from error
