"""The table `sqlhttp.api_keys`: its definition, reading it, adding to it, revoking in it.

It holds hashes, never a key. It is believed only when it belongs to the gateway's own role, or to a superuser.
"""

import re

import orjson

from sqlhttp_gateway.auth.allowances import limits_as_json, limits_from_json
from sqlhttp_gateway.auth.api_keys import KeyRecord
from sqlhttp_gateway.auth.own_table import has_changed, make, read_all
from sqlhttp_gateway.pools.ask import ask
from sqlhttp_gateway.pools.lease import Lease

TABLE = "api_keys"
CREATE = (
    "CREATE SCHEMA IF NOT EXISTS sqlhttp",
    "CREATE TABLE IF NOT EXISTS sqlhttp.api_keys ("
    "id text PRIMARY KEY, hash text NOT NULL, name text NOT NULL DEFAULT '', target text NOT NULL DEFAULT 'default',"
    " database text NOT NULL, role text NOT NULL, expires_at timestamptz, origins text[] NOT NULL DEFAULT '{}',"
    " addresses text[] NOT NULL DEFAULT '{}', read_only boolean NOT NULL DEFAULT false, statements text[],"
    " created_at timestamptz NOT NULL DEFAULT pg_catalog.now(), revoked_at timestamptz)",
    "ALTER TABLE sqlhttp.api_keys ADD COLUMN IF NOT EXISTS login text",
    "ALTER TABLE sqlhttp.api_keys ADD COLUMN IF NOT EXISTS limits json",
    "REVOKE ALL ON sqlhttp.api_keys FROM PUBLIC",
)
_COLUMNS = (
    "SELECT pg_catalog.json_build_object('id', id, 'hash', hash, 'name', name, 'target', target,"
    " 'database', database, 'role', role, 'login', pg_catalog.to_jsonb(k)->>'login',"  # which an older table lacks
    " 'limits', pg_catalog.to_jsonb(k)->'limits',"  # as that
    " 'expires_at', extract(epoch FROM expires_at)::float8, 'origins', origins,"
    " 'addresses', addresses, 'read_only', read_only, 'statements', statements,"
    " 'is_revoked', revoked_at IS NOT NULL) FROM sqlhttp.api_keys k"
)
_PAGE = 500  # rows, of some 400 bytes with every column in use, and 67 more for each statement that is listed
_VALID = f"{_COLUMNS} WHERE revoked_at IS NULL AND id > $1 ORDER BY id LIMIT {_PAGE}"
_ALL = f"{_COLUMNS} WHERE id > $1 ORDER BY id LIMIT {_PAGE}"
_INSERT = (
    "INSERT INTO sqlhttp.api_keys (id, hash, name, target, database, role, expires_at, origins, addresses, read_only,"
    " statements, login, limits) VALUES ($1, $2, $3, $4, $5, $6, pg_catalog.to_timestamp($7::float8),"
    " ARRAY(SELECT pg_catalog.json_array_elements_text($8::json)),"
    " ARRAY(SELECT pg_catalog.json_array_elements_text($9::json)), $10::boolean,"
    " CASE WHEN $11::json IS NOT NULL THEN ARRAY(SELECT pg_catalog.json_array_elements_text($11::json)) END, $12,"
    " $13::json)"
)
_DIGEST = re.compile("[0-9a-f]{64}")
_NEVER = 253_402_300_800.0
"""The year 10000, in Unix time. A key that is valid for longer, such as until infinity, has no end."""
_NOWHERE = "-"
"""Neither an origin nor an address: where an entry is none, the key must not be good from everywhere."""
_REVOKE = "UPDATE sqlhttp.api_keys SET revoked_at = pg_catalog.now() WHERE id = $1 AND revoked_at IS NULL RETURNING id"


async def create(lease: Lease) -> None:
    """Make the table where it is missing.

    Raises:
        TargetMisconfigured: there is one that somebody else made.
        GatewayError: the role may not.
    """
    await make(lease, TABLE, CREATE)


async def read(lease: Lease, *, revoked: bool = False) -> list[tuple[KeyRecord, bool]]:
    """The keys, each with whether it is revoked; those only if `revoked`. None where there is no table.

    Raises:
        GatewayError: it cannot be read.
    """
    page = _ALL if revoked else _VALID
    return await read_all(lease, TABLE, page, rows=_PAGE, record=_record, name=lambda kept: kept[0].id)


async def add(lease: Lease, record: KeyRecord) -> None:
    """Keep one more key.

    Raises:
        GatewayError: it cannot be written.
    """
    await ask(
        lease,
        _INSERT,
        (
            record.id.encode(),
            record.hash.encode(),
            record.name.encode(),
            record.target.encode(),
            record.database.encode(),
            record.role.encode(),
            None if record.expires_at is None else repr(record.expires_at).encode(),
            orjson.dumps(record.origins),
            orjson.dumps(record.addresses),
            b"true" if record.read_only else b"false",
            None if record.statements is None else orjson.dumps(sorted(each.hex() for each in record.statements)),
            None if record.login is None else record.login.encode(),
            limits_as_json(record.allowance),
        ),
    )


async def revoke(lease: Lease, key_id: str) -> bool:
    """Let a key be valid no longer; False when no valid key has this id.

    Raises:
        GatewayError: it cannot be written.
    """
    return await has_changed(lease, _REVOKE, (key_id.encode(),))


def _record(text: bytes) -> tuple[KeyRecord, bool]:
    row = orjson.loads(text)
    is_revoked = row.pop("is_revoked")
    for name in ("origins", "addresses"):
        row[name] = tuple(each if isinstance(each, str) else _NOWHERE for each in row[name])
    if row["expires_at"] is not None:
        seconds = float(row["expires_at"])  # JSON has no number for infinity, which comes as a text
        row["expires_at"] = max(0.0, seconds) if seconds < _NEVER else None
    row["allowance"] = limits_from_json(row.pop("limits"))
    if row["statements"] is not None:
        # What is no digest permits nothing; a whole table must not be unreadable for one such entry.
        row["statements"] = frozenset(
            bytes.fromhex(each) for each in row["statements"] if isinstance(each, str) and _DIGEST.fullmatch(each)
        )
    return KeyRecord(**row), is_revoked
