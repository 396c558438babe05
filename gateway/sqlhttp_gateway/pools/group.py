"""A target of several servers: what is known of them now, and how busy the gateway keeps each.

`pools.probe` looks at the servers and puts the view in here; `pools.route` takes requests to them.
"""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlhttp_gateway.neon.hosts import Wanted
from sqlhttp_gateway.pools.routing import Choice, Load, choose
from sqlhttp_gateway.pools.view import Role, Seen, Server, View, next_view
from sqlhttp_gateway.settings import ReplicaSettings

if TYPE_CHECKING:
    from sqlhttp_gateway.pools.targets import Upstream


class Group:
    """The servers of one target, by their names."""

    def __init__(self, name: str, wanted: Wanted, settings: ReplicaSettings) -> None:
        self.name = name
        self.wanted = wanted
        self.settings = settings
        self.upstreams: dict[str, Upstream] = {}
        self.view = View(())
        self.loads: dict[str, Load] = {}
        self.looks: dict[str, int] = {}
        """How often each server was looked at."""
        self._said: dict[str, Seen | str] = {}
        self._turns = 0
        self._changed: asyncio.Future[None] | None = None
        self._successor: Group | None = None

    def __repr__(self) -> str:
        return f"Group({self.name})"

    def join(self, upstream: "Upstream") -> None:
        """One more server; all have joined before the first look."""
        name = upstream.target.name
        self.upstreams[name] = upstream
        self.loads[name] = Load()
        self.looks[name] = 0
        self.view = View((*self.view.servers, Server(name)))

    def inherit(self, other: "Group") -> None:
        """Know of each server what `other` knew of one with the same name and address."""
        same = {
            name
            for name, upstream in self.upstreams.items()
            if name in other.upstreams and other.upstreams[name].target == upstream.target
        }
        if same:
            # Without those that have left: nobody looks at them any more, and what they said last would hold for ever.
            # With those that came: on which timeline the primary was is what a former one is told apart by.
            servers = (other.view.server(name) if name in same else Server(name) for name in self.upstreams)
            self.view = replace(other.view, servers=tuple(servers))
            self._said = {name: said for name, said in other._said.items() if name in same}
        self.looks |= {name: count for name, count in other.looks.items() if name in self.looks}
        other._successor = self
        other._tell()

    @property
    def current(self) -> "Group":
        """Itself, or what it has become since the settings were read again: nobody looks at its servers any more.

        Whoever stays, such as a tunnel, asks for this again and again.
        """
        group = self
        while group._successor is not None:
            group = group._successor
        if group is not self:
            self._successor = group  # so that those in between are not kept
        return group

    @property
    def serving(self) -> "Upstream":
        """The server for the gateway's own questions, as of now: the primary, else one that answers, else the first."""
        group = self.current
        server = group.view.primary or next(
            (server for server in group.view.servers if server.role is not Role.DOWN), group.view.servers[0]
        )
        return group.upstreams[server.name]

    def choose(
        self,
        *,
        reads: bool,
        now: float,
        without: frozenset[str] = frozenset(),
        max_lag: float = 0.0,
        wanted: Wanted | None = None,
    ) -> Choice:
        """The server for a request; `max_lag` is what it allows itself, beside that of the settings, and `wanted` in
        place of what the target wants."""
        lags = [lag for lag in (self.settings.max_lag, max_lag) if lag]
        return choose(
            self.view,
            self.loads,
            wanted=wanted or self.wanted,
            reads=reads,
            max_lag=min(lags, default=0.0),
            now=now,
            without=without,
        )

    def begin(self, name: str) -> None:
        """A request goes to this server; `end` follows, however that ends."""
        load = self.loads[name]
        load.outstanding += 1
        self._turns += 1
        load.chosen = self._turns

    def end(self, name: str) -> None:
        """The opposite of `begin`."""
        self.loads[name].outstanding -= 1

    def succeeded(self, name: str) -> None:
        """The server answered a request."""
        self.loads[name].failures = 0

    def failed(self, name: str, *, now: float) -> None:
        """The server could not be reached, or left a request without an answer."""
        load = self.loads[name]
        load.failures += 1
        if load.failures >= self.settings.failures:
            load.out_until = now + self.settings.failure_pause

    def note(self, name: str, said: Seen | str, *, now: float) -> None:
        """What a look at one server has found: what it said, or why it said nothing."""
        self._said[name] = said
        self.looks[name] += 1
        self.view = next_view(self.view, self._said, now=now)
        self._tell()

    async def changed(self, timeout: float) -> None:
        """Return at the next news of any server, or of the group itself, after `timeout` seconds at the latest."""
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._changed], timeout=timeout)

    def _tell(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():
            changed.set_result(None)
