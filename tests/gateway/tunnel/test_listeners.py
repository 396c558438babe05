"""LISTEN for many programs over one backend, which the test plays."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sqlhttp_gateway.errors import ConnectionBroken, PasswordFailed, PostgresError, WaitTimeout
from sqlhttp_gateway.tunnel.listeners import Listeners, clipped
from sqlhttp_gateway.wire.backend import encode_error_response
from sqlhttp_gateway.wire.frontend import encode_query
from tests.support.backend_bytes import notified
from tests.support.lending import FakeLease, FakeRegistry

READY = b"Z\0\0\0\x05I"
DONE = b"C\0\0\0\x0bLISTEN\0" + READY
HELLO = notified("talk", "hello")


class Program:
    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.deafened: list[PasswordFailed] = []

    def hear(self, frame: bytes) -> None:
        self.heard.append(frame)

    def deafen(self, error: PasswordFailed) -> None:
        self.deafened.append(error)


class Scene:
    def __init__(self) -> None:
        self.registry = FakeRegistry()
        self.listeners = Listeners(self.registry)  # type: ignore[arg-type]

    def listen(self, program: Program, *channels: bytes) -> "asyncio.Task[None]":
        work = self.listeners.listen(program, channels, pool=self.registry.pool, password=b"sesam")
        return asyncio.create_task(work)

    async def listening(self, program: Program, *channels: bytes, lease: FakeLease | None = None) -> FakeLease:
        """The program listens, and Postgres says yes."""
        lent = lease or self.registry.add()
        before = lent.backend.written.count(b"LISTEN")
        task = self.listen(program, *channels)
        await turns()
        for _ in range(lent.backend.written.count(b"LISTEN") - before):
            lent.say(DONE)
        await task
        return lent

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - nobody tells the test
                await asyncio.sleep(0)


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_listen_is_over_when_postgres_says_so() -> None:
    it, program = Scene(), Program()
    lease = it.registry.add()
    task = it.listen(program, b"talk")
    await turns()
    assert lease.backend.written == encode_query(b'LISTEN "talk"')
    assert not task.done()
    lease.say(DONE)
    await task
    lease.say(HELLO)
    assert program.heard == [HELLO]


async def test_programs_share_one_backend_and_one_listen_for_each_channel() -> None:
    it, one, two, three = Scene(), Program(), Program(), Program()
    lease = await it.listening(one, b"talk")
    await it.listening(two, b"talk", lease=lease)
    await it.listening(three, b"news", lease=lease)
    assert len(it.registry.leases) == 1
    assert lease.backend.written == encode_query(b'LISTEN "talk"') + encode_query(b'LISTEN "news"')
    again = notified("news", "again")
    for byte in HELLO + again + HELLO:
        lease.say(bytes((byte,)))
    assert one.heard == two.heard == [HELLO, HELLO]
    assert three.heard == [again]


async def test_programs_that_begin_at_once_wait_for_the_same_connection() -> None:
    it, programs = Scene(), [Program() for _ in range(5)]
    tasks = [it.listen(program, b"talk") for program in programs]
    await it.until(lambda: it.registry.waiting)
    lease = it.registry.add()
    await it.until(lambda: lease.backend.written)
    lease.say(DONE)
    await asyncio.gather(*tasks)
    assert lease.backend.written == encode_query(b'LISTEN "talk"')
    lease.say(HELLO)
    assert [program.heard for program in programs] == [[HELLO]] * 5


async def test_channel_that_nobody_wants_any_more_is_given_up_and_the_backend_after_the_last() -> None:
    it, one, two = Scene(), Program(), Program()
    lease = await it.listening(one, b"talk", b"news")
    await it.listening(two, b"talk", lease=lease)
    it.listeners.unlisten(one, (b"talk",))
    assert b"UNLISTEN" not in lease.backend.written
    it.listeners.unlisten(one)
    assert lease.backend.written.endswith(encode_query(b'UNLISTEN "news"'))
    lease.say(b"C\0\0\0\x0dUNLISTEN\0" + READY)
    lease.say(HELLO)
    assert (one.heard, two.heard, lease.ends) == ([], [HELLO], [])
    it.listeners.unlisten(two)
    assert lease.ends == []  # its UNLISTEN is not answered yet
    lease.say(b"C\0\0\0\x0dUNLISTEN\0" + READY)
    assert lease.ends == ["take_back", "release"]


async def test_listening_again_after_the_last_has_left_takes_a_backend_again() -> None:
    it, program = Scene(), Program()
    lease = await it.listening(program, b"talk")
    it.listeners.unlisten(program)
    lease.say(b"C\0\0\0\x0dUNLISTEN\0" + READY)
    second = await it.listening(program, b"talk")
    second.say(HELLO)
    assert program.heard == [HELLO]


async def test_lost_backend_is_replaced_and_everybody_is_told() -> None:
    it, one, two = Scene(), Program(), Program()
    lease = await it.listening(one, b"talk")
    await it.listening(two, b"news", lease=lease)
    lease.break_off()
    assert lease.ends == ["take_back", "release"]
    second = it.registry.add()
    await it.until(lambda: second.backend.written.count(b"LISTEN") == 2)
    assert one.heard == []
    second.say(DONE + DONE)
    await it.until(lambda: one.heard)
    for program in (one, two):
        [notice] = program.heard
        assert notice[:1] == b"N"
        assert b"notifications may have been missed" in notice
    second.say(HELLO)
    assert one.heard[-1] == HELLO


async def test_replacement_is_tried_until_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlhttp_gateway.tunnel.listeners._FIRST_DELAY", 0.001)
    it, program = Scene(), Program()
    lease = await it.listening(program, b"talk")
    it.registry.refuse(WaitTimeout("down"))
    lease.break_off()
    await turns()
    it.registry._error = None
    second = it.registry.add()
    await it.until(lambda: second.backend.written)
    second.say(DONE)
    await it.until(lambda: program.heard)
    it.listeners.unlisten(program)


async def test_who_cannot_connect_any_more_does_not_keep_the_others_deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first has come with a password that is not the role's any more."""
    monkeypatch.setattr("sqlhttp_gateway.tunnel.listeners._FIRST_DELAY", 0.001)
    it, old, new = Scene(), Program(), Program()
    lease = await it.listening(old, b"talk")
    task = asyncio.create_task(
        it.listeners.listen(new, (b"talk",), pool=it.registry.pool, password=b"changed")  # type: ignore[arg-type]
    )
    await task
    lend = it.registry.lease

    async def by_password(pool: object, password: Callable[[], bytes], **options: Any) -> FakeLease:
        if password() != b"changed":
            raise PasswordFailed("wrong")
        return await lend(pool, password, **options)

    monkeypatch.setattr(it.registry, "lease", by_password)
    lease.break_off()
    second = it.registry.add()
    await it.until(lambda: second.backend.written)
    second.say(DONE)
    await it.until(lambda: old.heard and new.heard)
    assert not old.deafened


async def test_programs_are_told_when_the_password_of_none_of_them_is_the_roles_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sqlhttp_gateway.tunnel.listeners._FIRST_DELAY", 0.001)
    it, one, two = Scene(), Program(), Program()
    lease = await it.listening(one, b"talk")
    await it.listening(two, b"talk", lease=lease)
    it.registry.refuse(PasswordFailed("wrong"))
    lease.break_off()
    await it.until(lambda: one.deafened)
    assert two.deafened
    it.listeners.unlisten(one)
    it.listeners.unlisten(two)


async def test_nobody_is_told_to_go_while_the_server_is_only_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlhttp_gateway.tunnel.listeners._FIRST_DELAY", 0.001)
    it, one = Scene(), Program()
    lease = await it.listening(one, b"talk")
    tries: list[object] = []

    async def refuse(pool: object, password: object, **options: Any) -> FakeLease:
        tries.append(pool)
        raise WaitTimeout("down")

    monkeypatch.setattr(it.registry, "lease", refuse)
    lease.break_off()
    await it.until(lambda: len(tries) > 2)
    assert not one.deafened
    it.listeners.unlisten(one)


async def test_listen_that_waits_when_the_backend_is_lost_fails() -> None:
    it, program = Scene(), Program()
    lease = it.registry.add()
    task = it.listen(program, b"talk")
    await it.until(lambda: lease.backend.written)
    lease.break_off()
    with pytest.raises(ConnectionBroken):
        await task
    it.listeners.unlisten(program)
    await turns()


async def test_no_backend_to_be_had_is_an_error() -> None:
    it, program = Scene(), Program()
    it.registry.refuse(WaitTimeout("full"))
    with pytest.raises(WaitTimeout):
        await it.listen(program, b"talk")
    it.listeners.unlisten(program)


async def test_refusal_of_postgres_is_an_error_of_that_one_alone() -> None:
    it, one, two = Scene(), Program(), Program()
    lease = await it.listening(one, b"talk")
    task = it.listen(two, b"news")
    await turns()
    lease.say(encode_error_response(WaitTimeout("no")) + READY)
    with pytest.raises(PostgresError, match="no"):
        await task
    lease.say(HELLO)
    assert one.heard == [HELLO]


async def test_one_that_leaves_ends_its_own_channels_and_nobody_elses() -> None:
    it, one, two = Scene(), Program(), Program()
    lease = await it.listening(one, b"talk", b"mine", b"mine")
    await it.listening(two, b"talk", b"yours", lease=lease)
    before = lease.backend.written
    it.listeners.unlisten(two, (b"mine", b"unknown"))
    it.listeners.unlisten(Program())
    it.listeners.unlisten(one)
    it.listeners.unlisten(one)
    assert lease.backend.written == before + encode_query(b'UNLISTEN "mine"')
    it.listeners.unlisten(two, (b"talk", b"yours"))
    assert lease.backend.written.endswith(encode_query(b'UNLISTEN "talk"') + encode_query(b'UNLISTEN "yours"'))


@pytest.mark.parametrize(
    ("name", "kept"),
    [(b"talk", b"talk"), (b"x" * 70, b"x" * 63), ("é".encode() * 32, "é".encode() * 31)],
)
async def test_channel_is_cut_and_quoted_as_postgres_does(name: bytes, kept: bytes) -> None:
    assert clipped(name) == kept
    it, program = Scene(), Program()
    lease = await it.listening(program, name + b'"' if name == b"talk" else name)
    wanted = kept + b'""' if name == b"talk" else kept
    assert lease.backend.written == encode_query(b'LISTEN "' + wanted + b'"')
