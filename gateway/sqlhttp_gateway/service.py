"""The whole life of one `/sql` request, in order: who asks, for what, on which connection, and what it got.

Whoever reads `answer` knows the gateway. It knows neither HTTP's frames nor Postgres's: bytes of headers and body come
in, a Reply goes out, and what happened is told to the observer.
"""

from collections.abc import Mapping
from time import perf_counter

from sqlhttp_gateway.auth.allowed import check_statements
from sqlhttp_gateway.auth.authenticate import Authenticator, Caller, password_of
from sqlhttp_gateway.auth.claims import Claims, MakePrologue
from sqlhttp_gateway.auth.grant import Grant
from sqlhttp_gateway.errors import ClaimsFailed, GatewayError, PasswordFailed, TargetMisconfigured
from sqlhttp_gateway.events import Observer
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
from sqlhttp_gateway.neon.response import encode_batch, encode_result
from sqlhttp_gateway.neon.traceparent import TRACEPARENT
from sqlhttp_gateway.neon.values import unknown_types
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.catalog import learn_array_types
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.pool import Password, Pool
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.reply import Reply
from sqlhttp_gateway.story import Story, Telling

_ATTEMPTS = 3
"""Connections that are tried when one turns out to have been closed by Postgres before it began."""
_NO_TYPES: Mapping[int, ArrayType] = {}


def _no_prologue(backend: Backend) -> None:
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
        telling: Telling,
    ) -> None:
        self._authenticator = authenticator
        self._registry = registry
        self._claims = claims
        self._limits = limits
        self._observe = observe
        self._telling = telling

    async def answer(self, headers: Mapping[bytes, bytes], body: bytes, *, peer: str = "") -> Reply:
        """The reply to one request from the address `peer`, an error's included; never raises but for cancellation."""
        story = Story(self._telling, traceparent=headers.get(TRACEPARENT), bytes_in=len(body))
        reply: Reply | None = None
        try:
            # What is wrong first is told first: header, connection string, body, password, as with Neon.
            options = options_from_headers(headers)
            connection_string = headers.get(CONNECTION_STRING, b"")
            authorization = headers.get(AUTHORIZATION)
            caller = self._authenticator.recall(connection_string, authorization)
            if caller is None:
                caller, request = await self._meet(connection_string, authorization, body, story)
            else:
                request = story.asked = decode_request(body)
            story.target, story.database, story.role, pool, _, grant = caller
            if grant is None:
                story.is_proven = True
                results, array_types = await self._run(
                    pool, lambda: password_of(connection_string), request, options, story
                )
            else:
                story.tenant = grant.tenant
                grant.admit(peer=peer, origin=_text(headers.get(ORIGIN)))
                story.is_proven = True
                check_statements(grant, request)
                results, array_types = await self._run_granted(pool, grant, request, options, story)
            ran = perf_counter()
            reply = _reply(story.request_id, request, options, results, array_types)
            story.encoded = perf_counter() - ran
            story.succeeded(results)
        except GatewayError as error:
            reply = story.refused(error)
        except Exception as error:
            reply = story.broke(error, self._observe)
        finally:
            if reply is not None and story.waited and self._telling.server_timing:
                reply = Reply(reply.status, reply.headers, reply.request_id, reply.body, story.timing)
            story.tell(reply, self._telling, self._observe)
        return reply

    async def _meet(
        self, connection_string: bytes, authorization: bytes | None, body: bytes, story: Story
    ) -> tuple[Caller, Statement | Batch]:
        """Who asks for what, when it is nobody who was here a short while ago."""
        dsn = None
        if connection_string or authorization is None:
            dsn = dsn_from_header(connection_string or None)
            story.database, story.role = dsn.database, dsn.role
        request = story.asked = decode_request(body)
        return await self._authenticator.authenticate(dsn, connection_string, authorization), request

    async def _run_granted(
        self, pool: Pool, grant: Grant, request: Statement | Batch, options: Options, story: Story
    ) -> tuple[list[Result], Mapping[int, ArrayType]]:
        """The same for a caller for whom the gateway logs in, within the bounds of the grant."""
        prologue_on = await self._claims.ready(grant, pool)
        try:
            return await self._run(pool, lambda: grant.password, request, options, story, prologue_on)
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
        story: Story,
        prologue_on: MakePrologue = _no_prologue,
    ) -> tuple[list[Result], Mapping[int, ArrayType]]:
        """Results, and what is needed of the catalog to type them. The lease is given back before this returns."""
        if story.comment:
            request = _commented(request, story.comment)
        for attempt in range(_ATTEMPTS):
            asked = perf_counter()
            try:
                lease = self._registry.try_lease(pool) or await self._registry.lease(pool, password)
            finally:
                leased = perf_counter()
                story.waited += leased - asked
            try:
                results = await execute(lease, request, options, self._limits, prologue_on(lease.backend))
                return results, await _array_types(lease, results, options)
            except NothingRan as error:
                if attempt == _ATTEMPTS - 1:
                    raise error.reason from None
            finally:
                story.executed += perf_counter() - leased
                story.connected += lease.connected
                story.parsed += lease.parsed
                story.reused += lease.reused
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


def _commented(request: Statement | Batch, comment: str) -> Statement | Batch:
    if isinstance(request, Batch):
        return Batch(tuple(each._replace(text=each.text + comment) for each in request.statements))
    return request._replace(text=request.text + comment)


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
