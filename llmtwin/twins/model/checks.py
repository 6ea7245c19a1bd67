"""Reads checks of replies as people name them, and says how many replies pass. It knows no model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmtwin.errors import InputError
from llmtwin.twins.intervals import Estimate
from llmtwin.twins.model.discrepancy import Array, Exchange, mean
from llmtwin.twins.model.measures import Check, FollowsSchema, Function, Matches
from llmtwin.twins.model.reply import Reply


def read_checks(given: Iterable[str]) -> dict[str, Check]:
    """Checks by the names given: `schema.json`, `pattern.regex`, `file.py:function` or `module:function`.

    A file of a pattern holds one regular expression and perhaps a line break at its end.
    Raises InputError for a file that is not there or not what its name says; a function is not called yet.
    """
    return {where: _read_check(where) for where in given}


@dataclass(frozen=True)
class PassRates:
    """The shares of replies that pass a check, 0 to 1, and that of the twin less that of the primary."""

    name: str
    primary: float
    twin: float
    difference: Estimate


def pass_rates(exchanges: Sequence[Exchange], name: str, check: Check) -> PassRates | None:
    """How many replies pass on either side; None where the check says nothing of any pair.

    Raises InputError where a function of the user fails.
    """
    primary, twin = (
        np.array([check(reply) for reply in side], dtype=np.float64)  # None is NaN
        for side in zip(*((one.primary, one.twin) for one in exchanges), strict=True)
    )
    apart: Array = twin - primary
    difference, told = mean(exchanges, apart), ~np.isnan(apart)
    if difference is None:
        return None
    return PassRates(name, float(primary[told].mean()), float(twin[told].mean()), difference)


def _read_check(where: str) -> Check:
    if where.endswith(".json"):
        return _schema(where)
    if where.endswith(".regex"):
        return _pattern(where)
    if ":" in where:
        return Function(where)
    raise InputError(
        f"{where!r} is no check: give a schema.json, a pattern.regex, or a function as file.py:function"
    )


def _schema(where: str) -> Check:
    try:
        schema = json.loads(_text(where))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is no JSON: {error}") from error
    if not isinstance(schema, dict):
        raise InputError(f"{where} is no JSON schema: it is not an object")
    check = FollowsSchema(schema)
    try:
        check(Reply("{}"))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    return check


def _pattern(where: str) -> Check:
    pattern = _text(where).removesuffix("\n")
    if not pattern:
        raise InputError(f"{where} is empty: it holds a regular expression")
    try:
        return Matches(pattern)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _text(where: str) -> str:
    try:
        return Path(where).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no {where}: give the file of a check") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{where} cannot be read: give a text file") from error
