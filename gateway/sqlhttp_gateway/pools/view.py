"""What the servers of one target are to each other, found by asking each and believing none.

Pure: what each server said of itself becomes a frozen View. A server that takes writes is the primary only if no other
takes them on a later timeline, and never again after one did: that is how a former primary that has missed its own
replacement is told apart. A server with another system identifier is no copy of the others, whatever it says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from sqlhttp_gateway.model import Bookmark


class Role(StrEnum):
    """What a server is, as of the last look."""

    PRIMARY = "primary"
    REPLICA = "replica"
    DETACHED = "detached"
    """It answers and is no use: a former primary, a replica on another timeline, or another database system."""
    DOWN = "down"
    """It does not answer, or was not asked yet."""


class Seen(NamedTuple):
    """What one server said of itself."""

    system: int
    in_recovery: bool
    position: int
    """How far it has replayed, or written."""
    timeline: int
    """Of a primary the one it writes; of a standby the latest that it is known to follow."""
    fork: int | None = None
    """Of a primary that was promoted since its start: where its timeline began."""
    forks: Mapping[int, int] = MappingProxyType({})
    """Of a primary whose history may be read: where each earlier timeline was left for the next."""
    replay_age: float | None = None
    """Seconds since the last transaction that a standby has replayed was committed, by the two servers' clocks."""
    round_trip: float = 0.0
    """Seconds that the question took."""


class Server(NamedTuple):
    """One server in a View."""

    name: str
    role: Role = Role.DOWN
    position: int = 0
    timeline: int = 0
    lag: float = 0.0
    """Seconds that a replica is behind its primary."""
    round_trip: float = 0.0
    reason: str = "not asked yet"
    """Why it is down or detached."""


class Fate(StrEnum):
    """What became of the position that a bookmark means."""

    KEPT = "kept"
    """It is in the primary's history: a replica that has replayed as much has it."""
    LOST = "lost"
    """It is beyond the place where the primary's timeline began, or nobody knows that place."""
    AHEAD = "ahead"
    """It is of a timeline that no server here is known to have: a promotion that was not noticed yet."""


@dataclass(frozen=True, slots=True)
class View:
    """All servers of a target at one moment, in the order of the settings."""

    servers: tuple[Server, ...]
    system: int = 0
    timeline: int = 0
    """The latest on which a primary was seen; 0: none was yet."""
    forks: Mapping[int, int] = field(default_factory=dict)
    """Of each timeline before that, where it was left, as far as is known."""
    written: tuple[tuple[float, int], ...] = ()
    """When the primary was seen where, the oldest first: what a replica's lag is measured by."""

    @property
    def primary(self) -> Server | None:
        """The server that takes writes, if there is one."""
        return next((server for server in self.servers if server.role is Role.PRIMARY), None)

    def server(self, name: str) -> Server:
        """The server of this name."""
        return next(server for server in self.servers if server.name == name)

    def fate(self, bookmark: Bookmark) -> Fate:
        """Whether what the bookmark stands for is still there."""
        if not self.timeline or bookmark.timeline > self.timeline:
            return Fate.AHEAD
        if bookmark.system != self.system:
            return Fate.LOST
        if bookmark.timeline == self.timeline:
            return Fate.KEPT
        left = self.forks.get(bookmark.timeline)
        return Fate.KEPT if left is not None and bookmark.position <= left else Fate.LOST


_KEPT_SAMPLES = 600


def next_view(before: View, seen: Mapping[str, Seen | str], *, now: float) -> View:
    """The view after a look: what each server said, or why it did not. `now` is any clock's time that does not jump."""
    answers = {name: each for name, each in seen.items() if isinstance(each, Seen)}
    leading = _leading(before, answers)
    if leading is None:
        system, timeline, forks, written = before.system, before.timeline, before.forks, before.written
    else:
        said = answers[leading]
        system, timeline = said.system, said.timeline
        forks = _forks(before, said, leading)
        same = before.written if (before.system, before.timeline) == (system, timeline) else ()
        written = (*same, (now, said.position))[-_KEPT_SAMPLES:]
    servers = []
    for known in before.servers:
        said_or_not = seen.get(known.name, known.reason)
        if isinstance(said_or_not, str):
            servers.append(Server(known.name, Role.DOWN, known.position, known.timeline, reason=said_or_not))
            continue
        role, reason = _role(known.name, said_or_not, leading, system, timeline)
        servers.append(
            Server(
                known.name,
                role,
                said_or_not.position,
                said_or_not.timeline,
                _lag(said_or_not, written, now) if role is Role.REPLICA else 0.0,
                said_or_not.round_trip,
                reason,
            )
        )
    return View(tuple(servers), system, timeline, forks, written)


def _leading(before: View, answers: Mapping[str, Seen]) -> str | None:
    """The name of the primary."""
    writers = {name: each for name, each in answers.items() if not each.in_recovery}
    if before.timeline and any(each.system == before.system for each in answers.values()):
        writers = {
            name: each
            for name, each in writers.items()
            if each.system == before.system and each.timeline >= before.timeline
        }
    if not writers:
        return None
    latest = max(each.timeline for each in writers.values())
    candidates = [server.name for server in before.servers if server.name in writers]
    candidates = [name for name in candidates if writers[name].timeline == latest]
    standing = before.primary
    # Two on one timeline is a mistake that nobody here can settle: the one that was there first stays.
    return standing.name if standing is not None and standing.name in candidates else candidates[0]


def _forks(before: View, said: Seen, name: str) -> Mapping[int, int]:
    if said.forks:
        return said.forks
    if before.system != said.system or not before.timeline:
        return {}
    if said.timeline == before.timeline:
        return before.forks
    # What the new timeline branched off is known where its server was seen to follow the one before.
    followed = before.server(name).timeline == before.timeline
    if said.fork is None or not followed:
        return {}
    return {**before.forks, before.timeline: said.fork}


def _role(name: str, said: Seen, leading: str | None, system: int, timeline: int) -> tuple[Role, str]:
    if name == leading:
        return Role.PRIMARY, ""
    if system and said.system != system:
        return Role.DETACHED, f"its system identifier is {said.system}, not {system}"
    if not said.in_recovery:
        return Role.DETACHED, f"it takes writes on timeline {said.timeline}, beside or behind the primary"
    if timeline and said.timeline != timeline:
        return Role.DETACHED, f"it is not known to follow timeline {timeline}, only {said.timeline}"
    return Role.REPLICA, ""


def _lag(said: Seen, written: tuple[tuple[float, int], ...], now: float) -> float:
    """Seconds since the primary was first seen beyond what this replica has replayed; 0 if it never was."""
    if not written:
        return said.replay_age or 0.0
    if said.position >= written[-1][1]:
        return 0.0
    beyond = next(at for at, position in written if position > said.position)
    if beyond == written[0][0]:
        return max(now - beyond, said.replay_age or 0.0)
    return now - beyond
