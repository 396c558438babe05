"""An exchange with a question of the gateway's own in front of it, or behind it, in the same write.

Each of the three ends in a ReadyForQuery of its own, so that neither question is in the caller's transaction, and the
fate of one decides nothing about the others.
"""

from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.wire.exchange import Exchange


class SurroundedExchange(Exchange):
    """Reads all that was written as one: it is over when the last of its parts is."""

    __slots__ = ("before", "behind")

    def __init__(
        self, *, max_bytes: int = 0, count_names: bool = False, before: bool = False, behind: bool = False
    ) -> None:
        super().__init__(max_bytes=max_bytes, count_names=count_names)
        self.before = Exchange() if before else None
        """The question in front; its status tells whether it was read to its end."""
        self.behind = Exchange() if behind else None

    def refuse(self, error: GatewayError) -> None:
        """As for every exchange; what happens to the question behind it is no fault of one that is over."""
        if not self.status:
            super().refuse(error)

    def receive(self, data: bytes) -> bytes | None:
        """As every reader: None while more is needed, else the bytes after the end."""
        rest: bytes | None = data
        if self.before is not None and not self.before.status:
            rest = self.before.receive(data)
            if not rest:
                return None
        if not self.status:
            assert rest is not None
            rest = super().receive(rest)
            if rest is None or self.behind is None:
                return rest
            if not rest:
                return None
        assert rest is not None
        assert self.behind is not None
        return self.behind.receive(rest)
