"""A caller's way to a connection: which pool, which password, what runs in front, whose limits hold."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlhttp_gateway.auth.caller import Caller, password_of
from sqlhttp_gateway.auth.claims import Claims, MakePrologue, read_only
from sqlhttp_gateway.auth.grant import Grant
from sqlhttp_gateway.errors import GatewayError, TargetMisconfigured
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.limits import Quota
from sqlhttp_gateway.model import Batch, Options, Statement
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.connect import password_failed
from sqlhttp_gateway.pools.opener import Password
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.route import Route


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

    def reading(self, is_wanted: Callable[[], bool] = lambda: True) -> "Access":
        """The same, whose transactions are READ ONLY where that `is_wanted` once the backend is known."""
        inner = self.prologue_on
        return replace(self, prologue_on=lambda on: read_only(inner(on)) if is_wanted() else inner(on))

    def within(self, limits: Limits) -> Limits:
        """The limits of a request, or the tenant's where they are lower."""
        return limits if self.quota is None else limits.within(self.quota.allowance)

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


class Ways:
    """Finds the way of whoever asks."""

    def __init__(self, registry: PoolRegistry, claims: Claims) -> None:
        self._registry = registry
        self._claims = claims

    async def of(self, caller: Caller, connection_string: bytes, quota: Quota | None) -> Access:
        """The caller's. A role's own password is taken from the connection string when it is needed, and not kept.

        Raises:
            ClaimsFailed: the caller's claims have to be signed and cannot be.
            GatewayError: the database could not be asked for what signs them.
        """
        pool, grant = caller.pool, caller.grant
        if pool.upstream.group is not None:
            pool = self._registry.pool(pool.key, pool.upstream)  # who was met a while ago may know a former primary
        if grant is None:
            return Access(pool, lambda: password_of(connection_string), caller, quota=quota)
        return Access(pool, lambda: grant.password, caller, await self._claims.ready(grant, pool), grant, quota=quota)


def reads_only(request: Statement | Batch, options: Options, grant: Grant | None) -> bool:
    """Whether Postgres itself lets the request change nothing."""
    if options.read_only or (grant is not None and grant.read_only):
        return True
    return isinstance(request, Batch) and options.transaction.read_only
