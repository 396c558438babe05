"""What is compared, and how good it is to be: one line a ratio.

A line names two runs of `subjects` and `workloads`, what of them is put in relation, and the target. All runs of all
lines are made in every round, so a ratio is always of neighbours in time. The grid is what is measured beyond that:
throughput and latency against concurrency.
"""

from dataclasses import dataclass
from functools import partial

from tests.bench.measure import Run
from tests.bench.quantities import (
    ADDED_P50,
    CLIENT_CPU,
    CPU_OF_EACH,
    MEMORY,
    MEMORY_OF_EACH,
    P50,
    POSTGRES_CPU,
    RATE,
    SERVER_CPU,
    Quantity,
)
from tests.bench.stage import COMPILED
from tests.support.other_servers import OTHERS


@dataclass(frozen=True, slots=True)
class Ratio:
    """One line of the table: `what` was measured `against` what.

    A target of None marks a figure worth knowing that nobody promised; --quick makes those that have one.
    """

    what: str
    against: str
    quantity: Quantity
    target: float | None
    ours: Run
    theirs: Run

    @property
    def build(self) -> str:
        """Which gateway `ours` is, or asks; empty where it is none, or where only the client counts."""
        if self.quantity is CLIENT_CPU or self.ours.subject.startswith("constant"):
            return ""
        return "compiled" if self.ours.subject.endswith(COMPILED) else "plain"


BY_TCP = ", by TCP"
"""How the subjects end that ask by TCP where everything else asks by the socket."""
BESIDE_BATCH = ", Postgres as batch"
"""How those end that stand beside a Postgres under SCHED_BATCH."""

_KEY_1 = Run("gateway, kept", "key", 1)
_KEY_64 = Run("gateway", "key", 64)
_KEY_1000 = Run("gateway", "key", 1000)
_BATCH = Run("gateway", "batch", 16)
_CONSTANT_64 = Run("constant", "key", 64)
_FRESH_64 = Run("fresh, PgBouncer", "key", 64)
_IMPORTS = Run("import: sqlhttp and what it needs", "one", 1)
_CALL = Run("call: sqlhttp", "key", 1)
_WIRE = Run("wire, direct", "key", 1)
_OPEN_64 = Run("gateway, open", "key", 64)
_OPEN_1000 = Run("gateway, open", "key", 1000)
_HIT = Run("with the cache", "hit", 64)
_CONSTANT_HIT = Run("constant", "hit", 64)
_KEPT = Run("kept connections", "key", 1000)
_IDLE = Run("idle WebSockets", "one", 1000)
_KEYS_64 = Run("gateway", "keys", 64)
_COMPILED_64 = Run("gateway" + COMPILED, "key", 64)
_TCP_64 = Run("gateway, by TCP", "key", 64)
_TCP_KEYS_64 = Run("gateway, by TCP", "keys", 64)


def _door(way: str, protocol: str, clients: int = 10) -> Run:
    return Run(f"pgbench, {way}", protocol, clients)


def _compiled(run: Run) -> Run:
    return run._replace(subject=run.subject + COMPILED)


def _both(
    what: str, against: str, quantity: Quantity, target: float | None, ours: Run, theirs: Run
) -> tuple[Ratio, Ratio]:
    """The same line for the gateway as it comes and for the compiled build, which has the same target, and is set
    against itself where the plain one is."""
    is_against_itself = theirs.subject == ours.subject
    line = partial(Ratio, what, against, quantity, target)
    return line(ours, theirs), line(_compiled(ours), _compiled(theirs) if is_against_itself else theirs)


# fmt: off
RATIOS = (
    *_both("lookup by key, 64 keep-alive", "Starlette answering a constant", RATE, 0.85, _KEY_64, _CONSTANT_64),
    *_both("lookup by random keys, 64 keep-alive", "Starlette answering a constant", RATE, 0.65, _KEYS_64,
           Run("constant", "keys", 64)),
    *_both("lookup by key, 64 keep-alive", "Starlette answering a constant", SERVER_CPU, 1.2, _KEY_64,
           _CONSTANT_64),
    *_both("lookup by key, 64 keep-alive", "the plain way", RATE, 2.9, _KEY_64, Run("plain", "key", 64)),
    *(Ratio("lookup by key, 64, Postgres as SCHED_BATCH", "Starlette answering a constant", RATE, None,
            Run("gateway" + BESIDE_BATCH + build, "key", 64), _CONSTANT_64) for build in ("", COMPILED)),
    *_both("lookup by key, 64 keep-alive", "fresh connections, PgBouncer, SCRAM", RATE, 30,
          Run("gateway, kept", "key", 64), _FRESH_64),
    *_both("lookup by key, 64, new TCP each", "fresh connections, PgBouncer, SCRAM", RATE, 14,
          Run("gateway, new TCP", "key", 64), _FRESH_64),
    *(Ratio("lookup by key, 64 keep-alive, by the socket", "the same by TCP", quantity, None,
            _KEY_64, _TCP_64) for quantity in (RATE, SERVER_CPU, POSTGRES_CPU)),
    *(Ratio("lookup by key, 64 keep-alive, by TCP", "Starlette answering a constant", quantity, None,
            _TCP_64, _CONSTANT_64) for quantity in (RATE, SERVER_CPU)),
    Ratio("lookup by random keys, 64 keep-alive, by TCP", "Starlette answering a constant", RATE, None,
          _TCP_KEYS_64, Run("constant", "keys", 64)),
    Ratio("lookup by key, 64 keep-alive, by TCP", "the plain way by TCP", RATE, None,
          _TCP_64, Run("plain, by TCP", "key", 64)),
    Ratio("lookup by key, one after another, by TCP", "a kept asyncpg connection by TCP", ADDED_P50, None,
          Run("gateway, kept, by TCP", "key", 1), Run("asyncpg kept, by TCP", "key", 1)),
    Ratio("lookup by key, 16 keep-alive", "fresh connections, Postgres, SCRAM", RATE, None,
          Run("gateway, kept", "key", 16), Run("fresh", "key", 16)),
    *_both("lookup by key, one after another", "a kept asyncpg connection", ADDED_P50, 150,
          _KEY_1, Run("asyncpg kept", "key", 1)),
    Ratio("SELECT 1, one after another", "a kept asyncpg connection", ADDED_P50, None,
          Run("gateway, kept", "one", 1), Run("asyncpg kept", "one", 1)),
    Ratio("lookup by key, one after another", "asyncpg's pool with its reset", P50, None,
          _KEY_1, Run("asyncpg pool", "key", 1)),
    *_both("100 rows, 16 keep-alive", "the plain way", RATE, 2.0,
           Run("gateway", "rows", 16), Run("plain", "rows", 16)),
    *_both("10,000 rows, 16 keep-alive", "bare ASGI, asyncpg decoding in C", SERVER_CPU, 1.0,
           Run("gateway", "many", 16), Run("asyncpg in C", "many", 16)),
    Ratio("10,000 rows, all the gateway does", "asyncpg decoding in C, nothing more", CPU_OF_EACH, None,
          Run("gateway", "many", 1), Run("asyncpg to text", "many", 1)),
    Ratio("10,000 rows, 16 keep-alive", "the plain way", SERVER_CPU, None,
          Run("gateway", "many", 16), Run("plain", "many", 16)),
    *_both("batch of 5, 16 keep-alive", "the plain way: BEGIN, five, COMMIT", RATE, 2.0, _BATCH,
           Run("plain", "batch", 16)),
    Ratio("batch of 5, 16 keep-alive", "BEGIN, five, COMMIT by asyncpg alone", RATE, None,
          Run("gateway, kept", "batch", 16), Run("asyncpg pool", "batch", 16)),
    Ratio("batch of 5, 16 keep-alive", "bare ASGI, asyncpg: BEGIN, five, COMMIT", RATE, None,
          _BATCH, Run("asyncpg in C", "batch", 16)),
    Ratio("batch of 5, one after another", "BEGIN, five, COMMIT by asyncpg alone", P50, None,
          Run("gateway, kept", "batch", 1), Run("asyncpg kept", "batch", 1)),
    *_both("lookup by key, 1,000 keep-alive", "the same over 64", RATE, 0.9,
          _OPEN_1000, _OPEN_64),
    Ratio("lookup by key, 1,000 keep-alive", "the same over 64", SERVER_CPU, None,
          _OPEN_1000, _OPEN_64),
    Ratio("lookup by key, 1,000, opening them included", "the same over 64", RATE, None,
          _KEY_1000, _KEY_64),
    *_both("a worker that had 1,000 keep-alive, at most", "", MEMORY, 60,
          _KEPT, _KEPT),
    Ratio("a worker that had all of this bench", "", MEMORY, None,
          _KEY_1000, _KEY_1000),
    *_both("cache hit, 64 keep-alive", "Starlette answering a constant", RATE, 0.95,
          _HIT, _CONSTANT_HIT),
    Ratio("cache hit, 64 keep-alive", "Starlette answering a constant", SERVER_CPU, None,
          _HIT, _CONSTANT_HIT),
    Ratio("cache hit, 64 keep-alive", "the same lookup without the cache", SERVER_CPU, None,
          _HIT, _KEY_64),
    Ratio("cache miss, 64 keep-alive", "the same lookup without the cache", SERVER_CPU, None,
          Run("with the cache", "miss", 64), _KEY_64),
    Ratio("lookup by key, 64 keep-alive, two workers", "one worker", RATE, None,
          Run("two workers", "key", 64), _KEY_64),
    Ratio("lookup by key, 64 keep-alive, two workers", "one worker", SERVER_CPU, None,
          Run("two workers", "key", 64), _KEY_64),
    Ratio("100 rows, 16 keep-alive, two workers", "one worker", RATE, None,
          Run("two workers", "rows", 16), Run("gateway", "rows", 16)),
    *(Ratio("lookup by key, 64 keep-alive", "the plain build", quantity, None,
            _COMPILED_64, _KEY_64) for quantity in (RATE, SERVER_CPU)),
    *(Ratio(f"{what}, 16 keep-alive", "the plain build", SERVER_CPU, None,
            Run("gateway" + COMPILED, workload, 16), Run("gateway", workload, 16))
      for what, workload in (("batch of 5", "batch"), ("100 rows", "rows"), ("10,000 rows", "many"))),
    *(Ratio(f"lookup by key, 64 keep-alive, on {name}", "the gateway as it comes", quantity, None,
            Run(name, "key", 64), _KEY_64) for name in OTHERS for quantity in (RATE, SERVER_CPU)),
    *(Ratio(f"Starlette answering a constant, on {name}", "on the gateway's own", SERVER_CPU, None,
            Run(f"constant, {name}", "key", 64), _CONSTANT_64) for name in OTHERS),
    *_both("pgbench -S, prepared, 10 clients, TCP door", "PgBouncer, a connection each", RATE, 0.25,
          _door("TCP door", "prepared"), _door("PgBouncer", "prepared")),
    *_both("pgbench -S, extended, 10 clients, TCP door", "PgBouncer, transaction pooling", RATE, 0.25,
          _door("TCP door", "extended"), _door("PgBouncer", "extended")),
    *_both("pgbench -S, simple, 10 clients, TCP door", "PgBouncer, transaction pooling", RATE, 0.25,
          _door("TCP door", "simple"), _door("PgBouncer", "simple")),
    Ratio("pgbench -S, prepared, 10 clients, TCP door", "no pooler", RATE, None,
          _door("TCP door", "prepared"), _door("direct", "prepared")),
    Ratio("pgbench -S, prepared, 50 clients, TCP door", "no pooler", RATE, None,
          _door("TCP door", "prepared", 50), _door("direct", "prepared", 50)),
    Ratio("pgbench -S, simple, 50 clients, TCP door", "PgBouncer, transaction pooling", RATE, None,
          _door("TCP door", "simple", 50), _door("PgBouncer", "simple", 50)),
    *_both("lookup by key, one WebSocket", "a kept connection", P50, 3,
          Run("wire, WebSocket", "key", 1), _WIRE),
    Ratio("lookup by key, one WebSocket, by TCP", "a kept connection by TCP", P50, None,
          Run("wire, WebSocket, by TCP", "key", 1), Run("wire, direct, by TCP", "key", 1)),
    Ratio("lookup by key, one connection to the TCP door", "a kept connection", P50, None,
          Run("wire, TCP door", "key", 1), _WIRE),
    *_both("an idle WebSocket", "", MEMORY_OF_EACH, 30,
          _IDLE, _IDLE),
    Ratio("import sqlhttp and what its first query imports", "import httpx", CLIENT_CPU, 0.4,
          _IMPORTS, Run("import: httpx", "one", 1)),
    Ratio("import sqlhttp and what its first query imports", "import http.client, json", CLIENT_CPU, None,
          _IMPORTS, Run("import: http.client and json", "one", 1)),
    Ratio("import sqlhttp and ask once", "import httpx and ask once", CLIENT_CPU, None,
          Run("import: sqlhttp and ask", "one", 1), Run("import: httpx and ask", "one", 1)),
    Ratio("a call of sqlhttp", "httpx.Client kept, JSON", CLIENT_CPU, 0.3,
          _CALL, Run("call: httpx", "key", 1)),
    Ratio("a call of sqlhttp", "http.client kept, JSON", CLIENT_CPU, None,
          _CALL, Run("call: http.client", "key", 1)),
    Ratio("a call of sqlhttp", "asyncpg kept", CLIENT_CPU, None,
          _CALL, Run("call: asyncpg", "key", 1)),
)
# fmt: on

CONNECTIONS = (1, 16, 64, 256)
GRID_WORKLOADS = ("one", "key", "rows", "batch")
GRID_SUBJECTS = ("gateway", "constant", "plain", "asyncpg pool")


def _grid() -> list[Run]:
    grid = [
        Run(subject, workload, connections)
        for workload in GRID_WORKLOADS
        for connections in CONNECTIONS
        for subject in GRID_SUBJECTS
        if subject != "constant" or workload == "key"  # it answers a lookup, whatever it is asked
    ]
    return [*grid, Run("constant", "key", 1000), *(Run("fresh", workload, 1) for workload in GRID_WORKLOADS)]


def _is_quick(ratio: Ratio) -> bool:
    """Has a target, or says what becomes of one elsewhere."""
    return bool(ratio.target) or ratio.ours.subject.endswith(COMPILED) or ratio.ours.subject.endswith(BESIDE_BATCH)


def runs(*, quick: bool, in_both_ways: bool, compiled: bool = False) -> list[Run]:
    """Every run there is to make, once, neighbours of a ratio next to each other; `in_both_ways` with those by TCP
    beside those by the socket, `compiled` with those of the compiled build beside those of the plain one."""
    left_out = (*(() if in_both_ways else (BY_TCP,)), *(() if compiled else (COMPILED,)))
    compared = [
        run
        for ratio in RATIOS
        if not quick or _is_quick(ratio)
        if not ratio.ours.subject.endswith(left_out)
        for run in (ratio.ours, ratio.theirs)
    ]
    wanted = compared if quick else [*compared, *_grid()]
    return [run for run in dict.fromkeys(wanted) if not run.subject.endswith(left_out)]
