"""Raw output is Postgres's own text, byte for byte: whatever `psql -At` prints, and nothing else."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sqlhttp_gateway.embedded import programs
from tests.support.cluster import Cluster, Database
from tests.support.gateway import Gateway
from tests.support.program import RAW, Program, program_of, scratch_database, scratch_role

FIELD, ROW, NULL = "\x1f", "\x1e", "\x1d"  # no value below has them
HERE = Path(__file__).parent


def values_by_type() -> dict[str, list[str]]:
    """The expressions of values.sql."""
    _, _, listed = (HERE / "values.sql").read_text(encoding="utf-8").partition("\n\n")
    kinds: dict[str, list[str]] = {}
    for line in listed.splitlines():
        if line.startswith("-- "):
            kinds[line.removeprefix("-- ")] = []
        else:
            kinds[next(reversed(kinds))].append(line)
    return kinds


VALUES = values_by_type()


@pytest.fixture(scope="module")
def database(postgres: Cluster) -> Iterator[Database]:
    """One database for the whole file, which changes nothing in it."""
    with scratch_database(postgres) as database:
        database.psql((HERE / "types.sql").read_text(encoding="utf-8"))
        yield database


@pytest.fixture(scope="module")
def program(gateway: Gateway, database: Database) -> Iterator[Program]:
    with program_of(gateway, database) as program:
        yield program


def psql(database: Database, sql: str) -> bytes:
    """What psql prints for one statement, without its last line feed: fields, rows and NULL by the marks above."""
    command = [
        str(programs() / "psql"),
        "-X",
        "-At",
        "-F",
        FIELD,
        "-R",
        ROW,
        "-P",
        f"null={NULL}",
        "-v",
        "ON_ERROR_STOP=1",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    done = subprocess.run(
        [*command, "-f", "-", database.url],
        input=sql.encode(),
        capture_output=True,
        env={**environment, "PGCLIENTENCODING": "UTF8"},
        timeout=30,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.removesuffix(b"\n")


def as_psql(rows: list[list[str | None]]) -> bytes:
    """The rows of a raw answer, written as `psql` above writes them."""
    return ROW.join(FIELD.join(NULL if value is None else value for value in row) for row in rows).encode()


def raw(program: Program, sql: str) -> list[list[str | None]]:
    rows: list[list[str | None]] = program.ask(sql, headers=RAW)["rows"]
    return rows


@pytest.mark.parametrize("kind", VALUES)
def test_raw_text_is_what_psql_prints(kind: str, program: Program, database: Database) -> None:
    sql = "SELECT " + ", ".join(VALUES[kind])
    [row] = raw(program, sql)
    printed = psql(database, sql)
    told = [NULL if value is None else value for value in row]
    assert dict(zip(VALUES[kind], told, strict=True)) == dict(
        zip(VALUES[kind], printed.decode().split(FIELD), strict=True)
    )
    assert as_psql([row]) == printed


def test_sixty_types_are_tried() -> None:
    assert len(VALUES) >= 60
    assert sum(map(len, VALUES.values())) >= 250


@pytest.mark.parametrize(
    "setting",
    [
        "datestyle = 'SQL, DMY'",
        "datestyle = 'German'",
        "intervalstyle = 'iso_8601'",
        "bytea_output = 'escape'",
        "timezone = 'Asia/Kathmandu'",
        "extra_float_digits = 0",
    ],
)
def test_settings_of_the_database_decide_the_text(
    setting: str, program: Program, database: Database, postgres: Cluster
) -> None:
    sql = (
        "SELECT '2024-02-29 12:34:56.7+05:45'::timestamptz, '2024-02-29'::date, '1 year 2 days 3:04'::interval, "
        "'\\x00ff5c41'::bytea, 0.1::float8 + 0.2::float8, 1.1::float4"
    )
    with scratch_role(postgres) as role:
        postgres.maintenance.psql(f"ALTER ROLE {role} SET {setting}")
        styled = database.as_role(role, "secret")
        printed = psql(styled, sql)
        assert as_psql(raw(program.to(styled), sql)) == printed
        assert printed != psql(database, sql), "a setting that changes nothing proves nothing"


def test_many_rows_of_a_table_keep_order_and_nulls(program: Program, database: Database) -> None:
    sql = (
        "SELECT i, nullif(i % 7, 0), CASE WHEN i % 3 = 0 THEN '' WHEN i % 5 = 0 THEN NULL ELSE repeat('é', i % 50) END "
        "FROM generate_series(1, 5000) i"
    )
    assert as_psql(raw(program, sql)) == psql(database, sql)


def test_sixteen_hundred_columns_come_in_order(program: Program, database: Database) -> None:
    sql = "SELECT " + ", ".join(f"{i} AS c{i}" if i % 3 else f"NULL::int AS c{i}" for i in range(1600))
    answer = program.ask(sql, headers=RAW)
    assert [field["name"] for field in answer["fields"]] == [f"c{i}" for i in range(1600)]
    assert as_psql(answer["rows"]) == psql(database, sql)


def test_equal_names_all_come(program: Program, database: Database) -> None:
    sql = "SELECT 1 AS a, 2 AS a, NULL AS a, 'x' AS \"?column?\", 3"
    answer = program.ask(sql, headers=RAW)
    assert [field["name"] for field in answer["fields"]] == ["a", "a", "a", "?column?", "?column?"]
    assert as_psql(answer["rows"]) == psql(database, sql)


def test_names_of_columns_may_be_anything(program: Program) -> None:
    names = ['with "quotes"', "new\nline", "naïve ☃ 🐘", "back\\slash", "x" * 63, "__proto__", "0"]
    sql = "SELECT " + ", ".join('1 AS "{}"'.format(name.replace('"', '""')) for name in names)
    answer = program.ask(sql, headers=RAW)
    assert [field["name"] for field in answer["fields"]] == names
    assert list(program.ask(sql)["rows"][0]) == names


def test_rows_without_columns_are_counted(program: Program) -> None:
    answer = program.ask("SELECT FROM generate_series(1, 3)", headers=RAW)
    assert (answer["fields"], answer["rows"], answer["rowCount"]) == ([], [[], [], []], 3)
    assert program.ask("SELECT FROM generate_series(1, 2)")["rows"] == [{}, {}]


def test_no_row_still_has_its_fields(program: Program) -> None:
    answer = program.ask("SELECT i, t, n FROM one_of WHERE false", headers=RAW)
    assert [field["name"] for field in answer["fields"]] == ["i", "t", "n"]
    assert (answer["rows"], answer["rowCount"], answer["command"]) == ([], 0, "SELECT")


def test_a_value_of_five_megabytes_is_whole(program: Program) -> None:
    [[value]] = raw(program, "SELECT string_agg(chr(0x10000 + i % 1000), '') FROM generate_series(1, 1250000) i")
    assert value == "".join(chr(0x10000 + i % 1000) for i in range(1, 1250001))


def test_text_survives_as_a_parameter(program: Program) -> None:
    text = "".join(chr(point) for point in [*range(1, 0x250), 0x2028, 0xFEFF, 0x1F418, 0x10FFFF]) + "'\"\\$1{}()"
    assert raw_value(program, "SELECT $1::text", text) == text
    assert raw_value(program, "SELECT $1", text) == text
    assert raw_value(program, "SELECT length($1)::text", text) == str(len(text))


def raw_value(program: Program, sql: str, param: str) -> str:
    [[value]] = program.ask(sql, param, headers=RAW)["rows"]
    assert isinstance(value, str)
    return value


NOT_VALUES = ("void", "record", "reg types", "catalog rows", "xid, cid, tid, oid", "aclitem", '"char"', "vectors")
"""Pseudo-types, and text that names an object of the catalog."""


@pytest.mark.parametrize("kind", [kind for kind in VALUES if kind not in NOT_VALUES])
def test_what_came_out_goes_back_in_as_a_parameter(kind: str, program: Program) -> None:
    """Postgres's output is also its input, so that a program can send back what it read."""
    for expression in VALUES[kind]:
        if "bit" in kind or "char(" in expression:
            continue  # a cast that has lost its length pads or cuts
        [[value, type_]] = raw(program, f"SELECT {expression}, pg_typeof({expression})")
        if value is not None and type_ not in ("unknown", "record[]"):
            [[again]] = program.ask(f"SELECT $1::{type_}", value, headers=RAW)["rows"]
            assert again == value, expression
