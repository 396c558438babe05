"""A program's way in: start-up, password, and who that is. What follows is the work of `traffic`."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import NamedTuple

from sqlhttp_gateway.auth.authenticate import Authenticator
from sqlhttp_gateway.auth.caller import Caller
from sqlhttp_gateway.auth.credentials import MAX_LENGTH
from sqlhttp_gateway.errors import BadRequest, CredentialsMissing, GatewayError, PasswordFailed
from sqlhttp_gateway.model import Dsn
from sqlhttp_gateway.tunnel.stream import Stream, StreamMisused
from sqlhttp_gateway.tunnel.verifiers import Held, Verifiers, new_nonce
from sqlhttp_gateway.wire.handshake import CancelRequest, Handshake, Password, Proven, Refused, StartTls, Terminated
from sqlhttp_gateway.wire.startup import Startup

_UNENCRYPTED = CredentialsMissing(
    "a password is taken only where it is encrypted",
    hint="Connect with sslmode=require or stronger.",
)


class Address(NamedTuple):
    """Which server a program wants, by any of the names it has in the settings."""

    host: str
    port: int | None = None


class LoggedIn(NamedTuple):
    """A program that may go on."""

    caller: Caller
    startup: Startup
    password: bytes
    """To open connections with."""
    greeting: bytes
    """AuthenticationOk; to be sent together with what the backend reports."""
    rest: bytes
    """What the program sent behind its password."""
    renew: Callable[[], Awaitable[Caller]]
    """Looks at what the program has shown once more."""


class Login:
    """Leads one program through the handshake."""

    def __init__(
        self,
        stream: Stream,
        authenticator: Authenticator,
        cancel: Callable[[int, bytes], None],
        *,
        stands_for: Mapping[str, str] | None = None,
        admit: Callable[[str], None] = lambda peer: None,
        verifiers: Verifiers | None = None,
    ) -> None:
        """`cancel` is told of a CancelRequest's process id and secret. `stands_for` names the real database for the
        console, which is none: a password has to be proven in one. `admit` raises PlaceRefused for an address that may
        not come in. Roles that have one of the `verifiers` are asked for a proof in place of their password.
        """
        self._stream = stream
        self._authenticator = authenticator
        self._cancel = cancel
        self._admit = admit
        self._verifiers = verifiers
        self._stands_for = stands_for or {}
        self._handshake = Handshake(offers_tls=stream.offers_tls, max_password=MAX_LENGTH)
        self.error: GatewayError | None = None
        """Why the program was refused, if it was."""

    async def run(self, timeout: float, *, address: Address) -> LoggedIn | None:
        """The program, or None when it is not to go on; what there was to say to it was said.

        `timeout` bounds the whole of it, in seconds; `address` chooses the target.

        Raises:
            StreamClosed: the program has gone.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._talk(address)
        except TimeoutError:
            await self._refuse(BadRequest(f"start-up was not complete within {timeout:g} s"))
        except StreamMisused as error:
            await self._refuse(BadRequest(str(error)))
        return None

    async def _talk(self, address: Address) -> LoggedIn | None:
        handshake = self._handshake
        startup: Startup | None = None
        held: Held | None = None
        while True:
            event = handshake.next_event()
            match event:
                case None:
                    await self._flush()
                    handshake.receive(await self._stream.receive())
                    if held is not None and startup is not None and (error := await self._barred(startup, address)):
                        await self._refuse(error)
                        return None
                case StartTls():
                    await self._flush()
                    await self._stream.start_tls()
                    handshake.tls_started()
                case CancelRequest():
                    self._cancel(event.process_id, event.secret)
                    return None
                case Startup():
                    startup = event
                    try:
                        self._admit(self._stream.peer)
                        if self._verifiers is not None:
                            dsn = self._dsn(startup, None, address)
                            held = await self._verifiers.find(dsn, peer=self._stream.peer)
                    except GatewayError as error:
                        await self._refuse(error)
                        return None
                    if held is not None:
                        handshake.ask_scram(held.verifier, new_nonce())
                    elif not self._stream.is_secure:
                        await self._refuse(_UNENCRYPTED)
                        return None
                    else:
                        handshake.ask_password()
                case Password():
                    assert startup is not None
                    await self._flush()  # the question goes out by itself, even where the answer came before it
                    return await self._let_in(startup, event.password, address)
                case Proven():
                    assert startup is not None
                    assert held is not None
                    return await self._let_in(startup, held.password, address)
                case Refused():
                    self.error = event.error
                    if held is not None and startup is not None and isinstance(event.error, PasswordFailed):
                        assert self._verifiers is not None
                        await self._verifiers.failed(self._dsn(startup, None, address), peer=self._stream.peer)
                    await self._flush()
                    return None
                case Terminated():
                    return None
                case _:
                    raise AssertionError(event)

    async def _let_in(self, startup: Startup, password: bytes, address: Address) -> LoggedIn | None:
        try:
            caller = await self._authenticate(startup, password, address)
        except GatewayError as error:
            await self._refuse(error)
            return None
        self._handshake.accept()
        return LoggedIn(
            caller,
            startup,
            # The role's own, which with an API key only the gateway knows.
            caller.grant.password if caller.grant is not None else password,
            self._handshake.to_send(),
            self._handshake.take_rest(),
            partial(self._authenticate, startup, password, address),
        )

    async def _barred(self, startup: Startup, address: Address) -> GatewayError | None:
        """Why no proof is looked at, though one was asked for: many may have been asked at once, and been wrong."""
        assert self._verifiers is not None
        try:
            await self._verifiers.find(self._dsn(startup, None, address), peer=self._stream.peer)
        except GatewayError as error:
            return error
        return None

    def _dsn(self, startup: Startup, password: bytes | None, address: Address) -> Dsn:
        database = self._stands_for.get(startup.database, startup.database)
        return Dsn(address.host, address.port, database, startup.role, password)

    async def _authenticate(self, startup: Startup, password: bytes, address: Address) -> Caller:
        dsn = self._dsn(startup, password, address)
        peer, origin = self._stream.peer, self._stream.origin
        if startup.database in self._stands_for:
            return await self._authenticator.authenticate_operator(dsn, peer=peer, origin=origin)
        return await self._authenticator.authenticate_password(dsn, peer=peer, origin=origin)

    async def _refuse(self, error: GatewayError) -> None:
        self.error = error
        self._handshake.refuse(error)
        await self._flush()

    async def _flush(self) -> None:
        data = self._handshake.to_send()
        if data:
            await self._stream.send(data)
