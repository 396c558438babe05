"""The gateway's own statements are sent whole, put down as its own, and taught to a backend once."""

from collections.abc import Sequence

from sqlhttp_gateway.wire.naming import Naming
from sqlhttp_gateway.wire.owed import Kind, Owed
from sqlhttp_gateway.wire.own_statements import OwnStatements
from sqlhttp_gateway.wire.prepared import Sources
from sqlhttp_gateway.wire.session import BackendSession, Session
from tests.support.postgres_model import SYNC

LATIN_PARIS = (("client_encoding", b"LATIN1"), ("timezone", b"Europe/Paris"), ("work_mem", b"1MB"))


class Sent:
    """The statements of one program's gateway, what they sent and what they were told."""

    def __init__(self, *, statement_cache_size: int = 10) -> None:
        self.owed = Owed()
        self.out: list[bytes] = []
        self.told: list[Sequence[bytes | None] | None] = []
        sources = Sources()
        names = Naming(sources, Session({}), self.owed)
        names.attach(BackendSession({}, statement_cache_size=statement_cache_size))
        self.own = OwnStatements(waiting=self.owed, names=names, sources=sources, to_backend=self.out)

    def take(self) -> tuple[list[Kind], bytes]:
        """What is owed, all of it ours, and the bytes that were sent for it."""
        kinds = []
        while (first := self.owed.first) is not None:
            assert first.is_ours
            kinds.append(first.kind)
            self.owed.pop()
        sent = b"".join(self.out)
        self.out.clear()
        return kinds, sent


WHOLE = [Kind.PARSE, Kind.BIND, Kind.EXECUTE]


def test_text_is_run_as_the_unnamed_statement_up_to_a_sync() -> None:
    sent = Sent()
    sent.own.run(b"ROLLBACK", sent.told.append)
    kinds, frames = sent.take()
    assert kinds == [*WHOLE, Kind.SYNC]
    assert frames.startswith(b"P\0\0\0\x10\0ROLLBACK\0\0\0B")
    assert frames.endswith(SYNC)


def test_answer_is_told_and_a_failure_is_none() -> None:
    sent = Sent()
    for error in (None, b"E\0\0\0\x05\0"):
        sent.own.run(b"SELECT 1", sent.told.append)
        first = sent.owed.first
        assert first is not None
        assert first.batch is not None
        first.batch.values.append(b"1")
        first.batch.error = error
        first.batch.finish()
        sent.take()
    assert sent.told == [[b"1"], None]


def test_sync_alone_is_answered_to_nobody() -> None:
    sent = Sent()
    sent.own.sync()
    assert sent.take() == ([Kind.SYNC], SYNC)


def test_encoding_is_set_in_a_statement_before_the_values_that_are_in_it() -> None:
    sent = Sent()
    sent.own.set_parameters(LATIN_PARIS, sent.told.append)
    kinds, frames = sent.take()
    assert kinds == [*WHOLE, *WHOLE, Kind.SYNC]
    assert frames.index(b"LATIN1") < frames.index(b"$3,$4,false") < frames.index(b"Europe/Paris")


def test_backend_that_knows_the_statements_is_only_told_the_values() -> None:
    sent = Sent()
    assert sent.own.settings(LATIN_PARIS) is None
    sent.own.set_parameters(LATIN_PARIS, sent.told.append)
    sent.take()
    settings = sent.own.settings(LATIN_PARIS)
    assert settings is not None
    assert [setting.values for setting in settings] == [[b"LATIN1"], [b"Europe/Paris", b"1MB"]]
    sent.own.set_parameters(LATIN_PARIS, sent.told.append)
    kinds, frames = sent.take()
    assert kinds == [Kind.BIND, Kind.EXECUTE, Kind.BIND, Kind.EXECUTE, Kind.SYNC]
    assert frames == b"".join(setting.frames for setting in settings) + SYNC


def test_nothing_to_set_is_nothing_to_teach() -> None:
    assert Sent().own.settings(()) == []


def test_backend_that_keeps_no_statements_gets_the_text_each_time() -> None:
    sent = Sent(statement_cache_size=0)
    for _ in range(2):
        sent.own.set_parameters((("work_mem", b"1MB"),), sent.told.append)
        assert sent.take()[0] == [*WHOLE, Kind.SYNC]
