"""What roles and lag mean."""

import pytest

from sqlhttp_gateway.check.capacity import Deployment
from sqlhttp_gateway.check.command import find
from sqlhttp_gateway.check.finding import Finding, Level
from sqlhttp_gateway.check.judge_servers import judge_servers
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.pools.view import Seen
from sqlhttp_gateway.settings import load_settings
from tests.support.fleet import Fleet

PRIMARY, REPLICA = Seen(1, False, 100, 2), Seen(1, True, 100, 2)


def judged(parameters: str = "", **said: Seen | str) -> list[Finding]:
    [group] = Targets(load_settings(database_url=f"postgres://a:b@one,two,three/main{parameters}")).groups
    for name, each in said.items():
        group.note(name.replace("_", "-"), each, now=0.0)
    return judge_servers(group)


def test_each_server_is_shown_with_its_role_and_lag() -> None:
    found = judged(default=REPLICA, default_2=PRIMARY, default_3=REPLICA._replace(position=90, replay_age=2.5))
    assert [(each.level, each.text) for each in found] == [
        (Level.OK, "default (one:5432): a replica, 0.0 s behind."),
        (Level.OK, "default-2 (two:5432): the primary, on timeline 2."),
        (Level.OK, "default-3 (three:5432): a replica, 2.5 s behind."),
    ]


def test_server_that_is_asked_by_a_socket_is_shown_by_its_path() -> None:
    [group] = Targets(load_settings(database_url="postgres://a:b@/main?host=/run,two&port=1,2")).groups
    group.note("default", PRIMARY, now=0.0)
    assert judge_servers(group)[0].text == "default (/run/.s.PGSQL.1): the primary, on timeline 2."


def test_replica_that_gets_no_reads_is_a_warning() -> None:
    found = judged(default=PRIMARY, default_2=REPLICA._replace(position=90, replay_age=60.0), default_3="gone")
    assert [each.level for each in found] == [Level.OK, Level.WARNING, Level.WARNING]
    assert "replica.max_lag (10 s)" in found[1].remedy
    assert found[2].text == "default-3 (three:5432): gone."


def test_former_primary_is_a_warning_that_says_what_to_do() -> None:
    [_, former, *_] = judged(default=PRIMARY, default_2=PRIMARY._replace(timeline=1), default_3=REPLICA)
    assert former.level is Level.WARNING
    assert "takes writes on timeline 1" in former.text
    assert "pg_rewind" in former.remedy


@pytest.mark.parametrize(("parameters", "errors"), [("", 1), ("?target_session_attrs=standby", 0)])
def test_without_a_primary_nothing_can_write(parameters: str, errors: int) -> None:
    found = judged(parameters, default=REPLICA, default_2=REPLICA, default_3=REPLICA)
    assert sum(each.level is Level.ERROR for each in found) == errors


def test_primary_alone_is_told() -> None:
    assert judged(default=PRIMARY, default_2="gone", default_3="gone")[-1].level is Level.NOTE


async def test_command_looks_at_every_server_of_a_target(fleet: Fleet) -> None:
    found = await find(load_settings(database_url=fleet.url), Deployment())
    roles = [each.text.partition(": ")[2] for each in found if each.subject == "server"]
    assert [role.partition(",")[0] for role in roles] == ["the primary", "a replica", "a replica"]
    assert sum(each.subject == "reachable" for each in found) == 3
    assert not [each for each in found if each.subject == "primary" and each.level is Level.ERROR]
