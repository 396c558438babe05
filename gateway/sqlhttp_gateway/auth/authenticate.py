"""Credentials become a Caller: a role's own password, an API key or a token, wherever they stand.

Who was proven a short while ago need not be so again: that one is `known`.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from sqlhttp_gateway.auth.allowances import Allowances
from sqlhttp_gateway.auth.api_keys import ApiKeys, KeyRecord
from sqlhttp_gateway.auth.caller import Caller
from sqlhttp_gateway.auth.credentials import (
    BEARER_REQUIRED,
    PASSWORD_REQUIRED,
    ApiKey,
    Token,
    credentials_from_header,
    credentials_from_password,
)
from sqlhttp_gateway.auth.failures import Attempt, Failures
from sqlhttp_gateway.auth.grant import Grant
from sqlhttp_gateway.auth.jwt import Tokens
from sqlhttp_gateway.auth.known import Known
from sqlhttp_gateway.auth.own_access import Logins
from sqlhttp_gateway.auth.rls import NO_ROLE
from sqlhttp_gateway.auth.tenants import Tenant, Tenants
from sqlhttp_gateway.errors import (
    CredentialsMissing,
    InvalidConnectionString,
    InvalidKey,
    PasswordFailed,
    ScopeRefused,
    TargetMisconfigured,
)
from sqlhttp_gateway.model import Dsn, PoolKey
from sqlhttp_gateway.pools.passwords import Passwords
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.targets import Targets, Upstream
from sqlhttp_gateway.settings import AuthSettings, LimitsSettings


class Authenticator:
    """Tells who is asking."""

    def __init__(
        self,
        targets: Targets,
        registry: PoolRegistry,
        passwords: Passwords,
        *,
        keys: ApiKeys | None = None,
        tokens: Tokens | None = None,
        logins: Logins | None = None,
        tenants: Tenants | None = None,
        allowances: Allowances | None = None,
        failures: Failures | None = None,
        belief: float = 30.0,
        sets_any_role: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """A key or token is looked at again after `belief` seconds at the latest. `sets_any_role` lets also those who
        send SQL of their own have a role that is only set, and not logged in as.
        """
        self._targets = targets
        self._registry = registry
        self._passwords = passwords
        self._loop = asyncio.get_running_loop()
        self._known = Known(self._loop.time)
        self.on_forget: Callable[[], None] = _nobody
        """Told when keys or tokens have to be looked at again, for callers that stay connected."""
        self.generation = 0
        """Grows whenever somebody who was recalled may be so no longer."""
        self.reconfigure(
            keys=keys,
            tokens=tokens,
            logins=logins or Logins({}),
            tenants=tenants,
            allowances=allowances or Allowances(LimitsSettings(), workers=1),
            belief=belief,
            sets_any_role=sets_any_role,
        )
        self._failures = failures if failures is not None else Failures(AuthSettings())
        self._clock = clock

    def reconfigure(
        self,
        *,
        keys: ApiKeys | None,
        tokens: Tokens | None,
        logins: Logins,
        tenants: Tenants | None,
        allowances: Allowances,
        belief: float,
        sets_any_role: bool,
    ) -> None:
        """Go by these from now on, and recall nobody who was proven by others."""
        self._keys = keys if keys is not None and keys.is_used else None
        self._tokens = tokens if tokens is not None and tokens.is_used else None
        self._logins = logins
        self._tenants = tenants if tenants is not None and tenants.is_used else None
        self.heeds_host = self._tenants is not None
        """Whether the host that a request came to says where it leads."""
        self._allowances = allowances
        self._belief = belief
        self._sets_any_role = sets_any_role
        self.forget()

    def recall(self, connection_string: bytes, authorization: bytes | None = None, host: bytes = b"") -> Caller | None:
        """The caller with this connection string and header, if it was proven a short while ago."""
        return self._known.recall(connection_string, authorization, host)

    def forget(self) -> None:
        """Recall nobody: something that was proven may be so no longer."""
        self._known.forget()
        self.on_forget()
        self.generation += 1

    async def authenticate(
        self,
        dsn: Dsn | None,
        connection_string: bytes | None = None,
        authorization: bytes | None = None,
        host: bytes = b"",
        *,
        peer: str = "",
    ) -> Caller:
        """The caller of `dsn`; under its `connection_string`, if there is one, it can be recalled for a while.

        With an `authorization` header that counts, and no password of `dsn`. An API key needs no `dsn` beside it. The
        caller's grant, if it has one, must still admit the place from which the request came. The request's `host` is
        given where `heeds_host` says so. Wrong passwords are counted by the `peer` that they come from.

        Raises:
            TooManyFailures: passwords for this role from there are not looked at just now.
            CredentialsMissing, PasswordFailed, InvalidKey, InvalidToken, ScopeRefused: it may not come in.
            GatewayError: Postgres could not be asked.
        """
        generation = self.generation
        if authorization is not None:
            if self._keys is None and self._tokens is None:
                raise CredentialsMissing(PASSWORD_REQUIRED)
            caller = await self._with(credentials_from_header(authorization), dsn, host)
        else:
            assert dsn is not None
            caller = await self._with_password(dsn, host, peer)
        # Who was proven by what counted before may come in once, and is not to be recalled by it.
        if connection_string is not None and generation == self.generation:
            self._known.remember(caller, connection_string, authorization, host)
        return caller

    async def authenticate_password(self, dsn: Dsn, *, peer: str, origin: str | None = None) -> Caller:
        """The caller of a start-up message, whose password may be an API key or a token instead.

        Raises:
            PlaceRefused: it may not come from `peer`, or from a page of `origin`.
            GatewayError: as `authenticate`.
        """
        caller = await self.authenticate(dsn, peer=peer)
        if caller.grant is not None:
            caller.grant.admit(peer=peer, origin=origin)
        return caller

    async def authenticate_operator(self, dsn: Dsn, *, peer: str, origin: str | None = None) -> Caller:
        """The caller of the console, for whom `dsn` names a database of the default target.

        While that is paused Postgres is not to be asked, and whoever is to say RESUME has to get in. So a role whose
        password the gateway holds is believed by that password: it opens nothing but the console, and proves nothing to
        anybody later. All others wait, and count as wrong until Postgres has said that they are not.

        Whoever is known to another server, a tenant's above all, is no operator, whatever the role's name is there; and
        no tenant's name stands in the way of the database's own.

        Raises:
            ScopeRefused: an API key or a token was shown, and leads to another target, or has bounds that a console
                does not know.
            GatewayError: as `authenticate_password`.
        """
        password, upstream = dsn.password, self._targets.default
        if password is None or self._is_key_or_token(password):
            caller = await self.authenticate_password(dsn, peer=peer, origin=origin)
            if caller.target != upstream.target.name:
                raise ScopeRefused("the console is for roles of the gateway's default target")
            grant = caller.grant
            if grant is not None and (grant.read_only or grant.statements is not None or grant.set_role is not None):
                raise ScopeRefused(
                    "the console is not for credentials that may only read, run listed statements or set their role"
                )
            return caller
        if self._registry.is_paused(dsn.database):
            key = PoolKey(upstream.target.name, dsn.database, dsn.role)
            attempt = Attempt(key.target, dsn.role, peer)
            is_known = self._passwords.knew(dsn, key)
            if not is_known:
                self._failures.check(attempt)
            if self._logins.holds(upstream, dsn.role, password):
                return Caller(key.target, dsn.database, dsn.role, self._registry.pool(key, upstream), self._loop.time())
            if not is_known:
                self._failures.failed(attempt)
        return await self._proven(dsn, upstream, None, peer)

    async def held_password(self, dsn: Dsn, *, peer: str) -> bytes | None:
        """The password of a role for which the gateway can log in by itself; None where it holds none.

        Raises:
            GatewayError: `dsn` leads nowhere, or too many from `peer` were wrong about this role.
        """
        dsn, upstream, _ = await self._leads_to(dsn, b"")
        try:
            password = self._logins.password(upstream, dsn.role)
        except TargetMisconfigured:
            return None
        self._failures.check(Attempt(upstream.target.name, dsn.role, peer))
        return password

    async def was_wrong(self, dsn: Dsn, *, peer: str) -> None:
        """Whoever had to prove that password, could not."""
        dsn, upstream, _ = await self._leads_to(dsn, b"")
        self._failures.failed(Attempt(upstream.target.name, dsn.role, peer))

    # ── inside ──

    def _is_key_or_token(self, password: bytes) -> bool:
        return (self._keys is not None or self._tokens is not None) and credentials_from_password(password) is not None

    async def _leads_to(self, dsn: Dsn, host: bytes) -> tuple[Dsn, Upstream, Tenant | None]:
        """The connection string with its database's real name, the target it means, and the tenant, if it named one."""
        if self._tenants is None:
            return dsn, self._targets.choose(dsn), None
        return await self._tenants.resolve(dsn, host.decode("latin-1"), self._targets)

    async def _prove(self, dsn: Dsn, key: PoolKey, upstream: Upstream, peer: str) -> float:
        """Until when the password is proven, unless too many were wrong before it."""
        attempt = Attempt(key.target, dsn.role, peer)
        # Behind one address there may be many programs: one of them that goes wrong must not shut out the others.
        may_look = _nobody if self._passwords.knew(dsn, key) else partial(self._failures.check, attempt)
        may_look()
        try:
            until = await self._passwords.prove(dsn, key, upstream, may_look=may_look)
        except PasswordFailed:
            self._failures.failed(attempt)
            raise
        self._failures.succeeded(attempt)
        return until

    async def _with_password(self, dsn: Dsn, host: bytes, peer: str) -> Caller:
        if dsn.password is None:
            raise CredentialsMissing(PASSWORD_REQUIRED if self._tokens is None else BEARER_REQUIRED)
        if self._keys is not None or self._tokens is not None:
            shown = credentials_from_password(dsn.password)
            owner = self._keys if isinstance(shown, ApiKey) else self._tokens
            if shown is not None and owner is not None:
                return await self._with(shown, dsn, host)
        dsn, upstream, tenant = await self._leads_to(dsn, host)
        return await self._proven(dsn, upstream, tenant, peer)

    async def _proven(self, dsn: Dsn, upstream: Upstream, tenant: Tenant | None, peer: str) -> Caller:
        """Whoever has the password that the role has there."""
        key = PoolKey(upstream.target.name, dsn.database, dsn.role)
        until = await self._prove(dsn, key, upstream, peer)
        pool = self._registry.pool(key, upstream)  # only now: a name that anybody can make up gets no pool
        allowance = self._allowances.of(dsn.role, tenant.allowance if tenant is not None else None)
        return Caller(
            key.target, dsn.database, dsn.role, pool, until, allowance=allowance, is_tenant=tenant is not None
        )

    async def _with(self, shown: ApiKey | Token, dsn: Dsn | None, host: bytes) -> Caller:
        if isinstance(shown, ApiKey):
            if self._keys is None:
                raise CredentialsMissing(BEARER_REQUIRED)
            return await self._with_key(shown, dsn, host, self._keys)
        if self._tokens is None:
            raise InvalidKey("invalid API key")
        if dsn is None:
            raise InvalidConnectionString("invalid header: neon-connection-string")
        return await self._with_token(shown, dsn, host, self._tokens)

    async def _with_token(self, token: Token, dsn: Dsn, host: bytes, tokens: Tokens) -> Caller:
        dsn, upstream, _ = await self._leads_to(dsn, host)
        found = await tokens.verify(token.text, target=upstream.target.name, database=dsn.database, role=dsn.role)
        issuer = found.issuer
        bounds = Grant(
            tenant=f"jwt:{issuer.name}:{found.subject}",
            expires_at=found.expires_at,
            read_only=issuer.read_only,
            statements=issuer.statements,
            allowance=issuer.allowance,
            claims=found.claims,
        )
        return self._granted(bounds, upstream, database=found.database, role=found.role, login=issuer.login)

    async def _with_key(self, key: ApiKey, dsn: Dsn | None, host: bytes, keys: ApiKeys) -> Caller:
        record = await keys.find(key)
        upstream = self._targets.by_name.get(record.target)
        if upstream is None:
            raise TargetMisconfigured(f"API key {record.id} is for target {record.target}, which the gateway lacks")
        await self._check_scope(record, upstream, dsn, host)
        bounds = Grant(
            tenant=f"key:{record.id}",
            expires_at=record.expires_at,
            read_only=record.read_only,
            origins=record.origins,
            addresses=record.addresses,
            statements=record.statements,
            allowance=record.allowance,
        )
        return self._granted(bounds, upstream, database=record.database, role=record.role, login=record.login)

    async def _check_scope(self, record: KeyRecord, upstream: Upstream, dsn: Dsn | None, host: bytes) -> None:
        """Whether all that a request says of where it leads agrees with its key, which alone decides."""
        if dsn is None:
            meant = await self._tenants.find(host.decode("latin-1")) if self._tenants is not None else None
            place = (record.target, record.database)
            if meant is not None and (meant.target, meant.database(record.database)) != place:
                raise ScopeRefused("the API key is for another database than the request's host means")
            return
        named = self._targets.find(dsn)
        if self._tenants is not None:
            dsn, named, _ = await self._tenants.resolve(dsn, host.decode("latin-1"), self._targets)
        if named is not None and named is not upstream:
            raise ScopeRefused("the API key is for another host than the connection string names")
        if dsn.database != record.database:
            raise ScopeRefused("the API key is for another database than the connection string names")
        if dsn.role != record.role:
            raise ScopeRefused("the API key is for another role than the connection string names")

    def _login(self, login: str | None, role: str, statements: frozenset[bytes] | None) -> str:
        """The role to log in as."""
        if login is None or login == role:
            return role
        if statements is None and not self._sets_any_role:  # the settings have been checked, a table has not
            raise TargetMisconfigured(
                f'the credentials have login "{login}" for role "{role}" and no list of statements',
                hint="Whoever sends SQL can leave a role that was set. List the statements, or set auth.set_role.",
            )
        if role == NO_ROLE:
            raise TargetMisconfigured(f'"{NO_ROLE}" is no role that could be set')
        return login

    def _granted(self, bounds: Grant, upstream: Upstream, *, database: str, role: str, login: str | None) -> Caller:
        """Who has shown a key or token with these `bounds`, which say nothing yet of how the gateway logs in."""
        login = self._login(login, role, bounds.statements)
        grant = replace(
            bounds,
            password=self._logins.password(upstream, login),
            set_role=role if login != role else None,
        )
        key = PoolKey(upstream.target.name, database, login)
        belief = self._belief
        if grant.expires_at is not None:
            belief = min(belief, grant.expires_at - self._clock())
        pool = self._registry.pool(key, upstream)
        allowance = self._allowances.of(role, grant.allowance)
        return Caller(key.target, database, role, pool, self._loop.time() + belief, grant, allowance)


def _nobody() -> None:
    """There is nobody to be told, or to be refused."""
