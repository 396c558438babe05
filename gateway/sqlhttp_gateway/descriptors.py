"""How many files a worker may open, and how many connections of programs that leaves room for.

Each connection is a file of the process: those of programs, and those to Postgres, which must be had whoever else is
connected. Who is let in is decided by `endpoints.connections`.
"""

import resource
from typing import NamedTuple

from sqlhttp_gateway.settings import Settings, per_worker

MOST = 10_000
"""Connections of programs where nothing is set and files are plenty; each takes some 6 KiB, more once it was used."""
RESERVE = 200
"""Files beside: what is listened on, the log, the workers' lines, key sets, Redis, the admin address, and those who are
told that there is no room."""
_PLENTY = 1 << 20
"""What an unlimited number counts as; Linux allows no process more unless fs.nr_open was raised."""


class Files(NamedTuple):
    """What a process may open."""

    soft: int
    """The limit that holds (ulimit -n)."""
    hard: int
    """As far as the process may raise it by itself."""


def files() -> Files:
    """Those of this process."""
    return Files(*(_PLENTY if each == resource.RLIM_INFINITY else each for each in _limits()))


def needed(settings: Settings) -> int:
    """What a worker opens beside the connections of programs."""
    pool = per_worker(settings.pool, settings.listen.workers)
    return 2 * pool.max_total + RESERVE  # a cancel takes a connection beside the one that it cancels


def most_connections(settings: Settings, limit: int) -> int:
    """`listen.max_connections`, or what there is room for when a worker may open `limit` files."""
    if settings.listen.max_connections is not None:
        return settings.listen.max_connections
    return max(1, min(MOST, limit - needed(settings)))


def raise_limit(settings: Settings) -> Files:
    """Raise the soft limit to what the settings need, as far as this process may; the limits from then on."""
    limit = files()
    wanted = min(limit.hard, needed(settings) + (settings.listen.max_connections or MOST))
    if wanted > limit.soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, _limits()[1]))
        limit = limit._replace(soft=wanted)
    return limit


def shortage(settings: Settings, limit: int) -> str:
    """What to say when fewer connections fit than are wanted; empty when they do."""
    wanted = settings.listen.max_connections
    room = limit - needed(settings)
    if room >= (wanted or MOST):
        return ""
    said = f"listen.max_connections is {wanted}" if wanted is not None else f"{MOST} connections of programs are usual"
    return (
        f"{said}, and {limit} files that a worker may open leave room for {max(0, room)}: raise the limit "
        f"(ulimit -n, LimitNOFILE) to {needed(settings) + (wanted or MOST)}"
    )


def _limits() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_NOFILE)
