"""What is said to Postgres about keys. What the functions do there, test_idempotency.py in tests/integration shows."""

from sqlhttp_gateway.idempotency import table


def test_key_is_taken_for_its_lifetime_and_waited_for_in_milliseconds() -> None:
    statement = table.taking(b"\x01\xff", b"\x02", tag=b"\x03", lifetime=86400.0, patience=2.5)
    assert statement.params == (b"\\x01ff", b"\\x02", b"\\x03", b"86400.000000", b"2500")


def test_patience_of_none_is_the_shortest_there_is_since_zero_is_for_ever() -> None:
    assert table.taking(b"", b"", tag=b"", lifetime=1, patience=0).params[4] == b"1"


def test_answer_goes_as_postgres_writes_bytes_and_comes_back_in_plain_hex() -> None:
    statement = table.keeping(b"\x01", b'{"rows":[]}\x00')
    assert statement.params == (b"\\x01", b"\\x7b22726f7773223a5b5d7d00")
    assert table.bytes_from_hex(b"7b22726f7773223a5b5d7d00") == b'{"rows":[]}\x00'


def test_every_function_runs_as_its_owner_and_finds_nothing_of_the_callers() -> None:
    functions = [text for text in table.INSTALL if "FUNCTION sqlhttp." in text and text.startswith("CREATE")]
    assert len(functions) == 2
    assert all("SECURITY DEFINER SET search_path = pg_catalog, pg_temp" in text for text in functions)
