"""The whole life of one `/sql` request, in order: who asks, for what, on which connection, and what it got.

Whoever reads `answer` knows the gateway. It knows neither HTTP's frames nor Postgres's: bytes of headers and body come
in, a Reply goes out, and what happened is told to the observer.
"""

import traceback
from collections.abc import Mapping
from random import getrandbits
from time import perf_counter
from typing import NamedTuple

from sqlhttp_gateway.auth.authenticate import Authenticator, password_of
from sqlhttp_gateway.errors import GatewayError, PostgresError
from sqlhttp_gateway.events import Answered, Bug, Observer
from sqlhttp_gateway.execute import Limits, NothingRan, execute
from sqlhttp_gateway.model import ArrayType, Batch, Options, Result, Statement
from sqlhttp_gateway.neon.dsn import dsn_from_header
from sqlhttp_gateway.neon.fields import fields_from_description
from sqlhttp_gateway.neon.headers import CONNECTION_STRING, JSON_HEADERS, batch_echo, options_from_headers
from sqlhttp_gateway.neon.request import decode_request
from sqlhttp_gateway.neon.response import encode_batch, encode_error, encode_result
from sqlhttp_gateway.neon.values import unknown_types
from sqlhttp_gateway.pools.catalog import learn_array_types
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.pools.registry import PoolRegistry

_ATTEMPTS = 3
"""Connections that are tried when one turns out to have been closed by Postgres before it began."""
CLOSED_REQUEST = 499
"""The status, in logs and metrics only, of a request whose program left before its answer; nginx's convention."""
_NO_TYPES: Mapping[int, ArrayType] = {}


Headers = tuple[tuple[bytes, bytes], ...]


class Reply(NamedTuple):
    """What goes back over HTTP."""

    status: int
    headers: Headers
    """All but the request id's and the body's length."""
    request_id: str
    body: bytes


class _Spent:
    """What one request has cost so far: seconds of waiting, seconds on connections, statements parsed and reused."""

    __slots__ = ("executed", "parsed", "reused", "waited")

    def __init__(self) -> None:
        self.waited = self.executed = 0.0
        self.parsed = self.reused = 0


class SqlService:
    """Answers requests. Holds nothing of any of them once it has answered."""

    def __init__(
        self, *, authenticator: Authenticator, registry: PoolRegistry, limits: Limits, observe: Observer
    ) -> None:
        self._authenticator = authenticator
        self._registry = registry
        self._limits = limits
        self._observe = observe

    async def answer(self, headers: Mapping[bytes, bytes], body: bytes) -> Reply:
        """The reply to one request, an error's included; never raises but for cancellation."""
        began = perf_counter()
        request_id = new_request_id()
        target = database = role = ""
        is_proven = is_batch = False
        statements = rows = 0
        spent = _Spent()
        reply: Reply | None = None
        outcome, sqlstate, reason, message = "cancelled", "", "", ""
        try:
            options = options_from_headers(headers)
            connection_string = headers.get(CONNECTION_STRING, b"")
            caller = self._authenticator.recall(connection_string)
            if caller is None:
                dsn = dsn_from_header(connection_string or None)
                database, role = dsn.database, dsn.role
            request = decode_request(body)
            is_batch = type(request) is Batch
            statements = len(request.statements) if isinstance(request, Batch) else 1
            if caller is None:
                caller = await self._authenticator.authenticate(dsn, connection_string)
            target, database, role, pool, _ = caller
            is_proven = True
            results, array_types = await self._run(pool, connection_string, request, options, spent)
            for result in results:
                rows += result.row_count
            reply = _reply(request_id, request, options, results, array_types)
            outcome = "ok"
        except GatewayError as error:
            reply = error_reply(error, request_id)
            outcome, reason, message = error.kind, type(error).__name__, error.message
            sqlstate = error.code if isinstance(error, PostgresError) else error.sqlstate
        except Exception as error:
            # Nothing of an unforeseen exception may leave the house: its text could hold anything.
            self._observe(Bug(request_id, "".join(traceback.format_exception(error))))
            fault = GatewayError(f"internal error; the gateway's log has more under the request id {request_id}")
            reply = error_reply(fault, request_id)
            outcome, sqlstate, message = "bug", fault.sqlstate, fault.message
        finally:
            self._observe(
                Answered(
                    request_id=request_id,
                    status=reply.status if reply is not None else CLOSED_REQUEST,
                    outcome=outcome,
                    sqlstate=sqlstate,
                    database=database,
                    role=role,
                    statements=statements,
                    rows=rows,
                    bytes_out=len(reply.body) if reply is not None else 0,
                    seconds=perf_counter() - began,
                    waited=spent.waited,
                    message=message,
                    target=target,
                    is_proven=is_proven,
                    is_batch=is_batch,
                    reason=reason,
                    executed=spent.executed,
                    parsed=spent.parsed,
                    reused=spent.reused,
                    bytes_in=len(body),
                )
            )
        return reply

    async def _run(
        self, pool: Pool, connection_string: bytes, request: Statement | Batch, options: Options, spent: _Spent
    ) -> tuple[list[Result], Mapping[int, ArrayType]]:
        """Results, and what is needed of the catalog to type them. The lease is given back before this returns."""
        for attempt in range(_ATTEMPTS):
            asked = perf_counter()
            try:
                lease = self._registry.try_lease(pool) or await self._registry.lease(
                    pool, lambda: password_of(connection_string)
                )
            finally:
                leased = perf_counter()
                spent.waited += leased - asked
            try:
                results = await execute(lease, request, options, self._limits)
                return results, await _array_types(lease, results, options)
            except NothingRan as error:
                if attempt == _ATTEMPTS - 1:
                    raise error.reason from None
            finally:
                spent.executed += perf_counter() - leased
                spent.parsed += lease.parsed
                spent.reused += lease.reused
                lease.release()
        raise AssertionError("unreachable")


async def _array_types(lease: Lease, results: list[Result], options: Options) -> Mapping[int, ArrayType]:
    if options.raw_text:
        return _NO_TYPES
    unknown = {
        oid
        for result in results
        if result.description is not None
        for oid in unknown_types(fields_from_description(result.description), known=())
    }
    return await learn_array_types(lease, unknown) if unknown else _NO_TYPES


def _reply(
    request_id: str,
    request: Statement | Batch,
    options: Options,
    results: list[Result],
    array_types: Mapping[int, ArrayType],
) -> Reply:
    texts = request.statements if isinstance(request, Batch) else (request,)
    encoded = [
        encode_result(
            result,
            options,
            array_mode=options.array_mode if statement.array_mode is None else statement.array_mode,
            array_types=array_types,
        )
        for statement, result in zip(texts, results, strict=True)
    ]
    if isinstance(request, Batch):
        return Reply(200, (*JSON_HEADERS, *batch_echo(options.transaction)), request_id, encode_batch(encoded))
    return Reply(200, JSON_HEADERS, request_id, encoded[0])


def error_reply(error: GatewayError, request_id: str) -> Reply:
    """An error as HTTP tells it."""
    headers: Headers = JSON_HEADERS
    if error.retry_after is not None:
        headers = (*JSON_HEADERS, (b"retry-after", b"%d" % error.retry_after))
    return Reply(error.status, headers, request_id, encode_error(error))


def new_request_id() -> str:
    """A random UUID, version 4."""
    # Nothing rests on it being hard to guess, and asking the system for each would cost a call; forks reseed it.
    text = f"{getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"
