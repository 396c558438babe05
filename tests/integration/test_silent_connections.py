"""Connections by the hundred on which nothing is said: others are served meanwhile, and they are cut in time."""

import resource
import socket
from collections.abc import Callable

import pytest

from tests.support.cluster import Database
from tests.support.gateway import Gateway
from tests.support.program import program_of

COUNT = 1000
"""By hand ten thousand were tried: 5.6 KiB of memory each."""
HEAD_TIMEOUT = 2.0


def test_silent_connections_are_cut_and_others_served_meanwhile(
    start_gateway: Callable[..., Gateway], database: Database
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 3 * COUNT:
        pytest.skip(f"{hard} descriptors are too few")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3 * COUNT), hard))
    gateway = start_gateway(request={"head_timeout": HEAD_TIMEOUT})
    silent: list[socket.socket] = []
    try:
        with program_of(gateway, database) as program:
            for number in range(COUNT):
                silent.append(socket.create_connection(("127.0.0.1", gateway.port), timeout=30))
                if number % 2 == 0:
                    silent[-1].sendall(b"POST /sql HTTP/1.1\r\nHost: gateway\r\nX-Slow: ")
            for _ in range(20):
                assert program.value("SELECT 1") == 1
            ends = [each.recv(1000) for each in silent]
            assert program.value("SELECT 1") == 1
    finally:
        for each in silent:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert {end[:12] for end in ends[::2]} == {b"HTTP/1.1 408"}
    assert set(ends[1::2]) == {b""}
