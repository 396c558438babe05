"""From statements and options to one call: the request to send, and the steps that end in its answer.

Both drivers use this and add nothing but sending, sleeping and fetching a token.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple

from sqlhttp import _errors as errors
from sqlhttp._bookmark import HEADER, Bookmark
from sqlhttp._cache import endpoint_of, invalidation
from sqlhttp._cache import read as read_invalidated
from sqlhttp._endpoint import Endpoint
from sqlhttp._http1 import Reply
from sqlhttp._options import ClientOptions, Wanted, deadline_of, shaped, timeout_to_tell
from sqlhttp._request import READ_ONLY, Request, Statement, request, with_header, with_key
from sqlhttp._response import FullResults, Shape, batch, single
from sqlhttp._retry import Steps, attempts
from sqlhttp._template import Query, statement_of


class Call(NamedTuple):
    """One call, ready for a driver."""

    request: Request
    endpoint: Endpoint
    steps: Steps


class Positional(Enum):
    """Rows as lists whatever the client was told, for what looks at places and not at names; FULL with the count."""

    ROWS = Shape(list)
    FULL = Shape(list, full_results=True)


def wanting(query: Query[Any], wanted: Wanted) -> Query[Any]:
    """The query with wishes of its own for its rows."""
    if all(wish is None for wish in wanted):
        return query
    return Query(query.text, query.params, shape=wanted)


def asked(
    options: ClientOptions, query: Query[Any], *, positional: Positional | None = None
) -> tuple[Statement, Shape]:
    """The statement as it is sent, and what is wanted of its answer."""
    shape = options.shape if query.shape is None else shaped(options.shape, query.shape)
    if positional is not None:
        shape = positional.value._replace(types=shape.types)
    return statement_of(query), shape


def single_call(
    options: ClientOptions, query: Query[Any], token: str | None, *, positional: Positional | None = None
) -> Call:
    """One statement. With transaction options it is sent as a batch of one, since only a batch can carry them."""
    statement, shape = asked(options, query, positional=positional)
    alone = not options.transaction.any
    out = request(
        (statement,),
        batch=not alone,
        connection_string=options.destination.connection_string,
        token=token,
        transaction=None if alone else options.transaction,
        extra=options.headers,
    )

    def read(reply: Reply, number: int) -> Any:
        if alone:
            return single(reply, shape, query=statement.text, attempts=number)
        return batch(reply, (shape,), queries=(statement.text,), attempts=number)[0]

    return _call(options, token, out, read)


def batch_call(options: ClientOptions, queries: Sequence[Any], token: str | None) -> Call:
    """Several statements in one transaction.

    Raises:
        InterfaceError: one of them is not a Query.
    """
    for query in queries:
        if not isinstance(query, Query):
            raise errors.InterfaceError(f"a transaction takes queries made by sql.q, not {type(query).__name__}")
    statements = [statement_of(query) for query in queries]
    shapes = [options.shape if query.shape is None else shaped(options.shape, query.shape) for query in queries]
    texts = tuple(statement.text for statement in statements)
    out = request(
        statements,
        batch=True,
        connection_string=options.destination.connection_string,
        token=token,
        transaction=options.transaction,
        extra=options.headers,
    )
    return _call(options, token, out, lambda reply, number: batch(reply, shapes, queries=texts, attempts=number))


def _call(options: ClientOptions, token: str | None, out: Request, read: Callable[[Reply, int], Any]) -> Call:
    if options.idempotency_key is not None:
        out = with_key(out, options.idempotency_key)
    if options.consistency == "replica" and out.reads_only:
        out = with_header(out, READ_ONLY, "true")._replace(read_only=True)
    if options.cache is not None and out.reads_only:
        for name, value in options.cache.headers:
            out = with_header(out, name, value)
    bookmark = options.bookmark
    if bookmark is not None:
        if bookmark.value is not None:
            out = with_header(out, HEADER, bookmark.value)
        read = _noting(bookmark, read)
    timeout = timeout_to_tell(options)
    if timeout is not None:
        out = with_header(out, "Sqlhttp-Timeout", timeout)
    steps = attempts(read, retry=options.retry, is_repeatable=lambda: out.is_repeatable, deadline=deadline_of(options))
    where = options.destination
    return Call(out, where.endpoint_with_token if token else where.endpoint, steps)


def invalidate_call(
    options: ClientOptions,
    token: str | None,
    tags: tuple[str, ...],
    *,
    relations: Sequence[str],
    all: bool,
    everywhere: bool,
) -> Call:
    """The end of answers in the gateway's cache."""
    where = options.destination
    out = invalidation(
        tags,
        relations=relations,
        all=all,
        everywhere=everywhere,
        connection_string=where.connection_string,
        token=token,
        extra=options.headers,
    )
    steps = attempts(read_invalidated, retry=options.retry, is_repeatable=lambda: True, deadline=deadline_of(options))
    return Call(out, endpoint_of(where.endpoint_with_token if token else where.endpoint), steps)


def _noting(bookmark: Bookmark, read: Callable[[Reply, int], Any]) -> Callable[[Reply, int], Any]:
    """The same, and what the answer says of the bookmark is noted, an error's too."""

    def noted(reply: Reply, number: int) -> Any:
        bookmark.note(reply.headers)
        try:
            return read(reply, number)
        except errors.BookmarkLost:
            bookmark.forget()
            raise

    return noted


# ── what `one`, `first`, `val`, `col` and `execute` make of an answer ────────────────────────────────────────────────


def rows_of(answer: Any) -> list[Any]:
    return answer.rows if isinstance(answer, FullResults) else answer


def one_of(answer: Any) -> Any:
    """The only row.

    Raises:
        NoDataFound, TooManyRows: there is none, or another.
    """
    rows = rows_of(answer)
    if len(rows) == 1:
        return rows[0]
    if rows:
        error: errors.NeonDbError = errors.TooManyRows("query returned more than one row", code="P0003")
    else:
        error = errors.NoDataFound("query returned no rows", code="P0002")
    error.may_have_run = True
    raise error


def first_of(answer: Any) -> Any:
    rows = rows_of(answer)
    return rows[0] if rows else None


def value_of(rows: list[Any]) -> Any:
    """The first column of the first row; None without a row."""
    return rows[0][0] if rows and rows[0] else None


def column_of(rows: list[Any]) -> list[Any]:
    return [row[0] for row in rows if row]
