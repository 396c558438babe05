"""Which claims go in front of a request's statements, and with whose secret they are signed in which database."""

import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import orjson

from sqlhttp_gateway.auth import rls
from sqlhttp_gateway.auth.grant import Grant
from sqlhttp_gateway.auth.own_access import OwnAccess
from sqlhttp_gateway.auth.own_table import foreign
from sqlhttp_gateway.errors import ClaimsFailed, TargetMisconfigured
from sqlhttp_gateway.model import Prologue, Statement
from sqlhttp_gateway.pools.ask import ask
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.pools.session_jwt import IS_INSTALLED, SessionKey

Choice = Literal["auto", "signed", "plain", "off"]
MakePrologue = Callable[[Backend], Prologue | None]
"""From the backend that was leased to what runs in front."""

LOOK_AGAIN = 60.0
"""Seconds after which a database is asked again whether the functions are installed."""
_READ_ONLY = Prologue((Statement("SELECT"),), read_only=True)
_SESSION_JWT = "SELECT auth.jwt_session_init($1)"


def read_only(prologue: Prologue | None) -> Prologue:
    """The same in front of a transaction that is READ ONLY and stays so."""
    if prologue is None:
        return _READ_ONLY
    return Prologue((*prologue.statements, *_READ_ONLY.statements), read_only=True)


@dataclass(frozen=True, slots=True)
class _Means:
    """By what a database can be told claims that its callers cannot forge."""

    secret: bytes | None
    """None: our functions are not installed there."""
    has_session_jwt: bool
    """pg_session_jwt is, and goes first."""
    until: float

    def __repr__(self) -> str:
        return "_Means()"


_NO_MEANS = _Means(None, has_session_jwt=False, until=math.inf)


class Claims:
    """Makes prologues. Knows the secrets of the databases, read over the gateway's own role."""

    def __init__(self, own: OwnAccess, choice: Choice, *, clock: Callable[[], float] = time.time) -> None:
        self._own = own
        self._choice = choice
        self._clock = clock
        self._known: dict[tuple[str, str], _Means] = {}

    def reconfigure(self, choice: Choice) -> None:
        """Another choice, from the next request on. A target may lead to another server by now: each is asked again."""
        self._choice = choice
        self._known = {}

    async def ready(self, grant: Grant, pool: Pool) -> MakePrologue:
        """How to make the prologue of a caller of this pool, once its backend is known. That may raise ClaimsFailed.

        Raises:
            ClaimsFailed: the claims have to be signed and cannot be.
            GatewayError: the database could not be asked.
        """
        claims = grant.claims if self._choice != "off" else None
        # A caller that cannot send SQL of its own cannot forge a setting either.
        is_plain = self._choice == "plain" or grant.statements is not None
        means = _NO_MEANS if claims is None else await self._means(pool, is_plain=is_plain)
        unchanging: list[Statement] = []
        if is_plain and claims is not None:
            unchanging.append(rls.plain_claims(claims))
        if grant.set_role is not None:
            if is_plain and grant.claims is None:  # as PostgREST has it for whoever shows no token
                unchanging.append(rls.plain_claims(orjson.dumps({"role": grant.set_role})))
            unchanging.append(rls.local_role(grant.set_role))
        if claims is None or means is _NO_MEANS:
            prologue = Prologue(tuple(unchanging), read_only=grant.read_only) if unchanging else None
            if prologue is None and grant.read_only:
                prologue = _READ_ONLY
            return lambda backend: prologue

        def make(backend: Backend) -> Prologue:
            if means.has_session_jwt:
                signed = Statement(_SESSION_JWT, (_session_key(backend).token(claims),))
            else:
                assert means.secret is not None
                signed = rls.signed_claims(claims, secret=means.secret, pid=backend.pid, now=self._clock())
            return Prologue((signed, *unchanging), read_only=grant.read_only)

        return make

    def forget(self, pool: Pool) -> None:
        """The database did not take what was signed: its secret may be another by now."""
        self._known.pop((pool.key.target, pool.key.database), None)

    async def _means(self, pool: Pool, *, is_plain: bool) -> _Means:
        place, remembered = (pool.key.target, pool.key.database), self._known
        known = remembered.get(place)
        if known is None or self._clock() >= known.until:
            if pool.upstream.is_pooler:
                if is_plain and self._choice != "signed":
                    return _NO_MEANS
                raise ClaimsFailed(
                    "claims are signed for one backend, which a transaction pooler in between does not let us know",
                    hint="Let the target's connection string lead to Postgres itself.",
                )
            async with self._own.lease(pool.upstream, database=pool.key.database) as lease:
                has_session_jwt = pool.upstream.session_jwt and await ask(lease, IS_INSTALLED) == [(b"t",)]
                secret = None if has_session_jwt else await secret_of(lease)
            known = _Means(secret, has_session_jwt=has_session_jwt, until=self._clock() + LOOK_AGAIN)
            remembered[place] = known  # what was asked before the settings were read again is for nobody behind that
        if known.has_session_jwt or known.secret is not None:
            return known
        if self._choice == "signed":
            raise ClaimsFailed(
                f"the functions for signed claims are not installed in database {pool.key.database}",
                hint="Run sqlhttp auth install, or CREATE EXTENSION pg_session_jwt.",
            )
        return _NO_MEANS


def _session_key(backend: Backend) -> SessionKey:
    """The key of a connection that was opened with one.

    Raises:
        ClaimsFailed: pg_session_jwt was installed later than that, or this role may not use it.
    """
    if backend.session_key is None:
        backend.expires_at = 0.0  # another one may have it; this one is closed when it comes back
        raise ClaimsFailed(
            "pg_session_jwt has not taken this connection's key",
            hint="The role needs USAGE on schema auth, and the extension version 0.3 or newer. Try again.",
        )
    return backend.session_key


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
    return rls.secret_from_pad(bytes.fromhex(rows[0][0].decode()))


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
    names = await foreign(lease, rls.FOREIGN)
    if names:
        raise TargetMisconfigured(
            f"not the gateway's, and in the place of its functions for claims: {names}",
            hint="It belongs to another role or package; move it away or use another database.",
        )
