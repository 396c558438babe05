import argparse
from collections.abc import Iterator

import pytest

from tests.bench.stage import By, Ground, add_by, running_ground


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with running_ground(By.UNIX) as ground:
        yield ground


def test_everything_on_this_machine_asks_by_the_socket_and_a_program_from_elsewhere_by_tcp(ground: Ground) -> None:
    asked_by = "SELECT coalesce(host(inet_server_addr()), 'socket')"
    assert (ground.local.psql(asked_by), ground.database.psql(asked_by)) == ("socket\n", "127.0.0.1\n")
    assert ground.local.name == ground.database.name


@pytest.mark.parametrize(
    ("environment", "given", "by"),
    [(None, [], By.UNIX), ("", [], By.UNIX), ("tcp", [], By.TCP), ("tcp", ["--by", "unix"], By.UNIX)],
)
def test_the_way_is_chosen_by_an_option_or_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: str | None, given: list[str], by: By
) -> None:
    monkeypatch.delenv("SOCKET", raising=False)
    if environment is not None:
        monkeypatch.setenv("SOCKET", environment)
    parser = argparse.ArgumentParser()
    add_by(parser)
    assert parser.parse_args(given).by is by
