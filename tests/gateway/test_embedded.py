"""The private Postgres: made once, kept, repaired or explained, and never left running."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from socket import socket

import asyncpg
import pytest

from sqlhttp_gateway import embedded
from sqlhttp_gateway.embedded import Account, PostgresFailed, PrivatePostgres
from tests.support.cluster import FAST, copy_data

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which a Postgres was made, and stopped again."""
    folder = tmp_path_factory.mktemp("embedded")
    with private(folder):
        pass
    yield folder
    shutil.rmtree(folder)


def private(folder: Path, **options: str) -> PrivatePostgres:
    return PrivatePostgres(folder, "a secret/with:marks", options=FAST | options)


async def value(server: PrivatePostgres, sql: str) -> object:
    connection = await asyncpg.connect(server.url("postgres"), ssl=False)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_it_is_postgres_18_in_utf8_and_utc_with_the_pgvector_extension(folder: Path) -> None:
    with private(folder) as server:
        assert str(await value(server, "SHOW server_version")).startswith("18.")
        assert await value(server, "SHOW server_encoding") == "UTF8"
        assert await value(server, "SHOW timezone") == "UTC"
        assert await value(server, "SELECT lower('ÄÖ')") == "äö"
        assert await value(server, "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'") == 1


async def test_the_password_is_checked(folder: Path) -> None:
    with private(folder) as server:
        url = server.url("postgres").replace("secret", "guess")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(url, ssl=False)
        assert await value(server, "SELECT substr(rolpassword, 1, 14) FROM pg_authid WHERE rolname = 'postgres'") == (
            "SCRAM-SHA-256$"
        )


async def test_it_listens_on_the_loopback_address_and_on_a_socket_in_its_folder(folder: Path) -> None:
    with private(folder) as server:
        assert await value(server, "SHOW listen_addresses") == "127.0.0.1"
        assert server.socket_folder == folder / "socket"
        assert (folder / "socket" / f".s.PGSQL.{server.port}").is_socket()


async def test_its_shortest_way_is_the_socket_and_asks_for_the_password_too(folder: Path) -> None:
    with private(folder) as server:
        url = server.shortest_url("postgres")
        connection = await asyncpg.connect(url)
        try:
            assert await connection.fetchval("SELECT inet_server_addr()") is None
        finally:
            await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(url.replace("secret", "guess"))


async def test_where_the_path_of_a_socket_would_be_too_long_there_is_none(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30)
    home.mkdir()
    copy_data(folder / "postgres", home / "postgres")
    with private(home) as server:
        assert server.socket_folder is None
        assert server.shortest_url("postgres") == server.url("postgres")
        assert await value(server, "SHOW unix_socket_directories") == ""


def test_what_a_killed_postgres_left_beside_its_socket_stops_no_start(folder: Path) -> None:
    (folder / "socket").mkdir(exist_ok=True)
    server = private(folder)
    with server:
        port = server.port
    # The number is that of a process of its own account by now: Postgres would take it for a server on this socket.
    with subprocess.Popen(["sleep", "60"], **Account.for_folder(server.data).switch) as another:
        (folder / "socket" / f".s.PGSQL.{port}.lock").write_text(f"{another.pid}\n")
        with server:
            assert server.port == port
            assert (folder / "socket" / f".s.PGSQL.{port}").is_socket()
        another.kill()


async def test_data_survives_a_stop_and_a_second_start_takes_the_same_port(folder: Path) -> None:
    server = private(folder)
    server.start()
    port = server.port
    await value(server, "CREATE TABLE kept (n int)")
    server.stop()
    assert server.pid is None
    server.start()
    try:
        assert server.port == port
        assert await value(server, "SELECT count(*) FROM kept") == 0
    finally:
        server.stop()


def test_another_port_is_taken_when_the_old_one_went_to_somebody_else(folder: Path) -> None:
    server = private(folder)
    with server:
        taken = server.port
    with socket() as squatter:
        squatter.bind(("127.0.0.1", taken))
        squatter.listen()
        with server:
            assert server.port != taken


def test_a_folder_whose_making_was_cut_short_is_made_anew(tmp_path: Path) -> None:
    unfinished = tmp_path / "postgres.unfinished"
    (unfinished / "global").mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    with private(tmp_path) as server:
        assert server.pid
    assert not unfinished.exists()


def test_an_empty_data_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    with private(tmp_path) as server:
        assert server.pid


def test_a_data_directory_with_other_files_is_explained_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "thesis.txt").write_text("years of work")
    with pytest.raises(PostgresFailed, match="not a whole Postgres data directory"):
        private(tmp_path).start()
    assert (tmp_path / "postgres" / "thesis.txt").read_text() == "years of work"


def test_data_of_another_major_version_are_explained_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "global").mkdir(parents=True)
    (tmp_path / "postgres" / "global" / "pg_control").write_bytes(b"")
    (tmp_path / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(PostgresFailed, match="made by Postgres 16 and this is 18"):
        private(tmp_path).start()


def test_a_lock_file_whose_number_now_means_another_process_does_not_stop_a_start(folder: Path) -> None:
    """As after a power cut: the file is still there, and its process number went to a program of the same user."""
    account = Account.for_folder(folder / "postgres")
    stranger = subprocess.Popen(["sleep", "60"], **account.switch)
    try:
        lock = folder / "postgres" / "postmaster.pid"
        lock.write_text(f"{stranger.pid}\n{folder}\n1700000000\n5432\n\n127.0.0.1\n 1234567  99999\nready   \n")
        account.own(lock)
        with private(folder) as server:
            assert server.pid
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_postgres_that_outlived_its_owner_is_ended_by_the_next_one(folder: Path) -> None:
    owner = (
        "import os, sys; from pathlib import Path; from sqlhttp_gateway.embedded import PrivatePostgres\n"
        "server = PrivatePostgres(Path(sys.argv[1]), 'x'); server.start(); print(server.pid, flush=True); os._exit(9)"
    )
    killed = subprocess.run([sys.executable, "-c", owner, str(folder)], capture_output=True, text=True, timeout=60)
    orphan = int(killed.stdout)
    assert is_running(orphan)
    with private(folder):
        assert not is_running(orphan)


def is_running(pid: int) -> bool:
    """Running, and not just waiting to be reaped by whoever inherited it."""
    try:
        os.kill(pid, 0)
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    except ProcessLookupError:
        return False
    return bool(state) and not state.startswith("Z")


def test_a_folder_in_use_says_by_whom(folder: Path) -> None:
    with private(folder), pytest.raises(PostgresFailed, match=f"in use by process {os.getpid()}"):
        private(folder).start()


def test_a_folder_is_free_again_although_a_child_that_is_just_beginning_has_a_copy_of_its_lock(folder: Path) -> None:
    with private(folder):
        lock = folder / "lock"
        copies = [
            os.dup(int(each.name)) for each in Path("/proc/self/fd").iterdir() if each.exists() and each.samefile(lock)
        ]
        assert copies
    try:
        with private(folder) as server:
            assert server.pid
    finally:
        for copy in copies:
            os.close(copy)


def test_a_start_that_fails_shows_the_end_of_postgres_own_log(folder: Path) -> None:
    with pytest.raises(PostgresFailed, match=r'invalid value for parameter "shared_buffers": "a lot"'):
        private(folder, shared_buffers="a lot").start()
    with private(folder) as server:  # and nothing is left locked
        assert server.pid


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PostgresFailed, match="file"):
        private(tmp_path / "file" / "folder").start()


def test_without_the_extra_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(PostgresFailed, match=r"pip install 'sqlhttp\[embedded\]'"):
        private(tmp_path).start()


def test_wait_returns_when_postgres_ends_by_itself_and_stopping_it_again_is_harmless(folder: Path) -> None:
    server = private(folder)
    server.start()
    assert server.pid
    os.kill(server.pid, signal.SIGINT)
    assert server.wait() == 0
    server.stop()
    server.stop()


async def test_a_crash_is_recovered_from(folder: Path) -> None:
    server = private(folder, synchronous_commit="on")
    server.start()
    assert server.pid
    await value(server, "CREATE TABLE written (n int)")
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    with server:
        assert await value(server, "SELECT count(*) FROM written") == 0


def test_the_terminals_interrupt_does_not_reach_postgres(folder: Path) -> None:
    with private(folder) as server:
        assert server.pid
        assert os.getsid(server.pid) != os.getsid(0)


def has_capabilities(pid: int) -> bool:
    """Whether a process on Linux has any part of root's power."""
    return "CapEff:\t0000000000000000" not in Path(f"/proc/{pid}/status").read_text()


@NEEDS_ROOT
def test_roots_postgres_runs_as_the_owner_of_its_data_or_as_nobody(tmp_path: Path) -> None:
    assert Account.for_folder(tmp_path).uid not in (0, None)
    os.chown(tmp_path, 33, 33)
    assert Account.for_folder(tmp_path) == Account(33, 33)


@NEEDS_ROOT
async def test_root_may_keep_data_and_programs_where_nobody_else_can_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clone in /root: every folder above is closed to the account that Postgres runs as."""
    package = embedded.programs().parent.parent
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.with_name(name), closed / name)
    monkeypatch.setattr(embedded, "programs", lambda: closed / package.name / "pginstall18" / "bin")
    server = private(closed / "data")
    with server:
        assert await value(server, "SELECT 1") == 1
        assert server.pid
        assert not has_capabilities(server.pid)
