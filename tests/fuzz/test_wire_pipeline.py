"""Two programs on servers they share see, byte for byte, what each would see on a server of its own.

Whatever they send, however it is cut, and whenever a server is taken from one and lent to the other: clean, or as it
was left, to be cleaned by what goes ahead of the next messages, which may fail.
"""

import random
from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from sqlhttp_gateway.wire.ahead import Ahead
from sqlhttp_gateway.wire.pipeline import Pipeline, Residue
from sqlhttp_gateway.wire.prepared import Sources
from sqlhttp_gateway.wire.session import BackendSession
from sqlhttp_gateway.wire.tunnel_events import Greeted
from tests.support.postgres_model import (
    BIND_COMPLETE,
    COPY_DONE,
    FLUSH,
    SYNC,
    Server,
    bind,
    close,
    command_complete,
    copy_data,
    copy_fail,
    describe,
    execute,
    function_call,
    parse,
    query,
    ready,
)

NAMES = st.sampled_from(["", "", "s1", "s2", "s3", "sqlhttp_t1"])
PORTALS = st.sampled_from(["", "", "", "p"])
TEXTS = st.sampled_from(
    [
        "select a",
        "select b",
        "rows 0",
        "rows 3",
        "begin",
        "commit",
        "rollback",
        "fail",
        "syntax",
        "",
        "set a to 1",
        "set a to 2",
        "set b to x",
        "reset a",
        "show a",
        "show b",
        "deallocate s1",
        "deallocate s2",
        "deallocate all",
    ]
)
MESSAGES = st.one_of(
    st.builds(parse, NAMES, TEXTS),
    st.builds(bind, PORTALS, NAMES),
    st.builds(describe, st.just("S"), NAMES),
    st.builds(describe, st.just("P"), PORTALS),
    st.builds(execute, PORTALS, st.sampled_from([0, 0, 1])),
    st.builds(close, st.just("S"), NAMES),
    st.builds(close, st.just("P"), PORTALS),
    st.just(FLUSH),
    st.just(SYNC),
)
COPY_ENDS = st.sampled_from([COPY_DONE, copy_fail("no")])
COPY_DATA = st.lists(st.just(copy_data(b"1\n")), max_size=3).map(b"".join)


def extended(name: str, text: str) -> bytes:
    """A statement as most drivers send it."""
    return parse(name, text) + bind("", name) + describe("P", "") + execute("") + SYNC


ACTIONS = st.one_of(
    st.builds(query, TEXTS),
    st.builds(extended, NAMES, TEXTS),
    st.builds(lambda name: bind("", name) + execute("") + SYNC, NAMES),
    st.builds(lambda name: bind("", name) + describe("P", "") + execute("") + SYNC, NAMES),
    st.builds(lambda name, text: parse(name, text) + describe("S", name) + SYNC, NAMES, TEXTS),
    st.lists(MESSAGES, max_size=6).map(b"".join),
    st.builds(lambda data, end: query("copy") + data + end, COPY_DATA, COPY_ENDS),
    st.builds(
        lambda name, early, data, end: (
            SYNC + parse("", "copy") + bind("", "") + execute("") + early + data + end + SYNC + query("")
        ),
        NAMES,
        st.sampled_from([b"", SYNC, FLUSH]),
        COPY_DATA,
        COPY_ENDS,
    ),
    st.just(function_call()),
)


END = SYNC + query("rollback")
"""Leaves nothing open."""
PROGRAMS = st.lists(ACTIONS, max_size=12).map(lambda actions: [b"".join([*actions, END])])
ASKED = st.sampled_from(["show a", "show b", "set a to 4", "set b to y", "select b"])
WAITING_PROGRAMS = st.lists(st.one_of(st.builds(query, ASKED), ACTIONS), min_size=12, max_size=16).map(
    lambda actions: [query("set a to 3"), *actions, query("show a"), END]
)
"""As what is sent in one go, or one after the other, each mostly when the answer to the last is there."""


LEFT = b"left by another"
"""The value of parameters on a server that is not clean."""
KEPT = {b"_scrub": b"scrub", b"_begin": b"begin", b"_commit": b"commit", b"_fail": b"fail"}
"""What the pool has prepared on each of its servers, by name."""


def run_kept(*names: str) -> bytes:
    """The messages that run these."""
    return b"".join(bind("", name) + execute("") for name in names)


def done(*tags: str) -> bytes:
    """What is answered to as many of these."""
    return b"".join(BIND_COMPLETE + command_complete(tag) for tag in tags)


AHEAD = Ahead(
    scrub=run_kept("_scrub"),
    scrubbed=done("SCRUB"),
    commit=run_kept("_begin", "_commit"),
    committed=done("BEGIN", "COMMIT"),
    statements=3,
    rows=0,
)
IN_VAIN = AHEAD._replace(scrub=run_kept("_scrub", "_fail"), statements=4)


class Lendable:
    """A server of the pool, and what the tunnels share about it."""

    def __init__(self, statement_cache_size: int) -> None:
        self.server = Server()
        self.session = BackendSession({}, statement_cache_size=statement_cache_size)
        self.clean()

    def clean(self) -> None:
        """As the pool does when it takes its time."""
        self.is_clean = True
        self.server.scrub()
        self.server.statements |= KEPT

    def clean_deeply(self) -> None:
        """The same where nobody knows which statements there are."""
        self.server.statements.clear()
        self.session.statements.forget()
        self.clean()

    def leave(self) -> None:
        """Somebody was here."""
        self.is_clean = False
        self.server.parameters |= {"a": LEFT, "b": LEFT}


class Tunnel:
    """A program, its pipeline, and the bytes that are on their way."""

    def __init__(self, program: Sequence[bytes], sources: Sources, chance: random.Random) -> None:
        self.pipeline = Pipeline({}, sources)
        self.program = b""
        self._later = list(program)
        self.seen = b""
        self.hand_overs: Counter[str] = Counter()
        """By how the server was when it came."""
        self.lent: Lendable | None = None
        self._to_server = b""
        self._from_server = b""
        self._chance = chance

    @property
    def is_done(self) -> bool:
        return not (
            self.program or self._later or self._to_server or self._from_server or self.pipeline.is_busy or self.lent
        )

    def step(self, pool: list[Lendable]) -> None:
        """One of the things that can happen now, if it is any."""
        pipeline = self.pipeline
        match self._chance.randrange(5):
            case 0:
                if not self.program and self._later and (not pipeline.is_busy or not self._chance.randrange(20)):
                    self.program = self._later.pop(0)
                chunk, self.program = self._cut(self.program)
                pipeline.receive_frontend(chunk)
            case 1 if self.lent is not None:
                chunk, self._to_server = self._cut(self._to_server)
                self.lent.server.receive(chunk)
                self._from_server += self.lent.server.take_answers()
            case 2 if self.lent is not None:
                chunk, self._from_server = self._cut(self._from_server)
                pipeline.receive_backend(chunk)
            case 3 if pipeline.needs_backend and pool and self.lent is None:
                self.lent = pool.pop(self._chance.randrange(len(pool)))
                if not (self.lent.is_clean or pipeline.takes_unclean):
                    self.lent.clean()
                ahead = None if self.lent.is_clean else self._chance.choice([AHEAD, AHEAD, IN_VAIN])
                self.hand_overs["clean" if ahead is None else "unclean"] += 1
                pipeline.attach(self.lent.session, ahead=ahead)
            case 4 if pipeline.may_release and self.lent is not None:
                self.lent.server.receive(self._to_server)  # a Flush at most, which nobody answers
                self._to_server = b""
                assert self._from_server + self.lent.server.take_answers() == b""
                assert self.lent.server.is_clean
                assert pipeline.detach() is Residue.NOTHING
                self.lent.clean()
                if self._chance.randrange(2):
                    self.lent.leave()
                pool.append(self.lent)
                self.lent = None
        if self.lent is not None and pipeline.is_refused:
            self.hand_overs["refused"] += 1
            assert self._to_server + self._from_server + self.lent.server.take_answers() == b""
            pipeline.detach()
            self.lent.clean_deeply()
            pool.append(self.lent)
            self.lent = None
        self.seen += pipeline.to_frontend()
        if self.lent is not None:
            self._to_server += pipeline.to_backend()
        assert all(isinstance(event, Greeted) for event in iter(pipeline.next_event, None))

    def _cut(self, data: bytes) -> tuple[bytes, bytes]:
        size = self._chance.choice([1, 3, 10, 1000])
        return data[:size], data[size:]


def alone(program: Sequence[bytes]) -> bytes:
    """What the program would see on a server of its own."""
    server = Server()
    server.receive(b"".join(program))
    return ready() + server.take_answers()


def run(programs: Sequence[Sequence[bytes]], *, servers: int, statement_cache_size: int, seed: int) -> list[Tunnel]:
    """The tunnels, when all is done."""
    chance, sources = random.Random(seed), Sources()
    pool = [Lendable(statement_cache_size) for _ in range(servers)]
    tunnels = [Tunnel(program, sources, chance) for program in programs]
    for _ in range(100_000):
        waiting = [tunnel for tunnel in tunnels if not tunnel.is_done]
        if not waiting:
            return tunnels
        chance.choice(waiting).step(pool)
    raise AssertionError("a tunnel waits for ever")


@settings(max_examples=300, deadline=None)
@given(
    programs=st.lists(PROGRAMS, min_size=1, max_size=2),
    servers=st.integers(1, 3),
    statement_cache_size=st.sampled_from([0, 1, 2, 100]),
    seed=st.integers(0, 2**32),
)
def test_programs_on_shared_servers_see_what_each_would_see_alone(
    programs: list[list[bytes]], servers: int, statement_cache_size: int, seed: int
) -> None:
    tunnels = run(programs, servers=servers, statement_cache_size=statement_cache_size, seed=seed)
    assert [tunnel.seen for tunnel in tunnels] == [alone(program) for program in programs]


def test_two_programs_that_take_turns_on_one_server_get_what_is_theirs() -> None:
    """They wait for answers, so that the server goes to and fro between them, as it was left or not."""
    hand_overs: Counter[str] = Counter()

    @settings(max_examples=100, derandomize=True, database=None, deadline=None)
    @given(programs=st.tuples(WAITING_PROGRAMS, WAITING_PROGRAMS), seed=st.integers(0, 2**32))
    def take_turns(programs: tuple[list[bytes], list[bytes]], seed: int) -> None:
        tunnels = run(programs, servers=1, statement_cache_size=100, seed=seed)
        assert [tunnel.seen for tunnel in tunnels] == [alone(program) for program in programs]
        for tunnel in tunnels:
            hand_overs.update(tunnel.hand_overs)

    take_turns()
    assert min(hand_overs[how] for how in ("clean", "unclean", "refused")) > 100, hand_overs
