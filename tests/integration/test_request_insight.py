"""What is told of a request beside its answer: Server-Timing, the log of slow statements, and its trace."""

import logging
import re
from collections.abc import Callable

import pytest

from tests.support.cluster import Cluster, Database
from tests.support.collector import running_collector
from tests.support.gateway import Gateway, gateway_in_thread
from tests.support.program import Program, program_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED, UNSAMPLED = f"00-{TRACE}-00f067aa0ba902b7-01", f"00-{TRACE}-00f067aa0ba902b7-00"


def phases(program: Program, text: str) -> dict[str, float]:
    """Milliseconds by name, from the header of one answer."""
    header = program.post({"query": text}).headers["server-timing"]
    return {name: float(milliseconds) for name, milliseconds in re.findall(r"(\w+);dur=([\d.]+)", header)}


def test_answer_says_where_its_time_went(start_gateway: Callable[..., Gateway], database: Database) -> None:
    with program_of(start_gateway(), database) as program:
        first = phases(program, "SELECT 1")
        assert list(first) == ["queue", "connect", "execute", "encode"]
        then = phases(program, "SELECT pg_sleep(0.05)")
        assert then["connect"] == 0, "the connection was there"
        assert 50 <= then["execute"] < 5000
        assert then["queue"] < 50
        assert phases(program, "SELECT 1 / 0")["execute"] > 0, "an error took time, too"


def test_first_request_says_how_long_its_connection_took_to_open(
    start_gateway: Callable[..., Gateway], database: Database
) -> None:
    gateway = start_gateway(pool={"max_size": 1})
    with program_of(gateway, database) as program:
        assert phases(program, "SELECT 1")["connect"] > 0
        assert phases(program, "SELECT 1")["connect"] == 0


def test_refusal_before_there_was_a_connection_says_nothing_of_time(gateway: Gateway, database: Database) -> None:
    with program_of(gateway, database.as_role("postgres", "wrong")) as program:
        assert "server-timing" not in program.post({"query": "SELECT 1"}).headers


def test_answer_keeps_its_times_to_itself_when_it_shall(
    start_gateway: Callable[..., Gateway], database: Database
) -> None:
    with program_of(start_gateway(trace={"server_timing": False}), database) as program:
        assert "server-timing" not in program.post({"query": "SELECT 1"}).headers


def logged(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, object]]:
    return [record.__dict__["fields"] for record in caplog.records if record.getMessage() == message]


def test_slow_statement_is_logged_by_its_fingerprint_and_never_with_a_value(
    start_gateway: Callable[..., Gateway], database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = start_gateway(log={"slow_statement": 0.05})
    with caplog.at_level(logging.INFO), program_of(gateway, database) as program:
        program.ask("SELECT pg_sleep($1), 'secret literal'", 0.06, headers={"traceparent": UNSAMPLED})
        program.ask("SELECT 'quick'")
        program.post({"query": "SELECT pg_sleep(0.06), 1 / (random() * 0)::int AS hidden, 'secret literal'"})
    slow = logged(caplog, "slow statement")
    assert [line["statement"] for line in slow] == [
        "select pg_sleep(?), ?",
        "select pg_sleep(?), ? / (random() * ?)::int as hidden, ?",
    ]
    assert slow[0]["trace_id"] == TRACE
    assert slow[0]["database"] == database.name
    assert isinstance(slow[0]["seconds"], float)
    assert slow[0]["seconds"] >= 0.06
    assert "secret literal" not in caplog.text


def test_slow_batch_is_one_line_with_the_fingerprints_of_its_statements(
    start_gateway: Callable[..., Gateway], database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = start_gateway(log={"slow_statement": 0.05})
    with caplog.at_level(logging.INFO), program_of(gateway, database) as program:
        program.post({"queries": [{"query": "SELECT 1"}, {"query": "SELECT pg_sleep(0.06)"}]})
    [line] = logged(caplog, "slow statement")
    assert line["statement"] == "select ?; select pg_sleep(?)"
    assert line["statements"] == 2
    assert len(str(line["fingerprint"]).split(",")) == 2


def test_failed_request_is_logged_with_the_trace_that_it_belongs_to(
    gateway: Gateway, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), program_of(gateway, database) as program:
        program.post({"query": "SELECT 1 / 0"}, {"traceparent": SAMPLED})
        program.post({"query": "SELECT 1 / 0"}, {"traceparent": "00-'; DROP TABLE x; --"})
    assert [line.get("trace_id") for line in logged(caplog, "request answered")] == [TRACE, None]


def test_statement_of_a_sampled_trace_names_it_to_postgres_when_it_shall(
    start_gateway: Callable[..., Gateway], database: Database
) -> None:
    text = "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid() -- mine"
    with program_of(start_gateway(trace={"comment": True}), database) as program:
        for header, expected in (
            (SAMPLED, f"{text}\n/*traceparent='{SAMPLED}'*/"),
            (UNSAMPLED, text),
            (None, text),
        ):
            rows = program.ask(text, headers={"traceparent": header})["rows"]
            assert rows == [{"query": expected}]
        batch = program.post({"queries": [{"query": text}]}, {"traceparent": SAMPLED}).json()
        assert batch["results"][0]["rows"] == [{"query": f"{text}\n/*traceparent='{SAMPLED}'*/"}]


def test_trace_is_nothing_to_postgres_by_default(gateway: Gateway, database: Database) -> None:
    text = "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    with program_of(gateway, database) as program:
        assert program.ask(text, headers={"traceparent": SAMPLED})["rows"] == [{"query": text}]


def test_request_and_its_phases_become_spans_of_its_trace_when_they_shall(
    postgres: Cluster, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with (
            gateway_in_thread(postgres.maintenance.url, {"trace": {"opentelemetry": True}}) as gateway,
            program_of(gateway, database) as program,
        ):
            program.ask("SELECT 1", headers={"traceparent": SAMPLED})
            program.ask("SELECT 2", headers={"traceparent": UNSAMPLED})
    assert {span.name for span in collector.spans} == {"POST /sql", "queue", "connect", "execute", "encode"}
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
