"""Events of how near the twin is, by OpenTelemetry's conventions for generative AI. It exports no content.

They are log records, `gen_ai.evaluation.result`, of the latest replies together and so of no single span.
The standard environment variables say where to; without an endpoint among them nothing is imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from llmtwin.errors import Unavailable
from llmtwin.twins.intervals import Estimate
from llmtwin.twins.model.discrepancy import Measured
from llmtwin.twins.model.running import State

EVENT = "gen_ai.evaluation.result"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT")


class Evaluations:
    """Makes an event of each figure and exports it in the background."""

    def __init__(self) -> None:
        """Raises Unavailable where the packages of the extra `otel` are not there."""
        try:
            from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
            from opentelemetry.sdk._logs import LoggerProvider
            from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
        except ImportError as error:
            raise Unavailable("no events: pip install 'llmtwin[otel]'") from error
        self._provider = LoggerProvider()
        self._provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
        self._logger = self._provider.get_logger("llmtwin.proxy")

    def tell(self, state: State) -> None:
        """Export what is known now."""
        for attributes in evaluated(state):
            self._logger.emit(event_name=EVENT, attributes=attributes)

    def close(self) -> None:
        """Export what is left."""
        self._provider.shutdown()


def evaluations() -> Evaluations | None:
    """Where the environment names an endpoint. Raises Unavailable as Evaluations does."""
    return Evaluations() if any(map(os.environ.get, _ENDPOINTS)) else None


def evaluated(state: State) -> Iterator[dict[str, Any]]:
    """What events say: each measure's discrepancy, and the e-value of drift."""
    for one in state.discrepancy.measures if state.discrepancy else ():
        if one.discrepancy is not None:
            times = f", {_said(one.ratio)} times the primary from itself" if one.ratio else ""
            why = f"{_said(one.discrepancy)} of {one.discrepancy.items} requests{times}"
            yield _attributes(f"discrepancy.{one.name}", one.discrepancy.value, _label(one), why)
    if drift := state.drift:
        why = f"{drift.number} of {drift.replies} replies beside the first ones; {drift.level:g} alarms"
        yield _attributes("drift", drift.e_value, "alarm" if drift.alarm else "calm", why)


def _label(found: Measured) -> str:
    """Beyond chance further from the primary than that is from itself, or not, or too close to tell."""
    if found.ratio is None:
        return "no_floor"
    if found.ratio.low > 1:
        return "apart"
    return "alike" if found.ratio.high <= 1 else "inconclusive"


def _said(found: Estimate) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def _attributes(name: str, value: float, label: str, explanation: str) -> dict[str, Any]:
    return {
        "gen_ai.evaluation.name": name,
        "gen_ai.evaluation.score.value": value,
        "gen_ai.evaluation.score.label": label,
        "gen_ai.evaluation.explanation": explanation,
    }
