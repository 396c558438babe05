"""Log lines: which there are, what they hold, and what they never hold."""

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator

import httpx
import pytest

from sqlhttp_gateway.events import AlertChanged, Bug, Cancelled, Closed, Event, Leaked, Opened, TunnelClosed, Unsent
from sqlhttp_gateway.observe.log_writer import LogWriter
from sqlhttp_gateway.observe.logs import (
    NAME,
    JsonFormatter,
    LogLines,
    TextFormatter,
    configure_logging,
    reconfigure_logging,
)
from sqlhttp_gateway.settings import LogSettings
from tests.support.answered import answered
from tests.support.cluster import Cluster, Database
from tests.support.gateway import GatewayProcess, free_port
from tests.support.program import Program

FAILED = answered(
    status=503,
    outcome="pool",
    sqlstate="53300",
    message="no connection came free within 5 s",
    reason="WaitTimeout",
)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str], *events: Event, **settings: object) -> list[str]:
    """What is written for `events`."""
    given = LogSettings(**{"level": "debug", **settings})  # type: ignore[arg-type]
    configure_logging(given)
    observe = LogLines(given)
    for event in events:
        observe(event)
    for handler in logging.getLogger().handlers:
        handler.flush()
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.split("\n")[:-1]


def test_tunnel_that_ended_in_an_error_has_a_line_without_what_postgres_may_have_quoted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def closed(outcome: str) -> TunnelClosed:
        return TunnelClosed("tcp", outcome, "57P05" * (outcome != "ok"), "main", "app", 1.5, "why")

    limit, postgres = lines(capsys, closed("ok"), closed("limit"), closed("postgres"))
    assert limit.split(" ", 2)[2] == (
        "tunnel closed door=tcp outcome=limit database=main role=app seconds=1.5 sqlstate=57P05 error=why"
    )
    assert "why" not in postgres
    assert lines(capsys, closed("limit"), requests="off") == []
    assert len(lines(capsys, closed("ok"), requests="all")) == 1


def test_answer_that_was_not_taken_has_a_line_with_who_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    event = Unsent("deadline", "over in send", "7", "192.0.2.7")
    [line] = lines(capsys, event)
    assert line.split(" ", 1)[1] == "info answer not taken request_id=7 peer=192.0.2.7 error='over in send'"
    [line] = lines(capsys, Unsent("send_timeout", "took nothing", "", "192.0.2.7"))
    assert "request_id" not in line
    assert lines(capsys, event, requests="off") == []


def test_line_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    [line] = lines(capsys, answered(seconds=0.0123456789), requests="all")
    moment, level, text = line.split(" ", 2)
    assert len(moment) == len("2026-01-31T12:00:00.000Z")
    assert moment.endswith("Z")
    assert level == "info"
    assert text == (
        "request answered request_id=00000000-0000-4000-a000-000000000000 status=200 outcome=ok database=main role=app "
        "statements=1 rows=1 bytes=200 seconds=0.012346 waited=0.001"
    )


def test_line_for_collectors(capsys: pytest.CaptureFixture[str]) -> None:
    [line] = lines(capsys, FAILED, requests="all", format="json")
    entry = json.loads(line)
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "warning",
        "message": "request answered",
        "request_id": "00000000-0000-4000-a000-000000000000",
        "status": 503,
        "outcome": "pool",
        "database": "main",
        "role": "app",
        "statements": 1,
        "rows": 1,
        "bytes": 200,
        "seconds": 0.004,
        "waited": 0.001,
        "sqlstate": "53300",
        "error": "no connection came free within 5 s",
    }


@pytest.mark.parametrize(("requests", "count"), [("off", 0), ("errors", 1), ("all", 2)])
def test_which_requests_get_a_line(capsys: pytest.CaptureFixture[str], requests: str, count: int) -> None:
    assert len(lines(capsys, answered(), FAILED, requests=requests)) == count


def test_text_of_a_postgres_error_is_left_out_since_it_may_quote_a_parameter(
    capsys: pytest.CaptureFixture[str],
) -> None:
    quoting = answered(
        status=400, outcome="postgres", sqlstate="22P02", message='invalid input syntax for type integer: "hunter2"'
    )
    for form in ("text", "json"):
        [line] = lines(capsys, quoting, format=form)
        assert "hunter2" not in line
        assert "22P02" in line


@pytest.mark.parametrize(
    "name",
    [
        "two\nlines",
        "a b",
        "\x1b[31mred",
        'quo"te',
        "",
        "zero\u200bwidth",
        "status=200",
        "line\u2028separator",
        "back\\slash",
        "bell\x07",
        "quo'te",
    ],
)
def test_names_cannot_forge_a_line(capsys: pytest.CaptureFixture[str], name: str) -> None:
    [line] = lines(capsys, answered(status=400, outcome="auth", database=name))
    assert f" database={name!r} role=app" in line
    assert line.isprintable()
    [line] = lines(capsys, answered(status=400, outcome="auth", database=name), format="json")
    assert json.loads(line)["database"] == name


def test_events_of_connections_are_for_whoever_looks_closely(capsys: pytest.CaptureFixture[str]) -> None:
    events = (Opened("p", 0.0012345), Closed("p", "idle"), Cancelled("p", confirmed=True))
    assert [line.split(" ", 1)[1] for line in lines(capsys, *events)] == [
        "debug connection opened pool=p seconds=0.001234",
        "debug connection closed pool=p reason=idle",
        "debug statement cancelled pool=p confirmed=True",
    ]
    assert lines(capsys, *events, level="info") == []


def test_what_should_not_be_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    leaked, *bug = lines(capsys, Leaked("p"), Bug("some-id", RuntimeError("no pool")), level="error")
    assert leaked.endswith("error lease leaked pool=p")
    assert bug[0].endswith("error bug")
    assert bug[1:] == ["Traceback (most recent call last):", "RuntimeError: no pool request_id=some-id"]


@pytest.mark.parametrize(
    ("severity", "state", "level"),
    [("critical", "firing", "error"), ("warning", "firing", "warning"), ("critical", "over", "info")],
)
def test_alert_is_as_loud_as_it_is_severe(
    capsys: pytest.CaptureFixture[str], severity: str, state: str, level: str
) -> None:
    [line] = lines(capsys, AlertChanged(name="lag", severity=severity, state=state, text="3 s"), format="json")
    entry = json.loads(line)
    assert (entry["level"], entry["message"]) == (level, f"alert {state}")
    assert (entry["alert"], entry["severity"], entry["reason"]) == ("lag", severity, "3 s")


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_exception_of_a_library_is_shown_with_its_traceback(formatter: logging.Formatter) -> None:
    try:
        raise ValueError("of a library")
    except ValueError:
        record = logging.LogRecord(NAME, logging.ERROR, "f", 1, "failed %s", ("here",), sys.exc_info())
    text = formatter.format(record)
    assert "failed here" in text
    assert "Traceback" in text
    assert "ValueError: (its text is not written" in text


def test_text_that_is_no_unicode_is_logged_all_the_same() -> None:
    record = logging.LogRecord(NAME, logging.ERROR, "f", 1, "file \udcff", (), None)
    assert json.loads(JsonFormatter().format(record))["message"] == "file \udcff"


def test_log_goes_to_stderr_at_the_level_that_is_set() -> None:
    configure_logging(LogSettings(level="warning"))
    configure_logging(LogSettings(level="error"))
    root = logging.getLogger()
    assert [type(handler) for handler in root.handlers] == [LogWriter]
    assert root.level == logging.ERROR


def test_other_settings_for_the_log_wait_for_nothing_that_is_not_written() -> None:
    """A reload while nobody reads the log held up every request for a second, and left a thread behind."""
    reading, writing = os.pipe()
    with open(reading, "rb") as output, open(writing, "w", encoding="utf-8") as stream:
        writer = LogWriter(stream)
        root = logging.getLogger()
        root.handlers[:] = [writer]
        reconfigure_logging(LogSettings(level="info"))
        threads = threading.active_count()
        for _ in range(3):
            logging.warning("x" * 70_000)  # more than a pipe holds
            reconfigure_logging(LogSettings(format="json", level="error"))
        logging.warning("not any more")
        logging.error("last")
        assert root.handlers == [writer]
        assert threading.active_count() <= threads + 1
        assert output.readline().endswith(b"x\n")
        assert json.loads(output.readline())["message"] == "last"
        writer.close()


# ── real requests through a gateway that logs all it can ─────────────────────────────────────────────────────────────

CANARY = "canary7f3a"
"""Stands wherever a program may put a secret, and may be nowhere in the log."""


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_outcome_of_a_request_writes_a_password_or_a_parameter(
    form: str, postgres: Cluster, database: Database
) -> None:
    postgres.maintenance.psql(f"CREATE ROLE {form}_teller LOGIN PASSWORD '{CANARY}'")
    teller = database.as_role(f"{form}_teller", CANARY)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "DATABASE_URL": database.url,
        "SQLHTTP_LOG__FORMAT": form,
        "SQLHTTP_LOG__LEVEL": "debug",
        "SQLHTTP_LOG__REQUESTS": "all",
        "SQLHTTP_LOG__SLOW_STATEMENT": "0.000001",  # each is slow, so that each is logged by its text, too
        "SQLHTTP_REQUEST__MAX_BYTES": "2000",
        "SQLHTTP_STATEMENT__TIMEOUT": "1",  # for one that sleeps; on a busy machine the others need some of it
        "SQLHTTP_RESPONSE__MAX_BYTES": "100000",
    }
    good = {"query": "SELECT $1::text AS a", "params": [CANARY]}
    wrong = teller.as_role(teller.role, f"{CANARY}-wrong").url
    requests: list[tuple[int, object, dict[str, str | None]]] = [
        (200, good, {}),
        (200, {"queries": [good, {"query": f"SELECT '{CANARY}', $q${CANARY}$q$ -- {CANARY}"}]}, {}),
        (400, {"query": "SELECT $1::int", "params": [CANARY]}, {}),
        (400, {"query": f"SELECT '{CANARY}'::int"}, {}),
        (400, {"query": f"DO $$ BEGIN RAISE 'no %', '{CANARY}' USING DETAIL = '{CANARY}'; END $$"}, {}),
        (400, {"query": "SELECT pg_sleep(60), $1::text", "params": [CANARY]}, {}),
        (507, {"query": "SELECT repeat($1, 1000000)", "params": [CANARY]}, {}),
        (413, {"query": "SELECT 1", "params": [CANARY * 1000]}, {}),
        (400, f'{{"query": "{CANARY}'.encode(), {}),
        (400, {"query": 1, "params": [CANARY]}, {}),
        (400, good, {"Neon-Connection-String": wrong}),
        (400, good, {"Neon-Connection-String": f"postgres://nobody:{CANARY}@db/{database.name}"}),
        (400, good, {"Neon-Connection-String": f"mysql://{CANARY}:{CANARY}@{CANARY}/x"}),
        (400, good, {"Neon-Connection-String": CANARY}),
        (400, good, {"Neon-Connection-String": None, "Authorization": f"Bearer {CANARY}"}),
        (400, good, {"Neon-Batch-Isolation-Level": CANARY}),
        (200, good, {"Traceparent": CANARY, "X-Other": CANARY, "Origin": f"https://{CANARY}"}),
    ]
    with GatewayProcess("serve", "--port", str(port), environment=environment) as process, httpx.Client() as http:
        process.wait_until_ready(url)
        program = Program(http, f"{url}/sql", teller.url)
        for status, body, headers in requests:
            assert program.post(body, headers).status_code == status, (body, headers)
        assert process.stop() == 0
    postgres.maintenance.psql(f"DROP ROLE {form}_teller")
    assert process.output.count("request answered") == len(requests), "one line for each"
    assert process.output.count("connection opened"), "this is the closest look there is"
    assert process.output.count("slow statement") > 3
    assert CANARY not in process.output
