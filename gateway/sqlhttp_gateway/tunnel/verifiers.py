"""SCRAM verifiers for the roles whose passwords the gateway holds, so that a program need not send one in clear text.

A proof by SCRAM does not reveal the password, and opening connections takes one. So only for these roles can it be
asked; of every other role, and of keys and tokens, the password itself is needed.
"""

import asyncio
import secrets
from typing import NamedTuple

from sqlhttp_gateway.auth.authenticate import Authenticator
from sqlhttp_gateway.model import Dsn
from sqlhttp_gateway.wire.scram import Verifier, make_verifier

SALT_BYTES = 16
_NONCE_BYTES = 18


class Held(NamedTuple):
    """What a role has to prove, and the password that it then has. `repr` shows neither."""

    verifier: Verifier
    password: bytes

    def __repr__(self) -> str:
        return "Held()"


class Verifiers:
    """Made when first asked for, and kept: making one takes milliseconds."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._known: dict[tuple[str, bytes], Held] = {}
        """By role and password, of which there are as many as logins: a host is whatever a stranger says."""

    async def find(self, dsn: Dsn, *, peer: str) -> Held | None:
        """What the role of `dsn` has to prove; None for a role whose password the gateway does not hold.

        Raises:
            GatewayError: `dsn` leads nowhere, or too many from `peer` were wrong about this role.
        """
        password = await self._authenticator.held_password(dsn, peer=peer)
        if password is None:
            return None
        known = self._known.get((dsn.role, password))
        if known is not None:
            return known
        salt = secrets.token_bytes(SALT_BYTES)
        verifier = await asyncio.to_thread(make_verifier, password, salt=salt)
        return self._known.setdefault((dsn.role, password), Held(verifier, password))

    async def failed(self, dsn: Dsn, *, peer: str) -> None:
        """It was not proven, which counts as a wrong password does."""
        await self._authenticator.was_wrong(dsn, peer=peer)


def new_nonce() -> str:
    """The server's part of a SCRAM nonce: random, printable, without a comma."""
    return secrets.token_urlsafe(_NONCE_BYTES)
