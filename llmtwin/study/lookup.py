"""The plain rival of an adapter that keeps facts: an encrypted look-up, read by rules. It knows no model.

A row's name is the HMAC of its object, its content is sealed with AES-GCM under that name. Whoever has the
key reads all of it, whoever has not learns how many facts there are, and how long they are.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Iterable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from llmtwin.records import Observation, Value
from llmtwin.study.rules import readings

KEY_BYTES = 32
NONCE_BYTES = 12


class EncryptedLookup:
    """Answers from sealed rows, exactly, what the rules can read; `rows` is all that would be stored."""

    def __init__(self, known: Iterable[Observation]) -> None:
        """Under a key that was made for it alone."""
        key = os.urandom(KEY_BYTES)
        self._naming = HKDFExpand(SHA256(), KEY_BYTES, b"name").derive(key)
        self._cipher = AESGCM(HKDFExpand(SHA256(), KEY_BYTES, b"content").derive(key))
        self.rows: dict[bytes, bytes] = {}
        for one in known:
            name, nonce = self._name(one.device, one.property), os.urandom(NONCE_BYTES)
            content = json.dumps([one.fact.value, one.fact.unit]).encode()
            self.rows[name] = nonce + self._cipher.encrypt(nonce, content, name)

    def answer(self, text: str) -> tuple[Value, str | None] | None:
        """The value and unit that are asked for; None where no rule reads it or there is no such row."""
        for reading in readings(text):
            name = self._name(*reading)
            if row := self.rows.get(name):
                value, unit = json.loads(self._cipher.decrypt(row[:NONCE_BYTES], row[NONCE_BYTES:], name))
                return value, unit
        return None

    def _name(self, device: str, property: str) -> bytes:
        return hmac.digest(self._naming, f"{device}\0{property}".casefold().encode(), "sha256")
