"""Results become replies: each statement in its own form, and what a batch says of its transaction."""

from types import SimpleNamespace
from typing import Any, cast

import orjson

from sqlhttp_gateway.model import Batch, Options, Result, Statement, TransactionOptions
from sqlhttp_gateway.sql.replies import NO_TYPES, array_types, headers_of, reply_with
from sqlhttp_gateway.story import Story, Telling

RAW = Options(raw_text=True, array_mode=True)


def result(tag: bytes = b"UPDATE 3") -> Result:
    return Result(None, b"", 0, tag)


def story() -> Story:
    return Story(Telling(), traceparent=None, bytes_in=0)


def test_statement_and_batch_are_told_with_their_rows() -> None:
    one, both = story(), story()
    statement = Statement("UPDATE t SET a = 1")
    single = reply_with([result()], statement, RAW, one, types=NO_TYPES)
    batch = reply_with([result(), result(b"UPDATE 4")], Batch((statement, statement)), RAW, both, types=NO_TYPES)
    assert orjson.loads(single.body)["rowCount"] == 3
    assert [each["rowCount"] for each in orjson.loads(batch.body)["results"]] == [3, 4]
    assert (single.request_id, one.outcome, one.row_counts) == (one.request_id, "ok", (0,))
    assert (both.outcome, both.row_counts) == ("ok", (0, 0))


def test_statement_has_the_last_word_on_its_form() -> None:
    statements = Statement("UPDATE t SET a = 1"), Statement("UPDATE t SET a = 1", array_mode=False)
    reply = reply_with([result(), result()], Batch(statements), RAW, story(), types=NO_TYPES)
    assert [each["rowAsArray"] for each in orjson.loads(reply.body)["results"]] == [True, False]


def test_only_a_batch_says_how_its_transaction_began() -> None:
    options = Options(transaction=TransactionOptions(read_only=True))
    statement = Statement("SELECT 1")
    assert (b"neon-batch-read-only", b"true") in [
        (name.lower(), value) for name, value in headers_of(Batch((statement,)), options)
    ]
    assert not any(name.lower().startswith(b"neon-batch") for name, _ in headers_of(statement, options))


async def test_catalog_is_not_asked_for_what_needs_no_types() -> None:
    lease = cast(Any, SimpleNamespace())  # whatever is asked of it would fail
    assert await array_types(lease, [result()], RAW) is NO_TYPES
    assert await array_types(lease, [result()], Options()) is NO_TYPES
