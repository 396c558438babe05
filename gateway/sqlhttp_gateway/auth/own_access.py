"""The gateway's own way into its targets: leases as the configured role, and the passwords that it holds."""

import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from sqlhttp_gateway.errors import PasswordFailed, TargetMisconfigured
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.targets import Upstream
from sqlhttp_gateway.settings import LoginSettings


class OwnAccess:
    """Leases connections of the gateway's own role. They come from the pools, and count as every other."""

    def __init__(self, registry: PoolRegistry) -> None:
        self._registry = registry

    @asynccontextmanager
    async def lease(self, upstream: Upstream, *, database: str | None = None) -> AsyncIterator[Lease]:
        """A lease on `database`, or on the one that the target's connection string names.

        Raises:
            TargetMisconfigured: Postgres refuses the gateway's own role.
            GatewayError: there is no connection to be had.
        """
        admin = upstream.admin
        key = PoolKey(upstream.target.name, database or admin.database, admin.role)
        pool = self._registry.pool(key, upstream)
        try:
            lease = self._registry.try_lease(pool) or await self._registry.lease(pool, lambda: admin.password or b"")
        except PasswordFailed:
            raise TargetMisconfigured(
                f"target {upstream.target.name}: Postgres refuses the gateway's own role and password",
                hint="Correct the connection string in the gateway's settings.",
            ) from None
        try:
            yield lease
        finally:
            lease.release()


class Logins:
    """The passwords that the gateway holds: those of `logins`, and of its own role at each target."""

    def __init__(self, settings: Mapping[str, LoginSettings]) -> None:
        self._passwords = {
            (each.target, each.role): each.password.get_secret_value().encode() for each in settings.values()
        }

    def password(self, upstream: Upstream, role: str) -> bytes:
        """The password of `role`.

        Raises:
            TargetMisconfigured: the gateway has none.
        """
        held = self._passwords.get((upstream.target.name, role))
        if held is None and role == upstream.admin.role:
            held = upstream.admin.password
        if held is None:
            raise TargetMisconfigured(
                f'target {upstream.target.name}: the gateway holds no password for role "{role}"',
                hint="Add a section of its own under logins to the gateway's settings.",
            )
        return held

    def holds(self, upstream: Upstream, role: str, password: bytes) -> bool:
        """Whether this is the password of `role` that the gateway holds, in a time that tells nothing of it."""
        try:
            held = self.password(upstream, role)
        except TargetMisconfigured:
            held = secrets.token_bytes(32)
        # Two digests are of one length, whatever they are of.
        return hmac.compare_digest(hashlib.sha256(held).digest(), hashlib.sha256(password).digest())
