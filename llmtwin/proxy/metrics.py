"""The proxy's counters, in Prometheus' form. They know no client and no text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from llmtwin.proxy.passed import PROVIDER
from llmtwin.twins.model.running import ALPHA, State

# Those of OpenTelemetry's conventions for generative AI.
_DURATION_BUCKETS_S = tuple(0.01 * 2**power for power in range(14))
_TOKEN_BUCKETS = tuple(4**power for power in range(14))
_OVERHEAD_BUCKETS_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


@dataclass(frozen=True)
class Outcome:
    """What became of so many calls on their way to the twin."""

    name: str
    count: int = 1


@dataclass(frozen=True)
class Usage:
    """The tokens that a call took of the primary, as it says."""

    operation: str
    model: str
    tokens_input: int
    tokens_output: int


Report = Outcome | Usage | State
"""What the process beside tells the proxy."""


class Metrics:
    """The counters of one proxy, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.overhead = Histogram(
            "llmtwin_overhead_seconds",
            "Time within the proxy before the answer begins",
            buckets=_OVERHEAD_BUCKETS_S,
            registry=self.registry,
        )
        self._mirror = Counter(
            "llmtwin_mirror", "What became of calls in the mirror", ["outcome"], registry=self.registry
        )
        self._duration = Histogram(
            "gen_ai_client_operation_duration_seconds",
            "Duration of calls of the primary",
            ["gen_ai_operation_name", "gen_ai_provider_name", "error_type"],
            buckets=_DURATION_BUCKETS_S,
            registry=self.registry,
        )
        self._tokens = Histogram(
            "gen_ai_client_token_usage",
            "Tokens that calls took of the primary",
            ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_token_type"],
            buckets=_TOKEN_BUCKETS,
            registry=self.registry,
        )
        self._discrepancy = Gauge(
            "llmtwin_discrepancy",
            "How far the twin's latest answers are from the primary's; 0 is alike",
            ["measure"],
            registry=self.registry,
        )
        self._drift = Gauge(
            "llmtwin_drift_e_value",
            f"How strongly the primary's replies speak for a change since the first; {1 / ALPHA:g} alarms",
            ["number"],
            registry=self.registry,
        )

    def calls(self) -> int:
        """How many calls of the primary passed, whatever became of them."""
        (histogram,) = self._duration.collect()
        return int(sum(one.value for one in histogram.samples if one.name.endswith("_count")))

    def outcomes(self) -> Mapping[str, int]:
        """How many calls came to what in the mirror."""
        (counter,) = self._mirror.collect()
        found = (one for one in counter.samples if one.name.endswith("_total"))
        return {one.labels["outcome"]: int(one.value) for one in found}

    def lasted(self, operation: str, duration_s: float, error: str | None) -> None:
        """Count a call of the primary."""
        self._duration.labels(operation, PROVIDER, error or "").observe(duration_s)

    def take(self, report: Report) -> None:
        """Count what was found out beside the proxy."""
        match report:
            case Outcome(name, count):
                self._mirror.labels(name).inc(count)
            case Usage(operation, model, tokens_input, tokens_output):
                self._tokens.labels(operation, PROVIDER, model, "input").observe(tokens_input)
                self._tokens.labels(operation, PROVIDER, model, "output").observe(tokens_output)
            case State():
                self._known(report)

    def _known(self, state: State) -> None:
        for one in state.discrepancy.measures if state.discrepancy else ():
            if one.discrepancy is not None:
                self._discrepancy.labels(one.name).set(one.discrepancy.value)
        if state.drift is not None:
            self._drift.labels(state.drift.number).set(state.drift.e_value)
