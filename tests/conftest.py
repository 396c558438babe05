"""Fixtures only. What they are made of lives in tests/support."""

import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests.support.cluster import Cluster, Database, running_cluster
from tests.support.node import NOT_TRIED, NodeMissing, node_with_drivers

if TYPE_CHECKING:  # the test of a codec need not wait for the whole gateway to be imported
    from tests.support.fleet import Fleet
    from tests.support.gateway import Gateway


# An example that took long says something of the machine, which may be everybody's, and nothing of the code.
hypothesis.settings.register_profile("untimed", parent=hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> None:
    """Tests say themselves what is set; the developer's own environment must not reach them."""
    for name in [name for name in os.environ if name.upper().startswith("SQLHTTP_")] + ["DATABASE_URL"]:
        os.environ.pop(name, None)


@pytest.fixture(autouse=True, scope="session")
def _signals_of_a_terminal() -> Iterator[None]:
    """What is ignored here, as under nohup or behind a script's &, would be ignored by each program that a test starts;
    what is handled here is not.
    """
    wanted = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
    ignored = [each for each in wanted if signal.getsignal(each) is signal.SIG_IGN]
    for each in ignored:
        signal.signal(each, lambda *_: None)
    yield
    for each in ignored:
        signal.signal(each, signal.SIG_IGN)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """One private cluster a session: `maintenance.url`, `await create_database()`, `pid`, `restart()`, `crash()`.

    A test that stops it, or changes settings or roles that others see, takes one of its own: `running_cluster()`.
    """
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def fleet() -> Iterator["Fleet"]:
    """A primary and two replicas for the session; a test that stops or promotes one takes a `running_fleet()`."""
    from tests.support.fleet import running_fleet

    with running_fleet() as fleet:
        yield fleet


@pytest.fixture
async def database(postgres: Cluster) -> AsyncIterator[Database]:
    """A fresh database for one test: `url`, `await connect()`, `psql(sql)`, `as_role(role, password)`."""
    database = await postgres.create_database()
    yield database
    await postgres.drop_database(database)


@pytest.fixture(scope="session")
def gateway(postgres: Cluster) -> Iterator["Gateway"]:
    """One gateway a session with default settings: `url`, `sql`. Which database is each request's own choice."""
    from tests.support.gateway import gateway_in_thread

    with gateway_in_thread(postgres.maintenance.url, {}) as gateway:
        yield gateway


@pytest.fixture
def start_gateway(postgres: Cluster) -> Iterator[Callable[..., "Gateway"]]:
    """A gateway of the test's own, with settings by section: `start_gateway(pool={"max_size": 5})`."""
    from tests.support.gateway import gateway_in_thread

    with ExitStack() as running:

        def start(**settings: Any) -> "Gateway":
            url = settings.pop("database_url", postgres.maintenance.url)
            return running.enter_context(gateway_in_thread(url, settings))

        yield start


@pytest.fixture(scope="session")
def node() -> str:
    """The path of a Node that has the drivers. Without it the test is skipped, or fails where CI is "true"."""
    try:
        return node_with_drivers()
    except NodeMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the very end, where it is seen, that a part of the tests had nothing to run with."""
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if NOT_TRIED in str(report.longrepr)]
    if skipped:
        _, _, reason = skipped[0].longrepr
        terminalreporter.write_line(
            f"{len(skipped)} tests were skipped: {reason.removeprefix('Skipped: ')}", yellow=True
        )
