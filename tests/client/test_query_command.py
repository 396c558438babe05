"""`sqlhttp query`, against a server that answers from a script."""

import io
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

from sqlhttp import _query_command
from sqlhttp._query_command import main
from tests.support.scripted_http import answers, hangs, result, scripted

ROWS = result(
    ["1", "a,b", "1.10", "{1,NULL}", "NaN"],
    [None, "日本\n", None, None, "t"],
    types=(23, 25, 1700, 1007, 701),
)
ROWS["rows"][1][4] = "1.5"


def run(*arguments: str, body: Any = ROWS, status: int = 200) -> tuple[int, Any]:
    with scripted(answers(body, status=status)) as server:
        return main(["--url", server.url, *arguments]), server


def test_a_table_is_as_wide_as_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run("select 1")
    assert code == 0
    assert capsys.readouterr().out == (
        "a | b      | c    | d        | e\n"
        "--+--------+------+----------+----\n"
        "1 | a,b    | 1.10 | {1,NULL} | NaN\n"
        "  | 日本\\n |      |          | 1.5\n"
        "(2 rows)\n"
    )


def test_csv_has_a_header_and_quotes_what_needs_it(capsys: pytest.CaptureFixture[str]) -> None:
    run("select 1", "--format", "csv")
    assert capsys.readouterr().out == 'a,b,c,d,e\n1,"a,b",1.10,"{1,NULL}",NaN\n,"日本\n",,,1.5\n'


def test_csv_tells_empty_text_from_null_as_postgres_does(capsys: pytest.CaptureFixture[str]) -> None:
    run("select 1", "--format", "csv", body=result(["", None], [None, 'a "b"'], [",", "\r"], types=(25, 25)))
    run("select 1", "--format", "csv", body=result([""], [None], types=(25,)))
    assert capsys.readouterr().out == 'a,b\n"",\n,"a ""b"""\n",","\r"\n' + 'a\n""\n\n'


def test_json_is_an_array_of_objects(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    run("select 1", "--format", "json")
    assert json.loads(capsys.readouterr().out) == [
        {"a": 1, "b": "a,b", "c": "1.10", "d": [1, None], "e": "NaN"},
        {"a": None, "b": "日本\n", "c": None, "d": None, "e": 1.5},
    ]


def test_a_statement_without_rows_says_what_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    inserted = {"fields": [], "rows": [], "command": "INSERT", "rowCount": 3, "rowAsArray": True}
    run("insert", body=inserted)
    run("create", body={**inserted, "command": "CREATE", "rowCount": None})
    run("insert", "--format", "csv", body=inserted)
    assert capsys.readouterr().out == "INSERT 3\nCREATE\n"


def test_a_table_shows_no_control_character(capsys: pytest.CaptureFixture[str]) -> None:
    """In the two ranges that terminals obey."""
    run("select 1", body=result(["\x1b[31m\x7f", "\x9b31m\x80\x9f"], types=(25, 25)))
    assert capsys.readouterr().out.splitlines()[2] == "\\x1b[31m\\x7f | \\x9b31m\\x80\\x9f"


def test_rows_that_the_output_cannot_hold_are_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    code, _ = run("select 1", body=result(["あ"]))
    assert code == 1
    assert "cannot be shown: the encoding ascii of the output" in capsys.readouterr().err


def test_a_value_that_is_too_deep_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_deep(*_: object) -> None:
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(_query_command, "write_json", too_deep)
    code, _ = run("select 1", "--format", "json")
    assert code == 1
    assert "cannot be shown: a value is too deep" in capsys.readouterr().err


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "inf", "soon"])
def test_a_timeout_that_is_none_is_refused(timeout: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["select 1", "--timeout", timeout])
    assert stopped.value.code == 2


def test_parameters_are_sent_as_text() -> None:
    _, server = run("select $1, $2", "5", "x y")
    assert server.requests[0].json == {"query": "select $1, $2", "params": ["5", "x y"]}


def test_the_statement_may_come_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("select 7"))
    _, server = run("-")
    assert server.queries == ["select 7"]


def test_read_only_is_for_postgres_to_enforce() -> None:
    _, server = run("select 1", "--read-only")
    assert server.requests[0].headers["neon-batch-read-only"] == "true"


def test_an_error_is_shown_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run("select x", body={"message": "no x", "code": "42703", "position": "8"}, status=400)
    assert code == 1
    assert capsys.readouterr().err == ("sqlhttp query: no x (SQLSTATE 42703)\nLINE 1: select x\n               ^\n")


def test_a_missing_url_is_shown_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["select 1"]) == 1
    assert "DATABASE_URL" in capsys.readouterr().err


def test_a_wrong_command_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["select 1", "--format", "xml"])
    assert caught.value.code == 2
    assert "csv" in capsys.readouterr().err


def test_a_reader_that_has_enough_is_no_error() -> None:
    many = result(*[[str(number)] for number in range(100_000)])
    with scripted(answers(many)) as server:
        command = [
            sys.executable,
            "-c",
            "from sqlhttp._cli import main; exit(main())",
            "query",
            "x",
            "--url",
            server.url,
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"a\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait(30) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is always full")
def test_rows_that_cannot_be_written_are_said_and_fail() -> None:
    with scripted(answers(ROWS)) as server, open("/dev/full", "wb") as full:
        done = subprocess.run(_command(server.url), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == (
        "sqlhttp query: the statement has run, but its rows cannot be shown: No space left on device\n"
    )


def test_ctrl_c_ends_it_in_one_line() -> None:
    asked = threading.Event()

    def waits(peer: Any, headers: dict[str, str]) -> None:
        asked.set()
        hangs(peer, headers)

    with scripted(waits) as server:
        process = subprocess.Popen(_command(server.url), stderr=subprocess.PIPE, text=True)
        assert asked.wait(30)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.startswith("sqlhttp query: interrupted; ")
    assert said.count("\n") == 1


def _command(url: str) -> list[str]:
    program = "import sys; from sqlhttp._cli import main; sys.exit(main())"
    return [sys.executable, "-c", program, "query", "--url", url, "select 1"]


class _Unread(io.StringIO):
    """Standard input, of which reading ends in `fault`."""

    def __init__(self, fault: BaseException) -> None:
        super().__init__()
        self._fault = fault

    def read(self, size: int | None = -1) -> str:
        raise self._fault


@pytest.mark.parametrize(
    ("fault", "status", "word"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), 2, "no text in utf-8"),
    ],
)
def test_statement_that_is_never_read_is_one_line_and_not_sent(
    fault: BaseException, status: int, word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", _Unread(fault))
    assert main(["--url", "http://a:b@127.0.0.1:1/c", "-"]) == status
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert word in said
    assert "nothing has run" in said
