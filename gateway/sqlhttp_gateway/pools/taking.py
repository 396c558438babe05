"""A connection for one who does not wait itself and takes it clean or not: from its place in line to the lease.

As `Pool.acquire`, with a callback in place of a task: a task costs more than the rest of a hand-over.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.pools.backend import Backend
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.opener import Password
from sqlhttp_gateway.pools.pool import Pool
from sqlhttp_gateway.pools.taker import Found, Taker, Unclean


class Taking:
    """One such wait. `done` is told its outcome, never within `begin`, and not after `leave`."""

    __slots__ = ("_deadline", "_done", "_has_left", "_opening", "_password", "_pool", "_taker")

    def __init__(self, pool: Pool, password: Password, done: Callable[[Lease | BaseException], None]) -> None:
        """`password` is asked for only when a connection has to be opened."""
        self._pool = pool
        self._password = password
        self._done = done
        self._deadline = 0.0
        self._has_left = False
        self._opening: asyncio.Task[Backend] | None = None
        self._taker = Taker(pool.loop, self._told)

    def begin(self) -> None:
        """Stand in line."""
        try:
            self._deadline = self._pool.stand(self._taker)
        except GatewayError as error:
            self._taker.set_exception(error)

    def leave(self) -> None:
        """It is not wanted any more. What has come in this very tick is given back."""
        self._has_left = True
        self._pool.gate.give_up(self._taker)
        if self._opening is not None:
            cancel_begun(self._opening)

    # ── inside ──

    def _told(self, found: Found) -> None:
        if isinstance(found, Unclean):
            self._have(Lease.of_unclean(self._pool, found))
        elif isinstance(found, Backend):
            self._have(Lease(self._pool, found))
        elif found is not None:
            self._end(found)
        elif self._has_left:
            self._pool.gate.leave()
        elif (backend := self._pool.take()) is not None:
            self._have(Lease(self._pool, backend))
        else:
            self._open()

    def _have(self, lease: Lease) -> None:
        if self._has_left:
            lease.release()
        elif lease.backend.closing:  # its server has ended it in this tick: there is no use in it
            lease.release()
            self._taker = Taker(self._pool.loop, self._told)
            self.begin()
        else:
            self._done(lease)

    def _open(self) -> None:
        """Open one under the permit, or wait for one that comes back."""
        self._opening = self._pool.loop.create_task(
            self._pool.acquire_admitted(self._password, deadline=self._deadline)
        )
        self._opening.add_done_callback(self._opened)

    def _opened(self, opening: "asyncio.Task[Backend]") -> None:
        self._opening = None
        if opening.cancelled():
            return
        error = opening.exception()
        if error is None:
            self._have(Lease(self._pool, opening.result()))
        else:
            self._end(error)

    def _end(self, error: BaseException) -> None:
        if not self._has_left:
            self._done(error)


def cancel_begun(task: "asyncio.Task[Any]") -> None:
    """Cancel a task that was made to hold a permit or a lease, in the loop's next turn, when it has begun.

    What is cancelled before its first step never runs, and so never gives back what it was to hold.
    """
    task.get_loop().call_soon(task.cancel)
