"""A connection string becomes a Caller: parsed, its target chosen, its password proven.

A caller that was proven a short while ago is known again by a keyed hash of the whole string, for as long as the proof
of its password holds. That saves parsing and looking up, and keeps no secret.
"""

import asyncio
import hashlib
import secrets
from typing import NamedTuple

from sqlhttp_gateway.model import Dsn, PoolKey
from sqlhttp_gateway.neon.dsn import dsn_from_header
from sqlhttp_gateway.pools.passwords import Passwords
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.targets import Targets

_MAX_KNOWN = 10_000
"""Callers that are remembered at once, some 400 bytes each."""


class Caller(NamedTuple):
    """Who asks, and the pool that is theirs."""

    target: str
    database: str
    role: str
    pool: Pool
    proven_until: float
    """When the password has to be proven again, on the loop's clock."""


class Authenticator:
    """Tells who is asking."""

    def __init__(self, targets: Targets, registry: PoolRegistry, passwords: Passwords) -> None:
        self._targets = targets
        self._registry = registry
        self._passwords = passwords
        self._loop = asyncio.get_running_loop()
        self._key = secrets.token_bytes(32)
        self._known: dict[bytes, Caller] = {}

    def recall(self, connection_string: bytes) -> Caller | None:
        """The caller with this connection string, if it was proven a short while ago."""
        caller = self._known.get(self._digest(connection_string))
        if caller is None or caller.pool.is_retired or self._loop.time() >= caller.proven_until:
            return None
        return caller

    async def authenticate(self, dsn: Dsn, connection_string: bytes) -> Caller:
        """The caller of `dsn`, which is the parsed connection string.

        Raises:
            CredentialsMissing, PasswordFailed: it may not come in.
            GatewayError: Postgres could not be asked.
        """
        upstream = self._targets.choose(dsn)
        key = PoolKey(upstream.target.name, dsn.database, dsn.role)
        until = await self._passwords.prove(dsn, key, upstream)
        pool = self._registry.pool(key, upstream)  # only now: a name that anybody can make up gets no pool
        caller = Caller(key.target, dsn.database, dsn.role, pool, until)
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[self._digest(connection_string)] = caller
        return caller

    def _digest(self, connection_string: bytes) -> bytes:
        return hashlib.blake2b(connection_string, key=self._key, digest_size=16).digest()


def password_of(connection_string: bytes) -> bytes:
    """The password in a connection string that has been used before; needed only to open a connection."""
    return dsn_from_header(connection_string).password or b""
