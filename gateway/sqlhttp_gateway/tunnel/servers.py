"""Which of a target's servers a tunnel has its backends from: the primary, or what target_session_attrs asks for.

It is looked at again whenever a backend is borrowed. A tunnel stays with its replica for as long as that is one.
"""

import asyncio

from sqlhttp_gateway.errors import InvalidConnectionString, InvalidParameter, TargetUnavailable
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.neon.hosts import Wanted, wanted_from_text
from sqlhttp_gateway.pools.group import Group
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.view import Role

_PRIMARY = frozenset({Wanted.ANY, Wanted.PRIMARY, Wanted.READ_WRITE})


class Servers:
    """One tunnel's choice among the servers of its target."""

    def __init__(self, group: Group, key: PoolKey, registry: PoolRegistry, wish: str | None) -> None:
        """`wish` is the program's target_session_attrs; without it the target's own counts.

        Raises:
            InvalidParameter: it is none of libpq's words.
        """
        self._group = group
        self._key = key
        self._registry = registry
        try:
            self._wanted = group.wanted if wish is None else wanted_from_text(wish)
        except InvalidConnectionString as error:
            raise InvalidParameter(error.message) from None
        self._server = ""

    def pool(self) -> Pool:
        """The pool to borrow from now.

        Raises:
            TargetUnavailable: only a standby will do, and there is none.
        """
        group = self._group = self._group.current  # the tunnel may be older than the settings
        upstream = group.serving
        if self._wanted not in _PRIMARY:
            if not self._is_fit(self._server):
                self._server = self._choose()
            if self._server:
                upstream = group.upstreams[self._server]
            elif self._wanted is not Wanted.PREFER_STANDBY:
                raise TargetUnavailable(f"target {group.name}: no standby can be used now", retry_after=1)
        return self._registry.server_pool(PoolKey(upstream.target.name, self._key.database, self._key.role), upstream)

    def _is_fit(self, name: str) -> bool:
        group = self._group
        return name in group.upstreams and group.view.server(name).role is Role.REPLICA

    def _choose(self) -> str:
        """A replica whose turn it is; empty for none."""
        group = self._group
        server = group.choose(reads=True, now=asyncio.get_running_loop().time(), wanted=Wanted.STANDBY).server
        if server is None:
            return ""
        group.begin(server)  # a turn is taken; how busy its tunnels keep a server is not known beforehand
        group.end(server)
        return server
