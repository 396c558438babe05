"""Looking at real servers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sqlhttp_gateway.events import unobserved
from sqlhttp_gateway.pools.group import Group
from sqlhttp_gateway.pools.probe import Probes, forks_from_history, look_once
from sqlhttp_gateway.pools.targets import Targets
from sqlhttp_gateway.pools.view import Role
from sqlhttp_gateway.settings import load_settings
from sqlhttp_gateway.wire.lsn import lsn_from_text
from tests.support.fleet import Fleet, running_fleet

PATIENCE = 20.0


@asynccontextmanager
async def looking(url: str, **replica: float) -> AsyncIterator[tuple[Probes, Group]]:
    targets = Targets(load_settings(database_url=url, replica={"probe_interval": 0.05} | replica))
    probes = Probes(targets.groups, unobserved)
    probes.start()
    try:
        yield probes, targets.groups[0]
    finally:
        await probes.stop()


async def seen(group: Group, **roles: Role) -> None:
    """Until the servers have these roles; underscores stand for hyphens."""
    wanted = {name.replace("_", "-"): role for name, role in roles.items()}
    async with asyncio.timeout(PATIENCE):
        while any(group.view.server(name).role is not role for name, role in wanted.items()):
            await group.changed(PATIENCE)


def position_of(fleet: Fleet) -> int:
    return lsn_from_text(fleet.primary.maintenance.psql("SELECT pg_current_wal_lsn()").strip())


async def test_roles_are_found_by_asking(fleet: Fleet) -> None:
    async with looking(fleet.url) as (_, group):
        await seen(group, default=Role.PRIMARY, default_2=Role.REPLICA, default_3=Role.REPLICA)
        assert group.view.timeline == 1
        assert group.view.server("default-2").lag == 0.0
        assert group.view.server("default-2").round_trip > 0.0


async def test_role_without_privileges_finds_them_too(fleet: Fleet) -> None:
    fleet.primary.maintenance.psql("CREATE ROLE nobody_special LOGIN PASSWORD 'x'")
    fleet.wait_replayed()
    async with looking(fleet.url.replace("postgres:postgres@", "nobody_special:x@")) as (_, group):
        await seen(group, default=Role.PRIMARY, default_2=Role.REPLICA, default_3=Role.REPLICA)


async def test_server_that_refuses_is_down_and_says_why(fleet: Fleet) -> None:
    async with looking(fleet.url.replace("postgres:postgres@", "postgres:wrong@")) as (_, group):
        async with asyncio.timeout(PATIENCE):
            while "password" not in group.view.server("default").reason:
                await group.changed(PATIENCE)
        assert group.serving.target.name == "default"


async def test_reads_wait_for_what_a_replica_has_not_replayed(fleet: Fleet) -> None:
    replica = fleet.replicas[0].maintenance
    async with looking(fleet.url) as (probes, group):
        await seen(group, default=Role.PRIMARY, default_2=Role.REPLICA)
        replica.psql("SELECT pg_wal_replay_pause()")
        try:
            fleet.primary.maintenance.psql("SELECT pg_logical_emit_message(true, 'test', 'x')")
            position = position_of(fleet)
            assert await probes.replayed(["default-2"], position, timeout=0.2) is None
            assert await probes.replayed(["default-2"], position, timeout=0.0) is None
            waiting = [asyncio.create_task(probes.replayed(["default-2"], position, timeout=10.0)) for _ in range(3)]
            await asyncio.sleep(0)
        finally:
            replica.psql("SELECT pg_wal_replay_resume()")
        assert await asyncio.gather(*waiting) == ["default-2"] * 3


async def test_first_replica_to_have_it_is_named(fleet: Fleet) -> None:
    replica = fleet.replicas[0].maintenance
    async with looking(fleet.url) as (probes, group):
        await seen(group, default=Role.PRIMARY, default_2=Role.REPLICA, default_3=Role.REPLICA)
        replica.psql("SELECT pg_wal_replay_pause()")
        try:
            fleet.primary.maintenance.psql("SELECT pg_logical_emit_message(true, 'test', 'x')")
            found = await probes.replayed(["default-2", "default-3"], position_of(fleet), timeout=10.0)
        finally:
            replica.psql("SELECT pg_wal_replay_resume()")
    assert found == "default-3"


async def test_paused_replica_falls_behind_and_an_idle_primary_leaves_nobody_behind(fleet: Fleet) -> None:
    replica = fleet.replicas[0].maintenance
    async with looking(fleet.url) as (_, group):
        await seen(group, default=Role.PRIMARY, default_2=Role.REPLICA, default_3=Role.REPLICA)
        replica.psql("SELECT pg_wal_replay_pause()")
        try:
            fleet.primary.maintenance.psql("SELECT pg_logical_emit_message(true, 'test', 'x')")
            async with asyncio.timeout(PATIENCE):
                while group.view.server("default-2").lag < 0.3:
                    await group.changed(PATIENCE)
            assert group.view.server("default-3").lag < 0.3
        finally:
            replica.psql("SELECT pg_wal_replay_resume()")
        async with asyncio.timeout(PATIENCE):
            while group.view.server("default-2").lag:
                await group.changed(PATIENCE)


async def test_promoted_replica_is_the_primary_within_a_second_and_the_others_follow_it() -> None:
    with running_fleet() as fleet:
        async with looking(fleet.url, probe_interval=0.3) as (_, group):
            await seen(group, default=Role.PRIMARY, default_2=Role.REPLICA, default_3=Role.REPLICA)
            await asyncio.to_thread(fleet.primary.crash)
            await seen(group, default=Role.DOWN)
            await asyncio.to_thread(fleet.promote, fleet.replicas[0])
            async with asyncio.timeout(1.0 + 1.0):  # one of them is for a busy machine
                await seen(group, default_2=Role.PRIMARY)
            assert group.view.timeline == 2
            assert list(group.view.forks) == [1]
            await seen(group, default_3=Role.REPLICA)
            # The former primary comes back as if nothing had happened.
            await asyncio.to_thread((fleet.primary.data / "standby.signal").unlink, missing_ok=True)
            await asyncio.to_thread(fleet.primary.start)
            await seen(group, default=Role.DETACHED)
            assert group.view.primary == group.view.server("default-2")


async def test_replica_that_nothing_streams_to_is_known_by_what_it_followed_though_the_settings_were_read_again() -> (
    None
):
    with running_fleet(2) as fleet:
        async with looking(fleet.url) as (probes, group):
            await seen(group, default=Role.PRIMARY, default_2=Role.REPLICA, default_3=Role.REPLICA)
            await asyncio.to_thread(fleet.primary.crash)
            await asyncio.to_thread(fleet.promote, fleet.replicas[0])
            await seen(group, default_2=Role.PRIMARY, default_3=Role.REPLICA)
            await asyncio.to_thread(fleet.replicas[0].crash)
            await seen(group, default_2=Role.DOWN, default_3=Role.REPLICA)
            again = Targets(load_settings(database_url=fleet.url, replica={"probe_interval": 0.05})).groups
            probes.follow(again)
            looks = again[0].looks["default-3"]
            async with asyncio.timeout(PATIENCE):
                while again[0].looks["default-3"] < looks + 2:
                    await again[0].changed(PATIENCE)
            assert again[0].view.server("default-3").role is Role.REPLICA, again[0].view


@pytest.mark.parametrize(
    ("text", "forks"),
    [
        ("", {}),
        ("1\t0/16EDA48\tno recovery target specified\n", {1: 0x16EDA48}),
        ("1\t0/10\tx\n\n2\t1/20\ty\n", {1: 0x10, 2: 0x100000020}),
    ],
)
def test_history_file_says_where_each_timeline_was_left(text: str, forks: dict[int, int]) -> None:
    assert forks_from_history(text) == forks


async def test_one_look_is_enough_for_what_does_not_stay(fleet: Fleet) -> None:
    [group] = Targets(load_settings(database_url=fleet.url)).groups
    await look_once([group])
    assert [server.role for server in group.view.servers] == [Role.PRIMARY, Role.REPLICA, Role.REPLICA]
