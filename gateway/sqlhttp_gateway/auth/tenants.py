"""Tenants: names by which callers mean a database that is called otherwise, or is on another target.

A name is a host, of the connection string or of the request, or a database's. It says where a caller wants to go, and
nothing of who they are: credentials are proven there, and a key or token still opens what it is for and nothing else.

Most gateways have none, and then nobody asks.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from sqlhttp_gateway.auth.allowances import allowance_of
from sqlhttp_gateway.auth.reread import Reread
from sqlhttp_gateway.errors import InvalidConnectionString
from sqlhttp_gateway.model import NO_LIMITS, Allowance, Dsn
from sqlhttp_gateway.pools.targets import DEFAULT, Targets, Upstream
from sqlhttp_gateway.settings import TenantSettings

NAME = "{name}"
"""What stands in a template for the part of a name that says which."""
_WILDCARD = "*."


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant's names, and what they mean."""

    name: str
    hosts: tuple[str, ...] = ()
    """Hosts in lower case; `*.db.example` is every one with a single label in front."""
    databases: tuple[str, ...] = ()
    target: str = DEFAULT
    """A target's name, or a template of one."""
    database: str | None = None
    """The database, or a template; None: as the connection string calls it."""
    allowance: Allowance = NO_LIMITS
    """What each database of it may take, of those who come with a password."""


class Meant(NamedTuple):
    """A tenant, and what of the name its templates are filled with."""

    tenant: Tenant
    name: str

    @property
    def target(self) -> str:
        return self.tenant.target.replace(NAME, self.name)

    def database(self, asked: str) -> str:
        """The real name of the database that is called `asked`."""
        return asked if self.tenant.database is None else self.tenant.database.replace(NAME, self.name)


class Names:
    """All names of some tenants. Never changes; of two tenants with one name the first has it."""

    def __init__(self, tenants: Iterable[Tenant]) -> None:
        self._hosts: dict[str, Tenant] = {}
        self._suffixes: dict[str, Tenant] = {}
        self._databases: dict[str, Tenant] = {}
        for tenant in tenants:
            for host in tenant.hosts:
                if host.startswith(_WILDCARD):
                    self._suffixes.setdefault(host[len(_WILDCARD) :], tenant)
                else:
                    self._hosts.setdefault(host, tenant)
            for database in tenant.databases:
                self._databases.setdefault(database, tenant)

    def of_host(self, host: str) -> Meant | None:
        """Whom a host means, in whatever case; an exact name goes before a wildcard."""
        host = host.lower()
        label, _, suffix = host.partition(".")
        tenant = self._hosts.get(host)
        if tenant is None and label:
            tenant = self._suffixes.get(suffix)
        return None if tenant is None else Meant(tenant, label)

    def of_database(self, database: str) -> Meant | None:
        """Whom the name of a database means."""
        tenant = self._databases.get(database)
        return None if tenant is None else Meant(tenant, database)


class Tenants:
    """Who means what now: the tenants of the settings, then those of a table that is read again now and then."""

    def __init__(
        self,
        fixed: Iterable[Tenant],
        source: Callable[[], Awaitable[list[Tenant]]] | None = None,
        *,
        refresh: float = 10.0,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_change` is called when a name that had a meaning may have another."""
        self._fixed = tuple(fixed)
        self._table: tuple[Tenant, ...] = ()
        self._names = Names(self._fixed)
        self._on_change = on_change
        self._rereading: Reread[list[Tenant]] | None = None
        if source is not None:
            self._rereading = Reread(source, self._take, what="tenants", every=refresh)

    @property
    def is_used(self) -> bool:
        """Whether any name could mean a tenant."""
        return bool(self._fixed) or self._rereading is not None

    def reconfigure(self, fixed: Iterable[Tenant], *, refresh: float) -> None:
        """Take other tenants for those of the settings; the table's stay as they were read."""
        self._fixed = tuple(fixed)
        self._names = Names((*self._fixed, *self._table))
        if self._rereading is not None:
            self._rereading.every = refresh

    def start(self) -> None:
        """Begin to read the table now and then."""
        if self._rereading is not None:
            self._rereading.start()

    async def stop(self) -> None:
        """Read it no more."""
        if self._rereading is not None:
            await self._rereading.stop()

    async def find(self, host: str) -> Meant | None:
        """Whom the host of a request means, its port aside.

        Raises:
            GatewayError: the table was never read, and cannot be.
        """
        await self._ensure_read()
        return self._names.of_host(host.rpartition(":")[0] or host)

    async def resolve(self, dsn: Dsn, host: str, targets: Targets) -> tuple[Dsn, Upstream, Tenant | None]:
        """Where a connection string leads that came in a request to `host`, and whose name that was.

        The host of the connection string goes before that of the request, and that before the database's name.

        Raises:
            InvalidConnectionString: to no target.
            GatewayError: the table was never read, and cannot be.
        """
        await self._ensure_read()
        names = self._names
        meant = names.of_host(dsn.host)
        if meant is None and host:
            meant = await self.find(host)
        if meant is None:
            meant = names.of_database(dsn.database)
        if meant is None:
            return dsn, targets.choose(dsn), None
        upstream = targets.by_name.get(meant.target)
        if upstream is None:
            raise InvalidConnectionString(
                f"tenant {meant.tenant.name} is on a target that this gateway does not know",
                hint="Name it under targets in the gateway's settings.",
            )
        return replace(dsn, database=meant.database(dsn.database)), upstream, meant.tenant

    async def _ensure_read(self) -> None:
        # Afterwards what was last read counts, however old: a name is no right that could be revoked.
        if self._rereading is not None and self._rereading.age is None:
            await self._rereading.read()

    def _take(self, tenants: list[Tenant]) -> None:
        if self._table != tuple(tenants):
            self._table = tuple(tenants)
            self._names = Names((*self._fixed, *self._table))
            self._on_change()


def tenants_from_settings(settings: Mapping[str, TenantSettings]) -> list[Tenant]:
    """The tenants of the settings."""
    return [
        Tenant(
            name,
            hosts=tuple(host.lower() for host in each.hosts),
            databases=each.databases,
            target=each.target,
            database=each.database,
            allowance=allowance_of(each),
        )
        for name, each in settings.items()
    ]
