"""A target of several servers, all well: what goes where, and nobody reads older data than they have seen."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from sqlhttp_gateway.neon.bookmark import decode_bookmark
from sqlhttp_gateway.wire.lsn import lsn_from_text
from tests.support.fleet import Fleet
from tests.support.gateway import Gateway, gateway_in_thread
from tests.support.program import Program, program_of

READ_ONLY = {"Sqlhttp-Read-Only": "true"}
WHERE = "SELECT pg_is_in_recovery()"
BOOKMARK, SERVED_BY = "sqlhttp-bookmark", "sqlhttp-served-by"


@pytest.fixture(scope="module")
def gateway(fleet: Fleet) -> Iterator[Gateway]:
    with gateway_in_thread(fleet.url, {}) as gateway:
        wait_until_routed(gateway, fleet)
        yield gateway


@pytest.fixture
def program(gateway: Gateway, fleet: Fleet) -> Iterator[Program]:
    with program_of(gateway, fleet.primary.maintenance) as program:
        yield program


@pytest.fixture
def table(fleet: Fleet, request: pytest.FixtureRequest) -> Iterator[str]:
    """A table that all servers have."""
    name = "t_" + str(abs(hash(request.node.name)) % 10**9)
    fleet.primary.maintenance.psql(f"CREATE TABLE {name} (id int PRIMARY KEY, v int)")
    fleet.wait_replayed()
    yield name
    fleet.primary.maintenance.psql(f"DROP TABLE {name}")


def wait_until_routed(gateway: Gateway, fleet: Fleet) -> None:
    """Until reads go to replicas, which is after the first looks."""
    with program_of(gateway, fleet.primary.maintenance) as program:
        deadline = time.monotonic() + 20.0
        while one(program.post({"query": WHERE}, READ_ONLY)) is not True:
            assert time.monotonic() < deadline, "no replica is used"
            time.sleep(0.02)


def one(response: httpx.Response) -> Any:
    """The one value."""
    assert response.status_code == 200, response.text
    [row] = response.json()["rows"]
    [value] = row.values()
    return value


@contextmanager
def paused(fleet: Fleet) -> Iterator[None]:
    """No replica replays anything."""
    for replica in fleet.replicas:
        replica.maintenance.psql("SELECT pg_wal_replay_pause()")
    try:
        yield
    finally:
        for replica in fleet.replicas:
            replica.maintenance.psql("SELECT pg_wal_replay_resume()")


# ── what goes where ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_says_that_it_only_reads_goes_to_a_replica(program: Program) -> None:
    assert one(program.post({"query": WHERE}, READ_ONLY)) is True
    batch = program.post({"queries": [{"query": WHERE}] * 2}, {"Neon-Batch-Read-Only": "true"})
    assert [result["rows"] for result in batch.json()["results"]] == [[{"pg_is_in_recovery": True}]] * 2
    assert batch.headers[SERVED_BY] in {"default-2", "default-3"}


def test_everything_else_goes_to_the_primary(program: Program) -> None:
    for response in (
        program.post({"query": WHERE}),
        program.post({"query": WHERE}, {"Sqlhttp-Read-Only": "yes"}),
        program.post({"query": WHERE}, {"Neon-Batch-Read-Only": "true"}),
    ):
        assert one(response) is False
        assert response.headers[SERVED_BY] == "default"


def test_query_is_a_post_that_only_reads(gateway: Gateway, program: Program, table: str) -> None:
    def query(body: object) -> httpx.Response:
        return httpx.request(
            "QUERY",
            gateway.sql,
            json=body,
            headers={"Neon-Connection-String": program.connection_string},
            trust_env=False,
        )

    posted = program.post({"query": "SELECT $1::int AS a", "params": [1]})
    assert query({"query": "SELECT $1::int AS a", "params": [1]}).json() == posted.json()
    assert one(query({"query": WHERE})) is True
    for body in (
        {"query": f"INSERT INTO {table} VALUES (1, 1)"},
        {"queries": [{"query": "SET TRANSACTION READ WRITE"}, {"query": f"INSERT INTO {table} VALUES (1, 1)"}]},
    ):
        response = query(body)
        assert response.status_code == 400
        assert response.json()["code"] == "25006" if "query" in body else response.json()["code"] in {"25001", "0A000"}
    preflight = httpx.options(gateway.sql, trust_env=False)
    assert "QUERY" in preflight.headers["access-control-allow-methods"]
    allowed = preflight.headers["access-control-allow-headers"].lower()
    assert BOOKMARK in allowed
    assert "sqlhttp-read-only" in allowed


def test_serializable_batch_is_what_only_the_primary_can_run(program: Program) -> None:
    headers = {"Neon-Batch-Read-Only": "true", "Neon-Batch-Isolation-Level": "Serializable"}
    response = program.post({"queries": [{"query": WHERE}]}, headers)
    assert response.status_code == 200, response.text
    assert response.headers[SERVED_BY] == "default"


def test_reads_are_spread_evenly(program: Program) -> None:
    """Once the gateway takes both for equally quick, which a busy machine hides from its first looks."""
    deadline = time.monotonic() + 20.0
    counts: Counter[str] = Counter()
    while not counts or max(counts.values()) > 110:
        assert time.monotonic() < deadline, counts
        counts = Counter(program.post({"query": "SELECT 1"}, READ_ONLY).headers[SERVED_BY] for _ in range(200))
    assert set(counts) == {"default-2", "default-3"}


def test_reads_of_many_at_once_are_shared_by_all_replicas(gateway: Gateway, fleet: Fleet) -> None:
    """How evenly is a matter of which server ends them sooner, and so of the machine; `test_routing` counts."""
    counts: Counter[str] = Counter()

    def read() -> None:
        with program_of(gateway, fleet.primary.maintenance) as program:
            for _ in range(50):
                counts[program.post({"query": "SELECT pg_sleep(0.001)"}, READ_ONLY).headers[SERVED_BY]] += 1

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(counts) == {"default-2", "default-3"}
    assert min(counts.values()) >= 60, counts


def test_connections_to_a_replica_are_clean_for_the_next(program: Program) -> None:
    for _ in range(4):
        program.post({"query": "SELECT set_config('app.secret', 'mine', false), pg_advisory_lock(1)"}, READ_ONLY)
    for _ in range(4):
        left = program.post({"query": "SELECT current_setting('app.secret', true) AS a"}, READ_ONLY)
        assert one(left) in {None, ""}
        assert left.headers[SERVED_BY] != "default"
    locks = "SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory'"
    assert {one(program.post({"query": locks}, READ_ONLY)) for _ in range(4)} == {0}


def test_servers_their_roles_and_where_requests_went_are_measured(gateway: Gateway, program: Program) -> None:
    program.post({"query": "SELECT 1"})
    program.post({"query": "SELECT 1"}, READ_ONLY)
    shown = httpx.get(f"{gateway.url}/metrics", trust_env=False).text
    assert 'sqlhttp_server_role{role="primary",server="default",target="default"} 1.0' in shown
    assert 'sqlhttp_server_role{role="replica",server="default-3",target="default"} 1.0' in shown
    assert 'sqlhttp_server_up{server="default-2",target="default"} 1.0' in shown
    assert 'sqlhttp_server_lag_seconds{server="default-2",target="default"}' in shown
    assert 'sqlhttp_routed_total{reason="write",server="default",target="default"}' in shown
    assert 'sqlhttp_routed_total{reason="read",server="default-2",target="default"}' in shown
    servers = httpx.get(f"{gateway.url}/status", trust_env=False).json()["servers"]
    assert [each["role"] for each in servers] == ["primary", "replica", "replica"]


# ── one's own writes ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_write_then_read_with_the_bookmark_is_never_stale(gateway: Gateway, fleet: Fleet, table: str) -> None:
    stale: list[tuple[int, int]] = []
    served: Counter[str] = Counter()

    def pairs(number: int) -> None:
        with program_of(gateway, fleet.primary.maintenance) as program:
            program.post({"query": f"INSERT INTO {table} VALUES ({number}, 0)"})
            for turn in range(1, 101):
                written = program.post({"query": f"UPDATE {table} SET v = $1 WHERE id = {number}", "params": [turn]})
                bookmark = {BOOKMARK: written.headers[BOOKMARK]}
                read = program.post({"query": f"SELECT v FROM {table} WHERE id = {number}"}, READ_ONLY | bookmark)
                served[read.headers[SERVED_BY]] += 1
                if one(read) != turn:
                    stale.append((turn, one(read)))

    threads = [threading.Thread(target=pairs, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stale == []
    assert served["default-2"] + served["default-3"] > 300, f"reads are to stay with the replicas: {served}"


@pytest.mark.parametrize(
    "write",
    [
        {"query": "INSERT INTO {table} VALUES (1, 1)"},
        {"query": "DO $$ BEGIN INSERT INTO {table} VALUES (1, 1); END $$"},
        {"queries": [{"query": "INSERT INTO {table} VALUES (1, 1) RETURNING *"}, {"query": "SELECT 1"}]},
        {"queries": [{"query": "INSERT INTO {table} VALUES (1, 1)"}]},
        {"query": "WITH a AS (INSERT INTO {table} VALUES (1, 1) RETURNING 1) SELECT * FROM a"},
    ],
)
def test_every_kind_of_write_has_a_bookmark_that_a_lagging_replica_honours(
    fleet: Fleet, program: Program, table: str, write: dict[str, Any]
) -> None:

    with paused(fleet):
        written = program.post(json.loads(json.dumps(write).replace("{table}", table)))
        assert written.status_code == 200, written.text
        count = {"query": f"SELECT count(*)::int FROM {table}"}
        assert one(program.post(count, READ_ONLY)) == 0, "a replica that replays nothing cannot know"
        read = program.post(count, READ_ONLY | {BOOKMARK: written.headers[BOOKMARK]})
        assert (one(read), read.headers[SERVED_BY]) == (1, "default")
    fleet.wait_replayed()


def test_reads_do_not_go_back_in_time_either(fleet: Fleet, program: Program, table: str) -> None:
    """One replica is ahead of the other: who has read from it does not get less from the other."""
    behind = fleet.replicas[0].maintenance
    behind.psql("SELECT pg_wal_replay_pause()")
    try:
        program.post({"query": f"INSERT INTO {table} VALUES (1, 1)"})
        fleet.wait_replayed(fleet.replicas[1])
        count = {"query": f"SELECT count(*)::int FROM {table}"}
        seen, bookmark = 0, ""
        for _ in range(10):
            read = program.post(count, READ_ONLY | ({BOOKMARK: bookmark} if bookmark else {}))
            assert one(read) >= seen
            seen, bookmark = one(read), max(bookmark, read.headers[BOOKMARK])
        assert seen == 1
    finally:
        behind.psql("SELECT pg_wal_replay_resume()")
    fleet.wait_replayed()


def test_refused_write_has_a_bookmark_too(program: Program, table: str) -> None:
    """A procedure may have committed before it failed."""
    response = program.post({"query": f"DO $$ BEGIN INSERT INTO {table} VALUES (1, 1); COMMIT; RAISE 'no'; END $$"})
    assert response.status_code == 400
    count = {"query": f"SELECT count(*)::int FROM {table}"}
    assert one(program.post(count, READ_ONLY | {BOOKMARK: response.headers[BOOKMARK]})) == 1


def test_bookmark_of_a_write_that_was_tried_with_a_stale_plan_stands_behind_it(
    fleet: Fleet, program: Program, table: str
) -> None:
    def position_behind(number: int) -> bool:
        """Whether the bookmark is beyond the row, of which Postgres says where the log stood then."""
        insert = f"INSERT INTO {table} VALUES ($1, 1) RETURNING *, pg_current_wal_insert_lsn()::text AS at"
        response = program.post({"query": insert, "params": [number]})
        assert response.status_code == 200, response.text
        bookmark = decode_bookmark(response.headers[BOOKMARK].encode())
        return bookmark.position > lsn_from_text(response.json()["rows"][0]["at"])

    assert all(position_behind(number) for number in range(4))
    fleet.primary.maintenance.psql(f"ALTER TABLE {table} ADD COLUMN w int")
    assert position_behind(4)


def test_bookmark_of_another_database_system_is_refused(program: Program) -> None:
    bookmark = f"v1-{1:016x}-{1:08x}-{1:016x}"
    response = program.post({"query": "SELECT 1"}, READ_ONLY | {BOOKMARK: bookmark})
    assert response.status_code == 409
    assert response.json()["code"] == "58000"
    assert program.post({"query": "SELECT 1"}, READ_ONLY | {BOOKMARK: "x"}).status_code == 400


# ── lag ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_replicas_beyond_max_lag_get_nothing(fleet: Fleet) -> None:
    with (
        gateway_in_thread(fleet.url, {"replica": {"max_lag": 0.2, "probe_interval": 0.05}}) as gateway,
        program_of(gateway, fleet.primary.maintenance) as program,
    ):
        wait_until_routed(gateway, fleet)
        with paused(fleet):
            fleet.primary.maintenance.psql("SELECT pg_logical_emit_message(true, 'test', 'x')")
            poll(lambda: one(program.post({"query": WHERE}, READ_ONLY)) is False)
        poll(lambda: one(program.post({"query": WHERE}, READ_ONLY)) is True)


# ── which servers are wanted ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wanted", "read", "plain"),
    [
        ("any", True, False),
        ("read-write", False, False),
        ("primary", False, False),
        ("standby", True, True),
        ("read-only", True, True),
        ("prefer-standby", True, True),
    ],
)
def test_target_session_attrs_says_which_servers_serve(fleet: Fleet, wanted: str, read: bool, plain: bool) -> None:
    with (
        gateway_in_thread(f"{fleet.url}?target_session_attrs={wanted}", {}) as gateway,
        program_of(gateway, fleet.primary.maintenance) as program,
    ):
        poll(lambda: one(program.post({"query": WHERE}, READ_ONLY)) is read)
        poll(lambda: one(program.post({"query": WHERE})) is plain)


def test_selects_that_postgres_plans_as_reads_go_to_replicas_by_setting(fleet: Fleet, table: str) -> None:
    function = f"{table}_writes"
    fleet.primary.maintenance.psql(
        f"CREATE FUNCTION {function}() RETURNS int LANGUAGE sql AS 'INSERT INTO {table} VALUES (1, 1) RETURNING 1'"
    )
    fleet.wait_replayed()
    with (
        gateway_in_thread(fleet.url, {"replica": {"selects": True}}) as gateway,
        program_of(gateway, fleet.primary.maintenance) as program,
    ):
        wait_until_routed(gateway, fleet)

        def server(text: str, *params: object) -> str:
            response = program.post({"query": text, "params": list(params)})
            assert response.status_code == 200, response.text
            return response.headers[SERVED_BY]

        for _ in range(2):  # asked, then remembered
            assert server(f"SELECT count(*) FROM {table} WHERE id = $1", 1) != "default"
            assert server(f"SELECT * FROM {table} FOR UPDATE") == "default"
            assert server(f"UPDATE {table} SET v = 2") == "default"
        assert server(f"SELECT {function}()") == "default"
        written = program.post({"query": f"UPDATE {table} SET v = 5"})
        read = program.post({"query": f"SELECT v FROM {table}"}, {BOOKMARK: written.headers[BOOKMARK]})
        assert (one(read), read.headers[SERVED_BY] != "default") == (5, True)
        assert program.post({"query": "SELECT nonsense"}).json()["code"] == "42703"
    fleet.primary.maintenance.psql(f"DROP FUNCTION {function}")


def test_replica_that_applies_late_is_waited_for_or_passed_over(fleet: Fleet, table: str) -> None:
    late = fleet.replicas[0].maintenance
    late.psql("ALTER SYSTEM SET recovery_min_apply_delay = '50ms'")
    late.psql("SELECT pg_reload_conf()")
    try:
        with gateway_in_thread(fleet.url, {}) as gateway, program_of(gateway, fleet.primary.maintenance) as program:
            wait_until_routed(gateway, fleet)
            program.post({"query": f"INSERT INTO {table} VALUES (1, 0)"})
            for turn in range(1, 31):
                written = program.post({"query": f"UPDATE {table} SET v = {turn}"})
                bookmark = {BOOKMARK: written.headers[BOOKMARK]}
                assert one(program.post({"query": f"SELECT v FROM {table}"}, READ_ONLY | bookmark)) == turn
    finally:
        late.psql("ALTER SYSTEM RESET recovery_min_apply_delay")
        late.psql("SELECT pg_reload_conf()")


def test_read_only_header_holds_where_there_is_one_server(fleet: Fleet, table: str) -> None:
    url = fleet.primary.maintenance.url
    with gateway_in_thread(url, {}) as gateway, program_of(gateway, fleet.primary.maintenance) as program:
        answer = program.post({"query": "SHOW transaction_read_only"}, READ_ONLY)
        assert one(answer) == "on"
        assert SERVED_BY not in answer.headers
        assert BOOKMARK not in answer.headers
        write = program.post({"query": f"INSERT INTO {table} VALUES (1, 1)"}, READ_ONLY)
        assert write.json()["code"] == "25006"


def poll(condition: Callable[[], bool]) -> None:
    """Until it is so; each try takes as long as a request."""
    for _ in range(500):
        if condition():
            return
    raise AssertionError("it does not become so")
