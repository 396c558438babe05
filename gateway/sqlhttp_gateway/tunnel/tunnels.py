"""All open tunnels of this process: made, counted, told to end."""

import asyncio
import time
from collections.abc import Callable

from sqlhttp_gateway.auth.authenticate import Authenticator
from sqlhttp_gateway.auth.claims import Claims
from sqlhttp_gateway.cache.results import ResultCache
from sqlhttp_gateway.errors import (
    GatewayError,
    InvalidParameter,
    MessageTooLarge,
    ScopeRefused,
    ShuttingDown,
    TunnelsExhausted,
)
from sqlhttp_gateway.events import Bug, KeyShown, Observer, TunnelClosed, TunnelOpened
from sqlhttp_gateway.limits import Quotas
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.reply import new_request_id
from sqlhttp_gateway.settings import TunnelSettings
from sqlhttp_gateway.siblings import Siblings
from sqlhttp_gateway.tunnel.borrowing import Borrowing
from sqlhttp_gateway.tunnel.changes import Changes, Tell
from sqlhttp_gateway.tunnel.console import DATABASE, Client, Console, Sources
from sqlhttp_gateway.tunnel.granted import Granted
from sqlhttp_gateway.tunnel.greetings import Greetings
from sqlhttp_gateway.tunnel.keys import CancelKeys
from sqlhttp_gateway.tunnel.listeners import Listeners
from sqlhttp_gateway.tunnel.login import Address, LoggedIn, Login
from sqlhttp_gateway.tunnel.pins import Pins
from sqlhttp_gateway.tunnel.servers import Servers
from sqlhttp_gateway.tunnel.stream import TOO_BIG, Stream, StreamClosed
from sqlhttp_gateway.tunnel.traffic import Traffic
from sqlhttp_gateway.tunnel.trail import Trail
from sqlhttp_gateway.tunnel.verifiers import Verifiers
from sqlhttp_gateway.wire import prepared
from sqlhttp_gateway.wire.backend import encode_backend_key_data, encode_error_response
from sqlhttp_gateway.wire.effects import Pin
from sqlhttp_gateway.wire.pipeline import Pipeline
from sqlhttp_gateway.wire.startup import POOL_MODES

NORMAL = 1000
CLOSE_CODES = {"client": 1002, "limit": 1008, "auth": 1008, "pool": 1013, "backend": 1011, "gateway": 1011}
"""Close codes of RFC 6455 by an error's kind: protocol error, policy violation, try again later, internal error."""
_TOLD = 2.0
"""Seconds in which whoever is refused at the door must have sent the start-up message."""
_ABORT_GRACE = 1.0
"""Seconds for the last words of programs that did not end in time."""


class Tunnels:
    """The owner of every tunnel."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        registry: PoolRegistry,
        claims: Claims,
        quotas: Quotas,
        siblings: Siblings,
        settings: TunnelSettings,
        observe: Observer,
        cache: ResultCache | None = None,
        tell: Tell = lambda buckets: None,
        settles_after: Callable[[], float] = lambda: 10.0,
        admit: Callable[[str], None] = lambda peer: None,
        is_audited: Callable[[], bool] = lambda: False,
    ) -> None:
        """`cache` is told what the programs change, and `tell` what that has ended; what they leave in the middle is
        over when it `settles_after` so many seconds. `admit` raises PlaceRefused for an address that may not come in.
        """
        self._authenticator = authenticator
        self._claims = claims
        self._registry = registry
        self._quotas = quotas
        self._settings = settings
        self._observe = observe
        self._admit = admit
        self._is_audited = is_audited
        self._verifiers = Verifiers(authenticator)
        self._siblings = siblings
        self._keys = CancelKeys(workers=siblings.count, number=siblings.number)
        self._pins = Pins(settings.max_pinned)
        self._listeners = Listeners(registry)
        self._greetings = Greetings()
        self._cache = cache
        self._tell = tell
        self._settles_after = settles_after
        self._sources = prepared.Sources()
        self._open: dict[Traffic, tuple[str, Stream, LoggedIn, float]] = {}
        self._granted: set[Granted] = set()
        self._console: Sources | None = None
        self._connected = 0
        self._is_draining = False
        authenticator.on_forget = self._look_again
        siblings.on("cancel", lambda process_id, secret: self._show(int(process_id), bytes.fromhex(secret)))

    @property
    def listeners(self) -> Listeners:
        """Who listens on which database; one connection each, for whoever wants to hear."""
        return self._listeners

    @property
    def connected(self) -> int:
        """Programs that are connected, logged in or not."""
        return self._connected

    def pool_mode(self, database: str, role: str) -> str:
        """What the settings say of this role, else of this database, else of all."""
        settings = self._settings
        return settings.role_pool_mode.get(role) or settings.database_pool_mode.get(database) or settings.pool_mode

    def clients(self) -> list[Client]:
        """All that are logged in."""
        return [
            Client(
                door=door,
                database=logged_in.caller.database,
                role=logged_in.caller.role,
                peer=stream.peer,
                application_name=logged_in.startup.parameters.get("application_name", ""),
                state=traffic.state,
                backend_pid=traffic.backend_pid,
                connected_at=connected_at,
            )
            for traffic, (door, stream, logged_in, connected_at) in self._open.items()
        ]

    def reconfigure(self, settings: TunnelSettings) -> None:
        """Serve by these settings whoever comes from now on."""
        self._settings = settings
        self._pins.reconfigure(settings.max_pinned)

    def open_console(self, sources: Sources) -> None:
        """From now on there is a console, on the TCP door's database `console.DATABASE`."""
        self._console = sources

    async def serve(
        self,
        stream: Stream,
        *,
        door: str,
        address: Address,
        pool_mode: str | None = None,
        proves: bool = False,
        refused: GatewayError | None = None,
    ) -> None:
        """Serve one program to its end and close its stream.

        `door` is for metrics, `address` chooses the target, `pool_mode` is the program's wish if it has one.
        Where it `proves`, a role whose password the gateway holds need not send it. One that is `refused` is told so
        where libpq looks for it, behind the start-up message; until then it may encrypt, and cancel another's query.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._observe(TunnelOpened(door))
        self._connected += 1
        error: GatewayError | None = None
        logged_in: LoggedIn | None = None
        try:
            error = self._refusal(pool_mode)
            if error is not None:
                await stream.send(encode_error_response(error, severity="FATAL"))
                return
            console = self._console if door == "tcp" else None
            login = Login(
                stream,
                self._authenticator,
                self._cancel,
                # Who is asking is found out in a database that exists.
                stands_for={DATABASE: console.database()} if console is not None else {},
                admit=self._admit if refused is None else _refusing(refused),
                verifiers=self._verifiers if proves else None,
            )
            timeout = self._settings.startup_timeout
            logged_in = await login.run(timeout if refused is None else min(timeout, _TOLD), address=address)
            error = login.error
            if logged_in is not None and console is not None and logged_in.startup.database == DATABASE:
                error = await self._run_console(stream, logged_in, console)
            elif logged_in is not None:
                error = await self._run(stream, logged_in, pool_mode, door=door)
        except StreamClosed:
            pass
        except Exception as fault:
            error = GatewayError("internal error")
            self._observe(Bug("", fault))
        finally:
            self._connected -= 1
            await self._close(stream, error)
            self._observe(
                TunnelClosed(
                    door=door,
                    outcome=error.kind if error is not None else "ok",
                    sqlstate=error.sqlstate if error is not None else "",
                    database=logged_in.caller.database if logged_in is not None else "",
                    role=logged_in.caller.role if logged_in is not None else "",
                    seconds=loop.time() - began,
                    message=error.message if error is not None else "",
                )
            )

    async def drain(self, grace: float) -> None:
        """Tell every program to go at the end of its transaction; after `grace` seconds, end those that have not."""
        self._is_draining = True
        for traffic in self._open:
            traffic.drain()
        await self._wait_ended(grace)
        for traffic in self._open:
            traffic.abort()
        await self._wait_ended(_ABORT_GRACE)

    async def _wait_ended(self, timeout: float) -> None:
        if self._open:
            await asyncio.wait({traffic.ended for traffic in self._open}, timeout=timeout)

    def _refusal(self, pool_mode: str | None) -> GatewayError | None:
        if self._is_draining:
            return ShuttingDown("the gateway is shutting down")
        if self._connected > self._settings.max_open:
            return TunnelsExhausted(f"{self._settings.max_open} programs are connected (tunnel.max_open)")
        if pool_mode is not None and pool_mode not in POOL_MODES:
            return InvalidParameter(f"pool_mode must be {' or '.join(POOL_MODES)}")
        return None

    async def _run_console(self, stream: Stream, logged_in: LoggedIn, sources: Sources) -> GatewayError | None:
        if logged_in.caller.role not in sources.roles():
            error = ScopeRefused(
                f'role "{logged_in.caller.role}" may not use the console', hint="Name it in admin.roles."
            )
            await stream.send(logged_in.greeting + encode_error_response(error, severity="FATAL"))
            return error
        return await Console(stream, sources).run(logged_in.rest)

    async def _run(
        self, stream: Stream, logged_in: LoggedIn, pool_mode: str | None, *, door: str
    ) -> GatewayError | None:
        startup, pool = logged_in.startup, logged_in.caller.pool
        servers: Servers | None = None
        if pool.upstream.group is not None:
            try:
                servers = Servers(pool.upstream.group, pool.key, self._registry, startup.target_session_attrs)
                pool = servers.pool()
            except GatewayError as error:
                await stream.send(logged_in.greeting + encode_error_response(error, severity="FATAL"))
                return error
            logged_in = logged_in._replace(caller=logged_in.caller._replace(pool=pool))
        mode = startup.pool_mode or pool_mode or self.pool_mode(pool.key.database, pool.key.role)
        # Behind a pooler of its own a backend is nobody's for longer than a transaction: ours must not be either.
        pins = (Pin.SESSION,) if mode == "session" or pool.upstream.is_pooler else ()
        granted = self._granted_to(logged_in)
        if granted is not None and (refused := granted.refusal(startup.parameters)) is not None:
            await stream.send(logged_in.greeting + encode_error_response(refused, severity="FATAL"))
            return refused
        is_fenced = granted is not None and granted.is_fenced
        traffic: Traffic | None = None
        key = self._keys.issue(lambda: traffic.cancel() if traffic is not None else None)
        try:
            if granted is not None:
                self._granted.add(granted)
            pipeline = Pipeline(
                startup.parameters,
                self._sources,
                key_data=encode_backend_key_data(key.process_id, key.secret),
                pins=pins,
                is_fenced=is_fenced,
                check=granted.check if granted is not None else None,
            )
            traffic = Traffic(
                stream,
                logged_in,
                pipeline,
                borrowing=Borrowing(
                    logged_in,
                    registry=self._registry,
                    quotas=self._quotas,
                    pins=self._pins,
                    observe=self._observe,
                    granted=granted,
                    servers=servers,
                ),
                listeners=self._listeners,
                greetings=self._greetings,
                trail=self._trail_of(logged_in),
                changes=self._changes_of(logged_in, pool),
                settings=self._settings,
                granted=granted,
            )
            if self._is_draining:
                traffic.drain()
            self._open[traffic] = (door, stream, logged_in, time.time())
            try:
                return await traffic.run()
            finally:
                del self._open[traffic]
        finally:
            self._keys.revoke(key)
            if granted is not None:
                self._granted.discard(granted)

    def _granted_to(self, logged_in: LoggedIn) -> Granted | None:
        grant = logged_in.caller.grant
        if grant is None:
            return None
        return Granted(logged_in.caller, grant, claims=self._claims, renew=logged_in.renew)

    def _cancel(self, process_id: int, secret: bytes) -> None:
        """A CancelRequest came here, for a tunnel of this worker or of another."""
        owner = self._keys.owner(process_id)
        if owner == self._siblings.number:
            self._show(process_id, secret)
        else:
            self._siblings.tell(owner, "cancel", str(process_id), secret.hex())

    def _show(self, process_id: int, secret: bytes) -> None:
        self._observe(KeyShown(self._keys.show(process_id, secret)))

    def _changes_of(self, logged_in: LoggedIn, pool: Pool) -> Changes | None:
        if self._cache is None:
            return None
        place = (logged_in.caller.target, pool.key.database)
        return Changes(self._cache, place, self._tell, settles_after=self._settles_after)

    def _trail_of(self, logged_in: LoggedIn) -> Trail | None:
        if not self._is_audited():
            return None
        clock = asyncio.get_running_loop().time
        return Trail(logged_in.caller, request_id=new_request_id(), observe=self._observe, clock=clock)

    def _look_again(self) -> None:
        for granted in self._granted:
            granted.look_again()

    async def _close(self, stream: Stream, error: GatewayError | None) -> None:
        code = CLOSE_CODES.get(error.kind, NORMAL) if error is not None else NORMAL
        if isinstance(error, MessageTooLarge):
            code = TOO_BIG
        try:
            async with asyncio.timeout(self._settings.send_timeout):
                await stream.close(code, error.message if error is not None else "")
        except (StreamClosed, TimeoutError):
            stream.abort()


def _refusing(error: GatewayError) -> Callable[[str], None]:
    def refuse(peer: str) -> None:
        raise error

    return refuse
