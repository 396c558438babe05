"""Whoever sends one head again and again: what that head asks for, and what is known of its sender."""

from collections.abc import Mapping

from sqlhttp_gateway.auth.caller import Caller
from sqlhttp_gateway.cache.policy import Asked
from sqlhttp_gateway.model import Options
from sqlhttp_gateway.neon.headers import CONNECTION_STRING, HOST
from sqlhttp_gateway.observe.tally import Tally
from sqlhttp_gateway.sql.hits import Seeker
from sqlhttp_gateway.sql.plain import asks_cache, plain_options


class Asker:
    """Whoever sends one head again and again, and how it wants its answers."""

    __slots__ = (
        "asked",
        "asks_cache",
        "caller",
        "connection_string",
        "epoch",
        "generation",
        "host",
        "is_plain",
        "options",
        "seeker",
        "tally",
    )

    def __init__(self, headers: Mapping[bytes, bytes], options: Options) -> None:
        self.connection_string = connection_string = headers[CONNECTION_STRING]
        self.host = headers.get(HOST, b"")
        self.options = options
        self.asks_cache = asks_cache(headers)
        """Whether the head itself has a wish for the cache."""
        self.asked = Asked.of(headers, connection_string, b"")
        self.is_plain = plain_options(headers) is not None
        """Whether its statements may run here."""
        self.caller: Caller | None = None
        self.seeker: Seeker | None = None
        """As whom it asks the cache; None: it is the service's to ask."""
        self.tally: Tally | None = None
        """Where its requests that went well are noted; None: each is told."""
        self.generation = -1
        """The authenticator's when the caller was recalled."""
        self.epoch = 0
        """Which settings held then."""
