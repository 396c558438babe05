import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlhttp_gateway.observe.fingerprint import fingerprint, remembered_fingerprint


def text_of(statement: str) -> str:
    return fingerprint(statement).text


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM orders WHERE customer = 'O''Hara' AND id IN (1, 2, 3)",
        "select *\n  from orders -- those of one\n where customer=$1 and id in ($2)",
        "select * from ORDERS where customer = E'O\\'Hara' and id in (-- none\n 7);",
        "/* a /* nested */ secret */ select * from orders where customer = $$it's$$ and id in (1e5, .5, 0xff)",
        "select * from orders where customer = 'x' and id in (0b101, 0O17, 0XFF, 1_000)",
    ],
)
def test_statements_that_differ_in_values_only_have_one_fingerprint(statement: str) -> None:
    expected = fingerprint("select * from orders where customer = 'x' and id in (1)")
    assert fingerprint(statement) == expected
    assert expected.text == "select * from orders where customer = ? and id in (?)"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("select a from t", "select b from t"),
        ("select a from t where b = 1", "select a from t where b <> 1"),
        ('select "A" from t', 'select "a" from t'),
        ("select a from t1", "select a from t2"),
        ("-- a\rselect a from t", "-- a\rselect b from t"),
    ],
)
def test_statements_that_do_something_else_have_another(one: str, other: str) -> None:
    assert fingerprint(one).digest != fingerprint(other).digest


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')", "insert into t values (?)"),
        ("select a.b::int, c[1] from d where f->>'k' <= 5", "select a.b::int, c [?] from d where f ->> ? <= ?"),
        ("select $tag$ a 'secret' $tag$, U&'d\\0061t', x'1F'", "select ?"),
        ("select 2*/*two*/3", "select ? * ?"),
        ("select count(*) from x_1", "select count(*) from x_1"),
        ("select 'never closed: secret", "select ?"),
        ("select $$never closed: secret", "select ?"),
        ("select 1 /* never closed: secret", "select ?"),
        ("select E'a\\\\' , 'secret'", "select ?"),
        ("select 'a\\' , secret_column", "select ?, secret_column"),
    ],
)
def test_text_has_no_values(statement: str, text: str) -> None:
    assert text_of(statement) == text


@given(st.text(alphabet="zq'x $-/*\\\n", max_size=20))
def test_value_in_quotes_never_shows_whatever_it_holds(value: str) -> None:
    quoted = "'" + value.replace("'", "''") + "'"
    assert text_of(f"select {quoted} as a") == "select ? as a"


def test_long_statement_is_cut_and_keeps_a_fingerprint_of_all_of_it() -> None:
    one, other = (fingerprint(f"select {', '.join(f'column_{n}' for n in range(200))} from {t}") for t in ("a", "b"))
    assert len(one.text) == 501
    assert one.text.endswith("…")
    assert one.text == other.text
    assert one.digest != other.digest


def test_huge_statement_costs_little() -> None:
    assert text_of("select '" + "x" * 10_000_000 + "'") == "select ?"


def test_statement_that_is_shown_again_and_again_is_taken_apart_once() -> None:
    text = "SELECT a FROM t WHERE b = 'hunter2' AND c IN (1, 2, 3)"
    shape = remembered_fingerprint(text)
    assert shape == fingerprint(text)
    assert remembered_fingerprint(text) is shape
    long = "SELECT " + "a, " * 10_000
    assert remembered_fingerprint(f"{long} 1") is remembered_fingerprint(f"{long} 2"), "no more is held than is read"


@pytest.mark.parametrize("blanks", ["\n", "\r\n", " \n\t", " --'\n", "\n--'\n\n"])
def test_value_that_goes_on_behind_a_new_line_never_shows(blanks: str) -> None:
    assert text_of(f"SELECT E'a'{blanks}'\\'secret' FROM t") == "select ? from t"
