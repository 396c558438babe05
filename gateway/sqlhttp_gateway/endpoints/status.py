"""GET /status: how the gateway and its Postgres do, for people and scripts, as one JSON object over all workers.

It holds names of databases and roles and the addresses of targets, so it is for those in `admin.allow_from`; it never
holds a password, a connection string or a statement.
"""

import time
from dataclasses import asdict
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from sqlhttp_gateway.build import build_version
from sqlhttp_gateway.endpoints.access import Access
from sqlhttp_gateway.endpoints.probes import Readiness
from sqlhttp_gateway.observe.report import Report
from sqlhttp_gateway.observe.reporter import Reporter
from sqlhttp_gateway.observe.sample import Sample


class Status:
    """Turns what is known into the object."""

    def __init__(self, reporter: Reporter, access: Access, readiness: Readiness) -> None:
        self.access = access
        self._reporter = reporter
        self._readiness = readiness
        self._version = build_version()

    def now(self) -> dict[str, Any]:
        """The object."""
        state = "draining" if self._readiness.is_draining else "serving"
        return status_of(self._reporter.whole(), version=self._version, state=state, now=time.time())


def status_of(report: Report, *, version: str, state: str, now: float) -> dict[str, Any]:
    """The report as /status tells it. `now` is Unix time."""
    return {
        "version": version,
        "state": state,
        "uptime_seconds": round(now - report.started, 1),
        "workers": report.workers,
        "connections": {"open": report.connections, "limit": report.connections_limit},
        "programs": {"open": dict(report.programs), "limit": report.programs_limit},
        "requests": _requests(report),
        "pools": [asdict(pool) for pool in report.pools],
        "servers": [asdict(server) for server in report.servers],
        "cache": {**asdict(report.cache), "requests": report.counts.cache, "bypasses": report.counts.cache_bypasses},
        "postgres": _postgres(report.sample, now) if report.sample is not None else None,
        "alerts": [
            {**asdict(change.alert), "since": change.since, "for_seconds": round(now - change.since, 1)}
            for change in report.firing
        ],
    }


def _requests(report: Report) -> dict[str, int]:
    """By outcome, over all databases."""
    total: dict[str, int] = {}
    for each in report.counts.databases.values():
        for outcome, number in each.outcomes.items():
            total[outcome] = total.get(outcome, 0) + number
    return total


def _postgres(sample: Sample, now: float) -> dict[str, Any]:
    sampled = {"sampled_seconds_ago": round(now - sample.at, 1)}
    if sample.error:
        return {"state": "down", "error": sample.error, **sampled}
    return {
        "state": "up",
        **sampled,
        "connections": sample.connections,
        "limit": sample.limit,
        "max_connections": sample.max_connections,
        "by_state": dict(sample.by_state),
        "by_application": dict(sample.by_application),
        "waiting": dict(sample.waiting),
        "long_queries": sample.long_queries,
        "longest_query_seconds": sample.longest_query,
        "longest_transaction_seconds": sample.longest_transaction,
        "longest_idle_in_transaction_seconds": sample.longest_idle_in_transaction,
    }


async def status(request: Request) -> Response:
    """The object, or 403."""
    shown: Status = request.state.status
    if (refusal := shown.access.refusal(request)) is not None:
        return refusal
    body = orjson.dumps(shown.now(), option=orjson.OPT_INDENT_2)
    return Response(body, media_type="application/json", headers={"cache-control": "no-store"})
