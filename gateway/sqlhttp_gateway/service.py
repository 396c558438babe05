"""The whole life of one `/sql` request, in order: who asks, for what, on which connection, and what it got.

Whoever reads `answer` knows the gateway. It knows neither HTTP's frames nor Postgres's: bytes of headers and body come
in, a Reply goes out, and what happened is told to the observer.
"""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from random import getrandbits
from time import perf_counter
from typing import NamedTuple

from sqlhttp_gateway.auth.allowed import check_statements
from sqlhttp_gateway.auth.authenticate import Authenticator, password_of
from sqlhttp_gateway.auth.claims import Claims, MakePrologue
from sqlhttp_gateway.auth.grant import Grant
from sqlhttp_gateway.errors import ClaimsFailed, GatewayError, PasswordFailed, PostgresError, TargetMisconfigured
from sqlhttp_gateway.events import Answered, Audited, Bug, Observer, Slow
from sqlhttp_gateway.execute import Limits, NothingRan, execute
from sqlhttp_gateway.model import ArrayType, Batch, Options, Result, Statement
from sqlhttp_gateway.neon.dsn import dsn_from_header
from sqlhttp_gateway.neon.fields import fields_from_description
from sqlhttp_gateway.neon.headers import (
    AUTHORIZATION,
    CONNECTION_STRING,
    JSON_HEADERS,
    ORIGIN,
    batch_echo,
    options_from_headers,
)
from sqlhttp_gateway.neon.request import decode_request
from sqlhttp_gateway.neon.response import encode_batch, encode_error, encode_result
from sqlhttp_gateway.neon.timing import encode_server_timing
from sqlhttp_gateway.neon.traceparent import TRACEPARENT, decode_traceparent
from sqlhttp_gateway.neon.values import unknown_types
from sqlhttp_gateway.pools.catalog import learn_array_types
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.pool import Password, Pool
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
    timing: bytes = b""
    """The value of Server-Timing; none without it."""


@dataclass(frozen=True, slots=True)
class Telling:
    """What is told of a request beside its answer."""

    server_timing: bool = True
    slow_statement: float = 0.0
    """Seconds on a connection that make a request slow; 0: none is."""
    trace_comment: bool = False
    """Whether the statements of a sampled trace name it to Postgres."""
    audit: bool = False
    """Whether each request's statements are told, with who sent them."""


class _Spent:
    """What one request has cost so far: seconds of waiting, opening, running and encoding, and statements parsed and
    reused. Also the comment that its statements carry."""

    __slots__ = ("comment", "connected", "encoded", "executed", "parsed", "reused", "waited")

    def __init__(self) -> None:
        self.waited = self.connected = self.executed = self.encoded = 0.0
        self.parsed = self.reused = 0
        self.comment = ""

    @property
    def timing(self) -> bytes:
        connect = min(self.connected, self.waited)  # a log-in that proved a password has opened one before the wait
        return encode_server_timing(
            queue=self.waited - connect, connect=connect, execute=self.executed, encode=self.encoded
        )


def _no_prologue(pid: int) -> None:
    """What runs in front of the statements of a caller with a password of their own."""
    return None


class SqlService:
    """Answers requests. Holds nothing of any of them once it has answered."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        registry: PoolRegistry,
        claims: Claims,
        limits: Limits,
        observe: Observer,
        telling: Telling = Telling(),
    ) -> None:
        self._authenticator = authenticator
        self._registry = registry
        self._claims = claims
        self._limits = limits
        self._observe = observe
        self._telling = telling
        self._slow = telling.slow_statement or inf

    async def answer(self, headers: Mapping[bytes, bytes], body: bytes, *, peer: str = "") -> Reply:
        """The reply to one request from the address `peer`, an error's included; never raises but for cancellation."""
        began = perf_counter()
        request_id = new_request_id()
        target = database = role = tenant = ""
        is_proven = is_batch = False
        statements = rows = 0
        spent = _Spent()
        given = headers.get(TRACEPARENT)
        trace = decode_traceparent(given) if given is not None else None
        if trace is not None and trace.is_sampled and self._telling.trace_comment:
            spent.comment = f"\n/*traceparent='{trace}'*/"  # on a line of its own: the one before may be a comment
        reply: Reply | None = None
        outcome, sqlstate, reason, message = "cancelled", "", "", ""
        try:
            options = options_from_headers(headers)
            connection_string = headers.get(CONNECTION_STRING, b"")
            authorization = headers.get(AUTHORIZATION)
            caller = self._authenticator.recall(connection_string, authorization)
            dsn = None
            if caller is None and (connection_string or authorization is None):
                dsn = dsn_from_header(connection_string or None)
                database, role = dsn.database, dsn.role
            request = decode_request(body)
            is_batch = type(request) is Batch
            statements = len(request.statements) if isinstance(request, Batch) else 1
            if caller is None:
                caller = await self._authenticator.authenticate(dsn, connection_string, authorization)
            target, database, role, pool, _, grant = caller
            if grant is None:
                is_proven = True
                results, array_types = await self._run(
                    pool, lambda: password_of(connection_string), request, options, spent
                )
            else:
                tenant = grant.tenant
                grant.admit(peer=peer, origin=_text(headers.get(ORIGIN)))
                is_proven = True
                check_statements(grant, request)
                results, array_types = await self._run_granted(pool, grant, request, options, spent)
            ran = perf_counter()
            for result in results:
                rows += result.row_count
            reply = _reply(request_id, request, options, results, array_types)
            spent.encoded = perf_counter() - ran
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
            if reply is not None and spent.waited and self._telling.server_timing:
                reply = Reply(reply.status, reply.headers, reply.request_id, reply.body, spent.timing)
            traceparent = str(trace) if trace is not None else ""
            if spent.executed >= self._slow:
                texts = tuple(each.text for each in _statements(request))
                self._observe(
                    Slow(request_id, target, database, role, spent.executed, spent.waited, texts, traceparent)
                )
            if statements and self._telling.audit:
                self._observe(
                    Audited(
                        request_id,
                        tenant or role,
                        target,
                        database,
                        role,
                        is_proven,
                        outcome,
                        sqlstate,
                        perf_counter() - began,
                        tuple(each.text for each in _statements(request)),
                        tuple(result.row_count for result in results) if outcome == "ok" else (),
                        traceparent,
                    )
                )
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
                    connected=spent.connected,
                    encoded=spent.encoded,
                    traceparent=traceparent,
                )
            )
        return reply

    async def _run_granted(
        self, pool: Pool, grant: Grant, request: Statement | Batch, options: Options, spent: _Spent
    ) -> tuple[list[Result], Mapping[int, ArrayType]]:
        """The same for a caller for whom the gateway logs in, within the bounds of the grant."""
        prologue_on = await self._claims.ready(grant, pool)
        try:
            return await self._run(pool, lambda: grant.password, request, options, spent, prologue_on)
        except ClaimsFailed:
            self._claims.forget(pool)
            raise
        except PasswordFailed:
            # The caller has shown no password, so that none of theirs can be wrong.
            raise TargetMisconfigured(
                f'Postgres refuses the password that the gateway holds for role "{pool.key.role}"',
                hint="Correct it under logins in the gateway's settings.",
            ) from None

    async def _run(
        self,
        pool: Pool,
        password: Password,
        request: Statement | Batch,
        options: Options,
        spent: _Spent,
        prologue_on: MakePrologue = _no_prologue,
    ) -> tuple[list[Result], Mapping[int, ArrayType]]:
        """Results, and what is needed of the catalog to type them. The lease is given back before this returns."""
        if spent.comment:
            request = _commented(request, spent.comment)
        for attempt in range(_ATTEMPTS):
            asked = perf_counter()
            try:
                lease = self._registry.try_lease(pool) or await self._registry.lease(pool, password)
            finally:
                leased = perf_counter()
                spent.waited += leased - asked
            try:
                results = await execute(lease, request, options, self._limits, prologue_on(lease.backend.pid))
                return results, await _array_types(lease, results, options)
            except NothingRan as error:
                if attempt == _ATTEMPTS - 1:
                    raise error.reason from None
            finally:
                spent.executed += perf_counter() - leased
                spent.connected += lease.connected
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


def _statements(request: Statement | Batch) -> tuple[Statement, ...]:
    return request.statements if isinstance(request, Batch) else (request,)


def _commented(request: Statement | Batch, comment: str) -> Statement | Batch:
    commented = tuple(each._replace(text=each.text + comment) for each in _statements(request))
    return Batch(commented) if isinstance(request, Batch) else commented[0]


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


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


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
