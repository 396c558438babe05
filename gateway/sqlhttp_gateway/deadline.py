"""The moment at which one request has to be over, whatever it waits for then.

When it comes, the request's task is cancelled, as if its program had gone: a place in line is given up, a statement
that runs is cancelled at Postgres. Only the answer is another. A request without a deadline has none of this.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from sqlhttp_gateway.errors import DeadlineBeforeRun, DeadlineExceeded
from sqlhttp_gateway.neon.headers import TIMEOUT, timeout_from_header


def deadline_for(header: bytes | None, most: float) -> "Deadline":
    """The deadline of the running task, by its request's header or by `most` seconds, if that is not 0.

    Raises:
        BadRequest: the header is no number of seconds.
    """
    wished = timeout_from_header(header) if header is not None else most
    if most and most <= wished:
        return Deadline(most, "request.deadline")
    return Deadline(wished, TIMEOUT.decode().title())


@dataclass(frozen=True, slots=True)
class Due:
    """Until when an answer has to be sent, and what was spent before it was made. Seconds; `when` is the loop's."""

    when: float
    request_id: str
    deadline: "Deadline"
    waited: float
    connected: float
    executed: float

    def told(self, sending: float) -> str:
        """What to tell when so many seconds were not enough to send it."""
        return f"{self.deadline.over_in('send', self.waited, self.connected, self.executed)}, send {sending:.3f} s"


class Deadline:
    """Made when the request begins; `drop` has to follow."""

    __slots__ = ("_cancelling", "_connecting_since", "_has_passed", "_seconds", "_source", "_task", "_timer", "_when")

    def __init__(self, seconds: float, source: str) -> None:
        """`source` says to people who has set it."""
        self._seconds = seconds
        self._source = source
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._has_passed = False
        self._connecting_since: float | None = None
        loop = task.get_loop()
        self._when = loop.time() + seconds  # uvloop's handle of less than half a millisecond does not know it
        self._timer: asyncio.Handle | None = loop.call_later(seconds, self._pass)

    def watching(self, password: Callable[[], bytes]) -> Callable[[], bytes]:
        """The same password, whose being asked for says that a connection is opened now."""

        def asked() -> bytes:
            self._connecting_since = perf_counter()
            return password()

        return asked

    def has_ended(self) -> bool:
        """Whether the cancellation that was just caught is this deadline's and nobody else's; it is over then."""
        if not self._has_passed:
            return False
        self._has_passed = False
        return self._task.uncancel() <= self._cancelling

    def drop(self) -> None:
        """The request is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._has_passed:  # in the very tick of the end
            self._has_passed = False
            self._task.uncancel()

    def error(self, *, waited: float, connected: float, executed: float, is_known: bool) -> DeadlineExceeded:
        """What to tell: the phase in which it came, and what each took. `is_known`: the credentials were proven."""
        if executed:
            phase = "execute"
        elif self._connecting_since is not None:
            phase = "connect"
            connected = perf_counter() - self._connecting_since
        else:
            phase = "queue" if waited or is_known else "authentication"
        text = self.over_in(phase, waited, connected, executed)
        if phase == "execute":
            return DeadlineExceeded(f"{text}; what ran was cancelled")
        return DeadlineBeforeRun(f"{text}; nothing was run")

    def due(self, request_id: str, *, waited: float, connected: float, executed: float) -> Due:
        """The same moment, for the answer that was made in time."""
        return Due(self._when, request_id, self, waited, connected, executed)

    def over_in(self, phase: str, waited: float, connected: float, executed: float) -> str:
        """That it has passed in this phase, with the seconds of each."""
        connected = min(connected, waited)
        parts = f"queue {waited - connected:.3f} s, connect {connected:.3f} s, execute {executed:.3f} s"
        return f"the request's {self._seconds:g} s ({self._source}) were over in {phase}: {parts}"

    # ── inside ──

    def _pass(self) -> None:
        self._timer = None
        self._has_passed = True
        self._task.cancel()
