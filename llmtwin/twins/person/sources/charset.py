"""Bytes become text. It knows encodings, not formats."""

from __future__ import annotations

import codecs

import chardet

from llmtwin.errors import InputError

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Old Asian mail changes between alphabets by signs that are plain ASCII.
_ISO2022 = (b"\x1b$", b"\x1b(")
# What programs name is often a part of what they write: the apostrophe of Windows is no sign of ISO 8859-1.
_SUPERSETS = {
    "us-ascii": "cp1252",
    "ascii": "cp1252",
    "iso-8859-1": "cp1252",
    "latin-1": "cp1252",
    "gb2312": "gb18030",
    "shift_jis": "cp932",
    "ks_c_5601-1987": "cp949",
}


def decode(data: bytes, declared: str | None = None, like: bytes = b"") -> str:
    """The text of the bytes: UTF-8, or the encoding that is declared, or the legacy one they look like.

    `like` are more bytes in the same unknown encoding: little text says little. Raises InputError where it
    is no text.
    """
    if data.startswith(_UTF16):
        return _strict(data, "utf-16")
    # Nothing but UTF-8 is valid UTF-8 by chance, whatever is declared.
    if not data.isascii() and (text := _try(data, "utf-8-sig")) is not None:
        return _without_zeros(text)
    if declared is not None:
        for encoding in (_SUPERSETS.get(declared.lower(), declared), declared):
            if (text := _try(data, encoding)) is not None:
                return _without_zeros(text)
    if data.isascii() and not any(sign in data for sign in _ISO2022):
        return _without_zeros(data.decode("ascii"))
    return _without_zeros(_strict(data, _guess(like + data)))


def _guess(data: bytes) -> str:
    # The encodings of old mainframes and of DOS would take words away from those that people do use.
    found = chardet.detect(data, encoding_era=chardet.EncodingEra.MODERN_WEB)["encoding"]
    if found is None:
        raise InputError("it is not text, or in an encoding that cannot be told")
    return found


def _try(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    # Names of codecs that are none for text, or that are no names, raise all of these.
    except (UnicodeError, LookupError, ValueError, TypeError):
        return None


def _strict(data: bytes, encoding: str) -> str:
    text = _try(data, encoding)
    if text is None:
        raise InputError(f"it looks like {encoding} text, but is broken")
    return text


def _without_zeros(text: str) -> str:
    if "\0" in text:
        raise InputError("it is not text: it has zero bytes")
    return text
