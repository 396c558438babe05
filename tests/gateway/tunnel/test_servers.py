"""The server that a tunnel borrows its backends from."""

import pytest

from sqlhttp_gateway.errors import InvalidParameter, TargetUnavailable
from sqlhttp_gateway.events import unobserved
from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.pools.group import Group
from sqlhttp_gateway.pools.registry import PoolRegistry
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.pools.view import Seen
from sqlhttp_gateway.settings import load_settings
from sqlhttp_gateway.tunnel.servers import Servers

KEY = PoolKey("default", "main", "ann")
PRIMARY, REPLICA = Seen(1, False, 100, 1), Seen(1, True, 100, 1)


def group_of(parameters: str = "", **said: Seen | str) -> Group:
    url = f"postgres://a:b@one,two,three/main{parameters}"
    [group] = Targets(load_settings(database_url=url)).groups
    for name, each in said.items():
        group.note(name.replace("_", "-"), each, now=0.0)
    return group


def servers(group: Group, wish: str | None = None) -> Servers:
    return Servers(group, KEY, PoolRegistry(max_total=5, cancel_timeout=1.0, observe=unobserved), wish)


def well() -> Group:
    return group_of(default=PRIMARY, default_2=REPLICA, default_3=REPLICA)


@pytest.mark.parametrize(
    ("wish", "server"),
    [
        (None, "default"),
        ("any", "default"),
        ("primary", "default"),
        ("read-write", "default"),
        ("standby", "default-2"),
        ("read-only", "default-2"),
        ("prefer-standby", "default-2"),
    ],
)
async def test_program_gets_the_kind_of_server_it_asks_for(wish: str | None, server: str) -> None:
    pool = servers(well(), wish).pool()
    assert pool.key == PoolKey(server, "main", "ann")


async def test_programs_that_ask_for_replicas_take_turns_and_each_stays_where_it_is() -> None:
    group = well()
    first, second = servers(group, "standby"), servers(group, "standby")
    assert [each.pool().key.target for each in (first, second, first, second)] == ["default-2", "default-3"] * 2


async def test_program_moves_when_its_server_is_one_no_more() -> None:
    group = well()
    reader, writer = servers(group, "prefer-standby"), servers(group)
    assert reader.pool().key.target == "default-2"
    group.note("default-2", Seen(1, False, 150, 2, fork=100), now=1.0)
    assert writer.pool().key.target == "default-2"
    assert reader.pool().key.target == "default-2", "no replica follows it yet"
    group.note("default-3", Seen(1, True, 150, 2), now=1.0)
    assert reader.pool().key.target == "default-3"


@pytest.mark.parametrize("wish", ["primary", "standby"])
async def test_program_moves_with_its_servers_after_the_settings_were_read_again(wish: str) -> None:
    group = well()
    program = servers(group, wish)
    assert program.pool().key.target == {"primary": "default", "standby": "default-2"}[wish]
    for _ in range(2):
        before, group = group, group_of()
        group.inherit(before)
    group.note("default", "gone", now=1.0)
    group.note("default-2", Seen(1, False, 150, 2, fork=100), now=1.0)
    group.note("default-3", Seen(1, True, 150, 2), now=1.0)
    pool = program.pool()
    assert pool.key.target == {"primary": "default-2", "standby": "default-3"}[wish]
    assert pool.upstream is group.upstreams[pool.key.target]


async def test_program_whose_replica_is_in_the_settings_no_more_gets_another() -> None:
    group = well()
    first, second = servers(group, "standby"), servers(group, "standby")
    assert [each.pool().key.target for each in (first, second)] == ["default-2", "default-3"]
    [fewer] = Targets(load_settings(database_url="postgres://a:b@one,two/main")).groups
    fewer.inherit(group)
    fewer.note("default", PRIMARY, now=1.0)
    fewer.note("default-2", REPLICA, now=1.0)
    assert second.pool().key.target == "default-2"


async def test_without_a_standby_one_program_takes_the_primary_and_the_other_is_refused() -> None:
    group = group_of(default=PRIMARY, default_2="gone", default_3="gone")
    assert servers(group, "prefer-standby").pool().key.target == "default"
    with pytest.raises(TargetUnavailable, match="no standby"):
        servers(group, "standby").pool()


async def test_targets_own_wish_counts_where_the_program_has_none() -> None:
    group = group_of("?target_session_attrs=standby", default=PRIMARY, default_2=REPLICA)
    assert servers(group).pool().key.target == "default-2"
    assert servers(group, "primary").pool().key.target == "default"


async def test_word_that_is_not_libpqs_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="target_session_attrs"):
        servers(well(), "leader")
