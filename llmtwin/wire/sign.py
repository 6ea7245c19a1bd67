"""Ed25519 keys and signatures of records. It knows nothing of what a record stands for.

What is signed is the record's canonical JSON: keys sorted, no spaces, UTF-8. Keys and signatures
travel as lower-case hexadecimal text: a public key has 64 digits, a signature 128.
"""

from __future__ import annotations

import json
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from llmtwin.errors import InputError, Untrusted
from llmtwin.records import Record
from llmtwin.wire.files import create_private, read_limited

KEY_BYTES_MAX = 4096


def new_key(path: Path) -> Ed25519PrivateKey:
    """Make a key and keep it in a PEM file (0600). Raises Conflict if the file is already there."""
    key = Ed25519PrivateKey.generate()
    create_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key


def load_key(path: Path) -> Ed25519PrivateKey:
    """The key in a PEM file. Raises NotFound, or InputError if it holds no Ed25519 key."""
    try:
        key = load_pem_private_key(read_limited(path, KEY_BYTES_MAX), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path} holds no readable private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path} holds a key of another kind than Ed25519")
    return key


def public_key_text(key: Ed25519PrivateKey) -> str:
    """What others need to check this key's signatures."""
    return key.public_key().public_bytes_raw().hex()


def sign(record: Record, key: Ed25519PrivateKey) -> str:
    """The signature of a record."""
    return key.sign(canonical(record.model_dump(mode="json"))).hex()


def verify(record: Record, signature: str, public_key: str) -> None:
    """Raises Untrusted if the signature is not that of this record by this public key text."""
    try:
        known = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
    except ValueError as error:
        raise Untrusted("the public key of the twin is not 64 hexadecimal digits") from error
    try:
        known.verify(bytes.fromhex(signature), canonical(record.model_dump(mode="json")))
    except (InvalidSignature, ValueError) as error:
        raise Untrusted(
            "the signature is not by this twin's key: push from the edge that enrolled"
        ) from error


def canonical(content: object) -> bytes:
    """The one JSON form of a content."""
    return json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()
