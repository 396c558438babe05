"""What a key or a token means for the tunnel of the program that showed it: its bounds, and for how long it holds.

`wire.fence` keeps the bounds; here is what it is given. The tunnel of a role's own password has none of this.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from sqlhttp_gateway.auth.allowed import check_listed
from sqlhttp_gateway.auth.caller import Caller
from sqlhttp_gateway.auth.claims import Claims
from sqlhttp_gateway.auth.grant import Grant
from sqlhttp_gateway.errors import (
    ClaimsFailed,
    GatewayError,
    PasswordFailed,
    ScopeRefused,
    StatementRefused,
    TargetMisconfigured,
)
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.wire.fence import Check, MakePrologue

LEAST = 0.5
"""Seconds between two looks at credentials that are about to end."""
_HARMLESS = frozenset(
    {
        "application_name",
        "bytea_output",
        "client_encoding",
        "client_min_messages",
        "datestyle",
        "extra_float_digits",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "intervalstyle",
        "lock_timeout",
        "statement_timeout",
        "timezone",
    }
)
"""Parameters that change how a result looks or how long it may take, and not whose or which it is."""


class Granted:
    """The grant of one tunnel."""

    def __init__(self, caller: Caller, grant: Grant, *, claims: Claims, renew: Callable[[], Awaitable[Caller]]) -> None:
        """`renew` looks at the credentials again, and raises what is wrong with them by now."""
        self._caller = caller
        self._claims = claims
        self._renew = renew
        self._changed = asyncio.Event()
        self.grant = grant

    @property
    def is_fenced(self) -> bool:
        """Whether anything of the program's has to be kept within bounds."""
        return self.grant.needs_prologue or self.grant.statements is not None

    def refusal(self, parameters: Iterable[str]) -> GatewayError | None:
        """Why these settings may not be in the start-up message: one could change what a listed statement means."""
        if self.grant.statements is None and self.grant.set_role is None:
            return None
        for name in parameters:
            if name.lower() not in _HARMLESS:
                return ScopeRefused(
                    f'the parameter "{name}" may not be set with credentials for listed statements',
                    hint=f"Possible are {', '.join(sorted(_HARMLESS))}.",
                )
        return None

    @property
    def check(self) -> Check | None:
        """What lets a statement's text pass; None where all may."""
        return self._check if self.grant.statements is not None else None

    async def ready(self, pool: Pool) -> Callable[[Backend], MakePrologue]:
        """How to make what transactions begin with, once there is a backend of this pool.

        Raises:
            ClaimsFailed: the claims have to be signed and cannot be.
            GatewayError: the database could not be asked.
        """
        make = await self._claims.ready(self.grant, pool)
        return lambda backend: partial(make, backend)

    def explained(self, error: GatewayError, pool: Pool) -> GatewayError:
        """What an error means for a program that has shown no password; of claims, look again what they take."""
        if isinstance(error, ClaimsFailed):
            self._claims.forget(pool)
        if isinstance(error, PasswordFailed):
            return TargetMisconfigured(
                f'Postgres refuses the password that the gateway holds for role "{pool.key.role}"',
                hint="Correct it under logins in the gateway's settings.",
            )
        return error

    def look_again(self) -> None:
        """Something may have become of the credentials."""
        self._changed.set()

    async def watch(self) -> GatewayError:
        """Return when the credentials are not good any more, or not for the same: why."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(max(LEAST, self._caller.proven_until - loop.time())):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            try:
                self._caller = await self._renew()
            except GatewayError as error:
                return error
            if self._caller.grant != self.grant:
                return ScopeRefused("the bounds of the credentials have changed", hint="Connect again.")

    def _check(self, text: bytes) -> None:
        try:
            check_listed(self.grant, text.decode())
        except UnicodeDecodeError:
            raise StatementRefused("the statement is not in UTF-8") from None
