"""What goes in front of a fenced program's messages, and what the end of a batch means."""

from collections.abc import Callable

import pytest

from sqlhttp_gateway.errors import StatementRefused
from sqlhttp_gateway.model import Prologue, Statement
from sqlhttp_gateway.wire.fence import Fence, Verdict
from sqlhttp_gateway.wire.naming import Naming
from sqlhttp_gateway.wire.owed import Owed
from sqlhttp_gateway.wire.prepared import Sources
from sqlhttp_gateway.wire.session import BackendSession, Session

IDLE, OPEN, FAILED = b"ITE"
READ_ONLY = Prologue((Statement("SELECT 'first'"),), read_only=True)


class Fenced:
    """A fence with all that it needs. `texts` are the statements of ours that were sent since the last look."""

    def __init__(self, prologue: Prologue | None = READ_ONLY, check: Callable[[bytes], None] | None = None) -> None:
        self.owed = Owed()
        sources = Sources()
        names = Naming(sources, Session({}), self.owed)
        names.attach(BackendSession({}, statement_cache_size=0))  # keeps none: each text is sent each time
        self.fence = Fence(check=check, waiting=self.owed, names=names)
        self.fence.attach(lambda: prologue)

    def run(self, text: bytes) -> list[str]:
        """One statement, bound and executed; what went in front."""
        first, refused = self.fence.bind(b"", text)
        assert refused is None
        self.fence.execute(b"")
        return texts(first)

    def end(self, status: int) -> tuple[list[str], Verdict]:
        """A Sync, and what Postgres answers."""
        last = texts(self.fence.sync())
        self.owed.clear()
        return last, self.fence.settle(status)


def texts(frames: bytes) -> list[str]:
    """The texts of Parse messages."""
    found, position = [], 0
    while position < len(frames):
        following = position + 1 + int.from_bytes(frames[position + 1 : position + 5])
        if frames[position : position + 1] == b"P":
            found.append(frames[position + 5 : following].split(b"\0")[1].decode())
        position = following
    return found


BEGIN = ["START TRANSACTION READ ONLY", "SELECT 'first'"]


def test_statement_outside_a_transaction_gets_one_of_ours() -> None:
    fenced = Fenced()
    assert fenced.run(b"SELECT 1") == BEGIN
    assert fenced.run(b"SELECT 2") == []
    assert fenced.end(IDLE) == (["COMMIT"], Verdict.FINE)
    assert fenced.run(b"SELECT 3") == BEGIN


def test_programs_own_transaction_gets_ours_in_front_of_its_first_statement() -> None:
    fenced = Fenced()
    assert fenced.run(b"BEGIN") == []
    assert fenced.end(OPEN) == ([], Verdict.FINE)
    assert fenced.run(b"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE") == []
    assert fenced.run(b"SELECT 1") == ["SET TRANSACTION READ ONLY", "SELECT 'first'"]
    assert fenced.run(b"SAVEPOINT a") == []
    assert fenced.end(OPEN) == ([], Verdict.FINE)
    assert fenced.run(b"COMMIT") == []
    assert fenced.run(b"SELECT 2") == BEGIN
    assert fenced.end(IDLE) == (["COMMIT"], Verdict.FINE)


def test_transaction_that_is_chained_begins_anew() -> None:
    fenced = Fenced()
    fenced.run(b"BEGIN")
    fenced.run(b"SELECT 1")
    assert fenced.run(b"COMMIT AND CHAIN") == []
    assert fenced.run(b"SELECT 1") == ["SET TRANSACTION READ ONLY", "SELECT 'first'"]


def test_begin_inside_a_transaction_of_ours_makes_it_the_programs() -> None:
    fenced = Fenced()
    fenced.run(b"SELECT 1")
    fenced.run(b"BEGIN")
    assert fenced.end(OPEN) == ([], Verdict.FINE)


def test_failed_transaction_of_ours_has_to_be_rolled_back_and_the_programs_has_not() -> None:
    fenced = Fenced()
    fenced.run(b"SELECT 1/0")
    fenced.owed.clear()  # what went in front has worked
    fenced.fence.sync()
    fenced.owed.fail()
    assert fenced.fence.settle(FAILED) is Verdict.ROLL_BACK
    assert fenced.fence.is_waiting
    fenced.fence.rolled_back()
    fenced.run(b"BEGIN")
    fenced.run(b"SELECT 1/0")
    assert fenced.end(FAILED) == ([], Verdict.FINE)
    assert fenced.run(b"SELECT 1") == []
    assert fenced.run(b"ROLLBACK") == []
    assert fenced.run(b"SELECT 1") == BEGIN


def test_what_a_failed_batch_would_have_done_is_taken_back() -> None:
    fenced = Fenced()
    fenced.run(b"SELECT 1/0")
    undo = fenced.fence.execute(b"")
    assert undo is None
    fenced.fence.bind(b"", b"COMMIT")
    undo = fenced.fence.execute(b"")
    assert undo is not None
    undo(False)
    assert fenced.fence.settle(FAILED) is Verdict.ROLL_BACK


def test_transaction_that_nobody_has_begun_is_the_end() -> None:
    fenced = Fenced()
    assert fenced.end(OPEN)[1] is Verdict.BROKEN


def test_prologue_that_postgres_refuses_is_the_end() -> None:
    fenced = Fenced()
    fenced.run(b"SELECT 1")
    entry = fenced.owed.first
    assert entry is not None
    assert entry.batch is not None
    entry.batch.error = b"E..."
    assert fenced.end(IDLE)[1] is Verdict.REFUSED
    assert fenced.fence.refusal == b"E..."


def test_program_whose_statements_are_listed_only_gets_no_transaction() -> None:
    fenced = Fenced(None)
    assert fenced.run(b"SELECT 1") == []
    assert fenced.end(IDLE) == ([], Verdict.FINE)
    fenced.run(b"BEGIN")
    assert fenced.end(OPEN) == ([], Verdict.FINE)


def test_prologue_without_read_only_goes_behind_a_plain_begin() -> None:
    fenced = Fenced(Prologue((Statement("SELECT f($1)", (b"x",)),)))
    assert fenced.run(b"SELECT 1") == ["BEGIN", "SELECT f($1)"]
    fenced.end(IDLE)
    fenced.run(b"BEGIN")
    assert fenced.run(b"SELECT 1") == ["SELECT f($1)"]


def test_what_is_not_allowed_is_replaced_by_what_fails() -> None:
    def check(text: bytes) -> None:
        raise StatementRefused("not you")

    fenced = Fenced(check=check)
    assert texts(fenced.fence.refused(b"SELECT 1") or b"") == ["refused by the gateway"]
    entry = fenced.owed.first
    assert entry is not None
    assert b"not you" in entry.instead


@pytest.mark.parametrize("text", [b"COPY t FROM STDIN", b"/* */ copy t (a, b) from/**/STDOUT", b";COPY t FROM stdin"])
def test_copy_from_the_program_is_refused(text: bytes) -> None:
    assert Fenced().fence.refused(text) is not None


@pytest.mark.parametrize("text", [b"COPY t TO STDOUT", b"COPY (SELECT 1 FROM stdin) TO STDOUT", b"SELECT 'copy'"])
def test_copy_to_the_program_is_not(text: bytes) -> None:
    assert Fenced().fence.refused(text) is None


def test_control_is_bound_to_the_unnamed_portal_only_and_portals_are_forgotten_with_an_error() -> None:
    fence = Fenced().fence
    assert fence.bind(b"p", b"COMMIT")[1] is not None
    assert fence.bind(b"p", b"SELECT 1")[1] is None
    assert fence.use(b"p") is None
    fence.error()
    assert fence.use(b"p") is not None
    assert fence.use(b"") is not None


def test_simple_query_is_cut_but_not_where_its_whole_text_has_to_be_known() -> None:
    assert Fenced().fence.query(b"a; b") == [b"a", b" b"]
    assert Fenced().fence.query(b"") == [b""]
    assert Fenced().fence.query(b"CREATE FUNCTION f() BEGIN ATOMIC a; b; END") == [
        b"CREATE FUNCTION f() BEGIN ATOMIC a; b; END"
    ]
    assert Fenced(check=lambda text: None).fence.query(b"a; b") == [b"a; b"]
