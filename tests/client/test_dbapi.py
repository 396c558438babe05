"""The DB-API module, against a server that answers from a script. The public compliance kit runs in integration."""

from datetime import date, datetime, time
from typing import Any

import pytest

from sqlhttp import dbapi
from sqlhttp._rows import Field
from tests.support.scripted_http import answers, resets, result, scripted

THREE = result(["1", "x"], ["2", "y"], ["3", None], types=(23, 25))
NOTHING: dict[str, Any] = {"fields": [], "rows": [], "command": "CREATE", "rowCount": None, "rowAsArray": True}


@pytest.fixture
def server() -> Any:
    with scripted(answers(THREE)) as server:
        yield server


@pytest.fixture
def connection(server: Any) -> dbapi.Connection:
    return dbapi.connect(server.url)


def test_rows_are_fetched_one_by_one_in_parts_and_all_at_once(connection: dbapi.Connection) -> None:
    cursor = connection.cursor().execute("select %s", [1])
    assert cursor.rowcount == 3
    assert cursor.fetchone() == (1, "x")
    assert cursor.fetchmany() == [(2, "y")]
    assert cursor.fetchmany(5) == [(3, None)]
    assert cursor.fetchall() == []
    assert cursor.fetchone() is None
    assert list(connection.cursor().execute("select 1")) == [(1, "x"), (2, "y"), (3, None)]


def test_parameters_are_sent_beside_the_text(connection: dbapi.Connection, server: Any) -> None:
    connection.cursor().execute("select %(a)s, %(a)s", {"a": "x"})
    assert server.requests[0].json == {"query": "select $1, $1", "params": ["x"]}


def test_many_sets_of_parameters_are_one_transaction(connection: dbapi.Connection, server: Any) -> None:
    cursor = connection.cursor().executemany("insert into t values (%s)", ([value] for value in (1, 2)))
    assert cursor.rowcount == 6
    assert server.requests[0].json == {
        "queries": [
            {"query": "insert into t values ($1)", "params": ["1"]},
            {"query": "insert into t values ($1)", "params": ["2"]},
        ]
    }


def test_a_description_has_what_postgres_told(connection: dbapi.Connection, server: Any) -> None:
    cursor = connection.cursor().execute("select 1")
    assert cursor.description == [("a", 23, None, 4, None, None, None), ("b", 25, None, 4, None, None, None)]
    assert cursor.description[0][1] == dbapi.NUMBER
    assert cursor.description[1][1] == dbapi.STRING
    assert cursor.description[1][1] != dbapi.NUMBER
    server.acts[:] = [answers(NOTHING)]
    cursor.execute("create table t ()")
    assert cursor.description is None
    assert cursor.rowcount == -1
    with pytest.raises(dbapi.ProgrammingError, match="no result"):
        cursor.fetchall()


def test_precision_and_scale_of_a_numeric_are_told() -> None:
    assert dbapi.described(Field("n", 1700, 0, 0, -1, ((10 << 16) | 2) + 4)) == ("n", 1700, None, None, 10, 2, None)
    negative = ((5 << 16) | (-3 & 0x7FF)) + 4  # numeric(5, -3)
    assert dbapi.described(Field("n", 1700, 0, 0, -1, negative))[4:6] == (5, -3)
    assert dbapi.described(Field("n", 1700))[4:6] == (None, None)


def test_what_was_written_cannot_be_rolled_back_and_the_error_says_why(connection: dbapi.Connection) -> None:
    cursor = connection.cursor()
    cursor.execute("select 1")
    connection.rollback()  # nothing was changed
    cursor.execute("insert into t values (1)")
    with pytest.raises(dbapi.NotSupportedError, match="every statement commits by itself"):
        connection.rollback()
    cursor.executemany("insert into t values (%s)", [[1]])
    connection.commit()
    connection.rollback()


def test_a_statement_that_failed_has_undone_itself(connection: dbapi.Connection, server: Any) -> None:
    server.acts[:] = [answers({"message": "no", "code": "23505"}, status=400)]
    with pytest.raises(dbapi.IntegrityError):
        connection.cursor().execute("insert into t values (1)")
    connection.rollback()


def test_a_statement_whose_answer_was_lost_may_be_there(connection: dbapi.Connection, server: Any) -> None:
    """Who is told of an error rolls back, and must not believe that it is undone."""
    server.acts[:] = [resets]
    with pytest.raises(dbapi.OperationalError):
        connection.cursor().execute("insert into t values (1)")
    with pytest.raises(dbapi.NotSupportedError, match="cannot roll back"):
        connection.rollback()
    server.acts[:] = [resets]
    with pytest.raises(dbapi.OperationalError):
        connection.cursor().executemany("insert into t values (%s)", [[1]])
    with pytest.raises(dbapi.NotSupportedError, match="cannot roll back"):
        connection.rollback()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("BEGIN", "BEGIN has no effect over HTTP: every statement commits by itself"),
        ("  -- now\n start transaction", "START .*transaction"),
        ("commit", "COMMIT"),
        ("set search_path = x", "SET .*session of its own"),
        ("declare c cursor for select 1", "DECLARE"),
        ("listen c", "LISTEN"),
    ],
)
def test_what_needs_a_session_is_refused(connection: dbapi.Connection, server: Any, statement: str, words: str) -> None:
    with pytest.raises(dbapi.NotSupportedError, match=words):
        connection.cursor().execute(statement)
    with pytest.raises(dbapi.NotSupportedError):
        connection.cursor().executemany(statement, [[]])
    assert not server.requests


def test_what_is_closed_cannot_be_used(connection: dbapi.Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("select 1")
    with pytest.raises(dbapi.InterfaceError, match="cursor is closed"):
        cursor.execute("select 1")
    with pytest.raises(dbapi.InterfaceError, match="cursor is closed"):
        cursor.fetchone()
    open_cursor = connection.cursor().execute("select 1")
    with connection:
        pass
    for use in (connection.cursor, connection.commit, connection.rollback, connection.close, open_cursor.fetchone):
        with pytest.raises(dbapi.Error, match="connection is closed"):
            use()


def test_type_objects_and_constructors_are_there() -> None:
    assert dbapi.STRING == 25
    assert dbapi.STRING != dbapi.BINARY
    assert len({dbapi.STRING, dbapi.BINARY, dbapi.NUMBER, dbapi.DATETIME, dbapi.ROWID}) == 5
    assert dbapi.Date(2020, 1, 2) == date(2020, 1, 2)
    assert dbapi.Binary(b"x") == b"x"
    moment = datetime(2020, 1, 2, 3, 4, 5)
    assert dbapi.DateFromTicks(moment.timestamp()) == moment.date()
    assert dbapi.TimeFromTicks(moment.timestamp()) == time(3, 4, 5)
    assert dbapi.TimestampFromTicks(moment.timestamp()) == moment
