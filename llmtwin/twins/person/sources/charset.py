"""Bytes become text. It knows encodings, not formats."""

from __future__ import annotations

import codecs

import chardet

from llmtwin.errors import InputError

# Old Asian mail changes between alphabets by signs that are plain ASCII.
_ISO2022 = (b"\x1b$", b"\x1b(")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode(data: bytes, like: bytes = b"") -> str:
    """The text of the bytes: UTF-8, UTF-16 with its mark, else the legacy encoding they look like.

    `like` are more bytes in the same unknown encoding: little text says little. Raises InputError where it
    is no text.
    """
    if data.startswith(_UTF16):
        return _decode(data, "utf-16")
    if b"\0" in data:
        raise InputError("it is not text: it has zero bytes")
    if not any(sign in data for sign in _ISO2022):
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            pass
    return _decode(data, _guess(like + data))


def _guess(data: bytes) -> str:
    # The encodings of old mainframes and of DOS would take words away from those that people do use.
    found = chardet.detect(data, encoding_era=chardet.EncodingEra.MODERN_WEB)["encoding"]
    if found is None:
        raise InputError("it is not text, or in an encoding that cannot be told")
    return found


def _decode(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        raise InputError(f"it looks like {encoding} text, but is broken") from None
