"""Three exchanges in one write, read as one."""

import pytest

from sqlhttp_gateway.errors import ConnectionBroken
from sqlhttp_gateway.wire.surrounded import SurroundedExchange
from tests.support.backend_bytes import completed, done, message, ready, row

BEFORE = row("1", "0/10") + completed("SELECT 1") + ready()
MAIN = done("INSERT 0 1")
BEHIND = row("0/20", "000000010000000000000001", "32") + completed("SELECT 1") + ready()
REFUSED = message(b"E", b"SERROR\0C42P01\0Mno\0\0") + ready()


def exchange(*, before: bool = True, behind: bool = True) -> SurroundedExchange:
    return SurroundedExchange(before=before, behind=behind)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_each_part_gets_its_own_however_the_bytes_are_cut(size: int) -> None:
    data, reading, rest = BEFORE + MAIN + BEHIND + b"Z", exchange(), None
    while rest is None:
        rest = reading.receive(data[:size])
        data = data[size:]
    assert rest + data == b"Z"
    assert reading.before is not None
    assert reading.behind is not None
    assert [len(part.results) for part in (reading.before, reading, reading.behind)] == [1, 1, 1]
    assert reading.results[0].tag == b"INSERT 0 1"


def test_what_is_not_asked_is_not_waited_for() -> None:
    reading = exchange(before=False, behind=False)
    assert reading.receive(MAIN) == b""
    assert (reading.before, reading.behind) == (None, None)


@pytest.mark.parametrize(("data", "failed"), [(REFUSED + MAIN + BEHIND, "before"), (BEFORE + MAIN + REFUSED, "behind")])
def test_failed_question_is_no_error_of_the_request(data: bytes, failed: str) -> None:
    reading = exchange()
    assert reading.receive(data) == b""
    assert reading.error is None
    assert getattr(reading, failed).error is not None


def test_failed_request_leaves_the_questions_answered() -> None:
    reading = exchange()
    assert reading.receive(BEFORE + REFUSED + BEHIND) == b""
    assert reading.error is not None
    assert reading.behind is not None
    assert reading.behind.results


def test_connection_that_breaks_behind_the_answer_does_not_take_it_back() -> None:
    reading = exchange()
    assert reading.receive(BEFORE + MAIN) is None
    reading.refuse(ConnectionBroken("lost"))
    assert reading.error is None
    broken = exchange()
    assert broken.receive(BEFORE) is None
    broken.refuse(ConnectionBroken("lost"))
    assert isinstance(broken.error, ConnectionBroken)
