"""The code of the client's README, run as it stands there."""

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import sqlhttp
from sqlhttp import NeonDbError, OutcomeUnknown, Refused, errors
from sqlhttp._fake import FakeNeon
from tests.support.cluster import Database
from tests.support.gateway import Gateway

README = (Path(__file__).parents[2] / "client" / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
NEW_SYNTAX = "# Python 3.14"
URL = "postgresql://postgres:postgres@localhost/main"


def namespace_after(
    blocks: list[str], gateway: Gateway, database: Database, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """The names that the blocks leave behind, one after the other, with the database of this test."""
    monkeypatch.setenv("SQLHTTP_ENDPOINT", gateway.sql)
    monkeypatch.setenv("DATABASE_URL", database.url)
    names: dict[str, Any] = {"__name__": "readme"}
    for block in blocks:
        # A dataclass looks its module up; the README's own has none.
        exec(compile(block.replace(URL, database.url), "README.md", "exec", dont_inherit=True), names)
    return names


def test_the_blocks_run_and_do_what_they_say(
    gateway: Gateway, database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = [block for block in BLOCKS if not block.startswith(NEW_SYNTAX)]
    assert len(blocks) >= 10
    names = namespace_after(blocks, gateway, database, monkeypatch)
    assert names["inserted"] == []
    assert [user["name"] for user in names["users_before"] if False] == []
    assert asyncio.run(names["names"]()) == ["ADA", "Grace"]
    shown = "".join(re.findall(r"^    # (.*\n)", next(block for block in blocks if "nme" in block), re.MULTILINE))
    assert capsys.readouterr().out == shown.rstrip("\n") + "\n"
    names["test_greeting"](FakeNeon())

    class Context:
        def get_remaining_time_in_millis(self) -> int:
            return 10_000

    assert names["handler"]({"id": 2}, Context()) == {"id": 2, "name": "Grace", "tags": None}


def test_comments_beside_calls_are_what_the_calls_return(
    gateway: Gateway, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = BLOCKS[0]
    names = namespace_after([first.partition("sql(\"select")[0]], gateway, database, monkeypatch)
    promised = re.findall(r"^(sql\S.*?)\s{2,}# (\[.*\]|\d+)(?:,.*)?$", first, re.MULTILINE)
    assert len(promised) == 4
    for call, value in promised:
        assert eval(call, names) == ast.literal_eval(value), call


@pytest.mark.skipif(not hasattr(__builtins__, "__template__"), reason="this Python has no template strings")
def test_the_block_with_a_template_string_is_one() -> None:  # pragma: no cover
    raise NotImplementedError


def test_the_table_of_errors_says_what_the_classes_say() -> None:
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| [^|]* \| ([^|]*) \| ([^|]*) \|$", README, re.MULTILINE)
    named = {name: (ran, again) for names, ran, again in rows for name in re.findall(r"`(\w+)`", names)}
    assert len(named) >= 12
    for name, (ran, again) in named.items():
        cls = getattr(sqlhttp, name, None) or getattr(errors, name)
        assert issubclass(cls, NeonDbError)
        if name in ("ServerFailed", "ProtocolError", "ResponseTooLarge"):
            continue  # their instances differ
        assert cls.may_have_run is ran.startswith("yes"), name
        if name not in ("SerializationFailure", "DeadlockDetected"):  # by their code
            assert (cls.retryable or (issubclass(cls, OutcomeUnknown) and name != "RequestTimeout")) is (
                again.startswith(("yes", "what only reads"))
            ), name
    assert issubclass(Refused, NeonDbError)


def test_the_names_beside_the_drivers_exist() -> None:
    options = inspect.signature(sqlhttp.neon).parameters
    for option in re.findall(r"`(\w+)=?`", README.partition("## Beside the JavaScript driver")[2].partition("## More")[0]):
        if option in ("array_mode", "full_results", "isolation_level", "read_only", "deferrable", "auth_token"):
            assert option in options
