"""A line in which the requests of several tenants stand: a queue for each, served in turn.

Within a queue it is first in, first out. What whoever is served gets, and how long anybody may wait, is not known here.
A tenant without anybody in line costs nothing.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from math import inf
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

T = TypeVar("T", bound=Hashable)


class Turn(Hashable, Protocol):
    """A place in line, for whoever waits to be told by: a future, or what goes on by itself once it is told."""

    def done(self) -> bool:
        """Whether it was told, or has given up."""

    def set_result(self, result: Any, /) -> None:
        """Tell it what it waited for."""

    def set_exception(self, exception: BaseException, /) -> None:
        """Tell it that this does not come."""


class Place(NamedTuple, Generic[T]):
    """Whose turn it is to be, since when it waits, for how many seconds it may, and when that is over."""

    tenant: T
    since: float
    timeout: float
    until: float = inf
    """For whoever keeps the line; not looked at here."""


class Line(Generic[T]):
    """Who waits, in order of arrival, and by whose turn."""

    __slots__ = ("_queues", "places")

    def __init__(self) -> None:
        # Taking out the first of a plain dict again and again is quadratic: it looks at every gap before it.
        self.places: OrderedDict[Turn, Place[T]] = OrderedDict()
        """Who stands here, in order of arrival; to be read only. Asking whether it is empty is cheaper than `len`."""
        self._queues: OrderedDict[T, OrderedDict[Turn, None]] = OrderedDict()
        """Never an empty one; whose turn is next comes first."""

    def __len__(self) -> int:
        return len(self.places)

    def __contains__(self, turn: Turn) -> bool:
        return turn in self.places

    def __iter__(self) -> Iterator[Turn]:
        """All turns in order of arrival."""
        return iter(self.places)

    @property
    def since(self) -> float | None:
        """When the first of those who still wait came; None when nobody does."""
        for turn, place in self.places.items():
            if not turn.done():
                return place.since
        return None

    @property
    def tenants(self) -> int:
        """How many tenants have somebody in line."""
        return len(self._queues)

    def place(self, turn: Turn) -> Place[T]:
        """What is known of one who stands here."""
        return self.places[turn]

    def ahead(self, turn: Turn) -> int:
        """How many of the same tenant came before it."""
        for number, other in enumerate(self._queues[self.places[turn].tenant]):
            if other is turn:
                return number
        raise AssertionError("a place without a queue")

    def length(self, tenant: T) -> int:
        """How many of a tenant stand here."""
        queue = self._queues.get(tenant)
        return len(queue) if queue is not None else 0

    def join(self, turn: Turn, place: Place[T]) -> None:
        """Stand at the end of the tenant's queue. One who had none gets its turn after all who have one."""
        self.places[turn] = place
        queue = self._queues.get(place.tenant)
        if queue is None:
            queue = self._queues[place.tenant] = OrderedDict()
        queue[turn] = None

    def postpone(self, turn: Turn, until: float) -> None:
        """Have one who stands here wait until another moment."""
        self.places[turn] = self.places[turn]._replace(until=until)

    def leave(self, turn: Turn) -> Place[T] | None:
        """Stand here no longer; None if it did not."""
        place = self.places.pop(turn, None)
        if place is not None:
            queue = self._queues[place.tenant]
            del queue[turn]
            if not queue:
                del self._queues[place.tenant]
        return place

    def next(self) -> Turn | None:
        """Take out the one whose turn it is; None when nobody waits. Those who were told already are passed over."""
        queues = self._queues
        while queues:
            turn = self.take(next(iter(queues)))
            if turn is not None:
                return turn
        return None

    def peek(self) -> Turn | None:
        """Whose turn it is; None when nobody waits."""
        for queue in self._queues.values():
            for turn in queue:
                if not turn.done():
                    return turn
        return None

    def take(self, tenant: T) -> Turn | None:
        """Take out the first of a tenant, whose turn is then behind that of all others; None when it has nobody."""
        queues = self._queues
        queue = queues[tenant]
        while queue:
            turn, _ = queue.popitem(False)
            del self.places[turn]
            if not turn.done():  # done but still here: cancelled in this tick
                break
        else:
            turn = None
        if not queue:
            del queues[tenant]
        elif len(queues) > 1:
            queues.move_to_end(tenant)
        return turn

    def firsts(self) -> Iterator[Place[T]]:
        """The first place of each tenant that still waits, whose turn is next coming first."""
        for queue in self._queues.values():
            for turn in queue:
                if not turn.done():
                    yield self.places[turn]
                    break

    def last_of_longest(self) -> Turn | None:
        """Who came last in the longest queue; None when nobody waits."""
        longest = max(self._queues.values(), key=len, default=None)
        return next(reversed(longest)) if longest is not None else None

    def clear(self) -> list[Turn]:
        """Take out all, in order of arrival."""
        turns = list(self.places)
        self.places.clear()
        self._queues.clear()
        return turns
