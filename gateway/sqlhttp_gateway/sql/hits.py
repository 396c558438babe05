"""Kept answers for requests that came before in the same bytes: given at once, without a task.

`cached` is the judge of what a request gets. Here is what comes of it for one that asks as it did before, by the same
head, while the answer is fresh; whatever else it is, and all that has to be thought of, is left to the service.
"""

from collections.abc import Callable
from math import floor
from time import perf_counter
from typing import NamedTuple

from sqlhttp_gateway.auth.caller import Caller
from sqlhttp_gateway.cache.policy import Asked, Scope
from sqlhttp_gateway.cached import CachedAnswers, scope_of
from sqlhttp_gateway.model import Options
from sqlhttp_gateway.neon.caching import encode_fresh
from sqlhttp_gateway.observe.tally import HitTally


class Hit(NamedTuple):
    """What the cache had."""

    status: bytes
    """The value of Cache-Status."""
    age: int
    """Seconds; that of Age."""
    body: bytes


class Seeker:
    """One caller who asks by one head."""

    __slots__ = ("asked", "options", "scope", "tally")

    def __init__(self, scope: Scope, options: Options, asked: Asked, tally: HitTally) -> None:
        self.scope = scope
        self.options = options
        self.asked = asked
        self.tally = tally


class Hits:
    """Looks into the cache on behalf of `quick`."""

    def __init__(self, cached: CachedAnswers, tally: Callable[[str, str], HitTally]) -> None:
        """`tally` has that of a target's database."""
        self._cache = cached.cache
        self._tally = tally

    def seeker(self, caller: Caller, options: Options, asked: Asked) -> Seeker:
        """Whoever asks like this, as long as the caller is proven."""
        return Seeker(scope_of(caller), options, asked, self._tally(caller.target, caller.database))

    def find(self, seeker: Seeker, body: bytes) -> Hit | None:
        """A fresh answer to a request that has come before; it is counted. None: it is the service's to answer."""
        began, cache = perf_counter(), self._cache
        question = cache.aliases.find(seeker.scope, seeker.options, seeker.asked, body)
        if question is None or question.refusal or question.wish.no_store or question.wish.no_cache:
            return None
        found = cache.find(question)
        if found is None or found.left <= 0 or found.entry.seen is not None:
            return None
        entry = found.entry
        entry.hits += 1
        hit = Hit(encode_fresh(floor(found.left)), int(found.age), entry.body)
        seeker.tally.note(perf_counter() - began, len(body), len(entry.body), entry.cost)
        return hit
