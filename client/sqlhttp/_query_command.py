"""`sqlhttp query`: one statement from the command line, its rows as a table, JSON or CSV."""

import argparse
import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from sqlhttp._errors import NeonDbError
from sqlhttp._neon import neon
from sqlhttp._options import TIMEOUT
from sqlhttp._params import encode_param
from sqlhttp._response import FullResults
from sqlhttp._types import Decoder

DESCRIPTION = """\
Run one statement over HTTP and print its rows.

  sqlhttp query "select * from users where id = $1" 7
  sqlhttp query --format csv "table users" > users.csv
  echo "select 1" | sqlhttp query -

The database is --url or DATABASE_URL; the server is --endpoint, SQLHTTP_ENDPOINT, or
follows from the URL. Parameters are sent as text, and Postgres tells their types.

Exit status: 0 after success, 1 when the statement failed, 2 when the command is wrong, 130 after Ctrl-C."""


class AsText(Mapping[int, Decoder]):
    """Every type as the text that Postgres printed, as psql shows it."""

    def __getitem__(self, type_id: int) -> Decoder:
        return str

    def __contains__(self, type_id: object) -> bool:
        return True

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 1


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status is returned."""
    given = _parser().parse_args(arguments)
    try:
        text = sys.stdin.read() if given.sql == "-" else given.sql
    except KeyboardInterrupt:
        print("sqlhttp query: interrupted; nothing has run", file=sys.stderr)
        return 130
    except UnicodeDecodeError as error:
        print(f"sqlhttp query: the statement is no text in {error.encoding}; nothing has run", file=sys.stderr)
        return 2
    try:
        sql = neon(
            given.url,
            endpoint=given.endpoint,
            auth_token=given.token,
            array_mode=True,
            full_results=True,
            read_only=given.read_only or None,
            timeout=given.timeout,
            types=None if given.format == "json" else AsText(),
        )
        answer = sql.query(sql.unsafe(text, *given.parameter))
    except NeonDbError as error:
        print(f"sqlhttp query: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sqlhttp query: interrupted; the server cancels the statement, unless it was done", file=sys.stderr)
        return 130
    try:
        {"table": write_table, "json": write_json, "csv": write_csv}[given.format](answer, sys.stdout)
        sys.stdout.flush()
    except OSError as error:
        # Python would complain once more when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # Whoever reads a pipe that is broken, such as head, has enough.
        return 0 if isinstance(error, BrokenPipeError) else _not_shown(f"{error.strerror}")
    except UnicodeEncodeError as error:
        return _not_shown(f"the encoding {error.encoding} of the output lacks a character; set PYTHONUTF8=1")
    except RecursionError:
        return _not_shown("a value is too deep for this format; --format csv has it as text")
    return 0


def _not_shown(reason: str) -> int:
    print(f"sqlhttp query: the statement has run, but its rows cannot be shown: {reason}", file=sys.stderr)
    return 1


def write_table(answer: FullResults[tuple[Any, ...]], out: TextIO) -> None:
    """Columns as wide as their widest value, as psql prints them; without columns what was done."""
    if not answer.fields:
        print(" ".join([answer.command, *([] if answer.row_count is None else [str(answer.row_count)])]), file=out)
        return
    names = [field.name for field in answer.fields]
    lines = [["" if value is None else _printable(value) for value in row] for row in answer.rows]
    widths = [max(map(_width, column)) for column in zip(names, *lines, strict=True)]
    print(" | ".join(map(_padded, names, widths)).rstrip(), file=out)
    print("-+-".join("-" * width for width in widths), file=out)
    for line in lines:
        print(" | ".join(map(_padded, line, widths)).rstrip(), file=out)
    print(f"({len(lines)} row{'' if len(lines) == 1 else 's'})", file=out)


def write_csv(answer: FullResults[tuple[Any, ...]], out: TextIO) -> None:
    """A header and the rows (RFC 4180, with the line ends of Unix); NULL is empty, and empty text is `""`."""
    if not answer.fields:
        return
    for row in ([field.name for field in answer.fields], *answer.rows):
        print(",".join(map(_csv_field, row)), file=out)


def write_json(answer: FullResults[tuple[Any, ...]], out: TextIO) -> None:
    """An array of objects. Numbers, booleans, arrays and JSON are JSON; all else is text, and so is a numeric."""
    names = [field.name for field in answer.fields]
    rows = [dict(zip(names, map(_json_value, row), strict=True)) for row in answer.rows]
    json.dump(rows, out, ensure_ascii=False, indent=2)
    print(file=out)


def _csv_field(text: str | None) -> str:
    """As Postgres's own COPY has it; the csv module tells empty text from NULL only from Python 3.12 on."""
    if text is None:
        return ""
    return '"' + text.replace('"', '""') + '"' if not text or _CSV_SPECIAL.search(text) else text


def _json_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return encode_param(value)  # JSON has neither NaN nor Infinity
    if value is None or isinstance(value, bool | int | float | str | dict):
        return value
    return encode_param(value)


def _printable(text: str) -> str:
    return text.replace("\\", "\\\\").translate(_CONTROLS) if not text.isprintable() else text


_CSV_SPECIAL = re.compile(r'[",\r\n]')
_CONTROLS = {number: f"\\x{number:02x}" for number in (*range(32), *range(127, 160))} | {9: "\\t", 10: "\\n", 13: "\\r"}


def _width(text: str) -> int:
    """Columns on a terminal: two for the wide characters of East Asia, none for what combines."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("expected a number of seconds above 0")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sqlhttp query", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sql", metavar="SQL", help="the statement; - reads it from standard input")
    parser.add_argument("parameter", metavar="PARAMETER", nargs="*", help="the values of $1, $2, …")
    parser.add_argument("--format", choices=["table", "json", "csv"], default="table", help="table by default")
    parser.add_argument("--url", help="postgresql://role:password@host/database; DATABASE_URL by default")
    parser.add_argument("--endpoint", help="where the server is; SQLHTTP_ENDPOINT by default")
    parser.add_argument("--token", help="a JWT to show instead of a password")
    parser.add_argument("--read-only", action="store_true", help="have Postgres refuse a statement that writes")
    parser.add_argument("--timeout", type=_seconds, default=TIMEOUT, metavar="SECONDS", help="%(default)g by default")
    return parser
