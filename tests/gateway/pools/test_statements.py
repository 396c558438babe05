"""Which statement has which name on a connection, and which names are to be closed."""

import pytest

from sqlhttp_gateway.pools.statements import MAX_TEXT, Statements
from sqlhttp_gateway.wire.frontend import encode_close_statement


def parsed(statements: Statements, text: str) -> bytes:
    """Let the server have parsed `text` under a new name."""
    name = statements.new_name(text)
    statements.add(text, name)
    return name


def test_text_that_was_parsed_is_found_by_its_name() -> None:
    statements = Statements(2)
    assert statements.find("SELECT 1") is None
    name = parsed(statements, "SELECT 1")
    assert statements.find("SELECT 1") == name
    assert statements.find("select 1") is None
    assert len(statements) == 1


def test_new_name_alone_promises_nothing() -> None:
    statements = Statements(2)
    statements.new_name("SELECT 1")
    assert statements.find("SELECT 1") is None


def test_text_that_means_something_else_later_is_not_kept() -> None:
    statements = Statements(2)
    assert statements.new_name("SELECT 'today'::date") == b""


def test_text_that_names_its_own_request_pushes_nothing_out() -> None:
    statements = Statements(1)
    name = parsed(statements, "SELECT 1")
    parsed(statements, "SELECT 2\n/*traceparent='00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'*/")
    assert statements.find("SELECT 1") == name


def test_chain_has_no_name_that_sql_could_run_it_by() -> None:
    statements = Statements(10)
    assert statements.new_name("/* a */ commit work AND chain") == b""
    assert statements.new_name("COMMIT") != b""


def test_transaction_finds_what_is_prepared_and_may_keep_the_rest() -> None:
    statements = Statements(4)
    name = parsed(statements, "SELECT 1")
    [one, other], is_kept = statements.of_transaction(["SELECT 1", "SELECT 2"])
    assert one is not None
    assert (one.name, other, is_kept) == (name, None, True)


@pytest.mark.parametrize("is_known", [True, False])
def test_transaction_that_changes_what_texts_mean_neither_finds_nor_keeps_any(is_known: bool) -> None:
    statements = Statements(4)
    parsed(statements, "SELECT 1")
    if is_known:
        parsed(statements, "SET LOCAL TimeZone = 'UTC'")
    assert statements.of_transaction(["SET LOCAL TimeZone = 'UTC'", "SELECT 1"]) == ([None, None], False)


def test_transaction_of_more_texts_than_there_is_room_for_keeps_none() -> None:
    """The server would have all of them in its memory at once."""
    statements = Statements(2)
    name = parsed(statements, "SELECT 1")
    [known, *_], is_kept = statements.of_transaction(["SELECT 1", "SELECT 2", "SELECT 3"])
    assert known is not None
    assert (known.name, is_kept) == (name, False)
    assert statements.of_transaction(["SELECT 2"] * 9)[1]


def test_names_are_never_used_twice() -> None:
    """A name that went missing on the server can then only be an old one."""
    statements = Statements(3)
    names = [parsed(statements, f"SELECT {number}") for number in range(20)]
    statements.forget()
    names += [parsed(statements, f"SELECT {number}") for number in range(20)]
    assert len(set(names)) == 40


def test_least_recently_used_is_closed_when_there_are_too_many() -> None:
    statements = Statements(2)
    first, second = parsed(statements, "SELECT 1"), parsed(statements, "SELECT 2")
    statements.find("SELECT 1")
    third = parsed(statements, "SELECT 3")
    assert statements.take_closing() == encode_close_statement(second)
    assert statements.take_closing() == b""
    assert (statements.find("SELECT 1"), statements.find("SELECT 2"), statements.find("SELECT 3")) == (
        first,
        None,
        third,
    )


def test_text_parsed_anew_closes_what_it_was_before() -> None:
    statements = Statements(5)
    old = parsed(statements, "SELECT 1")
    new = parsed(statements, "SELECT 1")
    assert statements.find("SELECT 1") == new
    assert statements.take_closing() == encode_close_statement(old)


def test_statement_that_went_stale_is_dropped_and_closed() -> None:
    statements = Statements(5)
    old, other = parsed(statements, "SELECT 1"), parsed(statements, "SELECT 2")
    statements.drop("SELECT 1")
    statements.drop("SELECT 3")
    assert statements.find("SELECT 1") is None
    assert statements.find("SELECT 2") == other
    assert statements.take_closing() == encode_close_statement(old)


def test_what_has_parameters_is_dropped_when_it_has_grown_old() -> None:
    """Postgres never asks again of which types they are, whatever becomes of the table."""
    statements = Statements(5)
    kept, old = parsed(statements, "SELECT 1"), parsed(statements, "SELECT $1::int")
    statements.age()
    young = parsed(statements, "INSERT INTO t VALUES ($1)")
    assert statements.find("SELECT $1::int") == old
    statements.age()
    assert statements.find("SELECT $1::int") is None
    assert statements.take_closing() == encode_close_statement(old)
    assert statements.find("INSERT INTO t VALUES ($1)") == young
    assert statements.find("SELECT 1") == kept


def test_all_are_forgotten_without_being_closed_once_the_server_has_dropped_them() -> None:
    statements = Statements(1)
    parsed(statements, "SELECT 1")
    parsed(statements, "SELECT 2")
    statements.forget()
    assert len(statements) == 0
    assert statements.take_closing() == b""


@pytest.mark.parametrize(("size", "text"), [(0, "SELECT 1"), (5, "SELECT '" + "x" * MAX_TEXT + "'")])
def test_what_is_not_to_be_kept_is_parsed_without_a_name(size: int, text: str) -> None:
    statements = Statements(size)
    assert parsed(statements, text) == b""
    assert statements.find(text) is None
    assert statements.take_closing() == b""
