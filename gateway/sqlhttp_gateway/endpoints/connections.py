"""How many programs are connected to a worker, by whichever door, and who makes room for whom.

HTTP, WebSockets and the TCP door share one limit, since what it protects is one thing, the files that the process may
open. When all places are taken, the HTTP connection that has been idle longest makes room for who comes: it can be
opened again at no loss, which a tunnel with its session cannot. Where none is idle, who comes is told so. The admin
address has no limit, so that whoever is to help can get in. What is counted here costs a request nothing: idle ones are
looked for when they are needed.
"""

import heapq
from collections.abc import Mapping
from typing import NamedTuple, Protocol
from weakref import ref

from sqlhttp_gateway.errors import TooManyConnections
from sqlhttp_gateway.events import ConnectionDisplaced, ConnectionRefused, Observer, unobserved

LEAST_IDLE = 1.0
"""Seconds that a connection must have been idle before it makes room: the next request of one that was just used may be
on its way, and would be lost with it."""
MOST_TURNED_AWAY = 100
"""Connections that are being told so at once; of more, the first are hung up on."""
_AT_ONCE = 256
"""Idle connections that are found by one look at all of them, which takes some milliseconds with ten thousand."""
_LOOK_EVERY = 0.1
"""Seconds until the next look when none was found."""
RETRY_AFTER = 1
"""Seconds; places come free one by one, as requests end."""


class Connection(Protocol):
    """One of a program's."""

    def hang_up(self) -> None:
        """End it at once."""
        ...


class HttpConnection(Connection, Protocol):
    """One that can make room."""

    @property
    def idle_since(self) -> float | None:
        """When it became idle, on the loop's clock; None while it is not."""
        ...


class Programs(NamedTuple):
    """Who is connected."""

    open: Mapping[str, int]
    """By door: http, websocket, tcp."""
    limit: int


class Connections:
    """The places of one worker."""

    def __init__(self, limit: int, observe: Observer = unobserved) -> None:
        self._limit = limit
        self._observe = observe
        self._http: set[HttpConnection] = set()
        self._tunnels = {"websocket": 0, "tcp": 0}
        self._turned_away: dict[Connection, None] = {}
        self._longest_idle: list[tuple[float, int, ref[HttpConnection]]] = []
        """The next to make room last; the number in the middle has no meaning but to be another one each time."""
        self._look_again = 0.0

    @property
    def taken(self) -> int:
        """Places that are taken."""
        return len(self._http) + sum(self._tunnels.values())

    def reconfigure(self, limit: int) -> None:
        """Let in as many from now on; whoever is connected stays."""
        self._limit = limit

    def snapshot(self) -> Programs:
        """Who is connected now."""
        return Programs({"http": len(self._http), **self._tunnels}, self._limit)

    # ── HTTP ──

    def enter(self, connection: HttpConnection, now: float) -> TooManyConnections | None:
        """Let a new connection in, or say why not: it is then to be told, and to `leave` as all do."""
        if self._has_place(now):
            self._http.add(connection)
            return None
        return self._turn_away(connection, "http")

    def leave(self, connection: HttpConnection) -> None:
        """It is closed, or has become a WebSocket."""
        self._http.discard(connection)
        self._turned_away.pop(connection, None)

    # ── tunnels ──

    def enter_tunnel(self, connection: Connection, now: float) -> TooManyConnections | None:
        """The same at the TCP door."""
        if self._has_place(now):
            self._tunnels["tcp"] += 1
            return None
        return self._turn_away(connection, "tcp")

    def leave_tunnel(self, connection: Connection, refused: TooManyConnections | None) -> None:
        """It is closed; `refused` is what `enter_tunnel` said of it."""
        if refused is None:
            self._tunnels["tcp"] -= 1
        else:
            self._turned_away.pop(connection, None)

    def enter_websocket(self) -> None:
        """Count one more; its place is the one that its HTTP connection left."""
        self._tunnels["websocket"] += 1

    def leave_websocket(self) -> None:
        """It is closed."""
        self._tunnels["websocket"] -= 1

    # ── before there is a connection ──

    def may_greet(self, greeting: int, now: float) -> bool:
        """Whether one more may begin with TLS or the PROXY protocol beside `greeting` others, who are not counted yet.

        There is some room, too, for those who are to be told that they cannot come in.
        """
        return self.taken + greeting < self._limit + MOST_TURNED_AWAY or self._make_room(now)

    # ── inside ──

    def _has_place(self, now: float) -> bool:
        return self.taken < self._limit or self._make_room(now)

    def _make_room(self, now: float) -> bool:
        """Whether somebody who was idle has gone."""
        while True:
            while self._longest_idle:
                since, _, found = self._longest_idle.pop()
                connection = found()
                if connection is not None and connection in self._http and connection.idle_since == since:
                    self._http.discard(connection)
                    connection.hang_up()
                    self._observe(ConnectionDisplaced(now - since))
                    return True
            if now < self._look_again:
                return False
            self._longest_idle = self._look(now)
            if not self._longest_idle:
                self._look_again = now + _LOOK_EVERY
                return False

    def _look(self, now: float) -> list[tuple[float, int, "ref[HttpConnection]"]]:
        latest = now - LEAST_IDLE
        idle = (
            (since, number, ref(each))
            for number, each in enumerate(self._http)
            if (since := each.idle_since) is not None and since <= latest
        )
        return heapq.nsmallest(_AT_ONCE, idle)[::-1]

    def _turn_away(self, connection: Connection, door: str) -> TooManyConnections:
        self._turned_away[connection] = None
        if len(self._turned_away) > MOST_TURNED_AWAY:
            first = next(iter(self._turned_away))
            del self._turned_away[first]
            first.hang_up()
        self._observe(ConnectionRefused(door))
        return TooManyConnections(
            f"{self._limit} programs are connected and none of them is idle (listen.max_connections)",
            hint="Have programs use fewer connections, add workers, or raise listen.max_connections.",
            retry_after=RETRY_AFTER,
        )
