"""The owners behind the authenticator, made from the settings."""

import pytest
from pydantic import SecretStr

from sqlhttp_gateway.auth import key_table
from sqlhttp_gateway.auth.api_keys import KeyRecord, hash_of, new_key
from sqlhttp_gateway.auth.build import Credentials
from sqlhttp_gateway.errors import CredentialsMissing
from sqlhttp_gateway.pools.passwords import Passwords
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.settings import AuthSettings, Settings
from tests.support.cluster import Database
from tests.support.own_lease import own_lease, running_registry


@pytest.mark.parametrize("keys_table", [True, False])
async def test_table_of_keys_is_read_only_where_that_is_set(database: Database, *, keys_table: bool) -> None:
    key = new_key()
    async with own_lease(database) as lease:
        await key_table.create(lease)
        await key_table.add(lease, KeyRecord(key.id, hash_of(key), "default", database.name, "postgres"))
    settings = Settings(database_url=SecretStr(database.url), auth=AuthSettings(keys_table=keys_table))
    async with running_registry() as registry:
        passwords = Passwords(settings.auth, registry)
        credentials = Credentials(settings, Targets(settings), registry, passwords)
        credentials.start()
        header = f"Bearer {key.text}".encode()
        if keys_table:
            caller = await credentials.authenticator.authenticate(None, b"", header)
            assert caller.database == database.name
        else:
            with pytest.raises(CredentialsMissing):
                await credentials.authenticator.authenticate(None, b"", header)
        await credentials.stop()
        passwords.close()
