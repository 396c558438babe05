"""The quick way of what is asked most: one plain statement, by a role that has proven its password a short while ago.

`service.answer` is the judge of what a request means and what it is answered. This is what comes of it for such a
request when nothing goes wrong, step by step without a task, each step called by what it waited for. Whatever a request
has that is not known here to be plain, and whatever ends in a way that wants thought, goes to the service, as if it had
never been tried here. A failure that is an answer, such as a syntax error, is told here as the service tells it.
"""

import asyncio
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Protocol

from sqlhttp_gateway.auth.authenticate import Authenticator
from sqlhttp_gateway.auth.caller import Caller
from sqlhttp_gateway.events import Observer
from sqlhttp_gateway.execute.limits import Limits
from sqlhttp_gateway.execute.texts import is_plain_text
from sqlhttp_gateway.model import Batch, Statement
from sqlhttp_gateway.neon.bodies import Bodies
from sqlhttp_gateway.observe.tally import Tally
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.reply import new_request_id
from sqlhttp_gateway.sql.asker import Asker
from sqlhttp_gateway.sql.changes import Changes
from sqlhttp_gateway.sql.errand import Errand, Errands, Receiver
from sqlhttp_gateway.sql.hits import Hit, Hits
from sqlhttp_gateway.sql.plain import is_plain_caller, options_beside_cache, plain_request
from sqlhttp_gateway.story import Telling


class QuickReceiver(Receiver, Protocol):
    """Whoever sends requests of which some are answered from the cache."""

    def deliver_kept(self, request_id: str, hit: Hit) -> None:
        """As `deliver_plain`, of what the cache has; within `answer_kept`."""


class Quick:
    """Begins requests; what becomes of each is its Errand's to know."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        registry: PoolRegistry,
        limits: Limits,
        observe: Observer,
        telling: Telling,
        tally: Callable[[str, str], Tally] | None = None,
        most_seconds: float = 0.0,
        changes: Changes | None = None,
        hits: Hits | None = None,
        asks_cache: bool = False,
    ) -> None:
        """`tally` has the Tally of a target's database, for when it is enough to count. Without `changes` and `hits`
        there is no cache; `asks_cache` says that requests may ask it without a word of theirs.
        """
        self._hits = hits
        self._authenticator = authenticator
        self._tally = tally
        self._bodies = Bodies(_is_for_here)
        self._epoch = 0
        self._loop = asyncio.get_running_loop()
        self._changes = changes
        self._errands = Errands(registry=registry, observe=observe, changes=changes)
        self.reconfigure(limits=limits, telling=telling, most_seconds=most_seconds, asks_cache=asks_cache)

    def reconfigure(
        self, *, limits: Limits, telling: Telling, most_seconds: float = 0.0, asks_cache: bool = False
    ) -> None:
        """Go by these from the next request on."""
        self._errands.reconfigure(limits=limits, telling=telling)
        self._is_told = telling.each or telling.audit
        """Whether somebody hears of each request."""
        self._is_open = not most_seconds
        """Whether any request is for here."""
        self._asks_cache = asks_cache
        self._epoch += 1

    def asker(self, headers: Mapping[bytes, bytes]) -> Asker | None:
        """Whoever sends these headers, if they ask for nothing but an answer, and perhaps one that is kept."""
        options = options_beside_cache(headers)
        return Asker(headers, options) if options is not None else None

    def answer_kept(self, asker: Asker, body: bytes, receiver: QuickReceiver) -> bool:
        """Deliver what the cache has, if the request asks it as it did before; else nothing has happened."""
        if self._hits is None or not (asker.asks_cache or b"cache" in body or self._asks_cache):
            return False
        if self._caller(asker) is None or asker.seeker is None:
            return False
        hit = self._hits.find(asker.seeker, body)
        if hit is None:
            return False
        receiver.deliver_kept(new_request_id(), hit)
        return True

    def begin(self, asker: Asker, body: bytes, receiver: Receiver) -> Errand | None:
        """The request, begun; None, and nothing has happened, when it is not one for here."""
        if not asker.is_plain or self._asks_cache:
            return None
        caller = self._caller(asker)
        if caller is None:
            return None
        began = perf_counter()
        request: Statement | Batch | None = self._bodies.read(body)
        if request is None:
            if b"cache" in body:
                return None  # it may ask for a kept answer
            request = plain_request(body)
            if request is None:
                return None
            if isinstance(request, Statement):
                self._bodies.remember(body, request.text)
        changes = self._changes
        if changes is not None and changes.used[0] and changes.must_note(caller, request):
            return None
        errand = Errand(self._errands, asker, caller, request, receiver, len(body), began)
        errand.begin()
        return errand

    def _caller(self, asker: Asker) -> Caller | None:
        """Whose request it is, if the proof holds and nothing of it has changed."""
        caller = asker.caller
        if (
            caller is None
            or self._loop.time() >= caller.proven_until
            or asker.generation != self._authenticator.generation
            or asker.epoch != self._epoch
            or caller.pool.is_retired
        ):
            return self._recall(asker)
        return caller

    def _recall(self, asker: Asker) -> Caller | None:
        asker.caller = None  # what was known of it is not asked again, whatever comes of this
        if not self._is_open:
            return None
        authenticator = self._authenticator
        asker.generation, asker.epoch = authenticator.generation, self._epoch
        caller = authenticator.recall(asker.connection_string, host=asker.host if authenticator.heeds_host else b"")
        if caller is None or not is_plain_caller(caller):
            return None
        asker.caller = caller
        is_told = self._tally is None or self._is_told
        asker.tally = None if is_told or self._tally is None else self._tally(caller.target, caller.database)
        asker.seeker = None if is_told or self._hits is None else self._hits.seeker(caller, asker.options, asker.asked)
        return caller


def _is_for_here(text: str) -> bool:
    """Whether a body with this text, and parameters, is plain whatever these are."""
    return is_plain_text(text) and "cache" not in text
