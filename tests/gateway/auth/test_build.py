"""The owners behind the authenticator, made from the settings."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from sqlhttp_gateway.auth import key_table
from sqlhttp_gateway.auth.api_keys import KeyRecord, hash_of, new_key
from sqlhttp_gateway.auth.build import Credentials
from sqlhttp_gateway.errors import CredentialsMissing
from sqlhttp_gateway.model import Dsn
from sqlhttp_gateway.pools.passwords import Passwords
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.settings import AuthSettings, IssuerSettings, LoginSettings, Settings
from tests.support.cluster import Database
from tests.support.issuer import Issuer
from tests.support.own_lease import own_lease, running_registry


async def test_reload_of_how_keys_are_fetched_keeps_those_of_an_issuer_that_is_away(tmp_path: Path) -> None:
    """Who raises jwks_timeout may do so because of that."""
    signer, file = Issuer(), tmp_path / "jwks.json"
    signer.rotate("one")
    file.write_bytes(signer.jwks())
    dsn = Dsn("host", None, "main", "web", None)
    header = f"Bearer {signer.token('one', {'sub': 'ann'})}".encode()

    def settings(**auth: float) -> Settings:
        return Settings(
            database_url=SecretStr("postgres://own:secret@127.0.0.1:1/main"),
            issuers={"mine": IssuerSettings(jwks_file=file, roles=("web",))},
            logins={"web": LoginSettings(role="web", password=SecretStr("secret"))},
            auth=AuthSettings(**auth),
        )

    async with running_registry() as registry:
        passwords = Passwords(settings().auth, registry)
        credentials = Credentials(settings(), Targets(settings()), registry, passwords)
        assert (await credentials.authenticator.authenticate(dsn, b"", header)).role == "web"
        file.unlink()
        credentials.reconfigure(settings(jwks_timeout=30.0))
        assert (await credentials.authenticator.authenticate(dsn, b"", header)).role == "web"
        await credentials.stop()
        passwords.close()


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
