"""The cache as one process has it: which answers are good for whom, what is being fetched, and what ends them.

An answer rests on buckets of `stamps`: its target, its database, its tenant, its tags, and the relations that it read
or, where those are not known for sure, every change in its database. `service` and `cached` decide when to look here;
nothing here knows how an answer is made.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from sqlhttp_gateway.cache.aliases import Aliases
from sqlhttp_gateway.cache.flights import Flights
from sqlhttp_gateway.cache.policy import Policy, Question
from sqlhttp_gateway.cache.stamps import Place, Stamps
from sqlhttp_gateway.cache.store import Entry, Store
from sqlhttp_gateway.settings import CacheSettings

_ALIASES = 8
"""The part of the room for answers, one in so many bytes, that there is besides for recognizing questions."""
_TARGET, _ALL, _ANY, _TENANT, _TAG, _RELATION, _SCHEMA = "target", "all", "any", "tenant", "tag", "relation", "schema"


class Found(NamedTuple):
    """A good answer, and how it stands with whoever asks."""

    entry: Entry
    age: float
    """Seconds since its query began."""
    left: float
    """Seconds for which it is fresh still; below 0 it is stale."""


class Ground(NamedTuple):
    """The buckets of a place that everything in it rests on."""

    target: int
    everything: int
    anything: int
    """Stamped with every change, for what could rest on any relation."""
    schema: int
    """Stamped with what may have changed views, functions or the like."""
    kept: int


class ResultCache:
    """Answers, and what is known of their end."""

    def __init__(self, settings: CacheSettings, stamps: Stamps, *, on_evict: Callable[[], None] = lambda: None) -> None:
        """`on_evict` is called for every answer that is given up to make room.

        Raises:
            BadRequest: a default in the settings cannot be read.
        """
        self.stamps = stamps
        self.store = Store(settings.max_bytes, stamps, on_evict=on_evict)
        self.flights: Flights[Entry] = Flights(settings.max_fetching)
        self.is_shared = settings.shared_url is not None
        """Whether other gateways may have answers of any database."""
        if self.is_shared:
            stamps.used[0] = 1
        self.staleness = settings.shared_staleness
        self.hears_others: Callable[[], bool] = lambda: True
        self.forgotten_at = 0
        """What began before may rest on what has ended unheard."""
        self.aliases = Aliases(settings.max_bytes // _ALIASES)
        self._grounds: dict[Place, Ground] = {}
        self.reconfigure(settings)

    def reconfigure(self, settings: CacheSettings) -> None:
        """Go by these bounds and defaults from the next request on; answers that have no room any more are given up.

        Raises:
            BadRequest: a default in the settings cannot be read.
        """
        self.policy = Policy(settings)
        self.max_entry_bytes = settings.max_entry_bytes
        self.flights.resize(settings.max_fetching)
        self.store.resize(settings.max_bytes)
        self.aliases.clear(settings.max_bytes // _ALIASES)  # what they ask may have been a default's

    # ── questions ──

    def find(self, question: Question) -> Found | None:
        """An answer that is fresh for who asks, or stale and still acceptable."""
        entry = self.store.get(question.key)
        if entry is None or not entry.shows(question.bookmark):
            return None
        now = self.stamps.now()
        ttl, swr = question.wish.ttl, question.wish.swr
        if ttl is None:
            ttl, swr = entry.ttl, entry.swr
        age = (now - entry.filled) / 1e9
        if self.is_shared and not self.hears_others() and (now - entry.began) / 1e9 >= self.staleness:
            return None
        if now >= entry.keep_until or age >= ttl + (swr or 0.0):
            return None
        return Found(entry, age, ttl - age)

    def may_join(self, question: Question, began: int) -> bool:
        """Whether what a fetch that `began` then brings is good enough for somebody who asks now."""
        ground = self.ground(question.scope.place)
        return self.is_good((ground.anything, *self.buckets(question, ())), began)

    def is_good(self, buckets: Iterable[int], began: int) -> bool:
        """Whether what a fetch brings that `began` then, and rests on these, may be given to others."""
        return began > self.forgotten_at and self.stamps.is_good(buckets, began)

    # ── what an answer rests on ──

    def ground(self, place: Place) -> Ground:
        """The buckets of a place."""
        ground = self._grounds.get(place)
        if ground is None:
            bucket = self.stamps.bucket
            ground = self._grounds[place] = Ground(
                bucket(_TARGET, place[0]),
                bucket(_ALL, *place),
                bucket(_ANY, *place),
                bucket(_SCHEMA, *place),
                self.stamps.bucket_of_place(place),
            )
        return ground

    def buckets(self, question: Question, relations: Iterable[str] | None) -> tuple[int, ...]:
        """Those of an answer that read these relations; None: perhaps any."""
        scope, bucket = question.scope, self.stamps.bucket
        place, tenant = scope.place, scope.tenant
        ground = self.ground(place)
        found = {ground.target, ground.everything, bucket(_TENANT, *place, tenant)}
        for tag in question.wish.tags:
            found |= {bucket(_TAG, *place, tag), bucket(_TENANT, *place, tenant, _TAG, tag)}
        if relations is None:
            found.add(ground.anything)
        for relation in relations or ():
            found |= {bucket(_RELATION, *place, relation), bucket(_TENANT, *place, tenant, _RELATION, relation)}
        return tuple(found)

    # ── the end. Each of these answers with the buckets that it has stamped ──

    def changed(self, place: Place, relations: Iterable[str] | None) -> list[int]:
        """These relations were written; None: perhaps any."""
        ground = self.ground(place)
        buckets = [ground.anything]
        if relations is None:
            buckets.append(ground.everything)
        buckets += [self.stamps.bucket(_RELATION, *place, relation) for relation in relations or ()]
        return self._end(buckets)

    def schema_changed(self, place: Place) -> list[int]:
        """Anything may be different: tables, views, functions, policies."""
        ground = self.ground(place)
        return self._end([ground.anything, ground.everything, ground.schema])

    def schema_changed_at(self, place: Place) -> int:
        """When that was last."""
        return self.stamps.last(self.ground(place).schema)

    def invalidate(
        self, place: Place, *, tenant: str | None, tags: Iterable[str] = (), relations: Iterable[str] = ()
    ) -> list[int]:
        """End answers with one of these tags, or that read one of these relations: of all tenants, or of one."""
        bucket = self.stamps.bucket
        owner = (_TENANT, *place, tenant) if tenant is not None else None
        buckets = []
        for kind, names in ((_TAG, tags), (_RELATION, relations)):
            for name in names:
                buckets.append(bucket(kind, *place, name) if owner is None else bucket(*owner, kind, name))
        if relations and owner is None:
            buckets.append(self.ground(place).anything)
        elif owner is not None and relations:
            buckets.append(bucket(*owner))  # an answer of theirs that could rest on any relation
        return self._end(buckets)

    def invalidate_all(self, place: Place, *, tenant: str | None) -> list[int]:
        """End all answers of a database: of all tenants, or of one."""
        if tenant is None:
            return self._end([self.ground(place).everything])
        return self._end([self.stamps.bucket(_TENANT, *place, tenant)])

    def invalidate_target(self, target: str) -> list[int]:
        """End all answers of all databases of a target."""
        return self._end([self.stamps.bucket(_TARGET, target)])

    def moved(self, target: str) -> list[int]:
        """The target is another server by now, of which nothing is known."""
        buckets = self.invalidate_target(target)
        for place in self._grounds:
            if place[0] == target:
                buckets += self.schema_changed(place)
        return buckets

    def _end(self, buckets: list[int]) -> list[int]:
        """Stamp them, and say which, for whoever has to tell others."""
        self.stamps.stamp(buckets)
        return buckets

    def is_kept(self, place: Place) -> bool:
        """Whether any worker may have an answer of this database, so that changes in it matter."""
        return self.is_shared or self.stamps.is_kept(self.ground(place).kept)

    @property
    def is_used(self) -> bool:
        """Whether any answer was ever kept, here or by anybody with whom it could be shared."""
        return self.stamps.used[0] != 0

    def sweep(self) -> Iterator[None]:
        """Forget what nobody can get any more, and by what it was asked for; a part of it at each step."""
        yield from self.store.sweep()
        self.aliases.forget_unless(self.store.__contains__)

    def forget_all(self) -> None:
        """End everything that is in this process's memory, or on its way there."""
        self.forgotten_at = self.stamps.now()
        self.store.drop_if(lambda entry: True)
