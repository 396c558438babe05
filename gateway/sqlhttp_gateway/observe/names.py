"""Every metric that `/metrics` shows: its name, kind, labels and what it says.

The table in gateway/README.md, the dashboard's panels and the alert rules are compared with this list. Where a number
comes from is the business of `observe.metrics` and `observe.pgbouncer`; nothing here counts.
"""

from dataclasses import dataclass
from typing import Literal

_POOL = ("target", "database", "role")
_DATABASE = ("target", "database")
_SERVER = ("target", "server")


@dataclass(frozen=True, slots=True)
class Metric:
    """One name with its labels. A counter's name ends in `_total`; a unit is in the name."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────

REQUESTS = Metric(
    "sqlhttp_requests_total",
    "counter",
    (*_DATABASE, "outcome"),
    "Requests answered: ok, the kind of error, or cancelled when the program left before its answer.",
)
REFUSALS = Metric(
    "sqlhttp_refusals_total", "counter", ("reason",), "Requests that the gateway itself refused, by the error's name."
)
POSTGRES_ERRORS = Metric(
    "sqlhttp_postgres_errors_total", "counter", ("sqlstate_class",), "Errors of Postgres, by the SQLSTATE's class."
)
REQUEST_SECONDS = Metric(
    "sqlhttp_request_duration_seconds", "histogram", _DATABASE, "From the whole body read to the whole answer made."
)
WAIT_SECONDS = Metric(
    "sqlhttp_acquire_wait_duration_seconds",
    "histogram",
    _DATABASE,
    "How long a request waited for its connection, opening one included, and also when it got none.",
)
QUERY_SECONDS = Metric(
    "sqlhttp_query_duration_seconds", "histogram", _DATABASE, "How long a single statement took on its connection."
)
TRANSACTION_SECONDS = Metric(
    "sqlhttp_transaction_duration_seconds", "histogram", _DATABASE, "How long a batch took on its connection."
)
STATEMENTS = Metric("sqlhttp_statements_total", "counter", _DATABASE, "Statements run.")
ROWS = Metric("sqlhttp_rows_total", "counter", _DATABASE, "Rows answered.")
RECEIVED_BYTES = Metric("sqlhttp_received_bytes_total", "counter", _DATABASE, "Bytes of request bodies.")
SENT_BYTES = Metric("sqlhttp_sent_bytes_total", "counter", _DATABASE, "Bytes of answers' bodies.")
REUSED = Metric(
    "sqlhttp_statement_cache_hits_total",
    "counter",
    _DATABASE,
    "Statements that their connection had prepared before, so that they were not parsed again.",
)
PARSED = Metric("sqlhttp_statement_cache_misses_total", "counter", _DATABASE, "Statements that had to be parsed.")
UNSENT = Metric(
    "sqlhttp_unsent_answers_total",
    "counter",
    ("reason",),
    "Answers that their programs did not take, by what cut them off: send_timeout, or the request's deadline.",
)
SLOW = Metric(
    "sqlhttp_slow_statements_total", "counter", (), "Statements and batches that ran longer than log.slow_statement."
)
BUGS = Metric("sqlhttp_bugs_total", "counter", (), "Requests answered with an internal error; must stay 0.")

# ── connections ──────────────────────────────────────────────────────────────────────────────────────────────────────

OPENED = Metric("sqlhttp_connections_opened_total", "counter", (), "Connections to Postgres opened.")
OPEN_SECONDS = Metric(
    "sqlhttp_connect_duration_seconds", "histogram", (), "How long opening a connection took, log-in included."
)
CLOSED = Metric("sqlhttp_connections_closed_total", "counter", ("reason",), "Connections to Postgres closed, and why.")
CANCELS = Metric("sqlhttp_cancels_total", "counter", (), "Statements that the gateway asked Postgres to cancel.")
CANCELS_EFFECTIVE = Metric(
    "sqlhttp_cancels_effective_total", "counter", (), "Cancels whose end Postgres confirmed in time."
)
LEAKED = Metric(
    "sqlhttp_leases_leaked_total", "counter", (), "Leases that nobody gave back; the gateway did. Must stay 0."
)
CONNECTIONS = Metric("sqlhttp_connections", "gauge", (), "Connections to Postgres that exist, opening ones included.")
CONNECTIONS_LIMIT = Metric("sqlhttp_connections_limit", "gauge", (), "Most that may exist: pool.max_total.")
POOL_CONNECTIONS = Metric(
    "sqlhttp_pool_connections",
    "gauge",
    (*_POOL, "state"),
    "Connections of a pool: leased to a request, idle, returning (being made clean), or opening.",
)
POOL_SIZE = Metric("sqlhttp_pool_max_size", "gauge", _POOL, "Most connections of a pool.")
POOL_WAITING = Metric("sqlhttp_pool_waiting", "gauge", _POOL, "Requests that wait for a connection of a pool now.")
POOL_LONGEST_WAIT = Metric(
    "sqlhttp_pool_longest_wait_seconds", "gauge", _POOL, "How long the first of those has waited."
)
TARGET_DOWN = Metric(
    "sqlhttp_target_down", "gauge", ("target",), "1 while a server with pools cannot be reached and is not waited for."
)
POOL_OLDEST_LEASE = Metric(
    "sqlhttp_pool_oldest_lease_seconds", "gauge", _POOL, "How long the connection lent first has been away."
)

# ── targets of several servers ──────────────────────────────────────────────────────────────────────────────────────

ROUTED = Metric(
    "sqlhttp_routed_total",
    "counter",
    (*_SERVER, "reason"),
    "Requests by server: a write, a read, or why the primary had to read (wanted, no_replica, behind).",
)
SERVER_UP = Metric("sqlhttp_server_up", "gauge", _SERVER, "1 when the server answered the last look.")
SERVER_ROLE = Metric(
    "sqlhttp_server_role",
    "gauge",
    (*_SERVER, "role"),
    "1 for what the server is: primary, replica, detached (it answers and gets nothing) or down.",
)
SERVER_LAG = Metric("sqlhttp_server_lag_seconds", "gauge", _SERVER, "How far a replica is behind its primary.")

# ── the result cache ─────────────────────────────────────────────────────────────────────────────────────────────────

CACHE_REQUESTS = Metric(
    "sqlhttp_cache_requests_total",
    "counter",
    ("outcome",),
    "Requests that asked for the cache: hit, stale, miss, collapsed into another's fetch, or bypass.",
)
CACHE_BYPASSES = Metric(
    "sqlhttp_cache_bypasses_total", "counter", ("reason",), "Requests that asked for it and went past it, and why."
)
CACHE_SAVED = Metric(
    "sqlhttp_cache_saved_seconds_total", "counter", (), "What the answers that were not fetched had once cost to fetch."
)
CACHE_EVICTIONS = Metric("sqlhttp_cache_evictions_total", "counter", (), "Answers given up to make room for others.")
CACHE_BYTES = Metric("sqlhttp_cache_bytes", "gauge", (), "Bytes of answers in all workers.")
CACHE_ENTRIES = Metric("sqlhttp_cache_entries", "gauge", (), "Answers in all workers.")

# ── programs that are connected ──────────────────────────────────────────────────────────────────────────────────────

PROGRAMS = Metric(
    "sqlhttp_program_connections",
    "gauge",
    ("door",),
    "Connections of programs now, in all workers: http, websocket, tcp.",
)
PROGRAMS_LIMIT = Metric(
    "sqlhttp_program_connections_limit", "gauge", (), "Most there may be, in all workers: listen.max_connections."
)
PROGRAMS_REFUSED = Metric(
    "sqlhttp_program_connections_refused_total",
    "counter",
    ("door",),
    "Programs that could not connect, for all places were taken and none was idle.",
)
PROGRAMS_DISPLACED = Metric(
    "sqlhttp_program_connections_displaced_total",
    "counter",
    (),
    "Idle HTTP connections closed to make room for others.",
)

# ── tunnels: WebSockets and the TCP door ─────────────────────────────────────────────────────────────────────────────

TUNNELS_OPENED = Metric("sqlhttp_tunnels_opened_total", "counter", ("door",), "Programs that connected, by door.")
TUNNELS_CLOSED = Metric(
    "sqlhttp_tunnels_closed_total",
    "counter",
    ("outcome",),
    "Programs that left: ok, or the kind of error that ended it.",
)
TUNNELS_OPEN = Metric("sqlhttp_tunnels_open", "gauge", (), "Programs that are connected now, in all workers.")
PINS = Metric(
    "sqlhttp_tunnel_pins_total", "counter", ("reason",), "Backends that had to stay with one program, by what it did."
)
CANCEL_KEYS = Metric("sqlhttp_cancel_requests_total", "counter", (), "Cancel requests that programs sent.")
CANCEL_KEYS_UNKNOWN = Metric(
    "sqlhttp_cancel_requests_unknown_total", "counter", (), "Of these, the ones whose key was that of no open tunnel."
)

# ── Postgres, as the watch sees it ───────────────────────────────────────────────────────────────────────────────────

POSTGRES_UP = Metric("sqlhttp_postgres_up", "gauge", (), "1 when Postgres answered the last look at its sessions.")
POSTGRES_SAMPLED = Metric("sqlhttp_postgres_sampled_time_seconds", "gauge", (), "When that look was, in Unix time.")
POSTGRES_LIMIT = Metric(
    "sqlhttp_postgres_connections_limit",
    "gauge",
    (),
    "Sessions that ordinary roles can have: max_connections less what is reserved.",
)
POSTGRES_CONNECTIONS = Metric(
    "sqlhttp_postgres_connections", "gauge", (), "Sessions of clients, whoever's, the watch's own included."
)
POSTGRES_STATES = Metric(
    "sqlhttp_postgres_sessions", "gauge", ("state",), "Sessions of clients by state; hidden where it may not be seen."
)
POSTGRES_APPLICATIONS = Metric(
    "sqlhttp_postgres_application_sessions",
    "gauge",
    ("application",),
    "Sessions of clients by application_name: the twenty with the most, the rest as other.",
)
POSTGRES_WAITING = Metric(
    "sqlhttp_postgres_waiting_sessions",
    "gauge",
    ("wait_event_type",),
    "Active sessions that wait for something other than their client.",
)
POSTGRES_IDLE_IN_TRANSACTION = Metric(
    "sqlhttp_postgres_idle_in_transaction", "gauge", (), "Sessions that keep a transaction open and do nothing."
)
POSTGRES_LONG_QUERIES = Metric(
    "sqlhttp_postgres_long_queries", "gauge", (), "Queries that run longer than watch.long_query."
)
POSTGRES_LONGEST_QUERY = Metric(
    "sqlhttp_postgres_longest_query_seconds", "gauge", (), "How long the oldest running query has run."
)
POSTGRES_LONGEST_TRANSACTION = Metric(
    "sqlhttp_postgres_longest_transaction_seconds", "gauge", (), "How long the oldest transaction has been open."
)
ALERT = Metric("sqlhttp_alert_firing", "gauge", ("alert", "severity"), "1 while an alert is firing.")

# ── the gateway ──────────────────────────────────────────────────────────────────────────────────────────────────────

BUILD = Metric("sqlhttp_build_info", "gauge", ("version", "python"), "Always 1; the labels say what runs.")
START = Metric("sqlhttp_start_time_seconds", "gauge", (), "When the oldest worker started, in Unix time.")
RELOADS = Metric(
    "sqlhttp_reloads_total", "counter", ("outcome",), "Times that the settings were read again: ok, or failed."
)
SETTINGS_TIME = Metric(
    "sqlhttp_settings_time_seconds", "gauge", (), "When the settings in effect were read, in Unix time."
)
CERTIFICATE_EXPIRES = Metric(
    "sqlhttp_tls_certificate_expiry_time_seconds", "gauge", (), "When the certificate in use ends, in Unix time."
)
WORKERS = Metric("sqlhttp_workers", "gauge", (), "Worker processes that reported within the last seconds.")
CPU_SECONDS = Metric("process_cpu_seconds_total", "counter", (), "CPU time of all workers, user and system.")
RESIDENT = Metric("process_resident_memory_bytes", "gauge", (), "Resident memory of all workers.")
OPEN_FILES = Metric("process_open_fds", "gauge", (), "Open file descriptors of all workers.")

ALL = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""Every metric of this file, in its order."""
