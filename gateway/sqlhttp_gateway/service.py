"""The whole life of one `/sql` request, in order: who asks, for what, on which connection, and what it got.

Whoever reads `answer` knows the gateway. It knows neither HTTP's frames nor Postgres's: bytes of headers and body come
in, a Reply goes out, and what happened is told to the observer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TypeVar

from sqlhttp_gateway.auth.allowed import check_statements
from sqlhttp_gateway.auth.authenticate import Authenticator, Caller, password_of
from sqlhttp_gateway.auth.claims import Claims, MakePrologue, read_only
from sqlhttp_gateway.auth.grant import Grant
from sqlhttp_gateway.cache.policy import Question
from sqlhttp_gateway.cached import READING, CachedAnswers, Fetched, Outcome
from sqlhttp_gateway.deadline import Deadline, deadline_for
from sqlhttp_gateway.errors import (
    ClaimsFailed,
    GatewayError,
    PasswordFailed,
    PostgresError,
    ResponseTooLarge,
    StatementTimeout,
    TargetMisconfigured,
)
from sqlhttp_gateway.events import Observer
from sqlhttp_gateway.execute import Limits, NothingRan, execute, is_plain
from sqlhttp_gateway.idempotency.run import Answered, TableGone, run_once
from sqlhttp_gateway.idempotency.store import KeyStore
from sqlhttp_gateway.limits import Quota, Quotas
from sqlhttp_gateway.model import Allowance, ArrayType, Batch, Bookmark, IsolationLevel, Options, Result, Statement
from sqlhttp_gateway.neon.bookmark import BOOKMARK, decode_bookmark
from sqlhttp_gateway.neon.dsn import dsn_from_header
from sqlhttp_gateway.neon.fields import fields_from_description
from sqlhttp_gateway.neon.headers import (
    AUTHORIZATION,
    CONNECTION_STRING,
    HOST,
    IDEMPOTENCY_KEY,
    IS_REPLAYED,
    JSON_HEADERS,
    ORIGIN,
    TIMEOUT,
    batch_echo,
    options_from_headers,
)
from sqlhttp_gateway.neon.request import decode_request
from sqlhttp_gateway.neon.response import encode_batch, encode_result
from sqlhttp_gateway.neon.traceparent import TRACEPARENT
from sqlhttp_gateway.neon.values import unknown_types
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.catalog import learn_array_types
from sqlhttp_gateway.pools.connect import password_failed
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.pool import Password, Pool
from sqlhttp_gateway.pools.positions import Positions
from sqlhttp_gateway.pools.probe import Probes
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.route import Route
from sqlhttp_gateway.pools.view import Fate
from sqlhttp_gateway.reads.verdicts import Verdicts
from sqlhttp_gateway.reply import Headers, Reply
from sqlhttp_gateway.story import Story, Telling

_ATTEMPTS = 3
"""Connections that are tried when one turns out to have been closed by Postgres before it began."""
_NO_TYPES: Mapping[int, ArrayType] = {}


Done = TypeVar("Done")


def _no_prologue(backend: Backend) -> None:
    """What runs in front of the statements of a caller with a password of their own."""
    return None


@dataclass(frozen=True, slots=True)
class Access:
    """A caller's way to a connection."""

    pool: Pool
    password: Password
    caller: Caller
    prologue_on: MakePrologue = _no_prologue
    grant: Grant | None = None
    route: Route | None = None
    """Where to go, if the target has several servers."""
    quota: Quota | None = None
    """Whose limits hold; None: none do."""

    def refused(self) -> GatewayError:
        """What it means that Postgres refuses the password."""
        role = self.pool.key.role
        if self.grant is None:
            return password_failed(role)
        # The caller has shown no password, so that none of theirs can be wrong.
        return TargetMisconfigured(
            f'Postgres refuses the password that the gateway holds for role "{role}"',
            hint="Correct it under logins in the gateway's settings.",
        )


class SqlService:
    """Answers requests. Holds nothing of any of them once it has answered."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        registry: PoolRegistry,
        claims: Claims,
        keys: KeyStore,
        probes: Probes,
        limits: Limits,
        quotas: Quotas,
        observe: Observer,
        telling: Telling,
        most_seconds: float = 0.0,
        cached: CachedAnswers | None = None,
        verdicts: Verdicts | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._registry = registry
        self._claims = claims
        self._keys = keys
        self._probes = probes
        self._quotas = quotas
        self._observe = observe
        self._cached = cached
        self._verdicts = verdicts
        self.reconfigure(limits=limits, telling=telling, most_seconds=most_seconds)

    def reconfigure(self, *, limits: Limits, telling: Telling, most_seconds: float = 0.0) -> None:
        """Go by these from the next request on, which may take `most_seconds`; 0: any time."""
        self._limits = limits
        self._telling = telling
        self._most_seconds = most_seconds

    async def answer(
        self, headers: Mapping[bytes, bytes], body: bytes, *, peer: str = "", url_query: bytes = b""
    ) -> Reply:
        """The reply to one request from the address `peer`, an error's included; never raises but for cancellation."""
        story = Story(self._telling, traceparent=headers.get(TRACEPARENT), bytes_in=len(body))
        reply: Reply | None = None
        quota: Quota | None = None
        deadline: Deadline | None = None
        try:
            if TIMEOUT in headers or self._most_seconds:
                deadline = deadline_for(headers.get(TIMEOUT), self._most_seconds)
            # What is wrong first is told first: header, connection string, body, password, as with Neon.
            options = options_from_headers(headers)
            connection_string = headers.get(CONNECTION_STRING, b"")
            authorization = headers.get(AUTHORIZATION)
            host = headers.get(HOST, b"") if self._authenticator.heeds_host else b""
            caller = self._authenticator.recall(connection_string, authorization, host)
            cached, asked, question, outcome = self._cached, None, None, None
            if cached is not None:
                asked = cached.may_ask(headers, connection_string, url_query, body)
            if caller is None:
                caller, request = await self._meet(connection_string, authorization, host, body, story, peer)
            elif cached and asked and (question := cached.recognize(caller, options, asked, body)):
                request = story.asked = question.statement  # the very bytes came before, and need not be read
            else:
                request = story.asked = decode_request(body)
            story.target, story.database, story.role, pool, _, grant, allowance, _ = caller
            if allowance is not None:
                quota = self._quotas.admit(caller.tenant, allowance)
            if grant is None:
                story.is_proven = True
            else:
                story.tenant = grant.tenant
                grant.admit(peer=peer, origin=_text(headers.get(ORIGIN)))
                story.is_proven = True
                check_statements(grant, request)
            if cached and asked and (question := question or cached.question(caller, request, options, asked, body)):
                if pool.upstream.group is not None:
                    question = question._replace(bookmark=_bookmark(headers))
                outcome = await self._consult(cached, question, caller, connection_string, options, story, quota)
            if outcome is not None and outcome.entry is not None:
                reply = Reply(200, (*JSON_HEADERS, *outcome.headers), story.request_id, outcome.entry.body)
                story.succeeded((outcome.entry.row_count,))
            else:
                access = await self._access(caller, connection_string, quota)
                if deadline is not None:
                    access = replace(access, password=deadline.watching(access.password))
                if options.read_only:
                    access = replace(access, prologue_on=_read_only_on(access.prologue_on))
                if pool.upstream.group is not None:
                    access = await self._routed(access, headers, request, options, story)
                key = headers.get(IDEMPOTENCY_KEY)
                if key is None or _reads_only(request, options, grant):
                    reply = await self._run(access, request, options, story)
                else:
                    reply = await self._run_once(key, body, access, request, options, story)
                if outcome is not None:
                    reply = reply._replace(headers=(*reply.headers, *outcome.headers))
        except GatewayError as error:
            if quota is not None:
                _explain(error, quota.allowance, self._limits)
            reply = story.refused(error)
        except Exception as error:
            reply = story.broke(error, self._observe)
        except asyncio.CancelledError:
            if deadline is None or not deadline.has_ended():
                raise
            reply = story.refused(story.late(deadline))
        finally:
            if deadline is not None:
                deadline.drop()
            if story.route is not None:
                story.route.close(self._observe)
                reply = story.routed(reply, story.route) if reply is not None else None
            if reply is not None and story.waited and self._telling.server_timing:
                reply = Reply(reply.status, reply.headers, reply.request_id, reply.body, story.timing)
            story.tell(reply, self._telling, self._observe)
        return reply if deadline is None else reply._replace(due=story.due(deadline))

    async def _meet(
        self, connection_string: bytes, authorization: bytes | None, host: bytes, body: bytes, story: Story, peer: str
    ) -> tuple[Caller, Statement | Batch]:
        """Who asks for what, when it is nobody who was here a short while ago."""
        dsn = None
        if connection_string or authorization is None:
            dsn = dsn_from_header(connection_string or None)
            story.database, story.role = dsn.database, dsn.role
        request = story.asked = decode_request(body)
        caller = await self._authenticator.authenticate(dsn, connection_string, authorization, host, peer=peer)
        return caller, request

    async def _access(self, caller: Caller, connection_string: bytes, quota: Quota | None) -> Access:
        """The way to a connection of whoever asks."""
        pool, grant = caller.pool, caller.grant
        if pool.upstream.group is not None:
            pool = self._registry.pool(pool.key, pool.upstream)  # who was met a while ago may know a former primary
        if grant is None:
            return Access(pool, lambda: password_of(connection_string), caller, quota=quota)
        return Access(pool, lambda: grant.password, caller, await self._claims.ready(grant, pool), grant, quota=quota)

    async def _consult(
        self,
        cached: CachedAnswers,
        question: Question,
        caller: Caller,
        connection_string: bytes,
        options: Options,
        story: Story,
        quota: Quota | None,
    ) -> Outcome | None:
        """The cache's answer to a question, or why it has none; None: it is not asked."""
        group = caller.pool.upstream.group
        if group is not None and question.bookmark and group.view.fate(question.bookmark) is not Fate.KEPT:
            return None  # what becomes of it is the route's to say

        async def fetch() -> Fetched:
            access = await self._access(caller, connection_string, quota)
            results, array_types, positions = await self._read(access, question.statement, options, story, question)
            body = _reply(question.statement, options, results, array_types, story).body
            if positions is None:
                return Fetched(body, results[0].row_count)
            return Fetched(body, results[0].row_count, positions.since, positions.bookmark)

        async def run(batch: Batch, its_options: Options) -> list[Result]:
            access = await self._access(caller, connection_string, quota)
            return (await self._read(access, batch, its_options, story))[0]

        return await cached.answer(question, fetch, run)

    async def _read(
        self,
        access: Access,
        request: Statement | Batch,
        options: Options,
        story: Story,
        question: Question | None = None,
    ) -> tuple[list[Result], Mapping[int, ArrayType], Positions | None]:
        """Results of what is run in a READ ONLY transaction for the cache: on the primary, which lags behind nobody.

        Of the answer to a question it is noted where the log stood, if there are replicas that can be elsewhere.
        """
        route = None
        if access.pool.upstream.group is not None:
            route = Route(
                access.pool,
                registry=self._registry,
                probes=self._probes,
                reads=False,
                bookmark=question.bookmark if question is not None else None,
                needs_primary=True,
                is_repeatable=True,
                is_kept=question is not None,
            )
        access = replace(access, route=route, prologue_on=_read_only_on(access.prologue_on))
        try:
            results, array_types = await self._results(access, request, options, story)
            return results, array_types, route.positions if route is not None else None
        finally:
            if route is not None:
                route.close(self._observe)

    async def _routed(
        self,
        access: Access,
        headers: Mapping[bytes, bytes],
        request: Statement | Batch,
        options: Options,
        story: Story,
    ) -> Access:
        """The same access to a target of several servers, by a route of the request's own."""
        reads = _reads_only(request, options, access.grant)
        is_found = not reads and await self._is_found_reading(access, request, story)
        story.route = route = Route(
            access.pool,
            registry=self._registry,
            probes=self._probes,
            reads=reads or is_found,
            is_found=is_found,
            bookmark=_bookmark(headers),
            # What a standby does not have.
            needs_primary=options.transaction.isolation_level is IsolationLevel.SERIALIZABLE,
            is_repeatable=isinstance(request, Batch) or is_plain(request),
        )
        prologue_on = access.prologue_on
        if not options.read_only:
            prologue_on = _read_only_on(prologue_on, lambda: route.reads)
        return replace(access, route=route, prologue_on=prologue_on)

    async def _is_found_reading(self, access: Access, request: Statement | Batch, story: Story) -> bool:
        """Whether a statement changes and locks nothing, by the plan that Postgres makes of it, if that is wanted."""
        group = access.pool.upstream.group
        if self._verdicts is None or group is None or not group.settings.selects or not isinstance(request, Statement):
            return False
        caller = access.caller
        key = (caller.target, caller.database, caller.pool.key.role, caller.role, request.text)
        verdict = self._verdicts.recall(key)
        if verdict is None:

            async def run(statements: Sequence[Statement]) -> list[Result]:
                return (await self._read(access, Batch(tuple(statements)), READING, story))[0]

            try:
                verdict = await self._verdicts.ask(key, len(request.params), run)
            except GatewayError:
                return False  # the primary says what is wrong with it
        return verdict.is_reading

    async def _run(self, access: Access, request: Statement | Batch, options: Options, story: Story) -> Reply:
        """The reply with the results. The lease is given back before they are encoded."""
        try:
            results, array_types = await self._results(access, request, options, story)
        except BaseException as error:
            self._failed(access, request, error)
            raise
        if self._cached is not None:
            await self._ran(access, request, options, results, story)
        return _reply(request, options, results, array_types, story)

    async def _results(
        self, access: Access, request: Statement | Batch, options: Options, story: Story
    ) -> tuple[list[Result], Mapping[int, ArrayType]]:
        """What Postgres says, and what is needed of the catalog to type it."""
        commented = _commented(request, story.comment) if story.comment else request
        limits = self._limits if access.quota is None else self._limits.within(access.quota.allowance)

        async def work(lease: Lease) -> tuple[list[Result], Mapping[int, ArrayType]]:
            prologue = access.prologue_on(lease.backend)
            positions = access.route.positions if access.route is not None else None
            results = await execute(lease, commented, options, limits, prologue, positions)
            return results, await _array_types(lease, results, options)

        return await self._on_lease(access, story, work)

    async def _ran(
        self, access: Access, request: Statement | Batch, options: Options, results: list[Result], story: Story
    ) -> None:
        """Before anybody gets to know that a request has run, its changes end the answers that rest on them."""
        cached = self._cached
        if cached is None or not cached.is_concerned(access.caller) or _reads_only(request, options, access.grant):
            return

        async def run(batch: Batch, its_options: Options) -> list[Result]:
            return (await self._read(access, batch, its_options, story))[0]

        await cached.ran(access.caller, request, results, run)

    def _failed(self, access: Access, request: Statement | Batch, error: BaseException) -> None:
        """A request has not got to its end; something of it may have stayed all the same."""
        if self._cached is not None:
            self._cached.failed(access.caller, request, error)

    async def _run_once(
        self, key: bytes, body: bytes, access: Access, request: Statement | Batch, options: Options, story: Story
    ) -> Reply:
        """The same for a write that is carried out once, however often it comes: the first one's reply."""
        pool = access.pool
        kept: list[Result] = []
        known = await self._keys.find(key, body, options, pool, tenant=story.tenant)
        limits = self._limits if access.quota is None else self._limits.within(access.quota.allowance)

        async def work(lease: Lease) -> Reply:
            async def keep(results: list[Result]) -> tuple[Reply, Statement]:
                kept[:] = results
                reply = _reply(request, options, results, await _array_types(lease, results, options), story)
                return reply, self._keys.keeping(known, reply.body)

            taking, prologue = self._keys.taking(known), access.prologue_on(lease.backend)
            return await run_once(lease, request, options, limits, taking=taking, keep=keep, prologue=prologue)

        try:
            try:
                reply = await self._on_lease(access, story, work)
            except TableGone:
                self._keys.forget(pool)
                known = await self._keys.find(key, body, options, pool, tenant=story.tenant)
                reply = await self._on_lease(access, story, work)
            await self._ran(access, request, options, kept, story)
            return reply
        except Answered:
            answer = await self._keys.answer(pool, known)
        except BaseException as error:
            self._failed(access, request, error)
            raise
        story.succeeded([])
        return Reply(200, (*_headers_of(request, options), IS_REPLAYED), story.request_id, answer)

    async def _on_lease(self, access: Access, story: Story, work: Callable[[Lease], Awaitable[Done]]) -> Done:
        """What `work` made of a connection; of another one, if that turns out to have been closed before it began."""
        if access.route is not None:
            return await self._on_server(access.route, access, story, work)
        pool, quota = access.pool, access.quota
        for attempt in range(_ATTEMPTS):
            asked = perf_counter()
            try:
                lease = (self._registry.try_lease(pool) if quota is None else None) or await self._lease(access, pool)
            except PasswordFailed:
                raise access.refused() from None
            finally:
                leased = perf_counter()
                story.waited += leased - asked
            try:
                return await work(lease)
            except ClaimsFailed:
                self._claims.forget(pool)
                raise
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

    async def _lease(self, access: Access, pool: Pool) -> Lease:
        """A connection of `pool` for a caller who may have to wait for it."""
        if access.quota is not None:
            return await access.quota.lease(pool, access.password)
        tenant = access.grant.tenant if access.grant is not None else ""
        lease = self._registry.try_lease(pool)
        return lease or await self._registry.lease(pool, access.password, tenant=tenant)

    async def _on_server(
        self, route: Route, access: Access, story: Story, work: Callable[[Lease], Awaitable[Done]]
    ) -> Done:
        """The same at one of several servers, and at another one where that does not do."""
        while True:
            asked = perf_counter()
            try:
                pool = await route.pool()
                lease = await self._lease(access, pool)
            except GatewayError as error:
                if await route.failed(error, ran=False):
                    continue
                if isinstance(error, PasswordFailed):
                    raise access.refused() from None
                raise
            finally:
                leased = perf_counter()
                story.waited += leased - asked
            refusal: GatewayError | None = None
            ran = True
            try:
                done = await work(lease)
                if not route.is_behind():
                    await route.settle(lease)
                    return done
            except ClaimsFailed:
                self._claims.forget(access.pool)
                raise
            except NothingRan as error:
                refusal, ran = error.reason, False
            except Answered:
                await route.settle(lease)
                raise
            except GatewayError as error:
                refusal = error
                if isinstance(error, PostgresError):
                    await route.settle(lease)
            finally:
                story.executed += perf_counter() - leased
                story.connected += lease.connected
                story.parsed += lease.parsed
                story.reused += lease.reused
                lease.release()
            if refusal is not None and not await route.failed(refusal, ran=ran):
                raise refusal


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


def _explain(error: GatewayError, allowance: Allowance, limits: Limits) -> None:
    """Say that the limit is the tenant's, where that is the lower one."""
    lower = limits.within(allowance)
    if isinstance(error, StatementTimeout) and lower.statement_timeout != limits.statement_timeout:
        error.hint = f"For this tenant it is {lower.statement_timeout:g} s (limits.statement_timeout)."
    elif isinstance(error, ResponseTooLarge) and lower.max_bytes != limits.max_bytes:
        error.hint = f"For this tenant it is {lower.max_bytes} bytes (limits.max_response_bytes)."


def _commented(request: Statement | Batch, comment: str) -> Statement | Batch:
    if isinstance(request, Batch):
        return Batch(tuple(each._replace(text=each.text + comment) for each in request.statements))
    return request._replace(text=request.text + comment)


def _reply(
    request: Statement | Batch,
    options: Options,
    results: list[Result],
    array_types: Mapping[int, ArrayType],
    story: Story,
) -> Reply:
    ran = perf_counter()
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
    body = encode_batch(encoded) if isinstance(request, Batch) else encoded[0]
    story.encoded = perf_counter() - ran
    story.succeeded([result.row_count for result in results])
    return Reply(200, _headers_of(request, options), story.request_id, body)


def _headers_of(request: Statement | Batch, options: Options) -> Headers:
    return (*JSON_HEADERS, *batch_echo(options.transaction)) if isinstance(request, Batch) else JSON_HEADERS


def _reads_only(request: Statement | Batch, options: Options, grant: Grant | None) -> bool:
    """Whether Postgres itself lets the request change nothing."""
    if options.read_only or (grant is not None and grant.read_only):
        return True
    return isinstance(request, Batch) and options.transaction.read_only


def _bookmark(headers: Mapping[bytes, bytes]) -> Bookmark | None:
    """What the program has seen already of a target with several servers."""
    said = headers.get(BOOKMARK)
    return decode_bookmark(said) if said is not None else None


def _read_only_on(prologue_on: MakePrologue, is_wanted: Callable[[], bool] = lambda: True) -> MakePrologue:
    return lambda backend: read_only(prologue_on(backend)) if is_wanted() else prologue_on(backend)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
