"""`sqlhttp cache watch TABLE` and `unwatch`: a trigger that tells every gateway of the writes that went past it."""

import argparse

from sqlhttp_gateway.auth.one_command import lease_for, run
from sqlhttp_gateway.errors import PostgresError
from sqlhttp_gateway.pools.ask import ask
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.settings import Settings

_INSTALL = (
    "CREATE SCHEMA IF NOT EXISTS sqlhttp",
    "GRANT USAGE ON SCHEMA sqlhttp TO PUBLIC",
    """CREATE OR REPLACE FUNCTION sqlhttp.cache_changed() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify('sqlhttp_invalidate', 'relation ' || TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME);
    RETURN NULL;
END $$""",
)
_NAMES = """WITH RECURSIVE whole(oid) AS (SELECT $1::pg_catalog.regclass::pg_catalog.oid
UNION SELECT i.inhrelid FROM whole JOIN pg_catalog.pg_inherits i ON i.inhparent = whole.oid)
SELECT oid::pg_catalog.regclass::pg_catalog.text FROM whole ORDER BY oid <> $1::pg_catalog.regclass"""
"""The table and its partitions: what is written to one of these by its own name runs no trigger of the whole."""
_DROP = "DROP TRIGGER IF EXISTS sqlhttp_cache ON {}"
_ENABLE = "ALTER TABLE {} ENABLE TRIGGER sqlhttp_cache"
_DUPLICATE_OBJECT = "42710"
_CREATE = (
    "CREATE TRIGGER sqlhttp_cache AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {}"
    " FOR EACH STATEMENT EXECUTE FUNCTION sqlhttp.cache_changed()"
)


def cache(settings: Settings, arguments: argparse.Namespace) -> int:
    """Watch a table, or do so no more; 0.

    Raises:
        ConfigurationError: there is no such target or table, or Postgres refuses.
    """
    name = run(_watch(settings, arguments))
    if arguments.action == "watch":
        print(f"Every gateway that listens ends its answers that read {name} when it is written.")
    else:
        print(f"{name} is watched no more.")
    return 0


async def _watch(settings: Settings, arguments: argparse.Namespace) -> str:
    async with lease_for(settings, arguments.target, database=arguments.database) as lease:
        rows = await ask(lease, _NAMES, (arguments.table.encode(),))
        names = [name.decode() for (name,) in rows if name is not None]  # as Postgres itself quotes them
        for statement in _INSTALL if arguments.action == "watch" else ():
            await ask(lease, statement)
        for name in names:
            await (_begin(lease, name) if arguments.action == "watch" else ask(lease, _DROP.format(name)))
        return names[0]


async def _begin(lease: Lease, name: str) -> None:
    """Never without the trigger that is there: behind a DROP the CREATE may wait for a lock, and not get it."""
    try:
        await ask(lease, _CREATE.format(name))
    except PostgresError as error:
        if error.code != _DUPLICATE_OBJECT:
            raise
        await ask(lease, _ENABLE.format(name))
