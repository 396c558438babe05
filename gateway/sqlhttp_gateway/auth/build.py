"""What the settings say of keys and tokens, as the owners that answer for them, started and stopped together."""

from sqlhttp_gateway.auth import key_table
from sqlhttp_gateway.auth.api_keys import ApiKeys, KeyRecord, records_from_settings
from sqlhttp_gateway.auth.authenticate import Authenticator
from sqlhttp_gateway.auth.claims import Claims
from sqlhttp_gateway.auth.jwks import KeySet, fetch_url, read_file
from sqlhttp_gateway.auth.jwt import Issuer, Tokens
from sqlhttp_gateway.auth.own_access import Logins, OwnAccess
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

        auth = settings.auth
        self._keys = ApiKeys(
            records_from_settings(settings.keys),
            read_keys if auth.keys_table else None,
            refresh=auth.keys_refresh,
            on_change=lambda: self.authenticator.forget(),
        )
        self.claims = Claims(own, auth.claims)
        self._sets: list[KeySet] = []
        issuers = [self._issuer(name, each, auth) for name, each in settings.issuers.items()]
        self.authenticator = Authenticator(
            targets,
            registry,
            passwords,
            keys=self._keys,
            tokens=Tokens(issuers, leeway=auth.jwt_leeway),
            logins=Logins(settings.logins),
            belief=auth.proof_lifetime,
            sets_any_role=auth.set_role == "any",
        )

    def start(self) -> None:
        """Begin to refresh what has to be."""
        self._keys.start()

    async def stop(self) -> None:
        """Refresh no more."""
        await self._keys.stop()
        for each in self._sets:
            await each.stop()

    def _issuer(self, name: str, settings: IssuerSettings, auth: AuthSettings) -> Issuer:
        keys = None
        if settings.secret is None:
            if settings.jwks_file is not None:
                fetch = read_file(settings.jwks_file)
            else:
                assert settings.jwks_url is not None  # the settings have made sure of one source
                fetch = fetch_url(settings.jwks_url, timeout=auth.jwks_timeout)
            keys = KeySet(
                name,
                fetch,
                timeout=auth.jwks_timeout,
                max_age=auth.jwks_max_age,
                pause=auth.jwks_pause,
                max_stale=auth.jwks_max_stale,
                on_change=lambda: self.authenticator.forget(),
            )
            self._sets.append(keys)
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
            login=settings.login,
            algorithms=settings.algorithms,
            read_only=settings.read_only,
            statements=None if settings.statements is None else frozenset(map(bytes.fromhex, settings.statements)),
        )
