"""What the settings say of keys and tokens, as the owners that answer for them, started and stopped together."""

from sqlhttp_gateway.auth import key_table
from sqlhttp_gateway.auth.api_keys import ApiKeys, KeyRecord, records_from_settings
from sqlhttp_gateway.auth.authenticate import Authenticator
from sqlhttp_gateway.auth.own_access import Logins, OwnAccess
from sqlhttp_gateway.pools.passwords import Passwords
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.settings import Settings


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
        self.authenticator = Authenticator(
            targets, registry, passwords, keys=self._keys, logins=Logins(settings.logins), belief=auth.proof_lifetime
        )

    def start(self) -> None:
        """Begin to refresh what has to be."""
        self._keys.start()

    async def stop(self) -> None:
        """Refresh no more."""
        await self._keys.stop()
