import os
import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from sqlhttp_gateway.events import Answered, Opened
from sqlhttp_gateway.observe.trace import Traces
from tests.support.answered import answered
from tests.support.collector import running_collector

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


def spans_of(*events: Answered) -> dict[str, ReadableSpan]:
    exporter = InMemorySpanExporter()
    traces = Traces()
    traces.start(SimpleSpanProcessor(exporter))
    for event in events:
        traces(event)
    traces.stop()
    return {span.name: span for span in exporter.get_finished_spans()}


def length(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def test_request_is_a_server_span_of_the_trace_it_came_with() -> None:
    span = spans_of(answered(traceparent=f"00-{TRACE}-{PARENT}-01"))["POST /sql"]
    assert span.context is not None
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert span.kind is SpanKind.SERVER
    assert span.attributes is not None
    assert span.attributes["db.namespace"] == "main"
    assert span.attributes["http.response.status_code"] == 200
    assert length(span) == pytest.approx(0.004, abs=1e-6)


def test_phases_lie_one_behind_the_other_and_end_with_the_request() -> None:
    spans = spans_of(answered(seconds=0.1, waited=0.03, connected=0.02, executed=0.05, encoded=0.001))
    request = spans.pop("POST /sql")
    assert list(spans) == ["encode", "execute", "connect", "queue"]
    assert [round(length(span), 6) for span in spans.values()] == [0.001, 0.05, 0.02, 0.01]
    end = request.end_time
    for span in spans.values():
        assert span.end_time == end
        assert span.parent is not None
        assert request.context is not None
        assert span.parent.span_id == request.context.span_id
        end = span.start_time
    assert end is not None
    assert request.start_time is not None
    assert request.start_time <= end


def test_phase_that_took_no_time_is_no_span() -> None:
    refused = answered(status=400, outcome="auth", reason="PasswordFailed", sqlstate="28P01", waited=0, executed=0)
    spans = spans_of(refused)
    assert list(spans) == ["POST /sql"]
    attributes = spans["POST /sql"].attributes
    assert attributes is not None
    assert (attributes["error.type"], attributes["db.response.status_code"]) == ("PasswordFailed", "28P01")


def test_only_a_fault_of_the_server_is_an_error_of_the_span() -> None:
    assert spans_of(answered(status=503))["POST /sql"].status.status_code is StatusCode.ERROR
    assert spans_of(answered(status=400))["POST /sql"].status.status_code is StatusCode.UNSET


def test_trace_that_is_not_kept_makes_no_spans() -> None:
    assert spans_of(answered(traceparent=f"00-{TRACE}-{PARENT}-00")) == {}


def test_request_without_a_trace_begins_one() -> None:
    span = spans_of(answered())["POST /sql"]
    assert span.parent is None


def test_before_the_start_after_the_end_and_for_other_events_there_are_no_spans() -> None:
    exporter = InMemorySpanExporter()
    traces = Traces()
    traces(answered())
    traces.start(SimpleSpanProcessor(exporter))
    traces(Opened("default/main/app", 0.1))
    traces.stop()
    traces(answered())
    assert exporter.get_finished_spans() == ()


def test_spans_reach_a_collector_under_the_name_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        traces = Traces()
        traces.start()
        traces(answered())
        traces.stop()
    assert collector.resource["service.name"] == "sqlhttp"
    assert sorted(span.name for span in collector.spans) == ["POST /sql", "execute", "queue"]


def test_without_the_extra_the_setting_is_refused_with_the_command_that_helps() -> None:
    script = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from sqlhttp_gateway.app import create_app; from sqlhttp_gateway.settings import load_settings\n"
        "create_app(load_settings(database_url='postgres://a@127.0.0.1/b'))\n"
        "create_app(load_settings(database_url='postgres://a@127.0.0.1/b', trace={'opentelemetry': True}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=os.environ)
    assert "ConfigurationError: trace.opentelemetry needs the extra: pip install 'sqlhttp[otel]'" in done.stderr
