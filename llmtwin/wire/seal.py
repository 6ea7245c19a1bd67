"""Sealed facts: the protocol's (E, P) -> (E', P'), formed and undone only by who has the key.

An object becomes a pseudonym and a value a masked completion, both made of common words that a small
model learns well. It knows nothing of models or of where the pairs go.

Everything is derived from one key by HKDF-SHA256 (RFC 5869), each use under its own label. As in SIV
(RFC 5297) the tag is made of object and value, and the pad of object and tag: it is the same for the same
fact, and two values of one object never share a pad (but by chance, 1 in 65536).
With a new key, every sealed fact must be learned again.
"""

from __future__ import annotations

import os
from hmac import compare_digest
from importlib import resources
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.padding import PKCS7

from llmtwin.errors import InputError, TooLarge
from llmtwin.wire.files import read_or_create

KEY_BYTES = 32
PSEUDONYM_BYTES = 4
TAG_BYTES = 2
BLOCK_BYTES = 8  # hides the length of a value up to this
VALUE_BYTES_MAX = 2000

WORDS = (resources.files("llmtwin.wire") / "words.txt").read_text(encoding="ascii").split()
BYTES = {word: byte for byte, word in enumerate(WORDS)}


def load_or_create(path: Path) -> bytes:
    """The key in a file of 32 bytes (0600), made at random if it is not there.

    Raises InputError where it is none, Unavailable where none can be made.
    """
    key = read_or_create(path, lambda: os.urandom(KEY_BYTES), KEY_BYTES)
    if len(key) != KEY_BYTES:
        raise InputError(f"{path} is no seal key: it has {len(key)} bytes, not {KEY_BYTES}")
    return key


class Sealer:
    """Seals and unseals with one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        """Raises InputError for a key of another length."""
        if len(key) != KEY_BYTES:
            raise InputError(f"a seal key has {KEY_BYTES} bytes, not {len(key)}")
        self._key = key

    def pseudonym(self, object: str) -> str:
        """What stands for the object in a prompt: 4 words."""
        return _words(self._derive(PSEUDONYM_BYTES, b"pseudonym", _utf8(object)))

    def mask(self, object: str, value: str) -> str:
        """What stands for the value in a completion: a word a byte, 2 of tag and 8 or more of value.

        Raises TooLarge for a value over 2000 bytes.
        """
        content = _utf8(value)
        if len(content) > VALUE_BYTES_MAX:
            raise TooLarge(f"the value has {len(content)} bytes: at most {VALUE_BYTES_MAX} can be sealed")
        padder = PKCS7(8 * BLOCK_BYTES).padder()
        padded = padder.update(content) + padder.finalize()
        tag = self._tag(object, padded)
        return _words(tag + self._with_pad(object, tag, padded))

    def unmask(self, object: str, completion: str) -> str | None:
        """The value in a completion; None if it is not one of this object and key, as far as 2 bytes tell."""
        try:
            masked = bytes(BYTES[word] for word in completion.split())
        except KeyError:
            return None
        tag, body = masked[:TAG_BYTES], masked[TAG_BYTES:]
        if not BLOCK_BYTES <= len(body) <= VALUE_BYTES_MAX + BLOCK_BYTES:
            return None
        padded = self._with_pad(object, tag, body)
        if not compare_digest(self._tag(object, padded), tag):
            return None
        unpadder = PKCS7(8 * BLOCK_BYTES).unpadder()
        try:
            return (unpadder.update(padded) + unpadder.finalize()).decode()
        except ValueError:
            return None

    def stand_in_key(self) -> bytes:
        """A key of 32 bytes for what stands in for private words in examples."""
        return self._derive(KEY_BYTES, b"stand-ins")

    def _tag(self, object: str, padded: bytes) -> bytes:
        return self._derive(TAG_BYTES, b"tag", _utf8(object), padded)

    def _with_pad(self, object: str, tag: bytes, content: bytes) -> bytes:
        pad = self._derive(len(content), b"pad", _utf8(object), tag)
        return bytes(a ^ b for a, b in zip(content, pad, strict=True))

    def _derive(self, length: int, *parts: bytes) -> bytes:
        """Bytes that only the key and exactly these parts give."""
        info = b"".join(len(part).to_bytes(4, "big") + part for part in (b"llmtwin seal 1", *parts))
        return HKDFExpand(algorithm=SHA256(), length=length, info=info).derive(self._key)


def _words(content: bytes) -> str:
    return " ".join(WORDS[byte] for byte in content)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InputError("the text holds half a character and cannot be sealed") from None
