"""What makes a backend clean ahead of its next program's messages, and how its answer is read."""

import pytest

from sqlhttp_gateway.errors import RemoteProtocolError
from sqlhttp_gateway.pools.scrub import AHEAD, AHEAD_LOOKING
from sqlhttp_gateway.wire.ahead import Cleansing, row
from tests.support.postgres_model import (
    BIND_COMPLETE,
    PARSE_COMPLETE,
    command_complete,
    error,
    frame,
    parameter_status,
    ready,
)

ANSWER = AHEAD.scrubbed + AHEAD.committed
ZONE = (b"<set the zone>", [b"Asia/Tokyo"])
ZONE_SET = BIND_COMPLETE + row([b"Asia/Tokyo"]) + command_complete("SELECT 1")
BEHIND = b"2\0\0\0\x04"
NOTICE = frame(b"N", b"SWARNING\0\0")


def read(cleansing: Cleansing, data: bytes, *, step: int = 0) -> bytes | None:
    """What comes behind the answer, which comes in pieces of `step` bytes."""
    step = step or len(data)
    rest: bytes | None = None
    for at in range(0, len(data), step):
        rest = cleansing.receive(data[at : at + step])
        if rest is not None:
            return rest + data[at + step :]
    return rest


@pytest.mark.parametrize("ahead", [AHEAD, AHEAD_LOOKING])
@pytest.mark.parametrize("step", [0, 1, 7, 50])
def test_usual_answer_is_read_in_whatever_pieces_and_what_follows_is_handed_back(ahead: object, step: int) -> None:
    assert isinstance(ahead, type(AHEAD))
    cleansing = Cleansing(ahead)
    assert cleansing.frames == ahead.scrub + ahead.commit
    assert read(cleansing, ahead.scrubbed + ahead.committed + BEHIND, step=step) == BEHIND
    assert (cleansing.is_over, cleansing.has_failed, cleansing.values) == (True, False, [])


def test_nothing_is_sent_that_has_postgres_answer_before_the_program_does() -> None:
    assert b"S\0\0\0\x04" not in Cleansing(AHEAD_LOOKING).frames


def test_parameters_are_set_between_the_scrub_and_its_commit() -> None:
    cleansing = Cleansing(AHEAD, [ZONE])
    assert cleansing.frames == AHEAD.scrub + b"<set the zone>" + AHEAD.commit
    assert read(cleansing, AHEAD.scrubbed + ZONE_SET + AHEAD.committed + BEHIND) == BEHIND
    assert cleansing.values == [b"Asia/Tokyo"]


@pytest.mark.parametrize("step", [0, 3])
def test_value_is_the_one_that_the_server_gives(step: int) -> None:
    cleansing = Cleansing(AHEAD, [ZONE])
    answer = AHEAD.scrubbed + ZONE_SET.replace(b"Tokyo", b"tokyo") + AHEAD.committed
    assert read(cleansing, answer + BEHIND, step=step) == BEHIND
    assert cleansing.values == [b"Asia/tokyo"]


@pytest.mark.parametrize("step", [0, 1, 11])
def test_reports_and_notices_between_are_kept_from_the_program(step: int) -> None:
    cleansing = Cleansing(AHEAD)
    status = parameter_status("TimeZone", "UTC")
    assert read(cleansing, NOTICE + ANSWER[:5] + status + ANSWER[5:] + BEHIND, step=step) == BEHIND
    assert cleansing.statuses == [status]


@pytest.mark.parametrize("step", [0, 1, 11])
def test_failure_is_over_with_its_ready_for_query(step: int) -> None:
    cleansing = Cleansing(AHEAD)
    refusal = error("57014", "canceling statement due to user request")
    assert read(cleansing, ANSWER[:27] + refusal, step=step) is None
    assert (cleansing.has_failed, cleansing.is_over) == (True, False)
    assert read(cleansing, ready(), step=step) == b""
    assert cleansing.is_over


def test_statements_that_have_to_be_parsed_are_as_good() -> None:
    cleansing = Cleansing(AHEAD)
    assert read(cleansing, PARSE_COMPLETE + ANSWER + BEHIND) == BEHIND
    assert not cleansing.has_failed


@pytest.mark.parametrize(
    "wrong", [ready(), frame(b"G", b"\0\0\0"), frame(b"K", b"12345678"), b"2\0\0\0\x03", b"D\0\0\0\x05\0"]
)
def test_what_nobody_asked_for_is_no_answer(wrong: bytes) -> None:
    cleansing = Cleansing(AHEAD._replace(rows=0))
    with pytest.raises(RemoteProtocolError):
        cleansing.receive(wrong + ANSWER)
