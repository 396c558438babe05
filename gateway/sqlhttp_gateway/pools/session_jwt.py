"""What a connection needs for the extension pg_session_jwt: a key pair of its own, and tokens signed with it.

It is Neon's way. The public key goes along at start-up, where no caller can have a say, and `auth.init()` makes the
extension keep it before anybody's statement runs. From then on the extension believes what this connection's private
key has signed, once each: a token's `jti` has to be greater than the last one's. Which claims are signed for whom is
not known here.
"""

import base64
from typing import Any

import asyncpg
import orjson

KEY_PARAMETER = "pg_session_jwt.jwk"
_HEADER = base64.urlsafe_b64encode(b'{"alg":"EdDSA"}').rstrip(b"=")
# Believed only as a superuser's own, as of every trusted extension: whoever may create a schema could else have
# functions of these names, and what they do, run as each of the callers.
IS_INSTALLED = (
    "SELECT pg_catalog.count(*) = 2 FROM pg_catalog.pg_proc p"
    " JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace JOIN pg_catalog.pg_roles r ON r.oid = p.proowner"
    " WHERE n.nspname = 'auth' AND r.rolsuper"
    " AND p.oid IN (pg_catalog.to_regprocedure('auth.init()'),"
    " pg_catalog.to_regprocedure('auth.jwt_session_init(text)'))"
)
_MAY_USE = (
    f"{IS_INSTALLED} AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')"
    " AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE')"
)
_INIT = "SELECT auth.init()"


class SessionKey:
    """The key pair of one connection. `repr` shows nothing of it."""

    __slots__ = ("_key", "_signed", "jwk")

    def __init__(self, private: bytes | None = None) -> None:
        """A fresh one, or that of 32 `private` bytes."""
        # 7 MiB, which a worker without the extension behind it can do without.
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._key = Ed25519PrivateKey.generate() if private is None else Ed25519PrivateKey.from_private_bytes(private)
        self._signed = 0
        self.jwk = orjson.dumps(
            {"kty": "OKP", "crv": "Ed25519", "x": _encoded(self._key.public_key().public_bytes_raw()).decode()}
        ).decode()
        """The public key as JSON Web Key, the value of KEY_PARAMETER."""

    def token(self, claims: bytes) -> bytes:
        """The claims, a JSON object, as a token that is good once and on this connection alone."""
        self._signed += 1
        payload = orjson.loads(claims)
        payload["jti"] = self._signed
        signed = b"%b.%b" % (_HEADER, _encoded(orjson.dumps(payload)))
        return b"%b.%b" % (signed, _encoded(self._key.sign(signed)))

    async def begin(self, connection: Any) -> bool:
        """Let the extension keep the key, on a connection of asyncpg's; False where it is not to be had.

        Raises what asyncpg raises when the connection is lost.
        """
        try:
            if await connection.fetchval(_MAY_USE) is not True:
                return False
            await connection.execute(_INIT)
        except asyncpg.PostgresError:  # an old version, which wants another kind of key
            return False
        return True


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
