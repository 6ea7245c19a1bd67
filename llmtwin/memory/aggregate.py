"""Exact statistics over twins. It knows rows, not where they come from or who may see the result."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from math import fsum
from statistics import mean
from typing import TypeGuard

from llmtwin.memory.row import Row, time
from llmtwin.records import Aggregate, Statistic, Value

NUMBER_MAX = 1e300  # far above any measurement; sums of numbers up to it stay finite

FOLDS: dict[Statistic, Callable[[list[float]], float]] = {
    Statistic.AVERAGE: mean,
    Statistic.MINIMUM: min,
    Statistic.MAXIMUM: max,
    Statistic.SUM: fsum,
}


def aggregate_rows(
    rows: Sequence[Row], measure: str, statistic: Statistic, equals: Value | None
) -> Aggregate:
    """Fold the newest values of a measure, each twin counting once, in the unit that most twins use."""
    if statistic is not Statistic.COUNT:
        rows = [row for row in rows if _is_number(row.value)]
    unit = _usual_unit(rows)
    rows = [row for row in rows if row.unit == unit]
    values: defaultdict[str, list[Value]] = defaultdict(list)
    for row in rows:
        values[row.twin].append(row.value)
    return Aggregate(
        measure=measure,
        statistic=statistic,
        value=_fold(statistic, list(values.values()), equals),
        unit=unit,
        cohort_size=len(values),
        oldest_at=time(min(row.at for row in rows)) if rows else None,
        newest_at=time(max(row.at for row in rows)) if rows else None,
    )


def _fold(statistic: Statistic, twins: list[list[Value]], equals: Value | None) -> float | None:
    if statistic is Statistic.COUNT:
        return float(sum(equals is None or any(_same(value, equals) for value in values) for values in twins))
    means = [mean(value for value in values if _is_number(value)) for values in twins]
    return float(FOLDS[statistic](means)) if means else None


def _usual_unit(rows: Sequence[Row]) -> str | None:
    twins = Counter(unit for _, unit in {(row.twin, row.unit) for row in rows})
    return min(twins, key=lambda unit: (-twins[unit], unit or ""), default=None)


def _is_number(value: Value) -> TypeGuard[float]:
    return not isinstance(value, bool | str) and abs(value) <= NUMBER_MAX


def _same(one: Value, other: Value) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and one == other
