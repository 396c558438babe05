"""Callers who show an API key or a token in a password's place: their roles, what is theirs in the database, settings.

The key is for `keyed`, which may write as `app` may, and may not see `shape`. Tokens are for `member`, who sees the
notes of whoever the token names and nobody else's.
"""

import json
import time
from collections.abc import Mapping

import jwt

from sqlhttp_gateway.auth.api_keys import hash_of, new_key

KEY = new_key()
NAMES = ("ann", "bob")
"""Whom tokens name."""
ROLES = ("app", "keyed", "member")
"""All roles that callers have, the one with a password first."""
NOTES = 3
"""How many each of `NAMES` has."""
_SECRET = "canary-4f1c-by-which-tokens-are-signed"
_PASSWORD = "canary-4f1c-of-the-gateway"

PASSWORDS = dict.fromkeys(("keyed", "member"), _PASSWORD)
"""Those by which the gateway logs in for them."""

SCHEMA = f"""
CREATE ROLE keyed LOGIN PASSWORD '{_PASSWORD}';
CREATE ROLE member LOGIN PASSWORD '{_PASSWORD}';
GRANT SELECT, INSERT ON written TO keyed;
CREATE TABLE notes (owner text NOT NULL);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes USING (owner = (SELECT auth.user_id()));
INSERT INTO notes SELECT who FROM unnest('{{{",".join(NAMES)}}}'::text[]) AS who, generate_series(1, {NOTES});
GRANT SELECT ON notes TO member;
"""
"""Needs what `sqlhttp auth install` makes, and the table `written`."""


def environment(database: str) -> Mapping[str, str]:
    """The gateway's settings for them."""
    key = {"hash": hash_of(KEY), "database": database, "role": "keyed"}
    logins = {name: {"role": name, "password": password} for name, password in PASSWORDS.items()}
    return {
        "SQLHTTP_KEYS": json.dumps({KEY.id: key}),
        "SQLHTTP_ISSUERS": json.dumps({"own": {"secret": _SECRET, "roles": ["member"]}}),
        "SQLHTTP_LOGINS": json.dumps(logins),
    }


def token(name: str) -> str:
    """A token for one of `NAMES`, good for an hour."""
    return jwt.encode({"sub": name, "exp": int(time.time()) + 3600}, _SECRET, algorithm="HS256")
