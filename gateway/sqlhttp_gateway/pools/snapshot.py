"""What a pool or a server looks like at one moment, for metrics and the status page. Nothing here changes one."""

from dataclasses import dataclass

from sqlhttp_gateway.pools.group import Group
from sqlhttp_gateway.pools.pool import Pool


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """Numbers of connections by what they do, and of those who wait. Times are seconds."""

    target: str
    host: str
    port: int
    database: str
    role: str
    max_size: int
    leased: int
    idle: int
    """Lent to nobody, or to a tunnel that gives it back as soon as another wants it."""
    returning: int
    """Given back by their holder and being made clean."""
    opening: int
    waiting: int
    longest_wait: float
    oldest_lease: float
    is_paused: bool = False
    is_down: bool = False
    """The server cannot be reached."""

    @property
    def connections(self) -> int:
        """All that Postgres counts or is about to."""
        return self.leased + self.idle + self.returning + self.opening


def snapshot(pool: Pool, now: float) -> PoolSnapshot:
    """The pool as it is; `now` is the loop's time."""
    key, target = pool.key, pool.upstream.target
    lingering = len(pool.lingering)
    waits = [since for since in (pool.gate.waiting_since, next(iter(pool.reserving.values()), None)) if since]
    return PoolSnapshot(
        target=key.target,
        host=target.host,
        port=target.port,
        database=key.database,
        role=key.role,
        max_size=pool.upstream.pool.max_size,
        leased=len(pool.leased) - lingering,
        idle=pool.idle + lingering,
        returning=len(pool.returning),
        opening=pool.opening,
        waiting=pool.gate.waiting + len(pool.reserving),
        longest_wait=now - min(waits) if waits else 0.0,
        oldest_lease=now - min(pool.leased.values()) if pool.leased else 0.0,
        is_paused=pool.gate.is_paused,
        is_down=pool.breaker is not None and pool.breaker.is_open,
    )


@dataclass(frozen=True, slots=True)
class ServerSnapshot:
    """One server of a target that has several, as of the last look. `lag` is seconds."""

    target: str
    server: str
    host: str
    port: int
    role: str
    lag: float
    reason: str
    """Why it is down or detached."""


def server_snapshots(group: Group) -> list[ServerSnapshot]:
    """The servers of a target, in the order of the settings."""
    return [
        ServerSnapshot(
            target=group.name,
            server=server.name,
            host=group.upstreams[server.name].target.host,
            port=group.upstreams[server.name].target.port,
            role=server.role,
            lag=server.lag,
            reason=server.reason,
        )
        for server in group.view.servers
    ]
