"""The console: what SHOW answers, from numbers that the test gives."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from sqlhttp_gateway.model import Target
from sqlhttp_gateway.observe.counts import Counts, DatabaseCounts
from sqlhttp_gateway.tunnel.console import MAX_BEHIND, Client, Console, Sources
from sqlhttp_gateway.tunnel.stream import StreamClosed
from sqlhttp_gateway.wire.backend import decode_error
from sqlhttp_gateway.wire.frontend import SYNC, TERMINATE, encode_query
from tests.support.leases import until
from tests.support.reports import pool, report
from tests.support.streams import FakeStream
from tests.support.wire_program import Answer, Message

CLIENT = Client("tcp", "main", "ada", "192.0.2.1", "psql", "active", 77)


def sources(controls: Any = None, *, host: str = "db.example") -> Sources:
    counts = Counts()
    counts.databases["default", "main"] = DatabaseCounts(
        statements=10, executed=5, bytes_in=100, bytes_out=200, parsed=3
    )
    counts.databases["default", "main"].query_seconds.observe(0.5)
    backend = SimpleNamespace(
        pid=77, opened_at=0.0, closing=False, is_encrypted=True, statements=[1], tunnels=SimpleNamespace(statements=[2])
    )
    upstream = SimpleNamespace(target=Target("default", host, 5432))
    key = SimpleNamespace(target="default", database="main", role="ada")
    registry: Any = SimpleNamespace(
        pools=[SimpleNamespace(key=key, upstream=upstream, leased=[backend], returning=[], idle_backends=[])]
    )
    return Sources(
        version="1.2.3",
        database=lambda: "main",
        roles=lambda: frozenset({"ada"}),
        report=lambda: report(counts=counts, pools=(pool(waiting=4, longest_wait=2.25),), started=1000.0, tunnels=1),
        now=lambda: 1010.0,
        registry=registry,
        clients=lambda: [CLIENT],
        pool_mode=lambda database, role: "session" if role == pool().role else "transaction",
        controls=controls or Operated(),
        settings=lambda: [("pool.max_size", "5", "10")],
    )


class Operated:
    """What was asked of it is kept."""

    def __init__(self) -> None:
        self.did: list[tuple[str, str | None]] = []

    async def pause(self, database: str | None) -> None:
        self.did.append(("pause", database))

    def resume(self, database: str | None) -> bool:
        self.did.append(("resume", database))
        return database is None

    def reconnect(self, database: str | None) -> None:
        self.did.append(("reconnect", database))

    def reload(self) -> None:
        self.did.append(("reload", None))


async def asked(*sent: bytes, controls: Any = None, host: str = "db.example") -> list[Answer]:
    """The answers to what was sent, after the greeting."""
    stream = FakeStream()
    stream.put(*sent, TERMINATE)
    assert await Console(stream, sources(controls, host=host)).run(b"") is None
    answers = []
    for data in stream.sent:
        messages = []
        while data:
            size = 1 + int.from_bytes(data[1:5])
            messages.append(Message(chr(data[0]), data[5:size]))
            data = data[size:]
        answers.append(Answer(messages))
    assert answers[0].tags == "RZ"
    return answers[1:]


async def show(what: str, *, host: str = "db.example") -> list[dict[str, str | None]]:
    """The rows of one SHOW, by column."""
    [answer] = await asked(encode_query(f"SHOW {what};".encode()), host=host)
    assert answer.messages[-1].tag == "Z", answer
    assert answer.commands == ["SHOW"]
    described = answer.messages[0].body[2:]
    columns = []
    while described:
        name, _, rest = described.partition(b"\0")
        columns.append(name.decode())
        described = rest[18:]
    return [dict(zip(columns, row, strict=True)) for row in answer.rows]


async def test_version() -> None:
    assert await show("VERSION") == [{"version": "sqlhttp 1.2.3"}]


async def test_pools_have_pgbouncers_columns() -> None:
    [row] = await show("POOLS")
    assert list(row)[:4] == ["database", "user", "cl_active", "cl_waiting"]
    assert (row["cl_active"], row["cl_waiting"], row["sv_active"], row["sv_idle"]) == ("2", "4", "2", "1")
    assert (row["maxwait"], row["maxwait_us"], row["pool_mode"]) == ("2", "250000", "session")


async def test_stats_are_totals_and_averages_since_the_start() -> None:
    [row] = await show("STATS")
    assert (row["database"], row["total_xact_count"], row["total_query_count"]) == ("main", "5", "10")
    assert (row["total_query_time"], row["avg_query_time"], row["avg_xact_time"]) == ("500000", "50000", "100000")
    assert (row["avg_query_count"], row["avg_recv"]) == ("1", "10")


async def test_databases_clients_servers_and_settings() -> None:
    [database] = await show("DATABASES")
    assert (database["name"], database["pool_size"], database["current_connections"]) == ("main", "10", "3")
    assert database["pool_mode"] == "transaction"
    [client] = await show("CLIENTS")
    assert (client["user"], client["state"], client["remote_pid"], client["door"]) == ("ada", "active", "77", "tcp")
    [server] = await show("SERVERS")
    assert (server["state"], server["addr"], server["remote_pid"]) == ("active", "db.example", "77")
    assert (client["link"], server["link"], server["ptr"]) == ("server-77", "client-1", "server-77")
    assert (server["tls"], server["prepared_statements"]) == ("TLS", "2")
    assert await show("CONFIG") == [{"key": "pool.max_size", "value": "5", "default": "10", "changeable": "no"}]
    assert {"list": "used_clients", "items": "1"} in await show("LISTS")


async def test_server_at_a_unix_socket_has_pgbouncers_word_for_an_address() -> None:
    [server] = await show("SERVERS", host="/run/postgresql")
    assert (server["addr"], server["port"]) == ("unix", "5432")


async def test_words_may_be_written_in_any_case_and_help_lists_them() -> None:
    lower, help_, nothing = await asked(*map(encode_query, (b"show version", b"SHOW HELP", b" ; ")))
    assert lower.rows == [["sqlhttp 1.2.3"]]
    assert "SERVERS" in decode_error(help_.messages[0].body)["M"]
    assert nothing.tags == "IZ"


@pytest.mark.parametrize(
    "text", ["SELECT 1", "SHOW nothing", "PAUSE a b", "RELOAD a", "SHOW POOLS extra", "SHOW", 'PAUSE ""', 'PAUSE "a']
)
async def test_anything_else_is_refused_and_the_console_goes_on(text: str) -> None:
    refused, fine = await asked(encode_query(text.encode()), encode_query(b"SHOW VERSION"))
    assert (refused.code, refused.status) == ("0A000", "I")
    assert "SHOW" in refused.error["H"]
    assert fine.rows == [["sqlhttp 1.2.3"]]


async def test_extended_queries_are_refused_once_each() -> None:
    [answer] = await asked(b"P\0\0\0\x08\0\0\0\0" + SYNC)
    assert (answer.code, answer.status) == ("0A000", "I")


async def test_query_that_is_too_long_ends_it() -> None:
    stream = FakeStream()
    stream.put(encode_query(b"x" * 20_000))
    error = await Console(stream, sources()).run(b"")
    assert error is not None
    assert error.sqlstate == "08P01"


async def test_what_an_operator_does_is_answered_with_its_name() -> None:
    controls = Operated()
    sent = [b"PAUSE", b'pause "App";', b"RESUME", b"RECONNECT app", b"RELOAD"]
    answers = await asked(*map(encode_query, sent), controls=controls)
    assert [answer.commands for answer in answers] == [["PAUSE"], ["PAUSE"], ["RESUME"], ["RECONNECT"], ["RELOAD"]]
    assert controls.did == [("pause", None), ("pause", "App"), ("resume", None), ("reconnect", "app"), ("reload", None)]


async def test_name_may_be_quoted_as_in_sql() -> None:
    controls = Operated()
    await asked(*map(encode_query, [b'PAUSE "my db";', b'PAUSE "a""b;c" ;', b"RECONNECT eu/shop"]), controls=controls)
    assert [name for _, name in controls.did] == ["my db", 'a"b;c', "eu/shop"]


@pytest.mark.parametrize("verb", [b"PAUSE", b"RECONNECT"])
async def test_who_names_a_database_that_has_no_pool_is_told_so(verb: bytes) -> None:
    """It is done all the same: a pool may have been dropped, and will come again."""
    known, unknown, all_ = await asked(*map(encode_query, [verb + b" main", verb + b" mian", verb]))
    told = ["".join(message.tag for message in answer.messages) for answer in (known, unknown, all_)]
    assert told == ["CZ", "NCZ", "CZ"]
    assert '"mian"' in decode_error(unknown.messages[0].body)["M"]


async def test_what_is_not_paused_cannot_be_resumed() -> None:
    [answer] = await asked(encode_query(b"RESUME app"))
    assert (answer.code, answer.error["M"]) == ("0A000", "database app is not paused")


class Endless(Operated):
    """PAUSE waits for something that does not end."""

    async def pause(self, database: str | None) -> None:
        self.did.append(("pause", database))
        try:
            await asyncio.Event().wait()
        finally:
            self.did.append(("off", database))


@pytest.mark.parametrize(
    "last_words",
    [[], [TERMINATE], [TERMINATE[:2], TERMINATE[2:]], [encode_query(b"SHOW POOLS"), encode_query(b"SHOW") + TERMINATE]],
    ids=["without a word", "with a goodbye", "with one in two pieces", "with a goodbye behind other questions"],
)
async def test_pause_is_off_when_who_asked_for_it_has_gone(last_words: list[bytes]) -> None:
    controls, stream = Endless(), FakeStream()
    stream.put(encode_query(b"PAUSE"), *last_words)
    if not last_words:
        stream.hang_up()
    with pytest.raises(StreamClosed):
        async with asyncio.timeout(10):
            await Console(stream, sources(controls)).run(b"")
    assert controls.did == [("pause", None), ("off", None)]


async def test_what_is_asked_behind_a_pause_is_answered_behind_it() -> None:
    class Slow(Operated):
        def __init__(self) -> None:
            super().__init__()
            self.may_end = asyncio.Event()

        async def pause(self, database: str | None) -> None:
            await self.may_end.wait()
            await super().pause(database)

    controls, stream = Slow(), FakeStream()
    running = asyncio.create_task(Console(stream, sources(controls)).run(b""))
    stream.put(encode_query(b"PAUSE"), encode_query(b"RECONNECT") + encode_query(b"RELOAD")[:3])
    await until(lambda: stream.is_drained)
    assert controls.did == []
    controls.may_end.set()
    stream.put(encode_query(b"RELOAD")[3:], TERMINATE)
    assert await running is None
    assert controls.did == [("pause", None), ("reconnect", None), ("reload", None)]


async def test_pause_is_off_when_too_much_is_asked_behind_it() -> None:
    controls, stream = Endless(), FakeStream()
    stream.put(encode_query(b"PAUSE"), encode_query(b"RELOAD") * (MAX_BEHIND + 1))
    running = asyncio.create_task(Console(stream, sources(controls)).run(b""))
    await until(lambda: b"more than 100 messages" in stream.all_sent)
    stream.hang_up()
    with pytest.raises(StreamClosed):
        await running
    assert controls.did[:2] == [("pause", None), ("off", None)]
