"""A batch on a lease whose holder does not wait, its transaction and the scrub behind it: one write, one read.

What `single` is for one statement this is for several: when all of them have been prepared and foreseen, and their
answers come so, in one piece, each is read by comparing bytes. In whatever other way they come, the lease reads them as
it reads everything.
"""

from collections.abc import Callable, Sequence

from sqlhttp_gateway.model import Batch, ReadRows, Result
from sqlhttp_gateway.pools.lease import Lease
from sqlhttp_gateway.pools.scrub import (
    BEHIND_SEVERAL,
    BEHIND_SEVERAL_LOOKING,
    START,
    STARTED,
    ScrubbedExchange,
)
from sqlhttp_gateway.pools.statements import Prepared
from sqlhttp_gateway.wire.exchange import answer_size
from sqlhttp_gateway.wire.frontend import DESCRIBE_AND_EXECUTE, encode_bind_by


class Several:
    """Statements under way. When they are over, one of `results` and `exchange` is set, and `then` was called."""

    __slots__ = (
        "_count_names",
        "_end",
        "_lease",
        "_max_bytes",
        "_reading",
        "_then",
        "exchange",
        "prepared",
        "results",
    )

    def __init__(
        self,
        lease: Lease,
        prepared: Sequence[Prepared],
        then: Callable[[], None],
        *,
        max_bytes: int,
        count_names: bool,
        reading: ReadRows | None,
    ) -> None:
        """All are foreseen. The limits are those of an Exchange, and so is `reading`."""
        self._lease = lease
        self._then: Callable[[], None] | None = then
        self._max_bytes = max_bytes
        self._count_names = count_names
        self._reading = reading
        self._end = b""
        self.prepared = prepared
        self.results: list[Result] | None = None
        """The answers, if all came whole and as foreseen."""
        self.exchange: ScrubbedExchange | None = None
        """Else what reads them, the START in front of them included."""

    def begin(self, batch: Batch, *, timeout: float) -> None:
        """Send them. The lease's backend is quiet and open, and has the scrub's statements."""
        behind, self._end = BEHIND_SEVERAL_LOOKING if self._lease.looks() else BEHIND_SEVERAL
        asked = batch.statements
        frames = [START]
        for prepared, statement in zip(self.prepared, asked, strict=True):
            frames.append(encode_bind_by(prepared.bind_head, statement.params, DESCRIBE_AND_EXECUTE))
        frames.append(behind)
        self._lease.start_whole(b"".join(frames), self, timeout=timeout, statements=len(asked))

    # ── Whole ──

    def receive(self, data: bytes) -> bool:
        """As every Whole: whether this was read; when it was not, nothing has happened."""
        if not data.startswith(STARTED):
            return False
        position, size = len(STARTED), answer_size(None)
        results = []
        count_names = self._count_names
        for prepared in self.prepared:
            foreseen = prepared.foreseen
            part = foreseen.read_part(data, position, count_names=count_names) if foreseen is not None else None
            if part is None:
                return False
            result, position, counted = part
            results.append(result)
            size += counted
        if 0 < self._max_bytes < size or data[position:] != self._end:
            return False
        self.results = results
        self._lease.ended_whole()
        then, self._then = self._then, None
        if then is not None:
            then()
        return True

    def unfold(self) -> None:
        """Have the lease read what is still to come."""
        results = 1 + len(self.prepared)
        self.exchange = ScrubbedExchange(max_bytes=self._max_bytes, count_names=self._count_names, results=results)
        self.exchange.reading = self._reading
        then, self._then = self._then, None
        assert then is not None
        self._lease.read_on(self.exchange, then)
