"""Several workers: replaced when they die, gone with their parent."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from sqlhttp_gateway import workers
from sqlhttp_gateway.settings import load_settings
from sqlhttp_gateway.sockets import bind_all
from tests.gateway.test_serve import post, started, until
from tests.support.cluster import Cluster

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
