"""A new version is rolled out under load, and Postgres is restarted under load: what programs see of it."""

import os
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import balancer
from tests.support.balancer import balancing
from tests.support.cluster import Cluster, Database, running_cluster
from tests.support.gateway import GatewayProcess, free_port
from tests.support.loading import Load, loading

ROUNDS = int(os.environ.get("ROLLING_ROUNDS", "1"))
"""How often both gateways are replaced; more for figures than for a test."""
PROGRAMS = 6
BACK_WITHIN = 2.5
"""Seconds in which requests succeed again once Postgres accepts connections; a second of it is for a slow machine."""


def serve(postgres_url: str, port: int) -> GatewayProcess:
    """A gateway that gives a balancer a second to see that it leaves."""
    process = GatewayProcess(
        *("serve", "--port", str(port), "--set", "drain.notice=1"), environment={"DATABASE_URL": postgres_url}
    )
    process.wait_until_ready(f"http://127.0.0.1:{port}")
    return process


@pytest.mark.parametrize("name", balancer.NAMES)
def test_two_gateways_are_replaced_one_after_the_other_without_one_failed_request(
    name: str, postgres: Cluster, database: Database, tmp_path: Path
) -> None:
    if balancer.found(name) is None:
        pytest.skip(f"{name} is not installed")
    ports = [free_port(), free_port()]
    front = free_port()
    with ExitStack() as all_of_it:
        running = {port: all_of_it.enter_context(serve(database.url, port)) for port in ports}
        all_of_it.enter_context(balancing(name, front, ports, tmp_path))
        load = Load(front, database.url, query="SELECT pg_sleep(0.003)")
        with loading(load, programs=PROGRAMS):
            load.wait_for(100)
            for port in ports * ROUNDS:
                assert running[port].stop() == 0
                load.wait_for(30)  # by the other one alone
                running[port] = all_of_it.enter_context(serve(database.url, port))
                load.wait_for(100)
        print(f"{name}: {load.counts[200]} requests, {sum(load.failed.values())} failed, {2 * ROUNDS} restarts")
        assert load.failed == {}


def test_postgres_stopped_and_started_under_load_is_used_again_at_once() -> None:
    with running_cluster() as cluster:
        url, port = cluster.maintenance.url, free_port()
        with serve(url, port) as process, loading(Load(port, url), programs=PROGRAMS) as load:
            load.wait_for(100)
            cluster.stop()
            began = time.monotonic()
            while time.monotonic() < began + 1.5 or not load.failed:
                time.sleep(0.02)
            answered = len(load.answered_at)
            cluster.start()  # returns when connections are accepted
            accepts = time.monotonic()
            load.wait_for(100)
            back = load.answered_at[answered] - accepts
            print(f"the first success came {back * 1000:.0f} ms after Postgres accepted connections again")
            assert back < BACK_WITHIN
            assert set(load.failed) <= {400, 500, 503}, "a program was left without an answer"
            load.stop()
            assert process.stop() == 0
