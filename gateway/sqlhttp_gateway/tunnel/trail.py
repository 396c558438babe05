"""A tunnel's statements, told to the audit as those of HTTP are."""

from collections.abc import Callable, Iterable

from sqlhttp_gateway.auth.caller import Caller
from sqlhttp_gateway.errors import PostgresError
from sqlhttp_gateway.events import Audited, Observer
from sqlhttp_gateway.wire.transcript import Asked, Transcript


class Trail:
    """One tunnel's. All its lines share one request id."""

    def __init__(self, caller: Caller, *, request_id: str, observe: Observer, clock: Callable[[], float]) -> None:
        self._caller = caller
        self._request_id = request_id
        self._observe = observe
        self._clock = clock
        self._transcript = Transcript()

    def sent(self, data: bytes) -> None:
        """The program sent this."""
        self._transcript.sent(data, now=self._clock())

    def said(self, data: bytes) -> None:
        """The program is told this."""
        self._tell(self._transcript.said(data))

    def left(self) -> None:
        """The tunnel is over."""
        self._tell(self._transcript.left(), outcome="cancelled")

    def _tell(self, asked: Iterable[Asked], *, outcome: str = "ok") -> None:
        caller = self._caller
        for each in asked:
            self._observe(
                Audited(
                    request_id=self._request_id,
                    tenant=caller.grant.tenant if caller.grant is not None else caller.role,
                    target=caller.target,
                    database=caller.database,
                    role=caller.role,
                    is_proven=True,
                    outcome=PostgresError.kind if each.sqlstate else outcome,
                    sqlstate=each.sqlstate,
                    seconds=self._clock() - each.began,
                    texts=tuple(each.texts),
                    rows=tuple(each.rows),
                    traceparent="",
                )
            )
