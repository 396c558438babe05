"""Several workers: replaced when they die, gone with their parent."""

import contextlib
import fcntl
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator

import pytest

from sqlhttp_gateway import workers
from sqlhttp_gateway.settings import Settings, load_settings
from sqlhttp_gateway.sockets import bind_all
from tests.gateway.test_serve import get, post, started, until
from tests.support.cluster import Cluster
from tests.support.gateway import answers, free_port

SHARES_PORTS = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="SO_REUSEPORT spreads load on Linux")


def children(pid: int) -> set[int]:
    output = subprocess.run(["ps", "-o", "pid=,stat=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return {int(line.split()[0]) for line in output.splitlines() if not line.split()[1].startswith("Z")}


@SHARES_PORTS
def test_a_worker_that_dies_is_replaced_and_all_end_with_their_parent(postgres: Cluster) -> None:
    process, port = started(postgres, "--workers", "2")
    with process:
        until(lambda: len(children(process.pid)) == 2, "there are not two workers")
        victim = min(children(process.pid))
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(children(process.pid) - {victim}) == 2, "the worker was not replaced")
        assert all(post(port, postgres.maintenance.url, "SELECT 1")[0] == 200 for _ in range(8))
        workers = children(process.pid)
        assert process.stop() == 0
        assert not any(os.path.exists(f"/proc/{worker}") for worker in workers)


@SHARES_PORTS
def test_workers_whose_parent_was_killed_do_not_keep_the_port(postgres: Cluster) -> None:
    process, port = started(postgres, "--workers", "2")
    with process:
        until(lambda: len(children(process.pid)) == 2, "there are not two workers")
        process.send(signal.SIGKILL)
        process.wait()

    def is_free() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    until(is_free, "somebody still listens")


@SHARES_PORTS
def test_programs_that_wait_for_a_worker_that_is_killed_are_served_by_the_next(postgres: Cluster) -> None:
    """At both doors: what the kernel has accepted is nobody's loss."""
    door = free_port()
    process, port = started(postgres, "--workers", "2", "--set", f"listen.postgres={door}")
    with process, contextlib.ExitStack() as waiting:
        until(lambda: len(children(process.pid)) == 2, "there are not two workers")
        for worker in children(process.pid):
            os.kill(worker, signal.SIGSTOP)
        programs = [
            (waiting.enter_context(socket.create_connection(("127.0.0.1", each), timeout=30)), said, answer)
            for each, said, answer in (
                (port, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200"),
                (door, struct.pack("!II", 8, 80877103), b"N"),
            )
            for _ in range(8)
        ]
        for program, said, _ in programs:
            program.sendall(said)
        for worker in children(process.pid):
            os.kill(worker, signal.SIGKILL)
        for program, _, answer in programs:
            assert program.recv(len(answer)) == answer


TRANSACTION = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%in a terminal%' AND pid <> pg_backend_pid()"


@contextlib.contextmanager
def in_a_terminal(postgres: Cluster, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """A gateway of two workers with a terminal of its own: the process, its port and the terminal's other end."""
    keyboard, terminal = pty.openpty()
    port = free_port()
    command = (sys.executable, "-m", "sqlhttp_gateway", "serve", "--port", str(port), "--workers", "2", *arguments)
    process = subprocess.Popen(
        command,
        env={**os.environ, "DATABASE_URL": postgres.maintenance.url},
        stdin=terminal,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    try:
        until(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}/livez"), "it did not start")
        until(lambda: len(children(process.pid)) == 2, "there are not two workers")
        yield process, port, keyboard
    finally:
        os.close(keyboard)
        process.kill()
        process.wait()


CTRL_C = b"\x03"


def test_the_first_ctrl_c_in_a_terminal_drains_although_it_reaches_every_worker(postgres: Cluster) -> None:
    with in_a_terminal(postgres) as (process, port, keyboard):
        answered: list[tuple[int, dict[str, object]]] = []
        query = "SELECT pg_sleep(1.5), 'in a terminal' AS said"
        request = threading.Thread(target=lambda: answered.append(post(port, postgres.maintenance.url, query)))
        request.start()
        until(lambda: postgres.maintenance.psql(TRANSACTION) == "1\n", "the statement never ran")
        os.write(keyboard, CTRL_C)
        assert process.wait(timeout=30) == 0
        request.join()
        assert [status for status, _ in answered] == [200]


def test_the_second_ctrl_c_ends_it(postgres: Cluster) -> None:
    with in_a_terminal(postgres, "--set", "drain.notice=60", "--set", "drain.grace=60") as (process, port, keyboard):
        os.write(keyboard, CTRL_C)
        until(lambda: "draining" in get(port, "/readyz"), "it did not drain")
        began = time.monotonic()
        os.write(keyboard, CTRL_C)
        assert process.wait(timeout=30) == 0
        assert time.monotonic() - began < 30, "and not the 120 s that it may take"


def test_a_worker_is_told_as_often_as_may_be_and_drains_until_its_parent_says_more(postgres: Cluster) -> None:
    """As systemd does with KillMode=control-group: it tells the parent and the workers, and the parent its workers."""
    process, port = started(postgres, "--workers", "2", "--set", "drain.notice=1")
    with process:
        until(lambda: len(children(process.pid)) == 2, "there are not two workers")
        process.send(signal.SIGTERM)
        until(lambda: "draining" in get(port, "/readyz"), "it did not drain")
        for worker in children(process.pid):
            os.kill(worker, signal.SIGTERM)
        assert post(port, postgres.maintenance.url, "SELECT 1")[0] == 200
        assert process.wait() == 0


@SHARES_PORTS
def test_a_worker_that_hangs_does_not_keep_the_gateway_from_ending(postgres: Cluster) -> None:
    port = free_port()
    impatient = "import sys; from sqlhttp_gateway import cli, workers; workers.LATE = 1.0; sys.exit(cli.main())"
    settings = ("--port", str(port), "--workers", "2", "--set", "drain.grace=0")
    process = subprocess.Popen(
        (sys.executable, "-c", impatient, "serve", *settings),
        env={**os.environ, "DATABASE_URL": postgres.maintenance.url},
        stderr=subprocess.PIPE,
    )
    try:
        until(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}/livez"), "it did not start")
        until(lambda: len(children(process.pid)) == 2, "there are not two workers")
        stuck = max(children(process.pid))
        os.kill(stuck, signal.SIGSTOP)
        process.terminate()
        _, said = process.communicate(timeout=60)
    finally:
        for each in (*children(process.pid), process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        process.wait()
    assert process.returncode == 1
    assert f"worker {stuck} did not end in time".encode() in said


def test_worker_for_which_the_system_has_no_room_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A parent that ended of it would take the other workers along."""
    settings = load_settings(database_url="postgres://localhost/x", listen={"port": 0})
    answers: list[int | OSError] = [BlockingIOError(11, "Resource temporarily unavailable"), 4711]

    def fork() -> int:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(workers.os, "fork", fork)
    monkeypatch.setattr(workers, "RESPAWN_PAUSE", 0.0)
    with bind_all(settings) as sockets:
        parent = workers.Workers(settings, sockets, read=lambda: settings)
        parent._spawn(0)
        parent._lines.close()
    assert parent._running == {4711: 0}
    assert "trying again: Resource temporarily unavailable" in caplog.text


def test_a_worker_that_is_replaced_begins_with_the_settings_that_the_others_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What no worker takes up at a reload must not be what the next one fails of."""
    url = "postgres://role@localhost/x"
    first, better = (load_settings(database_url=url, listen={"port": 0}, pool={"max_size": size}) for size in (1, 7))
    worse = load_settings(database_url=f"{url}?sslmode=verify-full&sslrootcert=/nowhere/ca.pem")
    found: list[Settings | OSError] = [better, worse, PermissionError(13, "Permission denied")]

    def read() -> Settings:
        settings = found.pop(0)
        if isinstance(settings, OSError):
            raise settings
        return settings

    begun: list[int] = []

    def fork() -> int:
        begun.append(parent._settings.pool.max_size)
        return 4711

    monkeypatch.setattr(workers.os, "fork", fork)
    with bind_all(first) as sockets:
        parent = workers.Workers(first, sockets, read=read)
        while found:
            parent._reload(signal.SIGHUP, None)
            parent._spawn(0)
            parent._running.clear()
        parent._lines.close()
    assert begun == [7, 7, 7]
