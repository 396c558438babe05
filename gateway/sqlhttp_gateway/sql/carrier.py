"""Carries requests out: on a lease of their access, within its limits, and with a word to the cache of what changed."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from sqlhttp_gateway.cache.policy import Question
from sqlhttp_gateway.errors import GatewayError, HasRun, PostgresError, ResponseTooLarge, StatementTimeout
from sqlhttp_gateway.events import Observer
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.execute.run import execute
from sqlhttp_gateway.idempotency.keys import ends_transaction
from sqlhttp_gateway.model import Allowance, ArrayType, Batch, Options, Result, Statement
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.positions import Positions
from sqlhttp_gateway.pools.probe import Probes
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.route import Route
from sqlhttp_gateway.reply import Reply
from sqlhttp_gateway.sql.access import Access, reads_only
from sqlhttp_gateway.sql.attempts import Attempts
from sqlhttp_gateway.sql.changes import Changes
from sqlhttp_gateway.sql.replies import array_types, reply_with
from sqlhttp_gateway.story import Story
from sqlhttp_gateway.wire.lexer import first_word

_IN_PARTS = (b"call", b"do", b"vacuum", b"analyze", b"cluster", b"reindex")
"""What may commit on the way, or takes a transaction for each table."""
_IN_STEPS = (b"create", b"drop", b"alter")
"""What does so CONCURRENTLY, and leaves an index that is not valid, for instance."""
_MOST_TOLD = 16_777_216
"""Bytes that Postgres may tell of a statement: they go to nobody, so that no bound for answers is meant by it."""


class Ran(NamedTuple):
    """What has come of a request."""

    results: list[Result]
    types: Mapping[int, ArrayType]
    """What is needed of the catalog to type them."""
    positions: Positions | None = None
    """Where the log stood, of an answer that is to be kept and of which replicas may know less."""


class Carrier:
    """Carries out what a caller asks, or what the gateway itself asks as that caller."""

    def __init__(
        self,
        attempts: Attempts,
        *,
        registry: PoolRegistry,
        probes: Probes,
        limits: Limits,
        observe: Observer,
        changes: Changes | None = None,
    ) -> None:
        self._attempts = attempts
        self._registry = registry
        self._probes = probes
        self._observe = observe
        self._changes = changes
        self.limits = limits
        """Those of a request whose tenant has no lower ones. Another value holds from the next request on."""

    async def run(self, access: Access, request: Statement | Batch, options: Options, story: Story) -> Reply:
        """The reply with the results. The lease is given back before they are encoded.

        Raises:
            GatewayError: the request failed.
        """
        try:
            results, types, _ = await self._results(access, request, options, story)
        except BaseException as error:
            self.failed(access, request, error)
            raise
        if self._changes is not None:
            await self.ran(access, request, options, results, story)
        return reply_with(results, request, options, story, types=types)

    async def read(
        self,
        access: Access,
        request: Statement | Batch,
        options: Options,
        story: Story,
        question: Question | None = None,
    ) -> Ran:
        """Results of what is run in a READ ONLY transaction for the cache: on the primary, which lags behind nobody.

        Of the answer to a question it is noted where the log stood, if there are replicas that can be elsewhere.
        Without a question it is the gateway that asks, about a statement.

        Raises:
            GatewayError: the request failed.
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
        access = replace(access.reading(), route=route)
        try:
            ran = await self._results(access, request, options, story, is_answer=question is not None)
            return ran._replace(positions=route.positions if route is not None else None)
        finally:
            if route is not None:
                route.close(self._observe)

    async def ran(
        self, access: Access, request: Statement | Batch, options: Options, results: list[Result], story: Story
    ) -> None:
        """Before anybody gets to know that a request has run, its changes end the answers that rest on them."""
        changes = self._changes
        if changes is None or not changes.concern(access.caller) or reads_only(request, options, access.grant):
            return

        async def run(batch: Batch, its_options: Options) -> list[Result]:
            return (await self.read(access, batch, its_options, story)).results

        await changes.ran(access.caller, request, results, run)

    async def replayed(self, access: Access) -> None:
        """A write was carried out before, by whomever; its answer is given again only when its changes are known."""
        if self._changes is not None and self._changes.concern(access.caller):
            await self._changes.ran_elsewhere(access.caller)

    def failed(self, access: Access, request: Statement | Batch, error: BaseException) -> None:
        """A request has not got to its end; something of it may have stayed all the same."""
        if isinstance(error, PostgresError) and error.ran is HasRun.NO and _commits_itself(request):
            error.ran = HasRun.MAYBE
        if self._changes is not None:
            self._changes.failed(access.caller, request, error)

    def explain(self, error: GatewayError, allowance: Allowance) -> None:
        """Say that the limit is the tenant's, where that is the lower one."""
        lower = self.limits.within(allowance)
        if isinstance(error, StatementTimeout) and lower.statement_timeout != self.limits.statement_timeout:
            error.hint = f"For this tenant it is {lower.statement_timeout:g} s (limits.statement_timeout)."
        elif isinstance(error, ResponseTooLarge) and lower.max_bytes != self.limits.max_bytes:
            error.hint = f"For this tenant it is {lower.max_bytes} bytes (limits.max_response_bytes)."

    async def _results(
        self, access: Access, request: Statement | Batch, options: Options, story: Story, *, is_answer: bool = True
    ) -> Ran:
        limits = access.within(self.limits)
        if not is_answer:
            limits = replace(limits, max_bytes=_MOST_TOLD)

        async def work(lease: Lease) -> Ran:
            prologue = access.prologue_on(lease.backend)
            positions = access.route.positions if access.route is not None else None
            results = await execute(lease, commented(request, story), options, limits, prologue, positions)
            try:
                return Ran(results, await array_types(lease, results, options))
            except GatewayError as error:
                error.ran = HasRun.YES  # only how its answer is to be written could not be found out
                raise

        return await self._attempts.on_lease(access, story, work)


def _commits_itself(request: Statement | Batch) -> bool:
    """Whether a part of it can stay although another fails: few statements are several, and a batch may say so."""
    if isinstance(request, Batch):
        return ends_transaction(request)
    word = first_word(request.text.encode())
    return word in _IN_PARTS or (word in _IN_STEPS and "concurrently" in request.text.lower())


def commented(request: Statement | Batch, story: Story) -> Statement | Batch:
    """The request with what its story puts behind each of its statements."""
    comment = story.comment
    if not comment:
        return request
    if isinstance(request, Batch):
        return Batch(tuple(each._replace(text=each.text + comment) for each in request.statements))
    return request._replace(text=request.text + comment)
