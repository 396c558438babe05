"""One request's way to a server of a target that has several: which one, what is asked of it, and what if it fails.

A request that only reads runs in a READ ONLY transaction, and so may be tried elsewhere whatever happens. One that may
write is tried again only where nothing of it can have run.
"""

from sqlhttp_gateway.errors import (
    BookmarkAhead,
    BookmarkLost,
    ConnectionBroken,
    DatabaseMissing,
    GatewayError,
    PasswordFailed,
    PostgresError,
    TargetUnavailable,
)
from sqlhttp_gateway.events import Observer, Routed
from sqlhttp_gateway.model import Bookmark, PoolKey
from sqlhttp_gateway.neon.bookmark import BOOKMARK, encode_bookmark
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.pools.positions import Positions
from sqlhttp_gateway.pools.probe import Probes
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.routing import Reason
from sqlhttp_gateway.pools.view import Fate, Role

SERVED_BY = b"sqlhttp-served-by"
_FIRST_WAIT = 0.02
"""Seconds that a read waits for the replica whose turn it is, before any other will do as well."""
_PAUSED_WAIT = 0.25
"""Seconds after which who waits for a server during a pause looks whether that is over; nobody tells."""
_READ_ONLY_TRANSACTION = "25006"
_CONFLICT = frozenset({"40001", "40P01"})
"""What a read is told that stands in the way of a standby's replay."""
_NOT_HERE = frozenset({_READ_ONLY_TRANSACTION, "0A000"})
"""What a standby, or a READ ONLY transaction, cannot do; 0A000 is also told of an unlogged table."""
_SHUTDOWN = "57P0"
"""What it is told whose server, or connection, ends."""
_MOST_TRIES = 20


class Route:
    """From the first choice to the answer. `pool` and `failed` in turn, as often as it takes."""

    def __init__(
        self,
        anchor: Pool,
        *,
        registry: PoolRegistry,
        probes: Probes,
        reads: bool,
        bookmark: Bookmark | None,
        needs_primary: bool = False,
        is_repeatable: bool = True,
        is_found: bool = False,
        is_kept: bool = False,
    ) -> None:
        """`anchor` is the caller's pool at any of the servers. `needs_primary`: it reads as only a primary can.
        `is_repeatable`: once Postgres has refused it, nothing of it has stayed. `is_found`: that it only reads was
        found out, and not said by the program. `is_kept`: its answer is for others, too, whose bookmarks are to be
        held against it.
        """
        assert anchor.upstream.group is not None
        self._group = anchor.upstream.group.current
        """That of the server which is tried now; another one once the settings were read again."""
        self._anchor = anchor
        self._registry = registry
        self._probes = probes
        self._reads = reads
        self._is_repeatable = is_repeatable
        self._is_found = is_found
        self._is_kept = is_kept
        self._goes_primary: Reason | None = Reason.WANTED if needs_primary and reads else None
        self._bookmark = bookmark
        self._loop = anchor.loop
        now = self._loop.time()
        self._deadline = now + anchor.upstream.pool.wait_timeout
        self._bookmark_until = now + self._group.settings.bookmark_wait
        self._pause_left = anchor.upstream.pool.pause_limit
        """Seconds for which its time may still stand still."""
        self._pool: Pool | None = None
        self._stood_still = 0.0
        """Of that pool, when it was chosen."""
        self._tried: frozenset[str] = frozenset()
        self._tries = 0
        self._healed = False
        self._server: str | None = None
        self._reason = Reason.WRITE
        self.positions: Positions | None = None
        """What is to be asked around the request, at the server of the last `pool`."""

    @property
    def reads(self) -> bool:
        """Whether it is to run in a READ ONLY transaction."""
        return self._reads

    async def pool(self) -> Pool:
        """The pool at the server to try now.

        Raises:
            BookmarkLost, BookmarkAhead: no server has what the program has seen.
            TargetUnavailable: no server would do, and none became so in time.
        """
        self._leave()
        self._stand_still()
        self._tries += 1
        while True:
            self._group = self._group.current
            await self._check_bookmark()
            server, reason = self._choose()
            if server is None:
                await self._wait(self._none())
            elif (server := await self._with_bookmark(server)) is not None:
                break
        self._server, self._reason = server, reason
        self._group.begin(server)
        view = self._group.view
        is_replica = view.server(server).role is Role.REPLICA
        after = self._bookmark.position if self._bookmark is not None and is_replica else None
        self.positions = Positions(
            system=view.system,
            standby=view.server(server).timeline if is_replica else None,
            after=after,
            marks=self._is_kept,
        )
        upstream = self._group.current.upstreams.get(server) or self._group.upstreams[server]
        key = self._anchor.key
        self._pool = pool = self._registry.server_pool(PoolKey(server, key.database, key.role), upstream)
        self._stood_still = pool.gate.stood_still
        return pool

    async def failed(self, error: GatewayError, *, ran: bool) -> bool:
        """Whether to try again after an error, once there may be something else to try.

        `ran`: the request was sent, and the server may have begun with it.
        """
        server = self._server
        if server is None:
            return False  # the error is that there is no server
        is_lost = _is_loss(error, ran=ran)
        if is_lost:
            self._group.failed(server, now=self._loop.time())
            self._probes.hurry(self._group)
        self._stand_still()
        if self._tries >= _MOST_TRIES or self._loop.time() >= self._deadline:
            return False
        if ran and self.is_behind():
            return True
        if self._reads:
            return self._read_failed(error, server, ran=ran, is_lost=is_lost)
        if ran:
            return self._is_repeatable and await self._was_demoted(error)
        if is_lost:
            await self._wait(error)
        return is_lost

    def is_behind(self) -> bool:
        """Whether the replica that ran it had less than the bookmark stands for: what came of it is worth nothing."""
        if self.positions is None or self.positions.is_reached:
            return False
        if self._loop.time() >= self._bookmark_until or self._tries >= _MOST_TRIES:
            self._goes_primary = Reason.BEHIND
        return True

    async def settle(self, lease: Lease) -> None:
        """The request was answered, if only with an error of Postgres's; ask what could not be asked with it."""
        if self._server is not None:
            self._group.succeeded(self._server)
        if self.positions is not None and self.positions.asks_behind:
            await self.positions.ask(lease)

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """What the answer says of it."""
        if self._server is None:
            return ()
        headers: tuple[tuple[bytes, bytes], ...] = ((SERVED_BY, self._server.encode("latin-1", "replace")),)
        if self.positions is not None and self.positions.bookmark is not None:
            headers = ((BOOKMARK, encode_bookmark(self.positions.bookmark)), *headers)
        return headers

    def close(self, observe: Observer) -> None:
        """It is over, however."""
        if self._server is not None:
            observe(Routed(self._group.name, self._server, self._reason))
        self._leave(forget=False)

    # ── inside ──

    def _leave(self, *, forget: bool = True) -> None:
        if self._server is not None:
            self._group.end(self._server)
            if forget:
                self._server = None

    def _choose(self) -> tuple[str | None, Reason]:
        group, now = self._group, self._loop.time()
        if self._goes_primary is not None:
            primary = group.view.primary
            return primary.name if primary is not None else None, self._goes_primary
        # Who has a bookmark will not wait for a replica that is further behind than that.
        max_lag = group.settings.bookmark_wait if self._bookmark is not None else 0.0
        choice = group.choose(reads=self._reads, now=now, without=self._tried, max_lag=max_lag)
        return choice.server, choice.reason

    async def _check_bookmark(self) -> None:
        bookmark = self._bookmark
        if bookmark is None:
            return
        while (fate := self._group.view.fate(bookmark)) is Fate.AHEAD:
            await self._wait(
                BookmarkAhead(
                    f"target {self._group.name}: the bookmark is of timeline {bookmark.timeline}, "
                    f"on which no primary answers here (the latest is {self._group.view.timeline})",
                    retry_after=1,
                )
            )
            self._group = self._group.current
        if fate is Fate.LOST:
            raise BookmarkLost(
                f"target {self._group.name}: what the bookmark stands for is not in the primary's history; "
                f"timeline {self._group.view.timeline} began without it, in a failover",
                hint="Look what is there, then go on without the bookmark.",
            )

    async def _with_bookmark(self, server: str) -> str | None:
        """A server that has replayed what the bookmark stands for, best the one chosen; None: take the primary."""
        view, bookmark = self._group.view, self._bookmark
        if bookmark is None or view.server(server).role is not Role.REPLICA:
            return server
        if view.server(server).position >= bookmark.position:
            return server
        left = self._bookmark_until - self._loop.time()
        first = await self._probes.replayed([server], bookmark.position, timeout=min(_FIRST_WAIT, left))
        if first is None:
            others = [each.name for each in view.servers if each.role is Role.REPLICA and each.name not in self._tried]
            left = self._bookmark_until - self._loop.time()
            first = await self._probes.replayed(others, bookmark.position, timeout=left)
        if first is None:
            self._goes_primary = Reason.BEHIND
        return first

    async def _wait(self, error: GatewayError) -> None:
        """For news of the servers, or until time is up.

        Raises:
            GatewayError: `error`, at the end.
        """
        began, group = self._loop.time(), self._group.current
        if self._registry.is_paused(self._anchor.key.database) and self._pause_left > 0:
            # What it waits for may be what the pause is for: a server in the place of another.
            await group.changed(min(self._pause_left, _PAUSED_WAIT))
            self._postpone(self._loop.time() - began)
            return
        left = self._deadline - began
        if left <= 0:
            raise error
        self._probes.hurry(group)
        await group.changed(left)

    def _stand_still(self) -> None:
        """Time in which its pool was paused does not count."""
        if self._pool is not None:
            before, self._stood_still = self._stood_still, self._pool.gate.stood_still
            self._postpone(self._stood_still - before)

    def _postpone(self, seconds: float) -> None:
        self._pause_left -= seconds
        self._deadline += seconds
        self._bookmark_until += seconds

    def _none(self) -> TargetUnavailable:
        what = "reads" if self._reads else "writes"
        reasons = "; ".join(f"{each.name}: {each.reason or each.role}" for each in self._group.view.servers)
        return TargetUnavailable(f"target {self._group.name}: no server takes {what} now ({reasons})", retry_after=1)

    def _read_failed(self, error: GatewayError, server: str, *, ran: bool, is_lost: bool) -> bool:
        is_primary = self._group.view.server(server).role is Role.PRIMARY
        if is_lost or (isinstance(error, PostgresError) and error.code in _CONFLICT and ran):
            self._tried |= {server}
            return True
        if ran and isinstance(error, PostgresError) and error.code in _NOT_HERE:
            if self._is_found:
                self._reads = self._is_found = False  # what was found out was wrong: it runs as if nobody had looked
                return True
            if not is_primary and error.code != _READ_ONLY_TRANSACTION:
                self._goes_primary = Reason.NO_REPLICA
                return True
        # A role or database may be so new that a replica does not know it yet.
        if not ran and not is_primary and isinstance(error, PasswordFailed | DatabaseMissing):
            self._goes_primary = Reason.NO_REPLICA
            return True
        return False

    async def _was_demoted(self, error: GatewayError) -> bool:
        """Whether a write was refused since the server is the primary no more, and another one is."""
        if not isinstance(error, PostgresError) or error.code != _READ_ONLY_TRANSACTION or self._healed:
            return False
        if self._reason is not Reason.WRITE:
            return False
        self._healed = True
        server = self._server
        assert server is not None
        # The look after the one that may be under way tells, also whether the caller made it READ ONLY itself.
        group = self._group.current
        enough = group.looks.get(server, 0) + 2
        while group.looks.get(server, enough) < enough:
            self._probes.hurry(group)
            left = self._deadline - self._loop.time()
            if left <= 0:
                return False
            await group.changed(left)
            group = group.current
        primary = group.view.primary
        return primary is None or primary.name != server


def _is_loss(error: GatewayError, *, ran: bool) -> bool:
    """Whether it is the server that failed, and not the request."""
    if isinstance(error, PostgresError):
        return error.code.startswith(_SHUTDOWN) if ran else not isinstance(error, DatabaseMissing)
    return isinstance(error, TargetUnavailable | ConnectionBroken)
