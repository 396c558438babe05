"""The end of a tunnel: whether it has come, why, and whether the program has still to be told so.

Whoever finds that it cannot go on says it here; what the end consists of is `traffic`'s business.
"""

import asyncio

from sqlhttp_gateway.errors import GatewayError


class Ending:
    """One tunnel's. It ends once, for the first reason that there was."""

    __slots__ = ("error", "farewell", "over", "untold")

    def __init__(self) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when nothing is to be moved any more."""
        self.error: GatewayError | None = None
        """Why it ends; None for an orderly goodbye or a program that just left."""
        self.untold: GatewayError | None = None
        """What the program has to be told before it is let go."""
        self.farewell: GatewayError | None = None
        """Why it has to end as soon as no transaction is open."""

    def fail(self, error: GatewayError) -> None:
        """End it now, and tell the program why, unless it is told why already."""
        if self.error is None and not self.over.done():
            self.error = self.untold = error
        self.finish()

    def was_told(self, error: GatewayError) -> None:
        """The program gets to know of this by itself, or cannot: it ends with the next step at the latest."""
        self.error = self.error or error

    def crash(self, bug: BaseException) -> None:
        """Whoever waits for `over` is to raise it: who met it is the event loop or a backend, neither of which is to
        suffer."""
        if not self.over.done():
            self.over.set_exception(bug)

    def finish(self) -> None:
        """End it now. Harmless when it is over."""
        if not self.over.done():
            self.over.set_result(None)
