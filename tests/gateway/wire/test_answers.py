"""What backends answer and what follows from it, through a pipeline, message by message."""

import pytest

from sqlhttp_gateway.errors import RemoteProtocolError
from sqlhttp_gateway.wire.channels import MAX_SHARED
from sqlhttp_gateway.wire.effects import Pin
from sqlhttp_gateway.wire.tunnel_events import Listen, Pinned, Unlisten
from tests.support.postgres_model import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    COPY_DONE,
    COPY_IN,
    PARSE_COMPLETE,
    SYNC,
    bind,
    close,
    command_complete,
    copy_data,
    error,
    execute,
    frame,
    parameter_status,
    parse,
    query,
    ready,
    row,
)
from tests.support.tunnel_pipeline import (
    a_backend,
    a_tunnel,
    answered,
    attached,
    events,
    logged_in,
    prepare,
    run,
    sent,
)


def test_rows_of_any_size_pass_as_they_come() -> None:
    tunnel = attached()
    sent(tunnel, query("SELECT repeat('x', 100000)"))
    answer = row(b"x" * 100_000)
    assert answered(tunnel, answer[:10]) == answer[:10]
    assert answered(tunnel, answer[10:]) == answer[10:]
    assert not tunnel.may_release
    answered(tunnel, command_complete("SELECT 1") + ready())
    assert tunnel.may_release


@pytest.mark.parametrize("data", [PARSE_COMPLETE, ready()[:1] + b"\0\0\0\x03I", command_complete("SELECT 1"), COPY_IN])
def test_answer_that_nobody_asked_for_ends_the_tunnel(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        attached().receive_backend(data)


def test_what_the_gateway_answers_itself_behind_a_sync_comes_behind_its_ready() -> None:
    tunnel = attached()
    prepare(tunnel, "s", "SELECT 1")
    sent(tunnel, bind("", "s") + execute("") + SYNC + close("S", "s") + SYNC)
    done = BIND_COMPLETE + row(b"1") + command_complete("SELECT 1") + ready()
    assert answered(tunnel, done) + answered(tunnel, ready()) == done + CLOSE_COMPLETE + ready()


def test_notices_and_reports_pass_at_any_time() -> None:
    tunnel = attached()
    notice = frame(b"N", b"SNOTICE\0\0")
    assert answered(tunnel, notice) == notice
    changed = parameter_status("TimeZone", "CET")
    assert answered(tunnel, changed[:7]) == b""
    assert answered(tunnel, changed[7:]) == changed


def test_sync_that_copy_swallows_is_not_waited_for() -> None:
    tunnel = attached()
    sent(tunnel, parse("", "COPY t FROM STDIN") + bind("", "") + execute("") + SYNC)
    answered(tunnel, PARSE_COMPLETE + BIND_COMPLETE + COPY_IN)
    sent(tunnel, copy_data(b"1\n") + SYNC + COPY_DONE + SYNC)
    answered(tunnel, command_complete("COPY 1") + ready())
    assert tunnel.may_release


def test_copy_whose_data_came_with_it_is_followed_to_its_end() -> None:
    tunnel = attached()
    sent(tunnel, query("COPY t FROM STDIN") + copy_data(b"1\n") + COPY_DONE + query("SELECT 1"))
    answered(tunnel, COPY_IN + command_complete("COPY 1") + ready())
    assert not tunnel.may_release
    answered(tunnel, command_complete("SELECT 1") + ready())
    assert tunnel.may_release


MARK = close("S", "sqlhttp_nobodys") + SYNC


def test_failed_copy_passes_over_its_data() -> None:
    tunnel = attached()
    sent(tunnel, parse("", "COPY t FROM STDIN") + bind("", "") + execute("") + SYNC)
    answered(tunnel, PARSE_COMPLETE + BIND_COMPLETE + COPY_IN + error("22P02", "no number"))
    assert sent(tunnel, copy_data(b"x\n") + COPY_DONE) == b""
    assert sent(tunnel, SYNC) == SYNC
    answered(tunnel, ready())
    assert not tunnel.may_release, "the first Sync may still be answered"
    assert tunnel.to_backend() == MARK
    assert answered(tunnel, CLOSE_COMPLETE + ready()) == b""
    assert tunnel.may_release


@pytest.mark.parametrize(
    "begin", [query("COPY v FROM STDIN"), parse("", "COPY v FROM STDIN") + bind("", "") + execute("")]
)
def test_backend_is_kept_until_each_sync_is_answered_that_a_failed_copy_may_have_left(begin: bytes) -> None:
    tunnel = attached()
    sent(tunnel, begin + SYNC + copy_data(b"1\n") + COPY_DONE + SYNC)
    refused = COPY_IN + error("42809", "cannot copy to a view") + ready()
    if begin[:1] == b"P":
        refused = PARSE_COMPLETE + BIND_COMPLETE + refused
    else:
        answered(tunnel, refused)
        refused = ready()
    assert answered(tunnel, refused) == refused
    assert tunnel.to_backend() == MARK
    assert answered(tunnel, ready()) == ready()
    assert not tunnel.may_release
    assert answered(tunnel, CLOSE_COMPLETE + ready()) == b""
    assert tunnel.may_release


NOTIFICATION = frame(b"A", b"\0\0\0\x07jobs\x0042\0")


def test_listen_waits_until_somebody_listens_for_it() -> None:
    tunnel = attached()
    assert sent(tunnel, query("LISTEN jobs") + query("SELECT 1")) == b""
    assert events(tunnel) == [Listen((b"jobs",))]
    tunnel.listening([b"jobs"])
    assert tunnel.to_backend() == query("LISTEN jobs") + query("SELECT 1")
    answered(tunnel, command_complete("LISTEN") + ready() + command_complete("SELECT 1") + ready())
    assert tunnel.may_release
    run(tunnel, "LISTEN jobs", "LISTEN")
    assert events(tunnel) == []


def test_notification_comes_at_once_when_idle_and_before_ready_else() -> None:
    tunnel = logged_in()
    tunnel.notify(NOTIFICATION)
    assert tunnel.to_frontend() == NOTIFICATION
    tunnel.receive_frontend(query("BEGIN"))
    tunnel.attach(a_backend())
    tunnel.notify(NOTIFICATION)
    answered(tunnel, command_complete("BEGIN") + ready("T"))
    assert tunnel.pending_notifications == 1
    sent(tunnel, query("COMMIT"))
    done = command_complete("COMMIT")
    assert answered(tunnel, done + ready()) == done + NOTIFICATION + ready()


def test_notification_of_a_borrowed_backend_is_not_passed_on() -> None:
    tunnel = attached()
    sent(tunnel, query("SELECT 1"))
    assert answered(tunnel, command_complete("SELECT 1") + NOTIFICATION + ready()) == (
        command_complete("SELECT 1") + ready()
    )


def test_unlisten_and_rolled_back_listen_are_told() -> None:
    tunnel = attached()
    sent(tunnel, query("LISTEN jobs"))
    tunnel.listening([b"jobs"])
    answered(tunnel, command_complete("LISTEN") + ready())
    run(tunnel, "BEGIN", "BEGIN", status="T")
    sent(tunnel, query("LISTEN more"))
    tunnel.listening([b"more"])
    answered(tunnel, command_complete("LISTEN") + ready("T"))
    assert events(tunnel) == [Listen((b"jobs",)), Listen((b"more",))]
    run(tunnel, "ROLLBACK", "ROLLBACK")
    assert events(tunnel) == [Unlisten((b"more",))]
    run(tunnel, "UNLISTEN *", "UNLISTEN")
    assert events(tunnel) == [Unlisten((b"jobs",))]


def test_listen_in_a_text_that_fails_is_told_to_be_over() -> None:
    tunnel = attached()
    sent(tunnel, query("LISTEN jobs; SELECT 1/0"))
    tunnel.listening([b"jobs"])
    answered(tunnel, command_complete("LISTEN") + error("22012", "division by zero") + ready())
    assert events(tunnel) == [Listen((b"jobs",)), Unlisten((b"jobs",))]


def test_listen_pins_where_nobody_listens_for_others() -> None:
    tunnel = attached(a_tunnel(shares_listen=False))
    run(tunnel, "LISTEN jobs", "LISTEN")
    assert events(tunnel) == [Pinned(Pin.LISTEN)]
    assert answered(tunnel, NOTIFICATION) == NOTIFICATION


def test_program_for_whom_nobody_can_listen_listens_over_its_own_backend() -> None:
    tunnel = attached()
    assert sent(tunnel, query("LISTEN jobs")) == b""
    assert events(tunnel) == [Listen((b"jobs",))]
    tunnel.listen_alone()
    assert tunnel.to_backend() == query("LISTEN jobs")
    assert events(tunnel) == [Pinned(Pin.LISTEN)]
    answered(tunnel, command_complete("LISTEN") + ready())
    assert not tunnel.may_release
    assert answered(tunnel, NOTIFICATION) == NOTIFICATION


def test_program_of_more_channels_than_are_shared_hears_the_rest_itself_and_each_once() -> None:
    tunnel = attached(a_tunnel(max_message=100_000))
    sent(tunnel, query("LISTEN jobs"))
    tunnel.listening([b"jobs"])
    tunnel.to_backend()
    answered(tunnel, command_complete("LISTEN") + ready())
    many = query(";".join(f"LISTEN c{number}" for number in range(MAX_SHARED)))
    assert sent(tunnel, many) == many
    assert events(tunnel) == [Listen((b"jobs",)), Pinned(Pin.LISTEN)]
    answered(tunnel, command_complete("LISTEN") + ready())
    others = frame(b"A", b"\0\0\0\x07c1\0\0")
    assert answered(tunnel, NOTIFICATION + others) == others
