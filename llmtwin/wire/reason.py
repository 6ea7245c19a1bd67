"""Why a record was refused, in one line a person can read."""

from pydantic import ValidationError

ERRORS_MAX = 4  # as many as a value has types


def reason(error: ValidationError) -> str:
    """The first errors: where, and what is wrong; never the input itself."""
    errors = error.errors(include_url=False, include_input=False, include_context=False)[:ERRORS_MAX]
    return "; ".join(": ".join([*_place(one["loc"]), one["msg"]]) for one in errors)


def _place(parts: tuple[int | str, ...]) -> list[str]:
    return [".".join(map(str, parts))] if parts else []
