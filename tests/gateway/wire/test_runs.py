"""Exchanges that are recognised whole go the same way as those that are taken apart."""

from itertools import product

import pytest

from sqlhttp_gateway.wire.pipeline import Pipeline
from sqlhttp_gateway.wire.prepared import Sources
from sqlhttp_gateway.wire.requests import Requests
from sqlhttp_gateway.wire.runs import BEHIND_BIND, tags_of
from sqlhttp_gateway.wire.session import BackendSession
from tests.support.postgres_model import (
    BIND_COMPLETE,
    NO_DATA,
    NO_PARAMETERS,
    PARSE_COMPLETE,
    ROW_DESCRIPTION,
    SYNC,
    bind,
    close,
    command_complete,
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

RUN = bind("", "s") + describe("P", "") + execute("") + SYNC
SHORT = bind("", "s") + execute("") + SYNC
NOTICE = frame(b"N", b"SNOTICE\0Mhello\0\0")
NOTIFICATION = frame(b"A", b"\0\0\0\x01talk\0hello\0")
DONE = BIND_COMPLETE + ROW_DESCRIPTION + row(b"1") + row(b"2") + command_complete("SELECT 2") + ready()


def a_backend() -> BackendSession:
    return BackendSession({"client_encoding": "UTF8"}, statement_cache_size=10)


def prepared(text: str = "select a", *, backend: BackendSession | None = None) -> Pipeline:
    """A program with the statement `s` on the backend that it has."""
    pipeline = Pipeline({}, Sources())
    pipeline.attach(backend or a_backend())
    pipeline.receive_frontend(parse("s", text) + SYNC)
    pipeline.receive_backend(PARSE_COMPLETE + NO_PARAMETERS + ROW_DESCRIPTION + ready())
    pipeline.to_backend()
    pipeline.to_frontend()
    return pipeline


@pytest.fixture
def recognised(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The data that was recognised whole."""
    seen: list[bytes] = []
    pass_whole = Requests._pass_whole

    def watched(self: Requests, data: bytes) -> bool:
        did = pass_whole(self, data)
        if did:
            seen.append(data)
        return did

    monkeypatch.setattr(Requests, "_pass_whole", watched)
    return seen


def exchange(pipeline: Pipeline, sent: bytes, answer: bytes, *, cut: int = 0) -> tuple[bytes, bytes, bool, bool]:
    """What the backend and the program got, and what state that left."""
    for part in (sent[:cut], sent[cut:]):
        pipeline.receive_frontend(part)
    to_backend = pipeline.to_backend()
    pipeline.receive_backend(answer)
    return to_backend, pipeline.to_frontend(), pipeline.in_transaction, pipeline.may_release


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (RUN, DONE),
        (SHORT, DONE.replace(ROW_DESCRIPTION, b"")),
        (RUN, BIND_COMPLETE + ROW_DESCRIPTION + error("22012", "division by zero") + ready()),
        (RUN, error("26000", "no") + ready()),
        (RUN, BIND_COMPLETE + NOTICE + DONE.removeprefix(BIND_COMPLETE)),
        (RUN, BIND_COMPLETE + parameter_status("TimeZone", "GMT") + DONE.removeprefix(BIND_COMPLETE)),
        (RUN, DONE.replace(command_complete("SELECT 2"), command_complete("COMMIT"))),
        (RUN, DONE.replace(ready(), ready("T"))),
        (RUN, DONE.replace(ready(), ready("E"))),
    ],
)
def test_whole_or_in_parts_it_is_the_same(sent: bytes, answer: bytes, recognised: list[bytes]) -> None:
    whole = exchange(prepared(), sent, answer)
    assert recognised == [sent]
    assert exchange(prepared(), sent, answer, cut=9) == whole
    assert recognised == [sent]


@pytest.mark.parametrize("cut", range(1, len(DONE)))
def test_answer_may_come_in_parts(cut: int, recognised: list[bytes]) -> None:
    pipeline = prepared()
    pipeline.receive_frontend(RUN)
    pipeline.receive_backend(DONE[:cut])
    assert not pipeline.may_release
    pipeline.receive_backend(DONE[cut:])
    assert (pipeline.to_frontend(), pipeline.may_release) == (DONE, True)
    assert recognised == [RUN]


@pytest.mark.parametrize(
    "sent",
    [
        RUN + RUN,
        RUN[:-1],
        bind("p", "s") + describe("P", "p") + execute("p") + SYNC,
        bind("", "") + describe("P", "") + execute("") + SYNC,
        bind("", "other") + describe("P", "") + execute("") + SYNC,
        bind("", "s") + execute("", 1) + SYNC,
        close("S", "s") + RUN,
    ],
)
def test_what_is_anything_else_goes_the_long_way(sent: bytes, recognised: list[bytes]) -> None:
    prepared().receive_frontend(sent)
    assert recognised == []


def test_second_run_ahead_of_the_first_answer_goes_the_long_way(recognised: list[bytes]) -> None:
    """What the first one does is not known yet."""
    pipeline = prepared()
    pipeline.receive_frontend(RUN)
    pipeline.receive_frontend(RUN)
    assert recognised == [RUN]
    pipeline.receive_backend(DONE + DONE)
    assert (pipeline.to_frontend(), pipeline.may_release) == (DONE + DONE, True)


def test_statement_that_does_something_to_the_session_goes_the_long_way(recognised: list[bytes]) -> None:
    prepared("set a to 1").receive_frontend(RUN)
    assert recognised == []


def test_statement_that_the_backend_does_not_know_goes_the_long_way(recognised: list[bytes]) -> None:
    pipeline = prepared()
    pipeline.detach()
    pipeline.attach(BackendSession({"client_encoding": "UTF8"}, statement_cache_size=10))
    pipeline.receive_frontend(RUN)
    assert recognised == []
    assert pipeline.to_backend().startswith(b"P")


def test_notification_stands_in_front_of_ready_for_query() -> None:
    pipeline = prepared()
    pipeline.receive_frontend(RUN)
    pipeline.notify(NOTIFICATION)
    pipeline.receive_backend(DONE)
    assert pipeline.to_frontend() == DONE.removesuffix(ready()) + NOTIFICATION + ready()


def test_answer_is_what_stands_behind_the_bind_and_nothing_else() -> None:
    """Of all short orders of tags, only those that Postgres gives where nothing goes wrong."""
    [with_rows] = [run.answers for behind, run in BEHIND_BIND.items() if behind.startswith(b"D")]
    fitting = {
        tags for tags in map(bytes, product(b"12TnDCIsEZNSA", repeat=4)) if with_rows.fullmatch(tags)
    }  # four is the least: Bind, Describe, Execute, Sync
    assert fitting == {b"2%b%bZ" % (described, ended) for described in (b"T", b"n") for ended in (b"C", b"I", b"s")}


def test_tags_of_whole_messages() -> None:
    assert tags_of(DONE) == b"2TDDCZ"
    assert tags_of(b"") == b""


@pytest.mark.parametrize("data", [DONE[:-1], DONE + b"Z", b"Z\0\0\0\3", b"D\xff\xff\xff\xff"])
def test_what_is_no_whole_messages_has_no_tags(data: bytes) -> None:
    assert tags_of(data) is None


@pytest.mark.parametrize("tag", ["COMMIT", "ROLLBACK", "DEALLOCATE ALL", "DISCARD ALL"])
def test_command_that_somebody_has_to_be_told_of_is_looked_at(tag: str) -> None:
    assert tags_of(command_complete(tag)) is None


def test_question_is_recognised_again_when_the_transaction_of_a_portal_with_effects_is_over(
    recognised: list[bytes],
) -> None:
    pipeline = prepared()
    changes = parse("x", "SET a.b = 1") + bind("p", "x") + execute("p") + SYNC
    done = PARSE_COMPLETE + NO_PARAMETERS + NO_DATA + BIND_COMPLETE + command_complete("SET") + ready()
    exchange(pipeline, changes, done)
    pipeline.receive_backend(PARSE_COMPLETE + BIND_COMPLETE + row(b"1") + command_complete("SELECT 1") + ready())
    assert pipeline.may_release
    exchange(pipeline, RUN, DONE)
    assert recognised == [RUN]


def test_backend_that_ran_only_what_it_knew_has_parsed_nothing() -> None:
    """So that its scrub need not look for what an unseen text may have left."""
    backend = a_backend()
    pipeline = prepared(backend=backend)
    assert pipeline.has_parsed
    pipeline.detach()
    pipeline.attach(backend)
    exchange(pipeline, RUN, DONE)
    exchange(pipeline, RUN, DONE, cut=9)
    assert not pipeline.has_parsed


@pytest.mark.parametrize(
    "sent",
    [query("select a"), parse("", "select a") + SYNC, parse("new", "select b") + SYNC, function_call()],
    ids=["simple", "unnamed", "named", "function"],
)
def test_backend_that_was_given_a_text_has_parsed(sent: bytes) -> None:
    pipeline = prepared()
    pipeline.detach()
    pipeline.attach(BackendSession({"client_encoding": "UTF8"}, statement_cache_size=10))
    assert not pipeline.has_parsed
    pipeline.receive_frontend(sent)
    assert pipeline.has_parsed


def test_backend_that_is_taught_a_statement_has_parsed() -> None:
    pipeline = prepared()
    pipeline.detach()
    pipeline.attach(BackendSession({"client_encoding": "UTF8"}, statement_cache_size=10))
    pipeline.receive_frontend(RUN)
    assert pipeline.has_parsed
