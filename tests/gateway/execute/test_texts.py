"""What a text says of itself: whether its scrub may travel with it, and whether it needs a stream."""

import time

import pytest

from sqlhttp_gateway.errors import UnsupportedStatement
from sqlhttp_gateway.execute.texts import _PLAIN, refuse_streams
from sqlhttp_gateway.model import Statement


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        " \n\tselect(1)",
        "INSERT INTO t",
        "with x as",
        "VALUES (1)",
        "TABLE t",
        "merge into t",
        "DELETE",
        "Update t",
    ],
)
def test_what_cannot_leave_a_transaction_open_has_its_scrub_in_the_same_write(text: str) -> None:
    assert _PLAIN.match(text)


@pytest.mark.parametrize(
    "text",
    [
        "BEGIN",
        "START TRANSACTION",
        "CALL p()",
        "DO $$$$",
        "selection",
        "SET x = 1",
        "/* */ SELECT 1",
        "(SELECT 1)",
        "",
        "EXPLAIN",
    ],
)
def test_anything_else_is_scrubbed_after_a_look_at_its_end(text: str) -> None:
    assert not _PLAIN.match(text)


@pytest.mark.parametrize(
    "text",
    [
        "COPY t FROM STDIN",
        "copy (select 1) to stdout with (format csv)",
        " -- a comment\n COPY t TO\nSTDOUT",
        "/* a */ COPY t FROM  stdin",
        "/* a /* nested */ comment */ COPY t FROM stdin",
        "COPY t TO/**/STDOUT",
        "COPY t FROM -- here\n STDIN",
        ";COPY t FROM STDOUT",
        "COPY (INSERT INTO t VALUES (';)') RETURNING 1) TO STDOUT",
    ],
)
def test_copy_that_needs_a_stream_is_refused(text: str) -> None:
    with pytest.raises(UnsupportedStatement):
        refuse_streams([Statement("SELECT 1"), Statement(text)])


@pytest.mark.parametrize(
    "text",
    [
        "COPY t TO '/tmp/x'",
        "COPY t FROM PROGRAM 'cat'",
        "SELECT 'copy t from stdin'",
        "-- copy\nINSERT INTO t VALUES ('\ncopy t from stdin')",
        "copying from stdin",
        "COPY stdin FROM '/tmp/x'",
        "COPY t (stdout) TO '/tmp/x'",
        "/* COPY t FROM STDIN */",
    ],
)
def test_other_texts_are_not(text: str) -> None:
    refuse_streams([Statement(text)])


@pytest.mark.parametrize(
    "text", ["--\n" * 100_000, "/**/" * 100_000, "copy " + "from " * 100_000, "copy from" + " " * 100_000]
)
def test_no_text_takes_long_to_look_through(text: str) -> None:
    began = time.process_time()
    refuse_streams([Statement(text)])
    _PLAIN.match(text)
    assert time.process_time() - began < 1.0
