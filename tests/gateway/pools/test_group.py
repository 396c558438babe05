"""What is known of a target's servers, and how busy each is kept."""

import asyncio

import pytest

from sqlhttp_gateway.pools.group import Group
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.pools.view import Role, Seen
from sqlhttp_gateway.settings import load_settings

PRIMARY = Seen(1, False, 100, 1)
REPLICA = Seen(1, True, 100, 1)


def group_of(url: str = "postgres://a:b@one,two,three/main", **replica: float) -> Group:
    [group] = Targets(load_settings(database_url=url, replica=replica)).groups
    return group


@pytest.fixture
def group() -> Group:
    group = group_of(failures=2, failure_pause=5.0)
    group.note("default", PRIMARY, now=0.0)
    group.note("default-2", REPLICA, now=0.0)
    group.note("default-3", REPLICA, now=0.0)
    return group


def test_gateways_own_questions_go_to_the_primary_or_to_whoever_answers() -> None:
    group = group_of()
    assert group.serving.target.name == "default", "nobody was asked yet"
    group.note("default", "gone", now=0.0)
    group.note("default-2", REPLICA, now=0.0)
    assert group.serving.target.name == "default-2"
    group.note("default-3", PRIMARY, now=0.0)
    assert group.serving.target.name == "default-3"


def test_requests_are_counted_from_begin_to_end(group: Group) -> None:
    group.begin("default-2")
    assert group.loads["default-2"].outstanding == 1
    assert group.choose(reads=True, now=0.0).server == "default-3"
    group.end("default-2")
    assert group.loads["default-2"].outstanding == 0


def test_server_that_fails_again_and_again_is_left_out_for_a_while(group: Group) -> None:
    group.begin("default-3")
    group.failed("default-2", now=10.0)
    group.succeeded("default-2")
    group.failed("default-2", now=10.0)
    assert group.choose(reads=True, now=10.0).server == "default-2", "not in a row"
    group.failed("default-2", now=10.0)
    assert group.choose(reads=True, now=10.0).server == "default-3"
    assert group.choose(reads=True, now=15.0).server == "default-2", "it is tried again"


async def test_news_wakes_all_who_wait_for_some(group: Group) -> None:
    waiting = [asyncio.create_task(group.changed(30.0)) for _ in range(2)]
    await asyncio.sleep(0)
    group.note("default", "gone", now=1.0)
    await asyncio.wait_for(asyncio.gather(*waiting), 5.0)
    assert group.view.primary is None


async def test_without_news_waiting_ends(group: Group) -> None:
    await asyncio.wait_for(group.changed(0.0), 5.0)


def test_settings_read_again_keep_what_is_known_of_the_same_servers(group: Group) -> None:
    same, other = group_of(), group_of("postgres://a:b@one,two,four/main")
    same.inherit(group)
    assert same.view.server("default").role is Role.PRIMARY
    other.inherit(group)
    assert [server.role for server in other.view.servers] == [Role.PRIMARY, Role.REPLICA, Role.DOWN]
    elsewhere = group_of("postgres://a:b@four,one,two/main")
    elsewhere.inherit(group)
    assert {server.role for server in elsewhere.view.servers} == {Role.DOWN}, "the names are those of other servers"


def test_former_primary_is_still_told_apart_when_a_server_has_joined(group: Group) -> None:
    group.note("default", "gone", now=1.0)
    group.note("default-2", Seen(1, False, 150, 2, fork=100), now=1.0)
    more = group_of("postgres://a:b@one,two,three,four/main")
    more.inherit(group)
    more.note("default", PRIMARY, now=2.0)
    assert more.view.server("default").role is Role.DETACHED
    assert more.serving.target.name == "default-2"


def test_server_that_has_left_the_settings_is_not_chosen_any_more(group: Group) -> None:
    fewer = group_of("postgres://a:b@one,two/main")
    fewer.inherit(group)
    assert fewer.view.server("default").role is Role.PRIMARY
    assert [fewer.choose(reads=True, now=0.0).server for _ in range(2)] == ["default-2"] * 2
    fewer.note("default-2", "gone", now=1.0)
    assert fewer.choose(reads=True, now=0.0).server == "default"


async def test_whoever_has_the_group_of_former_settings_is_led_to_the_one_of_now(group: Group) -> None:
    first, waiting = group, asyncio.create_task(group.changed(30.0))
    await asyncio.sleep(0)
    for _ in range(3):
        before, group = group, group_of()
        group.inherit(before)
    assert first.current is before.current is group.current is group
    await asyncio.wait_for(waiting, 5.0)
    group.note("default", "gone", now=1.0)
    group.note("default-2", Seen(1, False, 150, 2, fork=100), now=1.0)
    assert first.serving is group.upstreams["default-2"]


def test_looks_are_counted_on_when_the_settings_were_read_again(group: Group) -> None:
    same = group_of()
    same.inherit(group)
    assert same.looks == {"default": 1, "default-2": 1, "default-3": 1}
