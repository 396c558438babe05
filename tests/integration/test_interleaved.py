"""Two users on a pool of four, by every way in at once: no row of the other is ever seen. A short form of it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from sqlhttp_gateway import cli
from tests.support.cluster import Cluster, Database
from tests.support.gateway import Gateway, free_port
from tests.support.interleaved import SCHEMA, Site, interleave, settings
from tests.support.issuer import Issuer
from tests.support.program import scratch_role


def test_two_users_by_every_way_in_at_once_never_see_each_other(
    start_gateway: Callable[..., Gateway], database: Database, postgres: Cluster, tmp_path: Path
) -> None:
    issuer, jwks, port = Issuer(), tmp_path / "jwks.json", free_port()
    issuer.rotate("one", "EdDSA")
    jwks.write_bytes(issuer.jwks())
    assert cli.main(["auth", "install", "--set", f"database_url={database.url}"]) == 0
    with (
        scratch_role(postgres) as role,
        scratch_role(postgres) as member,
        scratch_role(postgres, "NOINHERIT") as login,
    ):
        database.psql(SCHEMA.format(role=role, member=member, login=login))
        gateway = start_gateway(
            database_url=database.url,
            listen={"port": 0, "postgres": port},
            **settings(role, member, login, jwks),
        )
        door = Database("127.0.0.1", port, database.name)
        counts = asyncio.run(interleave(Site(gateway, door, database.name, role, member, issuer), 2_000))
        assert min(counts[way] for way in ("request", "batch", "websocket", "tcp", "websocket, listed")) > 50, counts
        database.psql(f"DROP OWNED BY {role}, {member}, {login}")
