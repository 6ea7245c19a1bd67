"""Spans of the primary's calls, by OpenTelemetry's conventions for generative AI. It exports no content.

The standard environment variables say where to; without an endpoint among them nothing is imported.
"""

from __future__ import annotations

import os
from typing import Any

from llmtwin.errors import Unavailable
from llmtwin.proxy.passed import OPERATIONS, PROVIDER, Passed
from llmtwin.twins.model.openai import usage

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

Json = dict[str, Any]


class Tracer:
    """Makes a span of each call and exports it in the background."""

    def __init__(self) -> None:
        """Raises Unavailable where the packages of the extra `otel` are not there."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise Unavailable("no spans: pip install 'llmtwin[otel]'") from error
        self._provider = TracerProvider()
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("llmtwin.proxy")

    def trace(self, passed: Passed, seen: tuple[Json, Json] | None) -> None:
        """Export a call; `seen` is what was understood of it."""
        from opentelemetry.trace import SpanKind, StatusCode

        found = attributes(passed, seen)
        model = found.get("gen_ai.request.model")
        operation = OPERATIONS[passed.endpoint]
        span = self._tracer.start_span(
            f"{operation} {model}" if model else operation,
            kind=SpanKind.CLIENT,
            attributes=found,
            start_time=int(passed.at_s * 1e9),
        )
        if "error.type" in found:
            span.set_status(StatusCode.ERROR)
        span.end(int((passed.at_s + passed.duration_s) * 1e9))

    def close(self) -> None:
        """Export what is left."""
        self._provider.shutdown()


def tracer() -> Tracer | None:
    """A tracer where the environment names an endpoint. Raises Unavailable as Tracer does."""
    return Tracer() if any(map(os.environ.get, _ENDPOINTS)) else None


def attributes(passed: Passed, seen: tuple[Json, Json] | None) -> dict[str, Any]:
    """What a span says of a call."""
    request, response = seen or ({}, {})
    choices = response.get("choices")
    choices = choices if isinstance(choices, list) else []
    finishes = [str(one.get("finish_reason")) for one in choices if isinstance(one, dict)]
    tokens_input, tokens_output = usage(response) or (None, None)
    error = passed.error or (None if passed.succeeded else str(passed.status))
    found = {
        "gen_ai.operation.name": OPERATIONS[passed.endpoint],
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": _text(request.get("model")),
        "gen_ai.response.model": _text(response.get("model")),
        "gen_ai.response.id": _text(response.get("id")),
        "gen_ai.response.finish_reasons": finishes or None,
        "gen_ai.response.time_to_first_chunk": passed.first_chunk_s if passed.streamed else None,
        "gen_ai.usage.input_tokens": tokens_input,
        "gen_ai.usage.output_tokens": tokens_output,
        "error.type": error,
    }
    return {name: value for name, value in found.items() if value is not None}


def _text(given: object) -> str | None:
    return given if isinstance(given, str) else None
