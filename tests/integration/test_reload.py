"""SIGHUP: the settings file is read again under load, and what can change does so without dropping a request."""

import asyncio
import contextlib
import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import asyncpg
import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.sync.client import connect

from sqlhttp_gateway.auth.api_keys import hash_of, new_key
from sqlhttp_gateway.settings import load_settings
from tests.support.cluster import PASSWORD, Cluster, Database, running_cluster
from tests.support.fleet import Fleet
from tests.support.gateway import GatewayProcess, free_port
from tests.support.issuer import sign
from tests.support.loading import Load, loading
from tests.support.program import scratch_role
from tests.support.running_app import running_app


class Served:
    """A gateway process with a settings file of its own."""

    def __init__(self, process: GatewayProcess, port: int, file: Path, dsn: str) -> None:
        self.process, self.port, self.file, self.dsn = process, port, file, dsn
        self._reloads: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def metric(self, name: str) -> float:
        with urlopen(f"{self.url}/metrics") as response:
            lines = response.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def has_pool(self, target: str) -> bool:
        with urlopen(f"{self.url}/metrics") as response:
            lines = response.read().decode().splitlines()
        return any(line.startswith("sqlhttp_pool_max_size{") and f'target="{target}"' in line for line in lines)

    def reload(self, text: str, *, outcome: str = "ok") -> None:
        """Write the file, send SIGHUP, and wait until that has had its effect."""
        series = f'sqlhttp_reloads_total{{outcome="{outcome}"}}'
        self._reloads[outcome] += 1
        self.file.write_text(text)
        self.process.send(signal.SIGHUP)
        until(lambda: self.metric(series) == self._reloads[outcome])

    def ask(self, query: str, **headers: str) -> tuple[int, dict[str, Any]]:
        given = headers or {"Neon-Connection-String": self.dsn}
        response = httpx.post(f"{self.url}/sql", json={"query": query}, headers=given)
        return response.status_code, response.json()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def serve(postgres: Cluster, database: Database, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    processes: list[GatewayProcess] = []

    def start(text: str, *arguments: str) -> Served:
        port, file = free_port(), tmp_path / "sqlhttp.toml"
        file.write_text(text)
        process = GatewayProcess(
            "serve", "--config", str(file), "--port", str(port), *arguments, environment={"DATABASE_URL": database.url}
        )
        processes.append(process)
        process.wait_until_ready(f"http://127.0.0.1:{port}")
        return Served(process, port, file, database.url)

    yield start
    for process in processes:
        with process:
            process.stop()


WORKERS = pytest.mark.parametrize("workers", ["1", "2"])


@WORKERS
def test_pools_grow_and_shrink_under_load_without_one_failed_request(
    serve: Callable[..., Served], database: Database, workers: str
) -> None:
    served = serve("[pool]\nmax_size = 2\n", "--workers", workers)
    load = Load(served.port, served.dsn, query="SELECT pg_sleep(0.005)")
    with loading(load, programs=8):
        load.wait_for(50)
        for size in (8, 2, 6, 4):
            served.reload(f"[pool]\nmax_size = {size}\nmax_total = {size + 4}\n")
            load.wait_for(50)
            count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database.name}' AND query ~ 'pg_sleep'"
            until(lambda count=count, size=size: int(database.psql(count)) - 1 <= size)
    assert load.failed == {}
    # The watch's connection, and that of the gateway's own role, are beside them.


def test_a_tenant_is_added_and_removed_without_a_restart(serve: Callable[..., Served], database: Database) -> None:
    key = new_key()
    served = serve("")
    header = {"Authorization": f"Bearer {key.text}"}
    assert served.ask("SELECT 1", **header)[0] == 400
    with loading(Load(served.port, served.dsn), programs=2) as load:
        served.reload(
            f'[targets.acme]\nurl = "{database.url}?application_name=acme"\n'
            f'[keys.{key.id}]\nhash = "{hash_of(key)}"\ntarget = "acme"\n'
            f'database = "{database.name}"\nrole = "postgres"\n'
        )
        status, body = served.ask("SELECT current_setting('application_name') AS name", **header)
        assert (status, body["rows"]) == (200, [{"name": "acme"}])
        served.reload("")
        status, body = served.ask("SELECT 1", **header)
        assert status == 400
        # Its connections go, too.
        until(lambda: database.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'acme'") == "0\n")
    assert load.failed == {}


def test_a_host_leads_to_a_tenant_from_the_reload_that_names_it_to_the_one_that_does_not(
    serve: Callable[..., Served], database: Database
) -> None:
    served = serve("")
    asked = {"Neon-Connection-String": database.url.replace(database.name, "any"), "Host": "acme.example"}
    assert served.ask("SELECT 1", **asked)[1]["code"] == "3D000"
    served.reload(f'[tenants.acme]\nhosts = ["*.example"]\ndatabase = "{database.name}"\n')
    assert served.ask("SELECT 1 AS a", **asked)[1]["rows"] == [{"a": 1}]
    served.reload("")
    assert served.ask("SELECT 1", **asked)[1]["code"] == "3D000"


def test_a_target_that_leads_elsewhere_is_gone_to_without_a_failed_request(
    serve: Callable[..., Served], database: Database
) -> None:
    text = 'database_url = "{}?application_name={}"\n'
    served = serve("")
    served.process.stop()
    # DATABASE_URL in the environment would win over the file.
    port = free_port()
    served.file.write_text(text.format(database.url, "old"))
    with GatewayProcess("serve", "--config", str(served.file), "--port", str(port), environment={}) as process:
        served = Served(process, port, served.file, database.url)
        process.wait_until_ready(served.url)
        with loading(Load(port, database.url), programs=4) as load:
            load.wait_for(50)
            served.reload(text.format(database.url, "new"))
            load.wait_for(50)
            seen = "SELECT DISTINCT current_setting('application_name') AS name"
            assert served.ask(seen)[1]["rows"] == [{"name": "new"}]
            until(lambda: database.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name='old'") == "0\n")
        assert load.failed == {}
        assert process.stop() == 0


async def test_who_listens_hears_the_server_that_the_target_leads_to_now(
    serve: Callable[..., Served], database: Database
) -> None:
    """And what was kept of the old server's answers ends."""
    text = 'database_url = "{}"\n[listen]\npostgres = {}\n'
    served = serve("")
    served.process.stop()
    port, door = free_port(), free_port()
    with running_cluster() as cluster:
        new = cluster.database(database.name)
        cluster.maintenance.psql(f"CREATE DATABASE {new.name}")
        for number, each in enumerate((database, new)):
            each.psql(f"CREATE TABLE t (v int); INSERT INTO t VALUES ({number})")
        served.file.write_text(text.format(database.url, door))
        with GatewayProcess("serve", "--config", str(served.file), "--port", str(port), environment={}) as process:
            served = Served(process, port, served.file, database.url)
            process.wait_until_ready(served.url)
            headers = {"Neon-Connection-String": served.dsn, "Cache-Control": "max-age=600"}

            def kept() -> int:
                return int(served.ask("SELECT v FROM t", **headers)[1]["rows"][0]["v"])

            program = await asyncpg.connect(
                host="127.0.0.1", port=door, user=new.role, password=new.password, database=new.name
            )
            heard: asyncio.Queue[str] = asyncio.Queue()
            await program.add_listener("talk", lambda *told: heard.put_nowait(str(told[-1])))
            assert kept() == 0
            served.reload(text.format(new.url, door))
            until(lambda: kept() == 1)
            async with asyncio.timeout(20):
                while heard.empty():
                    new.psql("NOTIFY talk, 'here'")
                    await asyncio.sleep(0.05)
            assert await heard.get() == "here"
            await program.close()
            assert process.stop() == 0


async def test_answers_of_the_server_that_a_target_has_left_are_given_to_nobody(database: Database) -> None:
    """Also where nothing listens to the old server, whose silence would tell."""
    sections: dict[str, Any] = {"drain": {"grace": 5}, "cache": {"listen": False}}
    with running_cluster() as cluster:
        new = cluster.database(database.name)
        cluster.maintenance.psql(f"CREATE DATABASE {new.name}")
        for number, each in enumerate((database, new)):
            each.psql(f"CREATE TABLE t (v int); INSERT INTO t VALUES ({number})")
        async with running_app(database, **sections) as app:

            async def kept() -> tuple[int, bool]:
                call = await app.post({"query": "SELECT v FROM t"}, cache_control="max-age=600")
                return call.json()["rows"][0]["v"], "hit" in call.headers["cache-status"]

            assert [await kept() for _ in range(2)] == [(0, False), (0, True)]
            await app.app.reload(lambda: load_settings(database_url=database.url, **sections))
            assert await kept() == (0, True), "the servers are the same"
            await app.app.reload(lambda: load_settings(database_url=new.url, **sections))
            assert [await kept() for _ in range(2)] == [(1, False), (1, True)]


async def test_answers_that_claims_reached_in_another_way_are_given_to_nobody(database: Database) -> None:
    """A policy may have let everybody see everything as long as it was told of nobody."""
    secret = "0123456789abcdef0123456789abcdef"

    def sections(claims: str) -> dict[str, Any]:
        return {
            "drain": {"grace": 5},
            "auth": {"claims": claims},
            "issuers": {"own": {"secret": secret, "roles": [database.role]}},
            "logins": {"own": {"role": database.role, "password": database.password}},
        }

    authorization = f"Bearer {sign('HS256', secret.encode(), {'alg': 'HS256'}, {'sub': 'ann'})}"
    async with running_app(database, **sections("off")) as app:

        async def kept() -> tuple[bool, bool]:
            query = {"query": "SELECT coalesce(current_setting('request.jwt.claims', true), '') = '' AS is_nobody"}
            call = await app.post(query, authorization=authorization, cache_control="max-age=600")
            return call.json()["rows"][0]["is_nobody"], "hit" in call.headers["cache-status"]

        assert [await kept() for _ in range(2)] == [(True, False), (True, True)]
        for claims, is_nobody in (("plain", False), ("off", True)):
            settings = load_settings(database_url=database.url, **sections(claims))
            await app.app.reload(lambda settings=settings: settings)  # type: ignore[misc]  # bound in the loop
            assert [await kept() for _ in range(2)] == [(is_nobody, False), (is_nobody, True)]
        await app.app.reload(lambda: load_settings(database_url=database.url, **sections("off")))
        assert await kept() == (True, True), "nothing is different"


def test_target_that_was_given_up_is_served_where_it_leads_now(
    serve: Callable[..., Served], database: Database
) -> None:
    text = '[targets.acme]\nurl = "postgresql://postgres:secret@127.0.0.1:{}/{}"\n[breaker]\nfailures = 1\n'
    served = serve(text.format(free_port(), database.name))
    at_acme = urlsplit(database.url)._replace(netloc=f"{database.role}:{PASSWORD}@acme").geturl()

    def status() -> int:
        return served.ask("SELECT 1", **{"Neon-Connection-String": at_acme})[0]

    until(lambda: status() == 503)
    until(lambda: not served.has_pool("acme"))
    served.reload(text.format(database.port, database.name).replace("postgres:secret", f"postgres:{PASSWORD}"))
    until(lambda: status() == 200)


def test_servers_join_and_leave_a_target_without_a_failed_request(serve: Callable[..., Served], fleet: Fleet) -> None:
    names = [f"{each.host}:{each.port}" for each in fleet.servers]

    def settings(*servers: str) -> str:
        return f'[targets.fleet]\nurl = "postgres://postgres:{PASSWORD}@{",".join(servers)}/postgres"\n'

    served = serve(settings(names[0]))
    dsn = f"postgres://postgres:{PASSWORD}@fleet/postgres"

    def who_reads() -> tuple[str, bool]:
        headers = {"Neon-Connection-String": dsn, "Sqlhttp-Read-Only": "true"}
        response = httpx.post(f"{served.url}/sql", json={"query": "SELECT pg_is_in_recovery() AS r"}, headers=headers)
        assert response.status_code == 200, response.text
        return response.headers.get("sqlhttp-served-by", ""), response.json()["rows"][0]["r"]

    def seen() -> set[tuple[str, bool]]:
        return {who_reads() for _ in range(20)}

    with loading(Load(served.port, dsn), programs=2) as load:
        assert seen() == {("", False)}
        served.reload(settings(names[0], names[1]))
        until(lambda: seen() == {("fleet-2", True)})
        served.reload(settings(*names))
        until(lambda: seen() == {("fleet-2", True), ("fleet-3", True)})
        served.reload(settings(names[0], names[1]))
        until(lambda: seen() == {("fleet-2", True)})
        served.reload(settings(names[2], names[0]))  # the first is a replica now, and a name leads elsewhere
        until(lambda: seen() == {("fleet", True)})
        served.reload(settings(names[0]))
        until(lambda: seen() == {("", False)})
        load.wait_for(20)
    assert load.failed == {}


@WORKERS
def test_a_faulty_file_changes_nothing_and_says_every_fault_on_a_line(
    serve: Callable[..., Served], workers: str
) -> None:
    served = serve("[log]\nformat = 'json'\n", "--workers", workers)
    served.reload('[pool]\nmax_sise = 3\nmin_size = -1\n[log]\nformat = "text"\n', outcome="failed")
    served.reload('[targets.x]\nurl = "postgres://u:hidden@h/d?no_such=1"\n', outcome="failed")
    assert served.ask("SELECT 1")[0] == 200
    served.process.stop()
    faults = [
        json.loads(line)["message"] for line in served.process.output.splitlines() if "settings not reloaded" in line
    ]
    assert len(faults) == 3
    assert any("pool.max_sise: there is no such setting" in fault for fault in faults)
    assert any("pool.min_size" in fault for fault in faults)
    assert any("targets.x.url" in fault and "no_such" in fault for fault in faults)
    assert "hidden" not in served.process.output


def test_what_needs_a_restart_is_named_and_the_log_changes_at_once(serve: Callable[..., Served]) -> None:
    served = serve("")
    served.reload('[listen]\nbacklog = 7\nworkers = 3\n[log]\nformat = "json"\nrequests = "all"\n')
    served.ask("SELECT 1")
    served.process.stop()
    lines = served.process.output.splitlines()
    [warning] = [line for line in lines if "need a restart" in line]
    assert "listen.workers,listen.backlog" in warning
    assert any('"message":"request answered"' in line for line in lines)


@WORKERS
def test_limits_of_statements_and_answers_change_on_every_worker(serve: Callable[..., Served], workers: str) -> None:
    served = serve("", "--workers", workers)
    served.reload("[response]\nmax_bytes = 10\n")

    def is_small_everywhere() -> bool:
        return {served.ask("SELECT repeat('x', 100)")[0] for _ in range(8)} == {507}

    until(is_small_everywhere)


def test_admin_networks_change(serve: Callable[..., Served]) -> None:
    served = serve("")
    with urlopen(Request(f"{served.url}/status")) as response:
        assert response.status == 200
    served.file.write_text('[admin]\nallow_from = ["192.0.2.0/24"]\n')
    served.process.send(signal.SIGHUP)
    until(lambda: httpx.get(f"{served.url}/status").status_code == 403)


def test_roles_that_may_end_all_answers_change(
    serve: Callable[..., Served], postgres: Cluster, database: Database
) -> None:
    served = serve("")
    with scratch_role(postgres) as role:

        def status() -> int:
            headers = {"Neon-Connection-String": database.as_role(role, "secret").url}
            return httpx.post(f"{served.url}/cache/invalidate", json={"everywhere": True}, headers=headers).status_code

        assert status() == 400
        served.reload(f'[admin]\nroles = ["{role}"]\n')
        assert status() == 204
        served.reload("")
        assert status() == 400


def test_message_of_a_websocket_may_be_as_large_as_the_settings_say_now(serve: Callable[..., Served]) -> None:
    served = serve("")

    def close_code() -> int:
        """Of a program that sends 2,000 bytes which mean nothing."""
        with connect(f"ws://127.0.0.1:{served.port}/v2") as program:
            program.send(bytes(2000))
            with contextlib.suppress(ConnectionClosed):
                while True:
                    program.recv(timeout=15)
        assert program.close_code is not None
        return program.close_code

    assert close_code() != CloseCode.MESSAGE_TOO_BIG
    served.reload("[tunnel]\nmax_message_bytes = 1000\n")
    assert close_code() == CloseCode.MESSAGE_TOO_BIG
