"""The client's README: its code runs as it stands there, and its tables say what the source says."""

import ast
import asyncio
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sqlhttp
from sqlhttp import OutcomeUnknown, RequestTimeout, errors
from sqlhttp._fake import FakeNeon
from tests.client.test_template import Template
from tests.support.cluster import Database
from tests.support.gateway import Gateway

README = (Path(__file__).parents[2] / "client" / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
NEW_SYNTAX = "# Python 3.14\n"
URL = "postgresql://postgres:postgres@localhost/main"

Run = Callable[[list[str]], dict[str, Any]]


@pytest.fixture
def run(gateway: Gateway, database: Database, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run blocks one after the other on the test's database; the names they leave behind."""
    monkeypatch.setenv("SQLHTTP_ENDPOINT", gateway.sql)
    monkeypatch.setenv("DATABASE_URL", database.url)

    def run(blocks: list[str]) -> dict[str, Any]:
        names: dict[str, Any] = {"__name__": "readme"}
        for block in blocks:
            exec(compile(block.replace(URL, database.url), "README.md", "exec", dont_inherit=True), names)
        return names

    return run


def test_the_code_runs_and_does_what_it_says(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    names = run([block for block in BLOCKS if not block.startswith(NEW_SYNTAX)])
    [shown] = [re.findall(r"^    # (.*)", block, re.MULTILINE) for block in BLOCKS if "print(error)" in block]
    assert capsys.readouterr().out.splitlines() == shown
    assert names["inserted"] == []
    assert asyncio.run(names["names"]()) == ["ADA", "Grace"]
    names["test_greeting"](FakeNeon())

    class Context:
        def get_remaining_time_in_millis(self) -> int:
            return 10_000

    assert names["handler"]({"id": 2}, Context()) == {"id": 2, "name": "Grace", "tags": None}


def test_the_template_string_does_what_it_says(run: Run) -> None:
    [block] = [block for block in BLOCKS if block.startswith(NEW_SYNTAX)]
    names = run([block for block in BLOCKS[: BLOCKS.index(block)] if "async" not in block])
    [text] = re.findall(r'sql\(t"(.*)"\)', block)
    values = {name: eval(name, names) for name in re.findall(r"\{(\w+)", text)}
    assert names["sql"](Template(text, **values)) == []


def test_what_stands_beside_a_call_is_what_it_returns(run: Run) -> None:
    made, select, calls = BLOCKS[0].partition('sql("select')
    names = run([made])
    promised = re.findall(r"^(sql\S.*?)\s{2,}# (\[.*\]|\d+)(?:,.*)?$", select + calls, re.MULTILINE)
    assert len(promised) == 4
    for call, value in promised:
        assert eval(call, names) == ast.literal_eval(value), call


def test_the_table_of_errors_says_what_the_classes_say() -> None:
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| [^|]* \| ([^|]*) \| ([^|]*) \|$", README, re.MULTILINE)
    told = {name: (ran, again) for names, ran, again in rows for name in re.findall(r"`(\w+)`", names)}
    by_instance = {"ServerFailed", "ProtocolError", "ResponseTooLarge"}
    by_code = {"SerializationFailure", "DeadlockDetected"}
    assert len(told) == 18
    for name in told.keys() - by_instance:
        cls = getattr(sqlhttp, name, None) or getattr(errors, name)
        ran, again = told[name]
        assert cls.may_have_run is (ran == "yes"), name
        again_if_reading = issubclass(cls, OutcomeUnknown) and cls is not RequestTimeout
        assert (again == "what only reads") is again_if_reading, name
        assert again.startswith("yes") is (cls.retryable or name in by_code), name


def test_every_option_beside_the_drivers_is_one_of_neons() -> None:
    _, _, table = README.partition("## Beside the JavaScript driver")
    rows = [row.split(" | ") for row in re.findall(r"^\| `.*", table, re.MULTILINE)]
    options = {name for row in rows for name in re.findall(r"`([a-z]+_[a-z]+)", row[1])}
    elsewhere = {"data_type", "source_error", "ssl_context"}  # of errors, and of fetch_options
    assert {"array_mode", "full_results", "auth_token", "fetch_options"} <= options
    assert options - elsewhere <= set(inspect.signature(sqlhttp.neon).parameters)
