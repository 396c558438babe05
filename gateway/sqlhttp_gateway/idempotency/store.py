"""Where keys are kept: in each database that uses them, in tables that the gateway's own role makes at first need."""

import asyncio
import secrets
from collections.abc import Sequence

from sqlhttp_gateway.auth.own_access import OwnAccess
from sqlhttp_gateway.auth.own_table import foreign
from sqlhttp_gateway.errors import (
    GatewayError,
    IdempotencyUnavailable,
    KeyInFlight,
    PostgresError,
    ResponseTooLarge,
)
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.execute.run import execute
from sqlhttp_gateway.idempotency import table
from sqlhttp_gateway.idempotency.keys import Key, key_from_header, known
from sqlhttp_gateway.model import Batch, IsolationLevel, Options, Statement, TransactionOptions
from sqlhttp_gateway.pools.ask import ask
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.settings import IdempotencySettings

_SECRET_BYTES = 32
_NOT_ALLOWED = ("42501", "25006")
"""insufficient_privilege, and read_only_sql_transaction of a replica."""
_LOCK = "SELECT pg_catalog.pg_advisory_xact_lock(7310021884627198051)"
"""A number of our own: of several gateways that find no table at the same moment, one makes it and the others wait."""
_SEEING = Options(transaction=TransactionOptions(isolation_level=IsolationLevel.READ_COMMITTED))
"""Who has waited for the lock sees what was made meanwhile, whatever the database's default."""
_TIMEOUT = 5.0
"""Seconds that each statement of it may take."""


class KeyStore:
    """The tables of keys of all databases, and each one's secret, read once."""

    def __init__(self, own: OwnAccess, settings: IdempotencySettings) -> None:
        self._own = own
        self._settings = settings
        self._secrets: dict[tuple[str, str], bytes] = {}
        self._looking: dict[tuple[str, str], asyncio.Task[bytes]] = {}
        """One look for all who come to a database at the same time: however it ends, nobody waits for two."""

    async def find(
        self, header: bytes, body: bytes, options: Options, pool: Pool, *, tenant: str, further: Sequence[bytes] = ()
    ) -> Key:
        """What the key in a request's header, and the request, are known by in the pool's database; see `known`.

        Raises:
            BadRequest: the header is not as it must be.
            IdempotencyUnavailable: there is no table, and none can be made.
            GatewayError: the database could not be asked.
        """
        key = key_from_header(header)
        place = (pool.key.target, pool.key.database)
        secret = self._secrets.get(place)
        if secret is None:
            secret = await self._look(pool, place)
        return known(key, body, options, secret=secret, role=pool.key.role, tenant=tenant, further=further)

    def taking(self, key: Key) -> Statement:
        """The statement that takes it, at the start of the transaction of its request."""
        settings = self._settings
        return table.taking(key.id, key.fingerprint, tag=key.tag, lifetime=settings.lifetime, patience=settings.wait)

    def keeping(self, key: Key, answer: bytes) -> Statement:
        """The statement that gives it its answer, at the end of that transaction.

        Raises:
            ResponseTooLarge: the answer has more bytes than `idempotency.max_answer_bytes`.
        """
        most = self._settings.max_answer_bytes
        if len(answer) > most:
            raise ResponseTooLarge(
                f"the answer has {len(answer)} bytes, and one that is kept under an Idempotency-Key may have {most} "
                "(idempotency.max_answer_bytes); of the transaction: it was rolled back"
            )
        return table.keeping(key.id, answer)

    def forget(self, pool: Pool) -> None:
        """The table is not as it was: look again at the next request."""
        self._secrets.pop((pool.key.target, pool.key.database), None)

    async def answer(self, pool: Pool, key: Key) -> bytes:
        """The answer that was given to this very request.

        Raises:
            KeyInFlight: there is none: its lifetime is over, or another request has just taken the key.
        """
        async with self._own.lease(pool.upstream, database=pool.key.database) as lease:
            params = (key.id.hex().encode(), key.fingerprint.hex().encode())
            rows = await ask(lease, table.READ_ANSWER, params, max_bytes=0)
        if not rows or rows[0][0] is None:
            raise KeyInFlight("a request with this Idempotency-Key has just been carried out", retry_after=1)
        return table.bytes_from_hex(rows[0][0])

    async def _look(self, pool: Pool, place: tuple[str, str]) -> bytes:
        looking = self._looking.get(place)
        if looking is None:
            looking = self._looking[place] = asyncio.get_running_loop().create_task(self._read(pool, place))
            looking.add_done_callback(lambda done: self._looked(place, done))
        return await asyncio.shield(looking)  # who leaves takes nothing from the others

    def _looked(self, place: tuple[str, str], looking: "asyncio.Task[bytes]") -> None:
        del self._looking[place]
        if not looking.cancelled():
            looking.exception()  # whoever waited has it, and perhaps nobody does any more

    async def _read(self, pool: Pool, place: tuple[str, str]) -> bytes:
        async with self._own.lease(pool.upstream, database=pool.key.database) as lease:
            secret = self._secrets[place] = await self._found(lease)
        return secret

    async def _found(self, lease: Lease) -> bytes:
        if await ask(lease, table.IS_INSTALLED) != [(b"t",)]:
            if not self._settings.create:
                raise _missing(lease.pool)
            await install(lease)
        await _refuse_foreign(lease)
        rows = await ask(lease, table.READ_SECRET)
        if not rows or rows[0][0] is None:
            raise _missing(lease.pool)
        return table.bytes_from_hex(rows[0][0])


async def install(lease: Lease) -> None:
    """Make the tables and functions, or bring them up to date.

    Raises:
        IdempotencyUnavailable: the role may not, or something of somebody else stands in their place.
    """
    await _refuse_foreign(lease)
    secret = secrets.token_bytes(_SECRET_BYTES).hex().encode()
    making = (Statement(_LOCK), *map(Statement, table.INSTALL), Statement(table.KEEP_SECRET, (secret,)))
    try:
        await execute(lease, Batch(making), _SEEING, Limits(max_bytes=0, statement_timeout=_TIMEOUT))
    except PostgresError as error:
        if error.code in _NOT_ALLOWED:
            raise _missing(lease.pool, why=error) from None
        raise
    await _refuse_foreign(lease)


def _missing(pool: Pool, *, why: GatewayError | None = None) -> IdempotencyUnavailable:
    reason = f": {why.message}" if why is not None else ""
    return IdempotencyUnavailable(
        f"database {pool.key.database} has no table for idempotency keys{reason}",
        hint="Run sqlhttp idempotency install with a connection string whose role may create it.",
    )


async def _refuse_foreign(lease: Lease) -> None:
    names = await foreign(lease, table.FOREIGN)
    if names:
        raise IdempotencyUnavailable(
            f"not the gateway's, and in the place of its table of idempotency keys: {names}",
            hint="It belongs to another role or package; move it away or use another database.",
        )
