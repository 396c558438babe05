"""Whether Postgres has as many connections as all gateways may take. Pure arithmetic, shown with its numbers."""

from dataclasses import dataclass

from sqlhttp_gateway.check.finding import Finding, Level
from sqlhttp_gateway.settings import Settings, per_worker

SUBJECT = "capacity"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the settings cannot know: how many gateways there are, and how many connections others need."""

    instances: int = 1
    buffer: int = 5
    """Connections left to migrations, backups and people, out of each instance's share."""


def most_connections(settings: Settings, *, is_probed: bool = False) -> int:
    """Most connections one gateway opens to a server of the default target, those beside its pools included.

    `is_probed`: the target has several servers, of which each worker looks at each.
    """
    workers = settings.listen.workers
    return per_worker(settings.pool, workers).max_total * workers + _beside(settings, is_probed=is_probed)


def _beside(settings: Settings, *, is_probed: bool) -> int:
    """Connections that do not count for `pool.max_total`."""
    return bool(settings.watch.interval) + settings.listen.workers * is_probed


def share(limit: int, deployment: Deployment) -> int:
    """What one gateway may take of `limit` connections."""
    return limit // deployment.instances - deployment.buffer


def capacity(
    settings: Settings, *, max_connections: int, reserved: int, deployment: Deployment, is_probed: bool = False
) -> Finding:
    """The finding; an error when all gateways together could take every connection there is."""
    limit = max_connections - reserved
    allowed, needed = share(limit, deployment), most_connections(settings, is_probed=is_probed)
    watch = " and 1 to watch it" if settings.watch.interval else ""
    looks = f" and {settings.listen.workers} to see which server is the primary" if is_probed else ""
    text = (
        f"floor({limit} / {deployment.instances}) - {deployment.buffer} = {allowed} connections for each of "
        f"{deployment.instances} gateway(s): max_connections is {max_connections}, of which {reserved} are reserved. "
        f"A gateway opens at most {needed}: pool.max_total is {settings.pool.max_total}{watch}{looks}."
    )
    if needed <= allowed:
        return Finding(SUBJECT, Level.OK, text)
    best = allowed - _beside(settings, is_probed=is_probed)
    if best < settings.listen.workers:
        remedy = "There are too few connections for so many gateways: run fewer, or raise max_connections."
    else:
        remedy = (
            f"Set pool.max_total to {best}, or raise max_connections by {(needed - allowed) * deployment.instances}."
        )
    all_of_them = needed * deployment.instances >= limit
    return Finding(SUBJECT, Level.ERROR if all_of_them else Level.WARNING, text, remedy)


def products(settings: Settings) -> Finding:
    """How the bounds are spread over the workers."""
    workers = settings.listen.workers
    each = per_worker(settings.pool, workers)
    text = (
        f"{workers} worker(s) x {each.max_size} connections = {workers * each.max_size} to one database and role, "
        f"{workers} x {each.max_total} = {workers * each.max_total} over all pools."
    )
    lost = settings.pool.max_size - workers * each.max_size
    if lost:
        remedy = f"{lost} of pool.max_size are lost to the division: make it a multiple of listen.workers."
        return Finding("workers", Level.NOTE, text, remedy)
    return Finding("workers", Level.OK, text)
