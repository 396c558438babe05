"""Requests as OpenTelemetry spans, made after the fact from what a request's event says.

The request itself pays for one event, as always: its span and those of its phases are made when it is over, with the
times that they had. Where they are sent, how many are kept and what the service is called is set by OpenTelemetry's own
variables (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME). Needs the `otel` extra.
"""

import os
import time
from typing import TYPE_CHECKING

from sqlhttp_gateway.build import build_version
from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.events import Answered, Event

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Span, Tracer

SERVICE_NAME = "sqlhttp"
_NANOSECONDS = 1_000_000_000


class Traces:
    """An Observer that makes spans, between `start` and `stop`."""

    def __init__(self) -> None:
        """
        Raises:
            ConfigurationError: the extra is not installed.
        """
        try:
            import opentelemetry.exporter.otlp.proto.http.trace_exporter
            import opentelemetry.sdk.trace  # noqa: F401 - to know now, and not at the first request
        except ModuleNotFoundError:
            raise ConfigurationError("trace.opentelemetry needs the extra: pip install 'sqlhttp[otel]'") from None
        self._provider: TracerProvider | None = None
        self._tracer: Tracer | None = None

    def __call__(self, event: Event) -> None:
        """Make the spans of a request that is over."""
        if event.__class__ is Answered and self._tracer is not None:
            _span_of(event, self._tracer, ended=time.time_ns())

    def start(self, processor: "SpanProcessor | None" = None) -> None:
        """Begin to export, in a thread of its own, which is why this is for after a fork.

        `processor` gets the spans in place of the exporter over OTLP.
        """
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": SERVICE_NAME}
        resource = Resource.create({"service.version": build_version(), "process.pid": os.getpid(), **named})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("sqlhttp_gateway", build_version())

    def stop(self) -> None:
        """Send what waits to be sent. Blocks, for some seconds at worst."""
        self._tracer = None
        if self._provider is not None:
            self._provider.shutdown()


def _span_of(event: Answered, tracer: "Tracer", *, ended: int) -> None:
    from opentelemetry.trace import SpanKind, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    parent = TraceContextTextMapPropagator().extract({"traceparent": event.traceparent})
    began = ended - round(event.seconds * _NANOSECONDS)
    attributes: dict[str, str | int] = {
        "http.request.method": "POST",
        "url.path": "/sql",
        "http.response.status_code": event.status,
        "http.request.body.size": event.bytes_in,
        "http.response.body.size": event.bytes_out,
        "db.system.name": "postgresql",
        "db.namespace": event.database,
        "db.operation.batch.size": event.statements,
        "db.response.returned_rows": event.rows,
        "sqlhttp.target": event.target,
        "sqlhttp.role": event.role,
        "sqlhttp.outcome": event.outcome,
        "sqlhttp.request_id": event.request_id,
    }
    if event.sqlstate:
        attributes["db.response.status_code"] = event.sqlstate
        attributes["error.type"] = event.reason or event.outcome
    span = tracer.start_span("POST /sql", parent, SpanKind.SERVER, attributes, start_time=began)
    if event.status >= 500:
        span.set_status(StatusCode.ERROR)
    if span.is_recording():
        _phases(event, tracer, span, ended)
    span.end(ended)


def _phases(event: Answered, tracer: "Tracer", span: "Span", ended: int) -> None:
    """The parts of the request that took time, which end where the next one begins."""
    from opentelemetry.trace import SpanKind, set_span_in_context

    inside = set_span_in_context(span)
    connect = min(event.connected, event.waited)
    for name, kind, seconds in (
        ("encode", SpanKind.INTERNAL, event.encoded),
        ("execute", SpanKind.CLIENT, event.executed),
        ("connect", SpanKind.CLIENT, connect),
        ("queue", SpanKind.INTERNAL, event.waited - connect),
    ):
        if seconds > 0:
            began = ended - round(seconds * _NANOSECONDS)
            tracer.start_span(name, inside, kind, start_time=began).end(ended)
            ended = began
