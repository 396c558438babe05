"""A write that carries an Idempotency-Key is carried out once, however often it comes: the first one's reply."""

from sqlhttp_gateway.auth.caller import Caller
from sqlhttp_gateway.errors import GatewayError, HasRun, IdempotencyUnavailable, KeyInFlight
from sqlhttp_gateway.idempotency.keys import Key, holder
from sqlhttp_gateway.idempotency.run import Answered, TableGone, run_once
from sqlhttp_gateway.idempotency.store import KeyStore
from sqlhttp_gateway.model import Batch, Options, Result, Statement
from sqlhttp_gateway.neon.headers import IS_REPLAYED
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.reply import Reply
from sqlhttp_gateway.sql.access import Access
from sqlhttp_gateway.sql.attempts import Attempts
from sqlhttp_gateway.sql.carrier import Carrier, commented
from sqlhttp_gateway.sql.replies import array_types, headers_of, reply_with
from sqlhttp_gateway.story import Story


class Once:
    """Carries out what has a key."""

    def __init__(self, keys: KeyStore, attempts: Attempts, carrier: Carrier) -> None:
        self._keys = keys
        self._attempts = attempts
        self._carrier = carrier

    async def run(
        self, key: bytes, body: bytes, access: Access, request: Statement | Batch, options: Options, story: Story
    ) -> Reply:
        """The reply, from the table of keys if it is there; `body` is what tells two requests with one key apart.

        Raises:
            GatewayError: the request failed, its key is another's, or its answer cannot be told.
        """
        keys, carrier, pool = self._keys, self._carrier, access.pool
        kept: list[Result] = []
        further = _further(access.caller)
        known = await keys.find(key, body, options, pool, tenant=story.tenant, further=further)
        limits = access.within(carrier.limits)

        async def work(lease: Lease) -> Reply:
            async def keep(results: list[Result]) -> tuple[Reply, Statement]:
                kept[:] = results
                types = await array_types(lease, results, options)
                reply = reply_with(results, request, options, story, types=types)
                return reply, keys.keeping(known, reply.body)

            taking, prologue = keys.taking(known), access.prologue_on(lease.backend)
            asked = commented(request, story)
            return await run_once(lease, asked, options, limits, taking=taking, keep=keep, prologue=prologue)

        try:
            try:
                reply = await self._attempts.on_lease(access, story, work)
            except TableGone:
                keys.forget(pool)
                known = await keys.find(key, body, options, pool, tenant=story.tenant, further=further)
                reply = await self._attempts.on_lease(access, story, work)
            await carrier.ran(access, request, options, kept, story)
            return reply
        except TableGone:
            raise IdempotencyUnavailable(
                f"database {pool.key.database}: the table of idempotency keys that the gateway reads is not the one "
                "that the request meets",
                hint="The gateway's own role must be led to the same database as its callers.",
            ) from None
        except Answered:
            # Whoever carried it out may have ended before the answers that rest on it were.
            await carrier.replayed(access)
            answer = await self._answer(pool, known)
        except BaseException as error:
            carrier.failed(access, request, error)
            raise
        story.succeeded([])
        return Reply(200, (*headers_of(request, options), IS_REPLAYED), story.request_id, answer)

    async def _answer(self, pool: Pool, known: Key) -> bytes:
        """The answer that was given to the request that has taken the key."""
        try:
            return await self._keys.answer(pool, known)
        except KeyInFlight:
            raise  # there is none any more
        except GatewayError as error:
            error.ran = HasRun.YES  # as the key says; only its answer cannot be told just now
            raise


def _further(caller: Caller) -> tuple[bytes, ...]:
    """What tells a token's holder from others of the same tenant and log-in: the role they become, and who they are."""
    grant = caller.grant
    if grant is None or grant.claims is None:
        return ()
    role = caller.role if caller.role != caller.pool.key.role else ""
    who = holder(grant.claims)
    return (role.encode(), who) if role or who else ()
