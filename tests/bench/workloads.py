"""What is asked: the statements, their arguments, the table they read, and the requests that carry them."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

TABLE_ROWS = 100_000
_RANDOM_KEYS = 2_000
_COLUMNS = "id, name, email, balance, active, created, tags, data"

SCHEMA = f"""
CREATE TABLE items (
    id int PRIMARY KEY, name text NOT NULL, email text, balance numeric(12, 2) NOT NULL, active bool NOT NULL,
    created timestamptz NOT NULL, tags text[] NOT NULL, data jsonb NOT NULL
);
INSERT INTO items SELECT
    n, 'item ' || n, CASE WHEN n % 7 > 0 THEN 'user' || n || '@example.com' END, n * 1.25, n % 3 = 0,
    timestamptz '2026-01-01 00:00:00+00' + n * interval '1 second', ARRAY['red', 'n' || n % 10],
    jsonb_build_object('n', n, 'kind', 'item')
FROM generate_series(1, {TABLE_ROWS}) AS n;
"""
"""Eight columns of mixed types; about 130 bytes a row as JSON."""

Arguments = tuple[int, ...]


@dataclass(frozen=True)
class Workload:
    """Statements that are asked again and again; of several `arguments` each request takes the next.

    `batch` is how many times the statement stands in one transaction; 0 is a single statement outside of any.
    `headers` go with every request over those that a driver sends. `is_slow` is one that takes milliseconds of CPU.
    """

    name: str
    title: str
    statement: str = ""
    """Empty where the program that asks has its own."""
    arguments: Sequence[Arguments] = ((),)
    batch: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    is_slow: bool = False

    @cached_property
    def neon_bodies(self) -> list[bytes]:
        """Bodies as a Neon driver writes them, with every parameter as text."""
        return self._bodies([[str(value) for value in arguments] for arguments in self.arguments])

    @cached_property
    def plain_bodies(self) -> list[bytes]:
        """The same with parameters of their own type, as asyncpg wants them."""
        return self._bodies([list(arguments) for arguments in self.arguments])

    def _bodies(self, params: Sequence[Sequence[object]]) -> list[bytes]:
        bodies = []
        for each in params:
            single = {"query": self.statement, "params": each}
            payload = {"queries": [single] * self.batch} if self.batch else single
            bodies.append(json.dumps(payload).encode())
        return bodies


def _random_keys() -> list[Arguments]:
    chance = random.Random(20260131)
    return [(chance.randint(1, TABLE_ROWS),) for _ in range(_RANDOM_KEYS)]


_BY_KEY = f"SELECT {_COLUMNS} FROM items WHERE id = $1"
_KEPT = {"Cache-Control": "max-age=3600"}
_KEPT_ANEW = {"Cache-Control": "max-age=3600, no-cache"}
_RANGE = f"SELECT {_COLUMNS} FROM items WHERE id > $1 ORDER BY id LIMIT "

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("one", "SELECT 1", "SELECT 1"),
        Workload("key", "lookup by key, one key", _BY_KEY, [(4711,)]),
        Workload("keys", "lookup by key, random keys", _BY_KEY, _random_keys()),
        Workload("rows", "100 rows of 8 columns", _RANGE + "100", [(4711,)]),
        Workload("many", "10,000 rows of 8 columns", _RANGE + "10000", [(4711,)], is_slow=True),
        Workload("batch", "batch of 5 lookups in a transaction", _BY_KEY, [(4711,)], batch=5),
        Workload("hit", "lookup by key, from the cache", _BY_KEY, [(4711,)], headers=_KEPT),
        Workload("miss", "lookup by key, kept each time", _BY_KEY, [(4711,)], headers=_KEPT_ANEW),
        Workload("prepared", "pgbench -S -M prepared"),
        Workload("extended", "pgbench -S -M extended"),
        Workload("simple", "pgbench -S -M simple"),
    )
}


def neon_headers(connection_string: str) -> dict[str, str]:
    """The headers that @neondatabase/serverless sends through Node's fetch."""
    return {
        "Neon-Connection-String": connection_string,
        "Neon-Raw-Text-Output": "true",
        "Neon-Array-Mode": "true",
        "Content-Type": "text/plain;charset=UTF-8",
        "Accept": "*/*",
        "Accept-Language": "*",
        "Sec-Fetch-Mode": "cors",
        "User-Agent": "node",
        "Accept-Encoding": "gzip, deflate",
    }
