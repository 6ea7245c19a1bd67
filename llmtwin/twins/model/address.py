"""Where a model answers, as people give it. It asks nobody."""

from __future__ import annotations

from pydantic import HttpUrl, TypeAdapter, ValidationError

from llmtwin.errors import InputError


def checked_address(given: str) -> str:
    """An address without a slash at its end. Raises InputError for none, and for one with a key in it.

    An address is kept and shown, a key is neither.
    """
    try:
        address = TypeAdapter(HttpUrl).validate_python(given)
    except ValidationError:
        raise InputError(f"{given[:200]!r} is no address: give a URL as http://host:port/v1") from None
    if address.username or address.password or address.query or address.fragment:
        raise InputError(
            "the address has a name, a key or a query in it, and would be kept and shown: give it as"
            " http://host:port/v1"
        )
    return given.rstrip("/")
