"""LISTEN through the gateway: many programs, one backend."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from tests.support.cluster import Cluster, Database
from tests.support.gateway import Gateway
from tests.support.program import scratch_role
from tests.support.wire_program import Message, logged_in

StartGateway = Callable[..., Gateway]


def heard(message: Message | None) -> tuple[str, str]:
    """Channel and payload."""
    assert message is not None
    assert message.tag == "A", message
    channel, payload, _ = message.body[4:].decode().split("\0")
    return channel, payload


async def backends(database: Database) -> list[tuple[int, str]]:
    connection = await database.connect()
    try:
        rows = await connection.fetch(
            "SELECT pid, query FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return [(row["pid"], row["query"]) for row in rows]
    finally:
        await connection.close()


async def test_fifty_programs_listen_over_one_backend_and_each_hears_everything_once_and_in_order(
    start_gateway: StartGateway, database: Database
) -> None:
    gateway = start_gateway(pool={"max_size": 2, "wait_timeout": 20})
    async with AsyncExitStack() as stack:
        programs = [await stack.enter_async_context(logged_in(gateway, database)) for _ in range(50)]
        answers = await asyncio.gather(*(program.query("LISTEN talk") for program in programs))
        assert {answer.tags for answer in answers} == {"CZ"}
        assert len(await backends(database)) <= 3
        for number in range(20):
            await programs[0].query(f"NOTIFY talk, '{number}'")
        for program in programs[1:]:
            assert [heard(await program.message()) for _ in range(20)] == [("talk", str(n)) for n in range(20)]


async def test_what_is_said_after_listen_returned_is_heard(start_gateway: StartGateway, database: Database) -> None:
    gateway = start_gateway()
    async with logged_in(gateway, database) as listener:
        for number in range(30):
            await listener.query(f"LISTEN c{number}")
            database_says = await listener.query(f"SELECT pg_notify('c{number}', 'x')")
            told = [message for message in database_says.messages if message.tag == "A"]
            assert heard(told[0] if told else await listener.message()) == (f"c{number}", "x")


async def test_listen_and_unlisten_follow_their_transaction(start_gateway: StartGateway, database: Database) -> None:
    gateway = start_gateway()
    async with logged_in(gateway, database) as program, logged_in(gateway, database) as speaker:
        await program.query("BEGIN; LISTEN talk")
        await program.query("ROLLBACK")
        await program.query("LISTEN news")
        await program.query("BEGIN; UNLISTEN news")
        await program.query("ROLLBACK")
        await speaker.query("NOTIFY talk, 'no'; NOTIFY news, 'yes'")
        assert heard(await program.message()) == ("news", "yes")
        await program.query("UNLISTEN *")
        await program.query("LISTEN other")
        await speaker.query("NOTIFY news, 'no'; NOTIFY other, 'yes'")
        assert heard(await program.message()) == ("other", "yes")


async def test_notification_waits_for_the_end_of_the_programs_transaction(
    start_gateway: StartGateway, database: Database
) -> None:
    gateway = start_gateway()
    async with logged_in(gateway, database) as program, logged_in(gateway, database) as speaker:
        await program.query("LISTEN talk")
        await program.query("BEGIN")
        await speaker.query("NOTIFY talk, 'hello'")
        assert [message.tag for message in (await program.query("SELECT 1")).messages] == list("TDCZ")
        messages = (await program.query("COMMIT")).messages
        told = next((message for message in messages if message.tag == "A"), None)
        assert heard(told or await program.message()) == ("talk", "hello")


async def test_backend_that_listens_may_die(start_gateway: StartGateway, database: Database) -> None:
    gateway = start_gateway()
    async with logged_in(gateway, database) as program, logged_in(gateway, database) as speaker:
        await program.query("LISTEN talk")
        [ear] = [pid for pid, query in await backends(database) if query == 'LISTEN "talk"']
        await speaker.query(f"SELECT pg_terminate_backend({ear})")
        notice = await program.message()
        assert notice is not None
        assert "may have been missed" in notice.error["M"]
        await speaker.query("NOTIFY talk, 'again'")
        assert heard(await program.message()) == ("talk", "again")


async def test_program_whose_password_is_not_the_roles_any_more_is_told_when_the_backend_that_listens_is_lost(
    start_gateway: StartGateway, database: Database, postgres: Cluster
) -> None:
    gateway = start_gateway()
    with scratch_role(postgres) as role:
        async with logged_in(gateway, database.as_role(role, "secret")) as program:
            await program.query("LISTEN talk")
            database.psql(f"ALTER ROLE {role} PASSWORD 'changed'")
            [ear] = [pid for pid, query in await backends(database) if query == 'LISTEN "talk"']
            database.psql(f"SELECT pg_terminate_backend({ear})")
            message = await program.message()
            assert message is not None
            assert (message.tag, message.error["S"], message.error["C"]) == ("E", "FATAL", "28P01")
            assert await program.message() is None


async def test_listening_goes_on_by_the_new_password_when_the_first_who_listened_came_with_the_old_one(
    start_gateway: StartGateway, database: Database, postgres: Cluster
) -> None:
    gateway = start_gateway()
    with scratch_role(postgres) as role:
        old, new = database.as_role(role, "secret"), database.as_role(role, "changed")
        async with logged_in(gateway, old) as first:
            await first.query("LISTEN talk")
            database.psql(f"ALTER ROLE {role} PASSWORD 'changed'")
            async with logged_in(gateway, new) as second:
                await second.query("LISTEN talk")
                [ear] = [pid for pid, query in await backends(database) if query == 'LISTEN "talk"']
                database.psql(f"SELECT pg_terminate_backend({ear})")
                async with asyncio.timeout(30):
                    for program in (first, second):
                        message = await program.message()
                        assert message is not None
                        assert message.tag == "N"
                database.psql("NOTIFY talk, 'again'")
                assert heard(await second.message()) == ("talk", "again")


async def test_program_in_another_encoding_hears_in_its_own(start_gateway: StartGateway, database: Database) -> None:
    gateway = start_gateway()
    async with logged_in(gateway, database) as program, logged_in(gateway, database) as speaker:
        await program.query("SET client_encoding = 'LATIN1'")
        await program.query("LISTEN talk")
        await speaker.query("NOTIFY talk, 'gr\u00fcn'")
        message = await program.message()
        assert message is not None
        assert message.body[4:] == b"talk\0gr\xfcn\0"


async def test_program_that_changes_its_encoding_hears_once_what_it_listened_to_before(
    start_gateway: StartGateway, database: Database
) -> None:
    gateway = start_gateway()
    async with logged_in(gateway, database) as program:
        await program.query("LISTEN before")
        await program.query("SET client_encoding = 'LATIN1'")
        await program.query("LISTEN talk")
        # Those of its own backend come before the answer's end; what another has heard may come at any time.
        answer = await program.query("NOTIFY before, 'x'; NOTIFY talk, 'y'")
        told = [heard(message) for message in answer.messages if message.tag == "A"]
        while len(told) < 2:
            told.append(heard(await program.message()))
        assert sorted(told) == [("before", "x"), ("talk", "y")]
        after = await program.query("SELECT 1")
        assert after.tags == "TDCZ"
        assert not [message for message in after.messages if message.tag == "A"]


async def test_backend_that_listens_goes_when_the_last_listener_does(
    start_gateway: StartGateway, database: Database
) -> None:
    gateway = start_gateway()
    async with logged_in(gateway, database) as program:
        await program.query("LISTEN talk")
        await program.terminate()
    async with logged_in(gateway, database) as program, asyncio.timeout(10):
        while any("LISTEN" in query and "UN" not in query for _, query in await backends(database)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await program.query("LISTEN talk")
        messages = (await program.query("NOTIFY talk, 'me'")).messages
        told = next((message for message in messages if message.tag == "A"), None)
        assert heard(told or await program.message()) == ("talk", "me")


async def test_session_mode_listens_by_itself(start_gateway: StartGateway, database: Database) -> None:
    gateway = start_gateway(tunnel={"pool_mode": "session"})
    async with logged_in(gateway, database) as program, logged_in(gateway, database) as speaker:
        await program.query("LISTEN talk")
        await speaker.query("NOTIFY talk, 'hello'")
        assert heard(await program.message()) == ("talk", "hello")


async def test_program_listens_by_itself_where_no_other_connection_is_to_be_had(
    start_gateway: StartGateway, database: Database
) -> None:
    gateway = start_gateway(database_url=database.url, pool={"max_size": 1, "max_total": 1, "wait_timeout": 0.3})
    async with logged_in(gateway, database) as program:
        await program.query("BEGIN")  # so that the one connection is taken
        assert (await program.query("LISTEN jobs")).commands == ["LISTEN"]
        await program.query("COMMIT")
        database.psql("NOTIFY jobs, 'x'")
        message = await program.message()
        assert message is not None
        assert (message.tag, message.body[4:]) == ("A", b"jobs\0x\0")
