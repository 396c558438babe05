"""Which claims go in front of a request's statements, and with whose secret they are signed in which database."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sqlhttp_gateway.auth import rls
from sqlhttp_gateway.auth.grant import Grant
from sqlhttp_gateway.auth.own_access import OwnAccess
from sqlhttp_gateway.errors import ClaimsFailed, TargetMisconfigured
from sqlhttp_gateway.model import Prologue, Statement
from sqlhttp_gateway.pools.ask import ask
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.pool import Pool

Choice = Literal["auto", "signed", "plain", "off"]
MakePrologue = Callable[[int], Prologue | None]
"""From the backend's process id to what runs in front."""

LOOK_AGAIN = 60.0
"""Seconds after which a database is asked again whether the functions are installed."""
_READ_ONLY = Prologue((Statement("SELECT"),), read_only=True)


@dataclass(frozen=True, slots=True)
class _Known:
    secret: bytes | None
    """None: the functions are not installed there."""
    until: float

    def __repr__(self) -> str:
        return "_Known()"


class Claims:
    """Makes prologues. Knows the secrets of the databases, read over the gateway's own role."""

    def __init__(self, own: OwnAccess, choice: Choice, *, clock: Callable[[], float] = time.time) -> None:
        self._own = own
        self._choice = choice
        self._clock = clock
        self._known: dict[tuple[str, str], _Known] = {}

    async def ready(self, grant: Grant, pool: Pool) -> MakePrologue:
        """How to make the prologue of a caller of this pool, once its backend is known.

        Raises:
            ClaimsFailed: the claims have to be signed and cannot be.
            GatewayError: the database could not be asked.
        """
        claims = grant.claims
        if claims is None or self._choice == "off":
            unchanging = _READ_ONLY if grant.read_only else None
            return lambda pid: unchanging
        secret = await self._secret(pool)
        if secret is None and self._choice == "signed":
            raise ClaimsFailed(
                f"the functions for signed claims are not installed in database {pool.key.database}",
                hint="Run sqlhttp auth install.",
            )
        # A caller that cannot send SQL of its own cannot forge a setting either.
        is_plain = self._choice == "plain" or grant.statements is not None

        def make(pid: int) -> Prologue | None:
            statements = []
            if secret is not None:
                statements.append(rls.signed_claims(claims, secret=secret, pid=pid, now=self._clock()))
            if is_plain:
                statements.append(rls.plain_claims(claims))
            if statements:
                return Prologue(tuple(statements), read_only=grant.read_only)
            return _READ_ONLY if grant.read_only else None

        return make

    def forget(self, pool: Pool) -> None:
        """The database did not take what was signed: its secret may be another by now."""
        self._known.pop((pool.key.target, pool.key.database), None)

    async def _secret(self, pool: Pool) -> bytes | None:
        place = (pool.key.target, pool.key.database)
        known = self._known.get(place)
        if known is None or self._clock() >= known.until:
            if pool.upstream.is_pooler:
                raise ClaimsFailed(
                    "claims are signed for one backend, which a transaction pooler in between does not let us know",
                    hint="Let the target's connection string lead to Postgres itself.",
                )
            async with self._own.lease(pool.upstream, database=pool.key.database) as lease:
                known = _Known(await secret_of(lease), self._clock() + LOOK_AGAIN)
            self._known[place] = known
        return known.secret


async def secret_of(lease: Lease) -> bytes | None:
    """The secret of the database; None where the functions are not installed.

    Raises:
        TargetMisconfigured: something of somebody else stands in their place.
    """
    if await ask(lease, rls.IS_INSTALLED) != [(b"t",)]:
        return None
    await _refuse_foreign(lease)
    rows = await ask(lease, rls.READ_SECRET)
    if not rows or rows[0][0] is None:
        return None
    return rls.secret_from_pad(bytes.fromhex(rows[0][0].decode().removeprefix("\\x")))


async def install(lease: Lease, *, new_secret: bool = False) -> None:
    """Install the functions, or bring them up to date; `new_secret` makes what the old one signed worthless.

    Raises:
        TargetMisconfigured: something of somebody else stands in their place.
        GatewayError: the role may not.
    """
    await _refuse_foreign(lease)
    for statement in rls.INSTALL:
        await ask(lease, statement)
    await _refuse_foreign(lease)
    inner, outer = (pad.hex().encode() for pad in rls.pads(secrets.token_bytes(rls.SECRET_BYTES)))
    await ask(lease, rls.KEEP_SECRET, (inner, outer))
    if new_secret:
        await ask(lease, rls.REPLACE_SECRET, (inner, outer))


async def _refuse_foreign(lease: Lease) -> None:
    foreign = await ask(lease, rls.FOREIGN)
    if foreign:
        names = ", ".join(row[0].decode() for row in foreign if row[0] is not None)
        raise TargetMisconfigured(
            f"not the gateway's, and in the place of its functions for claims: {names}",
            hint="It belongs to another role or package; move it away or use another database.",
        )
