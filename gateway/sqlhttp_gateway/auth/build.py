"""What the settings say of keys and tokens, as the owners that answer for them, started and stopped together."""

import asyncio
from typing import NamedTuple

from sqlhttp_gateway.auth import key_table, tenant_table
from sqlhttp_gateway.auth.allowances import Allowances, allowance_of
from sqlhttp_gateway.auth.api_keys import ApiKeys, KeyRecord, records_from_settings
from sqlhttp_gateway.auth.authenticate import Authenticator
from sqlhttp_gateway.auth.claims import Claims
from sqlhttp_gateway.auth.failures import Failures
from sqlhttp_gateway.auth.jwks import KeySet, fetch_url, read_file
from sqlhttp_gateway.auth.jwt import Issuer, Tokens
from sqlhttp_gateway.auth.own_access import Logins, OwnAccess
from sqlhttp_gateway.auth.tenants import Tenant, Tenants, tenants_from_settings
from sqlhttp_gateway.pools.passwords import Passwords
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.settings import AuthSettings, IssuerSettings, Settings


class Credentials:
    """The authenticator, and what refreshes itself behind it."""

    def __init__(self, settings: Settings, targets: Targets, registry: PoolRegistry, passwords: Passwords) -> None:
        own = OwnAccess(registry)

        async def read_keys() -> list[KeyRecord]:
            async with own.lease(targets.default) as lease:
                return [record for record, _ in await key_table.read(lease)]

        async def read_tenants() -> list[Tenant]:
            async with own.lease(targets.default) as lease:
                return await tenant_table.read(lease)

        auth = settings.auth
        self._keys = ApiKeys(
            records_from_settings(settings.keys),
            read_keys if auth.keys_table else None,
            refresh=auth.keys_refresh,
            on_change=lambda: self.authenticator.forget(),
        )
        self.claims = Claims(own, auth.claims)
        self._sets: dict[str, _Held] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        self._tenants = Tenants(
            tenants_from_settings(settings.tenants),
            read_tenants if auth.tenants_table else None,
            refresh=auth.keys_refresh,
            on_change=lambda: self.authenticator.forget(),
        )
        self._failures = Failures(auth)
        self.authenticator = Authenticator(
            targets,
            registry,
            passwords,
            keys=self._keys,
            tokens=self._tokens(settings),
            logins=Logins(settings.logins),
            tenants=self._tenants,
            allowances=Allowances(settings.limits, settings.listen.workers),
            failures=self._failures,
            belief=auth.proof_lifetime,
            sets_any_role=auth.set_role == "any",
        )

    def start(self) -> None:
        """Begin to refresh what has to be."""
        self._keys.start()
        self._tenants.start()
        for held in self._sets.values():
            held.keys.renew()  # the first token need not wait for it

    def reconfigure(self, settings: Settings) -> None:
        """Go by these settings. The keys of an issuer that is as it was are used on, and fetched again behind that."""
        auth = settings.auth
        self._keys.reconfigure(records_from_settings(settings.keys), refresh=auth.keys_refresh)
        self._tenants.reconfigure(tenants_from_settings(settings.tenants), refresh=auth.keys_refresh)
        self.claims.reconfigure(auth.claims)
        self._failures.reconfigure(auth)
        before = self._sets.values()
        tokens = self._tokens(settings)
        for held in before:
            if held not in self._sets.values():
                stopping = asyncio.get_running_loop().create_task(held.keys.stop())
                self._stopping.add(stopping)
                stopping.add_done_callback(self._stopping.discard)
        for held in self._sets.values():
            held.keys.renew()
        self.authenticator.reconfigure(
            keys=self._keys,
            tokens=tokens,
            logins=Logins(settings.logins),
            tenants=self._tenants,
            allowances=Allowances(settings.limits, settings.listen.workers),
            belief=auth.proof_lifetime,
            sets_any_role=auth.set_role == "any",
        )

    async def stop(self) -> None:
        """Refresh no more."""
        await self._keys.stop()
        await self._tenants.stop()
        for held in self._sets.values():
            await held.keys.stop()

    # ── inside ──

    def _tokens(self, settings: Settings) -> Tokens:
        """The issuers of the settings, with the key sets that there are already where nothing about them changed."""
        auth = settings.auth
        before, self._sets = self._sets, {}
        for name, each in settings.issuers.items():
            if each.secret is None:
                made_from = (each.jwks_url, each.jwks_file, *(getattr(auth, setting) for setting in _OF_KEY_SETS))
                held = before.get(name)
                if held is None or held.made_from != made_from:
                    made = _Held(made_from, self._key_set(name, each, auth))
                    if held is not None and held.source == made.source:
                        made.keys.take_over(held.keys)
                    held = made
                self._sets[name] = held
        issuers = [
            _issuer(name, each, self._sets[name].keys if name in self._sets else None)
            for name, each in settings.issuers.items()
        ]
        return Tokens(issuers, leeway=auth.jwt_leeway)

    def _key_set(self, name: str, settings: IssuerSettings, auth: AuthSettings) -> KeySet:
        if settings.jwks_file is not None:
            fetch = read_file(settings.jwks_file)
        else:
            assert settings.jwks_url is not None  # the settings have made sure of one source
            fetch = fetch_url(settings.jwks_url, timeout=auth.jwks_timeout)
        return KeySet(
            name,
            fetch,
            timeout=auth.jwks_timeout,
            max_age=auth.jwks_max_age,
            pause=auth.jwks_pause,
            max_stale=auth.jwks_max_stale,
            on_change=lambda: self.authenticator.forget(),
        )


class _Held(NamedTuple):
    """An issuer's keys, and the settings that they depend on."""

    made_from: tuple[object, ...]
    keys: KeySet

    @property
    def source(self) -> tuple[object, ...]:
        """Where they are fetched from."""
        return self.made_from[:2]


_OF_KEY_SETS = ("jwks_timeout", "jwks_max_age", "jwks_pause", "jwks_max_stale")


def _issuer(name: str, settings: IssuerSettings, keys: KeySet | None) -> Issuer:
    return Issuer(
        name=name,
        keys=keys,
        roles=frozenset(settings.roles),
        target=settings.target,
        secret=settings.secret.get_secret_value().encode() if settings.secret is not None else b"",
        issuer=settings.issuer,
        audience=settings.audience,
        databases=frozenset(settings.databases),
        role_claim=settings.role_claim,
        database_claim=settings.database_claim,
        login=settings.login,
        algorithms=settings.algorithms,
        read_only=settings.read_only,
        statements=None if settings.statements is None else frozenset(map(bytes.fromhex, settings.statements)),
        allowance=allowance_of(settings),
    )
