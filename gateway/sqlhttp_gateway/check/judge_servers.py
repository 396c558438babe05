"""What the roles and the lag of a target's servers mean, where it has several."""

from collections.abc import Iterator

from sqlhttp_gateway.check.finding import Finding, Level
from sqlhttp_gateway.neon.hosts import Wanted
from sqlhttp_gateway.pools.group import Group
from sqlhttp_gateway.pools.view import Role, Server


def judge_servers(group: Group) -> list[Finding]:
    """One finding for each server, and one if something is missing between them."""
    findings = [_server(server, group) for server in group.view.servers]
    return [*findings, *_missing(group)]


def _server(server: Server, group: Group) -> Finding:
    max_lag = group.settings.max_lag
    where = f"{server.name} ({group.upstreams[server.name].target.place})"
    match server.role:
        case Role.PRIMARY:
            return Finding("server", Level.OK, f"{where}: the primary, on timeline {server.timeline}.")
        case Role.REPLICA:
            text = f"{where}: a replica, {server.lag:.1f} s behind."
            if max_lag and server.lag > max_lag:
                remedy = f"Reads go elsewhere as long as it is more than replica.max_lag ({max_lag:g} s)."
                return Finding("lag", Level.WARNING, text, remedy)
            return Finding("server", Level.OK, text)
        case Role.DETACHED:
            remedy = (
                "It gets nothing. A former primary has to follow the new one (pg_rewind, pg_basebackup); "
                "a replica is trusted at once when the gateway's role has pg_monitor."
            )
            return Finding("server", Level.WARNING, f"{where}: {server.reason}.", remedy)
        case _:
            return Finding("server", Level.WARNING, f"{where}: {server.reason}.", "It gets nothing until it answers.")


def _missing(group: Group) -> Iterator[Finding]:
    view, target = group.view, group.name
    if view.primary is None and group.wanted not in {Wanted.STANDBY, Wanted.READ_ONLY}:
        yield Finding(
            "primary",
            Level.ERROR,
            f"No server of target {target} is the primary: no statement can write.",
            "Promote one, or name the one that is.",
        )
    if view.primary is not None and not any(server.role is Role.REPLICA for server in view.servers):
        yield Finding("server", Level.NOTE, f"No server of target {target} is a replica: the primary has all reads.")
