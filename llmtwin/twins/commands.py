"""The check of a command against a description: deterministic, and blind to how the command came about."""

from __future__ import annotations

from llmtwin.errors import InputError
from llmtwin.records import Description, Property, Value


def check(description: Description, path: str, value: Value, unit: str | None = None) -> Value:
    """The value to set, when the description allows it.

    A property with options takes one of them; one with a minimum or a maximum takes a number in that
    range; a number needs a bound and a text needs options, so any other property takes true or false.
    Raises InputError that says what is wrong and what would be right.
    """
    property = _find(description, path)
    if not property.writable:
        raise InputError(f"{path} can be read only")
    if unit is not None and unit != property.unit:
        raise InputError(f"{path} is set in {property.unit or 'no unit'}, not in {unit}")
    if property.options:
        _check_option(property, value)
    elif property.minimum is not None or property.maximum is not None:
        _check_number(property, value)
    elif not isinstance(value, bool):
        raise InputError(f"{path} takes true or false")
    return value


def _find(description: Description, path: str) -> Property:
    entity = path.partition("/")[0]
    of_entity: list[str] = []
    for device in description.devices:
        for property in device.properties:
            if property.path == path:
                return property
            if property.path.partition("/")[0] == entity:
                of_entity.append(property.path)
    if of_entity:
        raise InputError(f"{entity} has no such property; it has {', '.join(of_entity)}")
    raise InputError(f"there is no device behind {path!r}")


def _check_option(property: Property, value: Value) -> None:
    if value not in property.options:
        raise InputError(f"{property.path} takes one of: {', '.join(property.options)}")


def _check_number(property: Property, value: Value) -> None:
    if isinstance(value, bool | str):
        raise InputError(f"{property.path} takes a number")
    low = float("-inf") if property.minimum is None else property.minimum
    high = float("inf") if property.maximum is None else property.maximum
    if not low <= value <= high:  # so that NaN fails too
        unit = f" {property.unit}" if property.unit else ""
        raise InputError(f"{property.path} takes {low:g} to {high:g}{unit}")
