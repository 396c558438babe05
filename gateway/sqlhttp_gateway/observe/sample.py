"""One look at pg_stat_activity: the question, and what its rows say. Nothing here asks or judges.

Rows are (kind, name, number), so that one statement answers everything and a later one can say more. Sessions whose
state the gateway's role may not see, since it is neither a superuser nor a member of pg_monitor, are counted as hidden.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_MOST_APPLICATIONS = 20
OTHER = "other"

QUERY = """\
WITH client AS MATERIALIZED (
  SELECT application_name, state, wait_event_type,
    extract(epoch FROM pg_catalog.clock_timestamp() - query_start) AS query_age,
    extract(epoch FROM pg_catalog.clock_timestamp() - xact_start) AS transaction_age,
    extract(epoch FROM pg_catalog.clock_timestamp() - state_change) AS state_age
  FROM pg_catalog.pg_stat_activity
  WHERE pid <> pg_catalog.pg_backend_pid()
    AND (backend_type = 'client backend' OR backend_type IS NULL AND datid IS NOT NULL)
)
SELECT 'setting', name, pg_catalog.current_setting(name, true)
  FROM (VALUES ('max_connections'), ('superuser_reserved_connections'), ('reserved_connections')) AS wanted (name)
UNION ALL SELECT 'state', coalesce(state, 'hidden'), count(*)::text FROM client GROUP BY 2
UNION ALL SELECT 'application', coalesce(nullif(application_name, ''), '(none)'), count(*)::text FROM client GROUP BY 2
UNION ALL SELECT 'waiting', wait_event_type, count(*)::text FROM client
  WHERE state = 'active' AND wait_event_type NOT IN ('Client', 'Activity') GROUP BY 2
UNION ALL SELECT 'count', 'long_queries', count(*)::text FROM client
  WHERE state IN ('active', 'fastpath function call') AND query_age > $1::float8
UNION ALL SELECT 'age', 'query', max(query_age)::text FROM client WHERE state IN ('active', 'fastpath function call')
UNION ALL SELECT 'age', 'transaction', max(transaction_age)::text FROM client
UNION ALL SELECT 'age', 'idle_in_transaction', max(state_age)::text FROM client WHERE state LIKE 'idle in transaction%'
"""
"""Takes one parameter: the seconds after which a query is long. The gateway's own connection for this is left out."""


@dataclass(frozen=True, slots=True)
class Sample:
    """How Postgres does at one moment. Counts are of sessions of clients, the sampler's own left out."""

    at: float
    """Unix time."""
    max_connections: int = 0
    reserved: int = 0
    """Of those, what only superusers and pg_use_reserved_connections may take."""
    by_state: Mapping[str, int] = field(default_factory=dict)
    by_application: Mapping[str, int] = field(default_factory=dict)
    """By application_name; the twenty with the most, and the rest as other."""
    waiting: Mapping[str, int] = field(default_factory=dict)
    """Active sessions that wait for something other than their client, by Postgres's wait_event_type."""
    long_queries: int = 0
    longest_query: float = 0.0
    longest_transaction: float = 0.0
    longest_idle_in_transaction: float = 0.0
    error: str = ""
    """Why Postgres could not be asked; then all else is nothing."""

    @property
    def connections(self) -> int:
        """All sessions of clients, the sampler's own included, since it takes a place, too."""
        return sum(self.by_state.values()) + 1

    @property
    def limit(self) -> int:
        """Most sessions that ordinary roles can have."""
        return self.max_connections - self.reserved

    @property
    def idle_in_transaction(self) -> int:
        """Sessions that keep a transaction open and do nothing, in a failed one too."""
        return sum(number for state, number in self.by_state.items() if state.startswith("idle in transaction"))


def sample_from_rows(rows: Iterable[tuple[bytes | None, ...]], *, at: float) -> Sample:
    """What the answer to QUERY says."""
    found: dict[str, dict[str, float]] = {}
    for kind, name, number in rows:
        if kind is not None and name is not None and number is not None:
            found.setdefault(kind.decode(), {})[name.decode(errors="replace")] = float(number)
    settings, ages = found.get("setting", {}), found.get("age", {})
    reserved = settings.get("superuser_reserved_connections", 0) + settings.get("reserved_connections", 0)
    return Sample(
        at=at,
        max_connections=int(settings.get("max_connections", 0)),
        reserved=int(reserved),
        by_state=_whole(found.get("state", {})),
        by_application=_most(_whole(found.get("application", {}))),
        waiting=_whole(found.get("waiting", {})),
        long_queries=int(found.get("count", {}).get("long_queries", 0)),
        longest_query=ages.get("query", 0.0),
        longest_transaction=ages.get("transaction", 0.0),
        longest_idle_in_transaction=ages.get("idle_in_transaction", 0.0),
    )


def _whole(numbers: Mapping[str, float]) -> dict[str, int]:
    return {name: int(number) for name, number in numbers.items()}


def _most(numbers: Mapping[str, int]) -> dict[str, int]:
    ranked = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))
    most = dict(ranked[:_MOST_APPLICATIONS])
    if rest := sum(number for _, number in ranked[_MOST_APPLICATIONS:]):
        most[OTHER] = most.get(OTHER, 0) + rest
    return most
