"""One plain statement on a lease whose holder does not wait, and the scrub behind it: one write, one read.

When the statement has been prepared and its answer comes as foreseen, in one piece with the scrub's, there is nothing
to do but to compare bytes, and no exchange and no future is made for it. In whatever other way it comes, the lease
reads it as it reads everything.
"""

from collections.abc import Callable, Sequence

from sqlhttp_gateway.model import Result
from sqlhttp_gateway.neon.arriving import READINGS
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.scrub import BEHIND_ONE, BEHIND_ONE_LOOKING, ScrubbedExchange
from sqlhttp_gateway.pools.statements import Prepared
from sqlhttp_gateway.wire.foreseen import Foreseen
from sqlhttp_gateway.wire.frontend import encode_bind_by


class Single:
    """A statement under way. When it is over, one of `result` and `exchange` is set, and `then` was called."""

    __slots__ = ("_count_names", "_end", "_foreseen", "_lease", "_max_bytes", "_then", "exchange", "prepared", "result")

    def __init__(
        self,
        lease: Lease,
        prepared: Prepared,
        foreseen: Foreseen,
        then: Callable[[], None],
        *,
        max_bytes: int,
        count_names: bool,
    ) -> None:
        """The limits are those of an Exchange."""
        self._lease = lease
        self._foreseen = foreseen
        self._then: Callable[[], None] | None = then
        self._max_bytes = max_bytes
        self._count_names = count_names
        self._end = b""
        self.prepared = prepared
        self.result: Result | None = None
        """The answer, if it came whole and as foreseen."""
        self.exchange: ScrubbedExchange | None = None
        """Else what reads it."""

    def begin(self, params: Sequence[bytes | None], *, timeout: float) -> None:
        """Send it. The lease's backend is quiet and open, and has the scrub's statements."""
        behind, self._end = BEHIND_ONE_LOOKING if self._lease.looks() else BEHIND_ONE
        self._lease.start_whole(encode_bind_by(self.prepared.bind_head, params, behind), self, timeout=timeout)

    # ── Whole ──

    def receive(self, data: bytes) -> bool:
        """As every Whole: whether this was read; when it was not, nothing has happened."""
        self.result = self._foreseen.read(data, self._end, max_bytes=self._max_bytes, count_names=self._count_names)
        if self.result is None:
            return False
        self._lease.ended_whole()
        then, self._then = self._then, None
        if then is not None:
            then()
        return True

    def unfold(self) -> None:
        """Have the lease read what is still to come."""
        self.exchange = ScrubbedExchange(max_bytes=self._max_bytes, count_names=self._count_names)
        self.exchange.reading = READINGS[not self._count_names, True]
        then, self._then = self._then, None
        assert then is not None
        self._lease.read_on(self.exchange, then)
