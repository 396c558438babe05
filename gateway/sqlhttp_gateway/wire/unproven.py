"""A tunnel's backend from its coming, when it is not clean, until it is known to be clean or to refuse.

In front of the program's first messages goes what cleans it and gives it the session's parameters (`ahead`). Should it
refuse, nothing of what was sent behind that is done, and all of it is there to be sent again to another.
"""

from collections.abc import Callable

from sqlhttp_gateway.errors import RemoteProtocolError
from sqlhttp_gateway.wire.ahead import Ahead, Cleansing
from sqlhttp_gateway.wire.cutting import Cutter
from sqlhttp_gateway.wire.frontend import SYNC
from sqlhttp_gateway.wire.owed import AHEAD, Owed
from sqlhttp_gateway.wire.own_statements import OwnStatements
from sqlhttp_gateway.wire.session import Parameters, Session


class Unproven:
    """What one tunnel knows of the cleaning of its backend. `to_backend` and `to_frontend` are where the bytes go."""

    def __init__(
        self,
        *,
        waiting: Owed,
        requests: Cutter,
        own: OwnStatements,
        session: Session,
        to_backend: list[bytes],
        to_frontend: list[bytes],
        on_status: Callable[[bytes], None],
    ) -> None:
        """`on_status` is told each ParameterStatus that the cleaning brings."""
        self._owed = waiting
        self._requests = requests
        self._own = own
        self._session = session
        self._out = to_backend
        self._replies = to_frontend
        self._on_status = on_status
        self._parameters: Parameters = ()
        self.cleansing: Cleansing | None = None
        """What is under way; None where it is known how the backend is."""
        self.is_refused = False
        """The backend could not be made clean, and nothing of what was sent is done."""

    @property
    def has_failed(self) -> bool:
        """The backend has refused to become clean, and is about to say that it waits for the next."""
        return self.cleansing is not None and self.cleansing.has_failed

    def begin(self, ahead: Ahead, needed: Parameters, *, is_greeted: bool) -> Parameters:
        """Send what makes the backend clean and sets the parameters. Answers those that have still to be set.

        They are set by statements of their own where the backend has to be taught these, and before the log-in is over.
        """
        settings = self._own.settings(needed) if is_greeted else None
        self._parameters = needed if settings is not None else ()
        self.cleansing = Cleansing(ahead, settings or ())
        self._out.append(self.cleansing.frames)
        if settings is not None:
            return ()
        if needed:
            self._owed.add(AHEAD)
        return needed

    def send_first(self) -> None:
        """Send what the program's messages begin with, where no parameters have still to be set.

        Raises:
            BadRequest: they break the protocol.
        """
        if not self._requests.send_first():
            self._own.sync()  # for Postgres to answer

    def receive(self, data: bytes) -> bytes:
        """Read on whether the backend is clean now, and answer what comes behind that.

        Raises:
            RemoteProtocolError: this is not an answer to what was sent.
        """
        cleansing = self.cleansing
        assert cleansing is not None
        had_failed = cleansing.has_failed
        rest = cleansing.receive(data)
        if cleansing.has_failed and not had_failed and not self._owed.ends_in_sync:
            self._out.append(SYNC)
        if rest is None:
            return b""
        self.cleansing = None
        for frame in cleansing.statuses:
            self._on_status(frame)
        if cleansing.has_failed:
            self.refuse()
            return b""
        values = cleansing.values
        if len(values) != len(self._parameters):
            raise RemoteProtocolError("the server answers with other values than were set")
        for (name, _), value in zip(self._parameters, values, strict=True):
            self._session.was_set(name, value or b"")
        self._requests.proven()
        local = self._owed.pop_ahead()
        if local:
            self._replies.append(local)
        return rest

    def refuse(self) -> None:
        """It is not clean: nothing of what was sent is done."""
        self.cleansing = None
        self.is_refused = True
        self._owed.take_back()
        self._requests.take_back()

    def detach(self) -> bool:
        """The backend goes. Whether it was refused, so that what was sent in vain wants another."""
        was_refused, self.is_refused, self.cleansing = self.is_refused, False, None
        return was_refused
