"""A tunnel's life over borrowed backends, message by message."""

import pytest

from sqlhttp_gateway.errors import BadRequest, MessageTooLarge, RemoteProtocolError, WaitTimeout
from sqlhttp_gateway.pools.scrub import AHEAD
from sqlhttp_gateway.wire import requests
from sqlhttp_gateway.wire.effects import Pin
from sqlhttp_gateway.wire.pipeline import Pipeline, Residue
from sqlhttp_gateway.wire.prepared import Sources
from sqlhttp_gateway.wire.session import BackendSession
from sqlhttp_gateway.wire.tunnel_events import Failed, Pinned, Unpinned
from tests.support.postgres_model import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    COPY_DONE,
    COPY_IN,
    FLUSH,
    NO_DATA,
    NO_PARAMETERS,
    PARSE_COMPLETE,
    ROW_DESCRIPTION,
    SYNC,
    TERMINATE,
    bind,
    close,
    command_complete,
    copy_data,
    describe,
    error,
    execute,
    frame,
    function_call,
    parameter_status,
    parse,
    query,
    ready,
    row,
)
from tests.support.tunnel_pipeline import (
    LOOK,
    NAMED,
    SELECTED,
    a_backend,
    a_tunnel,
    answer_question,
    answered,
    attached,
    events,
    logged_in,
    named,
    prepare,
    run,
    sent,
)

# ── borrowing ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_backend_is_needed_at_the_first_message_and_may_go_after_the_last_ready_that_is_idle() -> None:
    tunnel = logged_in()
    assert not tunnel.needs_backend
    assert sent(tunnel, query("BEGIN")) == b""
    assert tunnel.needs_backend
    tunnel.attach(a_backend())
    assert tunnel.to_backend() == query("BEGIN")
    assert answered(tunnel, command_complete("BEGIN") + ready("T")) == command_complete("BEGIN") + ready("T")
    assert tunnel.in_transaction
    assert not tunnel.may_release
    assert sent(tunnel, query("COMMIT")) == query("COMMIT")
    assert answered(tunnel, command_complete("COMMIT") + ready()) == command_complete("COMMIT") + ready()
    assert tunnel.may_release
    assert tunnel.detach() is Residue.NOTHING


def test_backend_stays_until_every_ready_has_come() -> None:
    tunnel = attached()
    sent(tunnel, query("SELECT 1") + query("SELECT 2"))
    answered(tunnel, command_complete("SELECT 1") + ready())
    assert not tunnel.may_release
    answered(tunnel, command_complete("SELECT 1") + ready())
    assert tunnel.may_release


def test_backend_stays_while_a_batch_has_no_sync() -> None:
    tunnel = attached()
    sent(tunnel, parse("", "SELECT 1") + b"H\0\0\0\x04")
    answered(tunnel, PARSE_COMPLETE)
    assert not tunnel.is_busy
    assert not tunnel.may_release
    sent(tunnel, SYNC)
    answered(tunnel, ready())
    assert tunnel.may_release


def test_failed_transaction_keeps_the_backend() -> None:
    tunnel = attached()
    sent(tunnel, query("SELECT 1/0"))
    answered(tunnel, error("22012", "division by zero") + ready("E"))
    assert tunnel.in_transaction
    assert not tunnel.may_release


def test_whole_chunks_pass_without_being_copied() -> None:
    tunnel = attached()
    request = parse("", "SELECT 1") + bind("", "") + execute("") + SYNC
    tunnel.receive_frontend(request)
    assert tunnel.to_backend() is request
    answer = PARSE_COMPLETE + BIND_COMPLETE + row(b"1") * 100
    tunnel.receive_backend(answer)
    assert tunnel.to_frontend() is answer


def test_sync_and_stray_messages_without_a_backend_need_none() -> None:
    tunnel = logged_in()
    tunnel.receive_frontend(copy_data(b"late") + COPY_DONE + b"H\0\0\0\x04" + SYNC)
    assert not tunnel.needs_backend
    assert tunnel.to_frontend() == ready()


def test_declined_query_is_told_why_and_the_next_is_tried_again() -> None:
    tunnel = logged_in()
    tunnel.receive_frontend(query("SELECT 1"))
    tunnel.decline(WaitTimeout("no connection within 5 s"))
    assert tunnel.to_frontend() == error("53300", "no connection within 5 s") + ready()
    assert not tunnel.needs_backend
    tunnel.receive_frontend(query("SELECT 2"))
    tunnel.attach(a_backend())
    assert tunnel.to_backend() == query("SELECT 2")


def test_declined_batch_is_passed_over_up_to_its_sync() -> None:
    tunnel = logged_in()
    tunnel.receive_frontend(parse("", "SELECT 1") + bind("", ""))
    tunnel.decline(WaitTimeout("no"))
    assert tunnel.to_frontend() == error("53300", "no")
    tunnel.receive_frontend(execute("") + SYNC)
    assert tunnel.to_frontend() == ready()
    assert not tunnel.needs_backend


def fatal(code: str, message: str) -> bytes:
    return error(code, message).replace(b"ERROR", b"FATAL")


@pytest.mark.parametrize("text", ["BEGIN", "/* first */ start transaction", "SELECT 1; BEGIN", "SET ROLE careful"])
def test_declined_query_that_what_follows_may_count_on_is_the_end(text: str) -> None:
    """An INSERT behind a BEGIN that was not run would be a transaction of its own."""
    tunnel = logged_in()
    tunnel.receive_frontend(query(text) + query("INSERT INTO t VALUES (1)"))
    tunnel.decline(WaitTimeout("no"))
    assert tunnel.to_frontend() == fatal("53300", "no")
    assert tunnel.is_finished
    assert [type(event) for event in events(tunnel)] == [Failed]
    tunnel.receive_frontend(query("INSERT INTO t VALUES (2)"))
    assert not tunnel.needs_backend
    assert tunnel.to_frontend() == b""


@pytest.mark.parametrize("seen_before", [False, True])
def test_declined_batch_that_what_follows_may_count_on_is_the_end(seen_before: bool) -> None:
    tunnel = attached()
    if seen_before:
        sent(tunnel, parse("s", "BEGIN") + SYNC)
        answered(tunnel, NAMED + ready())
    tunnel.detach()
    begin = b"" if seen_before else parse("s", "BEGIN")
    tunnel.receive_frontend(bind("", "s") if seen_before else begin)
    tunnel.decline(WaitTimeout("no"))
    assert tunnel.to_frontend() == fatal("53300", "no")
    assert tunnel.is_finished


def test_batch_that_turns_out_to_begin_a_transaction_after_it_was_declined_is_the_end() -> None:
    tunnel = logged_in()
    tunnel.receive_frontend(parse("", "SELECT 1") + bind("", ""))
    tunnel.decline(WaitTimeout("no"))
    assert tunnel.to_frontend() == error("53300", "no")
    tunnel.receive_frontend(execute("") + parse("", "BEGIN") + bind("", "") + execute("") + SYNC)
    assert tunnel.to_frontend() == fatal("53300", "no")
    assert tunnel.is_finished


def test_goodbye_waits_for_what_was_sent_before_it() -> None:
    tunnel = attached()
    assert sent(tunnel, query("INSERT INTO t VALUES (1)") + TERMINATE + query("SELECT 1")) == query(
        "INSERT INTO t VALUES (1)"
    )
    assert tunnel.is_terminated
    assert not tunnel.is_finished
    answered(tunnel, command_complete("INSERT 0 1") + ready())
    assert tunnel.is_finished


def test_batch_without_its_sync_is_a_transaction() -> None:
    tunnel = attached()
    assert not tunnel.in_transaction
    sent(tunnel, parse("", "INSERT INTO t VALUES (1)") + bind("", "") + execute("") + FLUSH)
    answered(tunnel, PARSE_COMPLETE + BIND_COMPLETE + command_complete("INSERT 0 1"))
    assert not tunnel.is_busy, "Postgres waits for the program"
    assert tunnel.in_transaction
    sent(tunnel, SYNC)
    answered(tunnel, ready())
    assert not tunnel.in_transaction
    sent(tunnel, FLUSH)
    assert tunnel.may_release


def test_goodbye_in_the_middle_of_a_copy_waits_for_nothing() -> None:
    tunnel = attached()
    sent(tunnel, query("COPY t FROM STDIN"))
    answered(tunnel, COPY_IN)
    sent(tunnel, copy_data(b"1") + TERMINATE)
    assert tunnel.is_finished
    assert not tunnel.may_release


def test_goodbye_behind_a_whole_copy_waits_for_its_end() -> None:
    tunnel = attached()
    sent(tunnel, query("COPY t FROM STDIN"))
    answered(tunnel, COPY_IN)
    sent(tunnel, copy_data(b"1") + COPY_DONE + TERMINATE)
    assert not tunnel.is_finished
    answered(tunnel, command_complete("COPY 1") + ready())
    assert tunnel.is_finished


def test_copy_that_fails_before_it_reads_leaves_its_sync_to_be_answered() -> None:
    tunnel = attached()
    sent(tunnel, parse("", "COPY t FROM STDIN") + bind("", "") + execute("") + SYNC)
    refused = error("P0001", "no")
    answered(tunnel, PARSE_COMPLETE + BIND_COMPLETE + COPY_IN + refused)
    assert answered(tunnel, ready()) == ready()
    assert tunnel.may_release
    following = bind("", "") + execute("") + SYNC
    assert following in sent(tunnel, parse("", "SELECT 1") + following)


def test_goodbye_without_a_backend_is_at_once() -> None:
    tunnel = logged_in()
    tunnel.receive_frontend(TERMINATE)
    assert tunnel.is_finished
    tunnel.receive_frontend(query("SELECT 1"))
    assert not tunnel.needs_backend


# ── what is passed and what is not ───────────────────────────────────────────────────────────────────────────────────


def test_parameters_of_any_size_pass_as_they_come() -> None:
    tunnel = attached()
    sent(tunnel, parse("s", "SELECT $1"))
    message = bind("", "s", "x" * 100_000)
    head = sent(tunnel, message[:20])
    assert head[:1] == b"B"
    assert head.endswith(message[8:20])
    assert int.from_bytes(head[1:5]) == len(message) - 1 + len("sqlhttp_t1") - len("s")
    assert sent(tunnel, message[20:50_000]) == message[20:50_000]
    assert sent(tunnel, message[50_000:] + SYNC) == message[50_000:] + SYNC


def test_copy_data_of_any_size_passes_as_it_comes() -> None:
    tunnel = attached()
    sent(tunnel, query("COPY t FROM STDIN"))
    assert answered(tunnel, COPY_IN) == COPY_IN
    message = copy_data(b"x" * 100_000)
    assert sent(tunnel, message[:5]) == message[:5]
    assert sent(tunnel, message[5:] + COPY_DONE) == message[5:] + COPY_DONE
    answered(tunnel, command_complete("COPY 1") + ready())
    assert tunnel.may_release


@pytest.mark.parametrize("data", [query("x" * 5000), parse("name", "x" * 5000)])
@pytest.mark.parametrize("cut", [5, 9, 2000])
def test_statement_text_beyond_the_bound_passes_as_it_comes_where_it_is_not_read(data: bytes, cut: int) -> None:
    tunnel = attached(a_tunnel(pins=(Pin.SESSION,)), a_backend(size=0))
    first, rest = sent(tunnel, data[:cut]), sent(tunnel, data[cut:] + SYNC)
    assert first + rest == data + SYNC
    assert cut < 2000 or first == data[:cut]


def test_statement_text_beyond_the_bound_is_refused_but_what_came_before_it_is_sent() -> None:
    tunnel = attached()
    with pytest.raises(MessageTooLarge, match=r"a message of 1012 bytes is too large \(max is 1000 bytes\)"):
        tunnel.receive_frontend(query("SELECT 1") + query("x" * 1006))
    assert tunnel.to_backend() == query("SELECT 1")


@pytest.mark.parametrize(
    "data",
    [
        b"z\0\0\0\x04",
        b"Q\0\0\0\x03",
        b"B\0\x10\0\0" + b"x" * 9000,
    ],
)
def test_malformed_message_ends_the_tunnel(data: bytes) -> None:
    with pytest.raises(BadRequest):
        attached(a_tunnel(max_message=100_000)).receive_frontend(data)


@pytest.mark.parametrize(
    "data",
    [
        frame(b"P", b"no end"),
        frame(b"P", b"name\0no end"),
        frame(b"B", b"portal\0no end"),
        frame(b"D", b"S"),
        frame(b"D", b"Sno end"),
        frame(b"D", b"Ss\0more"),
        frame(b"D"),
        frame(b"C"),
        frame(b"C", b"Sno end"),
    ],
)
@pytest.mark.parametrize("pins", [(), (Pin.SESSION,)])
def test_message_without_its_names_is_left_to_the_server_to_refuse(data: bytes, pins: tuple[Pin, ...]) -> None:
    if pins:
        tunnel = attached(a_tunnel(pins=pins), a_backend(size=0))
        tunnel.receive_frontend(data + SYNC)
    else:
        tunnel = logged_in()
        tunnel.receive_frontend(data + SYNC)
        assert tunnel.needs_backend, "nobody else can say what is wrong with it"
        tunnel.attach(a_backend())
    assert tunnel.to_backend() == data + SYNC
    refusal = error("08P01", "invalid string in message") + ready()
    assert answered(tunnel, refusal) == refusal
    assert sent(tunnel, query("SELECT 1")) == query("SELECT 1"), "and goes on"


def test_malformed_message_behind_one_that_waited_for_a_backend_ends_the_tunnel_when_there_is_one() -> None:
    """Whoever brings the backend has done nothing wrong, and is told nothing."""
    tunnel = logged_in()
    tunnel.receive_frontend(query("SELECT 1") + b"\xff\0\0\0\x04")
    assert tunnel.needs_backend
    tunnel.attach(a_backend())
    assert tunnel.to_backend() == query("SELECT 1")
    [failed] = [event for event in events(tunnel) if isinstance(event, Failed)]
    assert isinstance(failed.error, BadRequest)
    assert b"invalid frontend message type 255" in tunnel.to_frontend()
    assert tunnel.is_terminated


# ── prepared statements ──────────────────────────────────────────────────────────────────────────────────────────────


def test_statement_has_a_name_of_ours_on_the_backend() -> None:
    tunnel = attached()
    assert sent(tunnel, parse("s", "SELECT 1") + describe("S", "s") + bind("p", "s") + execute("p") + SYNC) == (
        named("sqlhttp_t1", "SELECT 1") + describe("S", "sqlhttp_t1") + bind("p", "sqlhttp_t1") + execute("p") + SYNC
    )
    answer = LOOK + BIND_COMPLETE + row(b"1") + command_complete("SELECT 1") + ready()
    assert answered(tunnel, NAMED + answer) == PARSE_COMPLETE + answer


def test_other_backend_is_taught_the_statement_and_the_program_does_not_notice() -> None:
    tunnel = attached()
    prepare(tunnel, "s", "SELECT 1")
    for message, rewritten, answer in (
        (bind("", "s"), bind("", "sqlhttp_t1"), BIND_COMPLETE),
        (describe("S", "s"), describe("S", "sqlhttp_t1"), LOOK),
    ):
        tunnel.detach()
        tunnel.receive_frontend(message + SYNC)
        tunnel.attach(a_backend())
        assert tunnel.to_backend() == named("sqlhttp_t1", "SELECT 1") + FLUSH
        assert answered(tunnel, NAMED) == b""
        assert tunnel.to_backend() == rewritten + SYNC
        assert answered(tunnel, answer + ready()) == answer + ready()


def test_statement_that_has_become_another_is_refused_as_postgres_refuses_it() -> None:
    """The program would read the rows as what they no longer are."""
    tunnel = attached()
    prepare(tunnel, "s", "SELECT * FROM t")
    tunnel.detach()
    tunnel.receive_frontend(bind("", "s") + execute("") + SYNC)
    tunnel.attach(a_backend())
    tunnel.to_backend()
    answered(tunnel, PARSE_COMPLETE + NO_PARAMETERS + ROW_DESCRIPTION.replace(b"\x19", b"\x17"))
    assert tunnel.to_backend() == bind("", "sqlhttp__stale") + execute("") + SYNC
    told = answered(tunnel, error("26000", 'prepared statement "sqlhttp__stale" does not exist') + ready("E"))
    assert b"C0A000\0Mcached plan must not change result type\0" in told
    assert b"RRevalidateCachedQuery\0" in told
    assert told.endswith(ready("E"))


def test_statement_that_cannot_be_taught_fails_where_it_is_used() -> None:
    tunnel = attached()
    prepare(tunnel, "s", "SELECT * FROM t")
    tunnel.detach()
    tunnel.receive_frontend(bind("", "s") + execute("") + SYNC + query("SELECT 1"))
    tunnel.attach(a_backend())
    tunnel.to_backend()
    failure = error("42P01", 'relation "t" does not exist')
    assert answered(tunnel, failure) == failure
    assert tunnel.to_backend() == SYNC + query("SELECT 1")


def test_two_programs_with_the_same_name_never_meet() -> None:
    sources, backend = Sources(), a_backend()
    one, other = attached(a_tunnel(sources=sources), backend), a_tunnel(sources=sources)
    first = prepare(one, "s", "SELECT 1")
    one.detach()
    attached(other, backend)
    assert prepare(other, "s", "SELECT 2") != first


def test_backend_that_knows_the_text_is_not_taught_again() -> None:
    tunnel, backend = a_tunnel(), a_backend()
    attached(tunnel, backend)
    name = prepare(tunnel, "s", "SELECT 1").decode()
    tunnel.detach()
    tunnel.receive_frontend(bind("", "s") + execute("") + SYNC)
    tunnel.attach(backend)
    assert tunnel.to_backend() == bind("", name) + execute("") + SYNC


def test_what_is_prepared_now_never_meets_a_plan_from_before_the_table_changed() -> None:
    sources, backend = Sources(), a_backend()
    one, other = attached(a_tunnel(sources=sources), backend), a_tunnel(sources=sources)
    old = prepare(one, "s", "SELECT * FROM t").decode()
    one.detach()
    attached(other)
    sent(other, parse("s", "SELECT * FROM t") + SYNC)
    changed = ROW_DESCRIPTION.replace(b"\x19", b"\x17")
    answered(other, PARSE_COMPLETE + NO_PARAMETERS + changed + ready())
    other.detach()
    other.receive_frontend(bind("", "s") + SYNC)
    other.attach(backend)
    assert other.to_backend() == named("sqlhttp_t2", "SELECT * FROM t") + FLUSH
    answered(other, PARSE_COMPLETE + NO_PARAMETERS + changed)
    assert other.to_backend() == bind("", "sqlhttp_t2") + SYNC
    assert answered(other, BIND_COMPLETE + ready()) == BIND_COMPLETE + ready()
    other.detach()
    one.receive_frontend(bind("", "s") + SYNC)  # and who prepared it before the change is told so
    one.attach(backend)
    assert one.to_backend() == close("S", old) + bind("", "sqlhttp__stale") + SYNC


def test_statement_that_looks_the_same_everywhere_is_parsed_once_on_each_backend() -> None:
    sources, backends = Sources(), (a_backend(), a_backend())
    programs = [attached(a_tunnel(sources=sources), backend) for backend in backends]
    for program in programs:
        prepare(program, "s", "SELECT 1")
        program.detach()
    for program, backend in zip(programs, reversed(backends), strict=True):
        program.receive_frontend(bind("", "s") + SYNC)
        program.attach(backend)
        assert program.to_backend() == bind("", "sqlhttp_t1") + SYNC


def test_program_that_prepares_what_is_known_elsewhere_waits_for_no_backend() -> None:
    sources = Sources()
    other = attached(a_tunnel(sources=sources))
    prepare(other, "s", "SELECT 1")
    tunnel = logged_in(a_tunnel(sources=sources))
    tunnel.receive_frontend(parse("a", "SELECT 1") + SYNC)
    assert tunnel.to_frontend() == PARSE_COMPLETE + ready()
    assert not tunnel.needs_backend
    tunnel.receive_frontend(bind("", "a") + SYNC)
    tunnel.attach(a_backend())
    assert tunnel.to_backend() == named("sqlhttp_t1", "SELECT 1") + bind("", "sqlhttp_t1") + SYNC


def test_texts_of_prepared_statements_have_a_bound_and_those_that_are_gone_do_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They stay in memory that all programs share."""
    monkeypatch.setattr(requests, "MAX_STATEMENT_BYTES", 1000)
    tunnel = attached()
    for number in range(20):
        sent(tunnel, parse("", f"SELECT '{number:0300}'") + SYNC)
        sent(tunnel, parse(f"s{number}", f"SELECT '{number:0300}'") + frame(b"C", b"Ss%d\0" % number) + SYNC)
    sent(tunnel, parse("a", f"SELECT '{1:0300}'") + SYNC)
    sent(tunnel, parse("b", f"SELECT '{2:0300}'") + SYNC)
    with pytest.raises(BadRequest, match="prepared statements of more than 1000 bytes on one connection"):
        tunnel.receive_frontend(parse("c", f"SELECT '{3:0400}'"))


def test_statement_whose_parse_failed_can_be_parsed_anew() -> None:
    tunnel = attached()
    sent(tunnel, parse("s", "SELEC 1") + SYNC)
    failure = error("42601", "syntax error")
    assert answered(tunnel, failure + ready()) == failure + ready()
    assert sent(tunnel, parse("s", "SELECT 1") + SYNC) == (
        close("S", "sqlhttp_t1") + named("sqlhttp_t2", "SELECT 1") + SYNC
    )


def test_statement_that_was_passed_over_after_an_error_was_never_parsed() -> None:
    tunnel = attached()
    sent(tunnel, bind("", "missing") + parse("s", "SELECT 1") + SYNC)
    answered(tunnel, error("26000", "no such statement") + ready())
    assert bind("", "s") in sent(tunnel, bind("", "s") + SYNC)  # under its own name, which the backend does not know


def test_existing_name_is_refused_by_the_backend_itself() -> None:
    tunnel = attached()
    prepare(tunnel, "s", "SELECT 1")
    assert sent(tunnel, parse("s", "SELECT 2") + SYNC) == (
        close("S", "s") + parse("s", "") + parse("s", "SELECT 2") + SYNC
    )
    refusal = error("42P05", 'prepared statement "s" already exists')
    assert answered(tunnel, CLOSE_COMPLETE + PARSE_COMPLETE + refusal + ready()) == refusal + ready()


def test_close_is_answered_in_its_turn_and_the_backend_keeps_the_statement() -> None:
    tunnel = attached()
    prepare(tunnel, "s", "SELECT 1")
    frames = sent(tunnel, bind("", "s") + close("S", "s") + execute("") + SYNC)
    assert frames == bind("", "sqlhttp_t1") + execute("") + SYNC
    assert answered(tunnel, BIND_COMPLETE + row(b"1") + command_complete("SELECT 1") + ready()) == (
        BIND_COMPLETE + CLOSE_COMPLETE + row(b"1") + command_complete("SELECT 1") + ready()
    )
    assert sent(tunnel, parse("s", "SELECT 2"))[:5] == parse("sqlhttp_t2", "SELECT 2")[:5]


def test_close_without_a_backend_needs_none() -> None:
    tunnel = logged_in()
    tunnel.receive_frontend(close("S", "s") + SYNC)
    assert tunnel.to_frontend() == CLOSE_COMPLETE + ready()


def test_error_speaks_of_statements_by_the_programs_names() -> None:
    tunnel = attached()
    prepare(tunnel, "s", "SELECT $1")
    sent(tunnel, bind("", "s") + SYNC)
    message = 'bind message supplies 0 parameters, but prepared statement "{}" requires 1'
    assert answered(tunnel, error("08P01", message.format("sqlhttp_t1")) + ready()) == (
        error("08P01", message.format("s")) + ready()
    )


@pytest.mark.parametrize(
    "behind",
    [
        close("S", "s"),
        parse("", "DEALLOCATE s") + bind("", "") + execute(""),
        parse("", "DISCARD ALL") + bind("", "") + execute(""),
        parse("other", "SELECT $1"),
    ],
    ids=["Close", "DEALLOCATE", "DISCARD ALL", "the same text"],
)
def test_error_speaks_of_a_statement_by_its_name_though_more_was_sent_that_ends_it(behind: bytes) -> None:
    tunnel = attached()
    prepare(tunnel, "s", "SELECT $1")
    sent(tunnel, bind("", "s") + execute("") + behind + SYNC)
    message = 'bind message supplies 0 parameters, but prepared statement "{}" requires 1'
    assert answered(tunnel, error("08P01", message.format("sqlhttp_t1")) + ready()) == (
        error("08P01", message.format("s")) + ready()
    )


def test_name_that_looks_like_ours_reaches_nobody_elses_statement() -> None:
    tunnel = attached()
    prepare(tunnel, "s", "SELECT 1")
    frames = sent(tunnel, bind("", "sqlhttp_t1") + SYNC)
    assert frames == bind("", "sqlhttp__sqlhttp_t1") + SYNC
    refusal = 'prepared statement "{}" does not exist'
    assert answered(tunnel, error("26000", refusal.format("sqlhttp__sqlhttp_t1")) + ready()) == (
        error("26000", refusal.format("sqlhttp_t1")) + ready()
    )


def test_batch_that_overflows_the_backends_cache_works_all_the_same() -> None:
    tunnel = attached(backend=a_backend(size=1))
    frames = sent(tunnel, parse("a", "SELECT 1") + parse("b", "SELECT 2") + bind("", "a") + execute("") + SYNC)
    assert frames == (
        named("sqlhttp_t1", "SELECT 1")
        + named("sqlhttp_t2", "SELECT 2")
        + named("sqlhttp_t3", "SELECT 1")
        + bind("", "sqlhttp_t3")
        + execute("")
        + SYNC
    )
    done = BIND_COMPLETE + row(b"1") + command_complete("SELECT 1") + ready()
    assert answered(tunnel, NAMED * 3 + done) == PARSE_COMPLETE * 2 + done
    # Closed only now: a portal of that batch may have needed them.
    assert sent(tunnel, query("SELECT 1")).startswith(close("S", "sqlhttp_t1") + close("S", "sqlhttp_t2"))
    assert answered(tunnel, CLOSE_COMPLETE * 2 + command_complete("SELECT 1") + ready()) == (
        command_complete("SELECT 1") + ready()
    )


def test_upstream_that_keeps_no_statements_gets_the_text_each_time() -> None:
    tunnel = attached(backend=a_backend(size=0))
    assert sent(tunnel, parse("s", "SELECT 1") + bind("", "s") + SYNC) == parse("", "SELECT 1") + bind("", "") + SYNC
    answered(tunnel, PARSE_COMPLETE + BIND_COMPLETE + ready())
    tunnel.detach()
    tunnel.receive_frontend(bind("", "s") + SYNC)
    tunnel.attach(a_backend(size=0))
    assert tunnel.to_backend() == parse("", "SELECT 1") + bind("", "") + SYNC


def test_unnamed_statement_is_replayed_on_another_backend() -> None:
    """Some drivers Parse and Describe in one batch, and Bind in the next."""
    tunnel = attached()
    sent(tunnel, parse("", "SELECT 1") + describe("S", "") + SYNC)
    answered(tunnel, PARSE_COMPLETE + frame(b"t", b"\0\0") + NO_DATA + ready())
    assert tunnel.may_release
    tunnel.detach()
    tunnel.receive_frontend(bind("", "") + execute("") + SYNC)
    tunnel.attach(a_backend())
    assert tunnel.to_backend() == parse("", "SELECT 1") + bind("", "") + execute("") + SYNC
    assert answered(tunnel, SELECTED) == SELECTED.removeprefix(PARSE_COMPLETE)


def test_unnamed_statement_of_another_program_cannot_be_run() -> None:
    tunnel = logged_in()
    tunnel.receive_frontend(bind("", "") + SYNC)
    tunnel.attach(a_backend())
    assert tunnel.to_backend() == close("S", "") + bind("", "") + SYNC
    refusal = error("26000", "unnamed prepared statement does not exist") + ready()
    assert answered(tunnel, CLOSE_COMPLETE + refusal) == refusal


def test_simple_query_drops_the_unnamed_statement() -> None:
    tunnel = attached()
    sent(tunnel, parse("", "SELECT 1") + SYNC + query("SELECT 2"))
    answered(tunnel, PARSE_COMPLETE + ready() + command_complete("SELECT 1") + ready())
    assert sent(tunnel, bind("", "") + SYNC) == bind("", "") + SYNC  # and the backend says so


def test_deallocate_by_name_has_something_to_drop() -> None:
    tunnel = attached()
    prepare(tunnel, "s", "SELECT 1")
    assert sent(tunnel, query("DEALLOCATE s")) == close("S", "s") + parse("s", "") + query("DEALLOCATE s")
    done = command_complete("DEALLOCATE") + ready()
    assert answered(tunnel, CLOSE_COMPLETE + PARSE_COMPLETE + done) == done
    assert bind("", "s") in sent(tunnel, bind("", "s"))


def test_statement_prepared_behind_deallocate_all_in_one_chunk_is_kept() -> None:
    tunnel = attached()
    prepare(tunnel, "a", "SELECT 1")
    sent(tunnel, query("DEALLOCATE ALL") + parse("b", "SELECT 2") + SYNC)
    answered(tunnel, command_complete("DEALLOCATE ALL") + ready() + NAMED + ready())
    assert bind("", "sqlhttp_t2") in sent(tunnel, bind("", "b") + SYNC)
    answered(tunnel, CLOSE_COMPLETE + BIND_COMPLETE + ready())
    assert bind("", "a") in sent(tunnel, bind("", "a") + SYNC)


def test_deallocate_all_in_a_way_that_no_text_tells_is_seen_by_its_tag() -> None:
    tunnel = attached()
    prepare(tunnel, "s", "SELECT 1")
    sent(tunnel, query("SELECT f()"))
    answered(tunnel, command_complete("DEALLOCATE ALL") + ready())
    assert bind("", "s") in sent(tunnel, bind("", "s"))


def test_execute_in_sql_finds_what_was_made_by_parse() -> None:
    tunnel = attached()
    prepare(tunnel, "s", "SELECT 1")
    assert sent(tunnel, query("EXECUTE s")) == close("S", "s") + parse("s", "SELECT 1") + query("EXECUTE s")
    assert events(tunnel) == [Pinned(Pin.PREPARE)]


@pytest.mark.parametrize(
    "said",
    [
        b"SERROR\0C0A000\0Mcached plan must not change result type\0RRevalidateCachedQuery\0\0",
        b"SERROR\0VERROR\0CXX000\0Mcache lookup failed for type 16385\0Flsyscache.c\0RgetTypeInputInfo\0\0",
    ],
)
def test_changed_table_or_type_makes_every_statement_anew(said: bytes) -> None:
    tunnel = attached()
    prepare(tunnel, "s", "SELECT * FROM t")
    sent(tunnel, bind("", "s") + SYNC)
    stale = frame(b"E", said)
    assert answered(tunnel, stale + ready()) == stale + ready()
    assert sent(tunnel, bind("", "s") + SYNC) == (
        close("S", "sqlhttp_t1") + named("sqlhttp_t2", "SELECT * FROM t") + FLUSH
    )


def test_statement_in_doubt_waits_for_its_batch() -> None:
    """Sent before the first batch is answered, and what the name means depends on that answer."""
    tunnel = attached()
    assert sent(tunnel, parse("s", "SELEC 1") + SYNC + parse("s", "SELECT 1") + SYNC) == (
        named("sqlhttp_t1", "SELEC 1") + SYNC
    )
    answered(tunnel, error("42601", "syntax error") + ready())
    assert tunnel.to_backend() == close("S", "sqlhttp_t1") + named("sqlhttp_t2", "SELECT 1") + SYNC


# ── pins ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_temporary_table_pins_until_it_is_dropped() -> None:
    tunnel = attached()
    assert b"pg_my_temp_schema" in run(tunnel, "CREATE TEMP TABLE t (a int)", "CREATE TABLE")
    answer_question(tunnel, b"t")
    assert events(tunnel) == [Pinned(Pin.TEMPORARY)]
    assert not tunnel.may_release
    assert b"pg_my_temp_schema" in run(tunnel, "DROP TABLE t", "DROP TABLE")
    answer_question(tunnel, b"f")
    assert events(tunnel) == [Unpinned(Pin.TEMPORARY)]
    assert tunnel.may_release


def test_temporary_table_that_its_commit_drops_does_not_pin() -> None:
    tunnel = attached()
    run(tunnel, "CREATE TEMP TABLE t (a int) ON COMMIT DROP", "CREATE TABLE", status="T")
    assert run(tunnel, "COMMIT", "COMMIT") != b""
    answer_question(tunnel, b"f")
    assert events(tunnel) == []
    assert tunnel.may_release


def test_library_stays_loaded_for_the_connections_life() -> None:
    tunnel = attached()
    assert run(tunnel, "LOAD 'x'", "LOAD") == b""
    assert events(tunnel) == [Pinned(Pin.LOAD)]
    assert tunnel.detach() is Residue.LIBRARY


def test_tunnel_that_was_pinned_leaves_more_than_the_light_scrub_undoes() -> None:
    tunnel = attached()
    run(tunnel, "PREPARE p AS SELECT 1", "PREPARE")
    answer_question(tunnel, b"t")
    assert tunnel.detach() is Residue.STATEMENTS


def test_value_of_a_sequence_from_an_earlier_statement_pins() -> None:
    tunnel = attached()
    run(tunnel, "SELECT lastval()", "SELECT 1")
    assert events(tunnel) == [Pinned(Pin.SEQUENCE)]


def test_value_of_a_sequence_within_its_transaction_does_not_pin() -> None:
    tunnel = attached()
    run(tunnel, "BEGIN", "BEGIN", status="T")
    run(tunnel, "SELECT lastval()", "SELECT 1", status="T")
    assert events(tunnel) == []


def test_question_without_an_answer_pins() -> None:
    tunnel = attached()
    run(tunnel, "SET a.b = 1", "SET")
    assert answered(tunnel, error("42501", "permission denied") + ready()) == b""
    assert events(tunnel) == [Pinned(Pin.UNSURE)]


def test_session_mode_passes_everything_as_it_is_and_keeps_the_backend() -> None:
    tunnel = attached(a_tunnel(pins=(Pin.SESSION,)), a_backend(size=0))
    everything = parse("s", "SET a.b = 1") + bind("", "s") + execute("") + close("S", "s") + SYNC + query("LISTEN x")
    assert sent(tunnel, everything) == everything
    answer = PARSE_COMPLETE + BIND_COMPLETE + command_complete("SET") + CLOSE_COMPLETE + ready()
    assert answered(tunnel, answer) == answer
    notification = frame(b"A", b"\0\0\0\x07x\0\0")
    assert answered(tunnel, command_complete("LISTEN") + ready() + notification).endswith(notification)
    assert not tunnel.may_release
    assert events(tunnel) == []
    assert tunnel.detach() is Residue.STATEMENTS


def test_session_mode_does_not_begin_with_the_unnamed_statement_of_somebody_else() -> None:
    tunnel = attached(a_tunnel(pins=(Pin.SESSION,)))
    assert sent(tunnel, bind("", "") + SYNC) == close("S", "") + bind("", "") + SYNC
    refusal = error("26000", "unnamed prepared statement does not exist") + ready()
    assert answered(tunnel, CLOSE_COMPLETE + refusal) == refusal
    assert sent(tunnel, bind("", "") + SYNC) == bind("", "") + SYNC


# ── a backend that is not clean ──────────────────────────────────────────────────────────────────────────────────────


GOES_AHEAD = AHEAD.scrub + AHEAD.commit


CLEAN = AHEAD.scrubbed + AHEAD.committed


REFUSED = CLEAN[:27] + error("57014", "canceling statement due to user request")


ASKED = parse("", "SELECT 1") + bind("", "") + execute("")


def unclean(tunnel: Pipeline | None = None, *, first: bytes, backend: BackendSession | None = None) -> Pipeline:
    """A tunnel that has sent its first messages to a backend which is not known to be clean."""
    tunnel = tunnel or logged_in()
    tunnel.receive_frontend(first)
    assert tunnel.needs_backend
    tunnel.attach(backend or a_backend(), ahead=AHEAD)
    assert tunnel.is_cleansing
    assert not tunnel.may_release
    return tunnel


def test_first_messages_travel_behind_what_makes_the_backend_clean() -> None:
    tunnel = unclean(first=ASKED + SYNC)
    assert tunnel.to_backend() == GOES_AHEAD + ASKED + SYNC
    assert answered(tunnel, CLEAN + SELECTED) == SELECTED
    assert tunnel.may_release


@pytest.mark.parametrize("step", [1, 5, 100])
def test_answer_may_come_in_pieces_and_the_program_sees_its_own_part_only(step: int) -> None:
    tunnel = unclean(first=ASKED + SYNC)
    data = CLEAN + SELECTED
    told = b"".join(answered(tunnel, data[at : at + step]) for at in range(0, len(data), step))
    assert told == SELECTED
    assert tunnel.may_release


def test_prepared_statement_is_bound_in_that_write_too() -> None:
    backend, tunnel = a_backend(), logged_in()
    tunnel.receive_frontend(parse("s", "SELECT 1") + bind("", "s") + execute("") + SYNC)
    tunnel.attach(backend)
    [name] = [entry.name for entry in backend.statements._entries.values()]
    answered(tunnel, NAMED + BIND_COMPLETE + row(b"1") + command_complete("SELECT 1") + ready())
    tunnel.to_backend()
    tunnel.detach()
    unclean(tunnel, first=bind("", "s") + execute("") + SYNC, backend=backend)
    assert tunnel.to_backend() == GOES_AHEAD + bind("", name.decode()) + execute("") + SYNC
    done = BIND_COMPLETE + row(b"1") + command_complete("SELECT 1") + ready()
    assert answered(tunnel, CLEAN + done) == done
    assert tunnel.may_release


@pytest.mark.parametrize("closing", [SYNC, query("SELECT 2"), function_call()])
def test_nothing_follows_the_first_message_that_ends_a_batch_before_the_backend_is_known_to_be_clean(
    closing: bytes,
) -> None:
    """Behind a Sync Postgres would go on, clean or not."""
    tunnel = unclean(first=ASKED + closing + query("SELECT 4"))
    assert tunnel.to_backend() == GOES_AHEAD + ASKED + closing
    assert sent(tunnel, query("SELECT 3")) == b""
    answered(tunnel, CLEAN)
    assert tunnel.to_backend() == query("SELECT 4") + query("SELECT 3")


def test_batch_that_is_not_ended_is_flushed_so_that_somebody_answers() -> None:
    tunnel = unclean(first=ASKED + bind("", "")[:7])
    assert tunnel.to_backend() == GOES_AHEAD + ASKED + FLUSH
    assert sent(tunnel, bind("", "")[7:]) == b""
    assert answered(tunnel, CLEAN + PARSE_COMPLETE) == PARSE_COMPLETE
    assert tunnel.to_backend() == bind("", "")


def test_backend_without_a_whole_message_to_send_is_made_clean_alone() -> None:
    tunnel = logged_in()
    tunnel.receive_frontend(query("SELECT 1")[:9])
    tunnel.attach(a_backend(), ahead=AHEAD)
    assert tunnel.to_backend() == GOES_AHEAD + SYNC
    assert answered(tunnel, CLEAN + ready()) == b""
    tunnel.receive_frontend(query("SELECT 1")[9:])
    assert tunnel.to_backend() == query("SELECT 1")


def test_parameters_that_the_backend_has_to_be_taught_to_set_come_behind_by_themselves() -> None:
    tunnel = logged_in(a_tunnel(), a_backend())
    tunnel.receive_frontend(query("SET TimeZone = 'Asia/Tokyo'"))
    tunnel.attach(a_backend())
    zone = parameter_status("TimeZone", "Asia/Tokyo")
    answered(tunnel, command_complete("SET") + zone + ready())
    answered(tunnel, PARSE_COMPLETE + BIND_COMPLETE + row(b"Asia/Tokyo") + command_complete("SELECT 1") + ready())
    tunnel.to_backend()
    tunnel.detach()
    backend = a_backend()
    unclean(tunnel, first=query("SELECT 1"), backend=backend)
    data = tunnel.to_backend()
    assert data.startswith(GOES_AHEAD + b"P")
    assert data.endswith(SYNC)
    answered(tunnel, CLEAN + PARSE_COMPLETE + BIND_COMPLETE + row(b"Asia/Tokyo"))
    assert tunnel.to_backend() == query("SELECT 1")
    assert answered(tunnel, command_complete("SELECT 1") + ready()) == b""
    assert answered(tunnel, command_complete("SELECT 1") + ready()) == command_complete("SELECT 1") + ready()
    tunnel.detach()
    # Now the backend knows how.
    unclean(tunnel, first=query("SELECT 1"), backend=backend)
    data = tunnel.to_backend()
    assert data.startswith(AHEAD.scrub + b"B")
    assert data.endswith(AHEAD.commit + query("SELECT 1"))
    zone_set = BIND_COMPLETE + row(b"Asia/Tokyo") + command_complete("SELECT 1")
    done = command_complete("SELECT 1") + ready()
    assert answered(tunnel, AHEAD.scrubbed + zone_set + AHEAD.committed + done) == done


@pytest.mark.parametrize("first", [ASKED + SYNC, query("SELECT 1"), ASKED, function_call()])
def test_backend_that_cannot_be_made_clean_has_done_nothing_and_the_next_gets_it_all(first: bytes) -> None:
    tunnel = unclean(first=first)
    tunnel.to_backend()
    assert answered(tunnel, REFUSED) == b""
    assert tunnel.has_failed_ahead
    assert tunnel.to_backend() == (b"" if first.endswith(SYNC) else SYNC)  # or it would wait for one for ever
    assert answered(tunnel, ready()) == b""
    assert tunnel.is_refused
    assert tunnel.is_busy
    tunnel.detach()
    assert not tunnel.is_refused
    tunnel.attach(a_backend())
    assert tunnel.to_backend() == first


def test_what_was_assumed_of_messages_in_vain_is_taken_back_and_nothing_is_told_twice() -> None:
    tunnel, backend = logged_in(), a_backend()
    first = close("S", "s") + parse("s", "SELECT 1") + bind("", "s") + execute("") + SYNC
    tunnel.receive_frontend(close("S", "s"))
    assert tunnel.to_frontend() == CLOSE_COMPLETE  # without a backend
    tunnel.receive_frontend(first[len(close("S", "s")) :])
    tunnel.attach(backend, ahead=AHEAD)
    tunnel.to_backend()
    answered(tunnel, REFUSED + ready())
    tunnel.detach()
    backend.statements.forget()
    tunnel.attach(backend)
    data = tunnel.to_backend()
    assert data.count(b"SELECT 1\0") == 1
    done = PARSE_COMPLETE + BIND_COMPLETE + row(b"1") + command_complete("SELECT 1") + ready()
    assert answered(tunnel, NAMED + done[len(PARSE_COMPLETE) :]) == done
    assert tunnel.may_release


def test_close_among_the_first_messages_is_answered_once_and_in_its_turn() -> None:
    tunnel = unclean(first=ASKED + close("S", "s") + SYNC)
    assert tunnel.to_frontend() == b""
    answered(tunnel, REFUSED + ready())
    tunnel.detach()
    tunnel.attach(a_backend())
    told = answered(tunnel, SELECTED.replace(ready(), CLOSE_COMPLETE + ready()))
    assert told.count(CLOSE_COMPLETE) == 1


def test_answer_that_nobody_asked_for_in_front_of_the_programs_ends_the_tunnel() -> None:
    tunnel = unclean(first=ASKED + SYNC)
    with pytest.raises(RemoteProtocolError):
        tunnel.receive_backend(ready())


def test_malformed_message_behind_what_goes_ahead_ends_the_tunnel() -> None:
    tunnel = logged_in()
    tunnel.receive_frontend(query("SELECT 1"))
    tunnel.attach(a_backend(), ahead=AHEAD)
    tunnel.receive_frontend(b"?\0\0\0\x04")
    answered(tunnel, CLEAN)
    [failed] = events(tunnel)
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, BadRequest)


def test_who_keeps_a_backend_or_is_fenced_takes_only_clean_ones() -> None:
    assert logged_in().takes_unclean
    assert not a_tunnel(pins=(Pin.SESSION,)).takes_unclean
    assert not Pipeline({}, Sources(), is_fenced=True).takes_unclean
