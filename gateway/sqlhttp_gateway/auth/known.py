"""Callers that were proven a short while ago, known again by a keyed hash of all that they showed.

That saves parsing and looking up, and keeps no secret. For how long a proof holds is decided where it is made.
"""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice

from sqlhttp_gateway.auth.caller import Caller

MAX_KNOWN = 10_000
"""Callers that are remembered at once, some 2 KiB each where they came with a token."""
_LOOKED_AT = 2
"""How many of those remembered longest are looked at for each that comes: so they go as fast as they came."""


class Known:
    """Callers by what they showed: a connection string, a header, and the host that the request came to."""

    __slots__ = ("_callers", "_clock", "_key")

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` is the one that callers are proven by."""
        self._callers = OrderedDict[bytes, Caller]()
        self._clock = clock
        self._key = secrets.token_bytes(32)

    def __len__(self) -> int:
        return len(self._callers)

    def recall(self, connection_string: bytes, authorization: bytes | None, host: bytes) -> Caller | None:
        """Who showed this, if the proof of it still holds."""
        caller = self._callers.get(self._digest(connection_string, authorization, host))
        if caller is None or caller.pool.is_retired or self._clock() >= caller.proven_until:
            return None
        return caller

    def remember(self, caller: Caller, connection_string: bytes, authorization: bytes | None, host: bytes) -> None:
        """This caller showed that. Those whose proof is over make room, and if that is too little, the oldest."""
        digest = self._digest(connection_string, authorization, host)
        callers, now = self._callers, self._clock()
        callers.pop(digest, None)
        for oldest in list(islice(callers, _LOOKED_AT)):
            if now >= callers[oldest].proven_until:
                del callers[oldest]
        if len(callers) >= MAX_KNOWN:
            callers.popitem(last=False)
        callers[digest] = caller

    def forget(self) -> None:
        """Recall nobody: something that was proven may be so no longer."""
        self._callers.clear()

    def _digest(self, connection_string: bytes, authorization: bytes | None, host: bytes) -> bytes:
        if host:
            connection_string = b"%b\n%b\n%b" % (host, authorization or b"", connection_string)
        elif authorization is not None:
            # No header has a line feed in it, so no connection string alone can look like this.
            connection_string = b"%b\n%b" % (authorization, connection_string)
        return hashlib.blake2b(connection_string, key=self._key, digest_size=16).digest()
