"""Servers that die under load: what is lost, what is an error, and how long it takes."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from tests.integration.test_replicas import BOOKMARK, READ_ONLY, SERVED_BY, one, poll, wait_until_routed
from tests.support.cluster import Cluster
from tests.support.fleet import Fleet, most_advanced, running_fleet, wait_until
from tests.support.gateway import Gateway, gateway_in_thread
from tests.support.program import Program, program_of

WRITERS = 4
READERS = 2


@dataclass
class Load:
    """Programs that insert numbers and read, until they are told to stop; each stays with one connection."""

    acknowledged: list[int] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    reads: Counter[str] = field(default_factory=Counter)
    read_errors: Counter[str] = field(default_factory=Counter)
    writes_at: list[float] = field(default_factory=list)
    """When each write was acknowledged."""
    stale: list[tuple[int, int]] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)

    def write(self, program: Program, numbers: Iterator[int]) -> None:
        while not self.gone.is_set():
            number = next(numbers)
            response = program.post({"query": "INSERT INTO kept VALUES ($1)", "params": [number]})
            if response.status_code == 200:
                self.acknowledged.append(number)
                self.writes_at.append(time.monotonic())
            else:
                self.refused[response.json()["code"]] += 1

    def read(self, program: Program) -> None:
        while not self.gone.is_set():
            response = program.post({"query": "SELECT count(*)::int AS n FROM kept"}, READ_ONLY)
            if response.status_code == 200:
                self.reads[response.headers[SERVED_BY]] += 1
            else:
                self.read_errors[response.json()["code"]] += 1


@contextmanager
def load(gateway: Gateway, fleet: Fleet) -> Iterator[Load]:
    running = Load()

    def write(number: int) -> None:
        with program_of(gateway, fleet.primary.maintenance) as program:
            running.write(program, iter(range(number * 1_000_000, (number + 1) * 1_000_000)))

    def read() -> None:
        with program_of(gateway, fleet.primary.maintenance) as program:
            running.read(program)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    threads += [threading.Thread(target=read) for _ in range(READERS)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(running.acknowledged) > 50)
        yield running
    finally:
        running.gone.set()
        for thread in threads:
            thread.join()


def until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it does not become so"
        time.sleep(0.005)


@contextmanager
def served(**options: str) -> Iterator[tuple[Fleet, Gateway]]:
    """A fleet of the test's own, a table in it, and a gateway before it that knows the roles."""
    with running_fleet(2, options) as fleet:
        fleet.primary.maintenance.psql("CREATE TABLE kept (number int PRIMARY KEY)")
        fleet.wait_replayed()
        with gateway_in_thread(fleet.url, {}) as gateway:
            wait_until_routed(gateway, fleet)
            yield fleet, gateway


def kept(cluster: Cluster) -> set[int]:
    return {int(line) for line in cluster.maintenance.psql("SELECT number FROM kept").split()}


def test_killed_replica_costs_no_answer_and_is_used_again_when_it_is_back() -> None:
    with served() as (fleet, gateway), load(gateway, fleet) as running:
        fleet.replicas[0].crash()
        before = running.reads["default-3"]
        until(lambda: running.reads["default-3"] > before + 50)
        alone = running.reads["default-2"]
        fleet.replicas[0].start()
        until(lambda: running.reads["default-2"] > alone + 50)
    assert not running.read_errors, "a read that a replica fails is tried elsewhere"
    assert not running.refused


def test_without_any_replica_the_primary_reads_and_says_so() -> None:
    with served() as (fleet, gateway), load(gateway, fleet) as running:
        for replica in fleet.replicas:
            replica.crash()
        until(lambda: running.reads["default"] > 50)
        shown = httpx.get(f"{gateway.url}/metrics", trust_env=False).text
        assert 'sqlhttp_routed_total{reason="no_replica",server="default",target="default"}' in shown
        assert 'sqlhttp_server_up{server="default-2",target="default"} 0.0' in shown
    assert not running.read_errors
    assert not running.refused


def test_killed_primary_with_synchronous_replication_loses_no_acknowledged_write() -> None:
    with served(synchronous_standby_names="ANY 1 (server0, server1, server2)") as (fleet, gateway):
        first, second = fleet.replicas
        with load(gateway, fleet) as running:
            died = time.monotonic()
            fleet.primary.crash()
            heir, other = most_advanced(first, second)
            fleet.promote(heir)
            promoted = time.monotonic()
            until(lambda: bool(running.writes_at) and running.writes_at[-1] > promoted)
            again = next(at for at in running.writes_at if at > promoted)
            until(lambda: running.writes_at[-1] > again + 0.5)
        acknowledged = set(running.acknowledged)
        assert acknowledged <= kept(heir), "no acknowledged write is lost"
        assert sum(running.refused.values()) <= WRITERS, f"only what was in flight may fail: {running.refused}"
        assert not running.read_errors
        assert again - promoted < 1.0, "the promoted replica takes writes within a second"
        wait_until(other.maintenance, f"SELECT count(*) >= {len(acknowledged)} FROM kept")
        print(f"first write {again - promoted:.3f} s after the promotion, {again - died:.3f} s after the death")


def test_bookmark_of_a_lost_tail_is_an_error_and_never_older_data() -> None:
    with served() as (fleet, gateway), program_of(gateway, fleet.primary.maintenance) as program:
        early = program.post({"query": "INSERT INTO kept VALUES (1)"}).headers[BOOKMARK]
        fleet.wait_replayed()
        cut_off(fleet)
        late = program.post({"query": "INSERT INTO kept VALUES (2)"}).headers[BOOKMARK]
        fleet.primary.crash()
        fleet.promote(fleet.replicas[0])
        poll(lambda: program.post({"query": "INSERT INTO kept VALUES (3)"}).status_code in {200, 400})
        count = {"query": "SELECT count(*)::int FROM kept"}
        for headers in (READ_ONLY, {}):
            lost = program.post(count, headers | {BOOKMARK: late})
            assert lost.status_code == 409, lost.text
            assert "not in the primary's history" in lost.json()["message"]
            assert one(program.post(count, headers | {BOOKMARK: early})) >= 1
        after = program.post({"query": "INSERT INTO kept VALUES (4)"}).headers[BOOKMARK]
        assert after > late, "the latest is still the greatest text"
        assert one(program.post(count, READ_ONLY | {BOOKMARK: after})) == 3


def cut_off(fleet: Fleet) -> None:
    """No replica receives anything from now on: what is written will be lost."""
    primary = fleet.primary
    (primary.data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")  # and none for replication
    primary.maintenance.psql("SELECT pg_reload_conf()")
    wait_until(primary.maintenance, "SELECT count(*) = 1 FROM pg_hba_file_rules")
    primary.maintenance.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
    wait_until(primary.maintenance, "SELECT count(*) = 0 FROM pg_stat_replication")


def test_write_that_meets_a_demoted_primary_goes_to_the_new_one() -> None:
    """The gateway has not looked since: what Postgres says (25006) is how it learns of it."""
    with running_fleet(2) as fleet, gateway_in_thread(fleet.url, {"replica": {"probe_interval": 60}}) as gateway:
        fleet.primary.maintenance.psql("CREATE TABLE kept (number int PRIMARY KEY)")
        fleet.wait_replayed()
        with program_of(gateway, fleet.primary.maintenance) as program:
            poll(lambda: program.post({"query": "SELECT 1"}).headers.get(SERVED_BY) == "default")
            fleet.primary.stop()
            fleet.promote(fleet.replicas[0])
            (fleet.primary.data / "standby.signal").touch()
            fleet.primary.start()
            written = program.post({"query": "INSERT INTO kept VALUES (1)"})
            assert written.status_code == 200, written.text
            assert written.headers[SERVED_BY] == "default-2"
            batch = {"queries": [{"query": "INSERT INTO kept VALUES (2)"}, {"query": "SELECT 1"}]}
            assert program.post(batch).headers[SERVED_BY] == "default-2"
            refused = program.post({"query": "INSERT INTO kept VALUES (3)"}, READ_ONLY)
            assert refused.json()["code"] == "25006", "who says that it only reads is not helped to write"
        assert kept(fleet.replicas[0]) == {1, 2}
