"""What is told of a request, whatever became of it."""

from collections.abc import Callable

from sqlhttp_gateway.errors import PostgresError, WaitTimeout
from sqlhttp_gateway.events import Answered, Audited, Bug, Event, Slow
from sqlhttp_gateway.model import Batch, Statement
from sqlhttp_gateway.reply import Reply
from sqlhttp_gateway.story import CLOSED_REQUEST, Story, Telling

TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PLAIN = Telling()
REPLY = Reply(200, (), "id", b"{}")


def told(prepare: Callable[[Story], object], *, telling: Telling = PLAIN, reply: Reply | None = REPLY) -> list[Event]:
    events: list[Event] = []
    story = Story(telling, traceparent=TRACEPARENT, bytes_in=7)
    prepare(story)
    story.tell(reply, telling, events.append)
    return events


def answered(prepare: Callable[[Story], object], *, reply: Reply | None = REPLY) -> Answered:
    [event] = told(prepare, reply=reply)
    assert isinstance(event, Answered)
    return event


def test_story_without_a_reply_is_that_of_a_program_that_left() -> None:
    event = answered(lambda story: None, reply=None)
    assert (event.status, event.outcome, event.bytes_out, event.statements) == (CLOSED_REQUEST, "cancelled", 0, 0)


def test_rows_of_all_results_are_told_together_and_statements_are_counted() -> None:
    def prepare(story: Story) -> None:
        story.asked = Batch((Statement("SELECT 1"), Statement("SELECT 2")))
        story.succeeded((3, 4))

    event = answered(prepare)
    assert (event.outcome, event.rows, event.statements, event.is_batch) == ("ok", 7, 2, True)
    assert (event.bytes_in, event.bytes_out) == (7, 2)


def test_refusal_is_told_with_its_class_and_kind_and_is_the_reply() -> None:
    story = Story(Telling(), traceparent=None, bytes_in=0)
    reply = story.refused(WaitTimeout("no connection within 5 s", retry_after=1))
    assert (reply.status, reply.request_id) == (503, story.request_id)
    assert (story.outcome, story.reason, story.sqlstate) == ("pool", "WaitTimeout", "53300")


def test_error_of_postgres_is_told_by_its_own_code() -> None:
    story = Story(Telling(), traceparent=None, bytes_in=0)
    story.refused(PostgresError({"C": "23505", "M": "duplicate key"}))
    assert story.sqlstate == "23505"


def test_error_is_answered_whole_and_told_in_as_much_as_a_line_of_a_log_may_have() -> None:
    story = Story(PLAIN, traceparent=None, bytes_in=0)
    reply = story.refused(PostgresError({"C": "P0001", "M": "x" * 1_000_000}))
    assert len(reply.body) > 1_000_000
    assert len(story.message) == 2000


def test_unforeseen_error_is_told_whole_and_answered_without_its_text() -> None:
    events: list[Event] = []
    story = Story(Telling(), traceparent=None, bytes_in=0)
    reply = story.broke(ValueError("the password is hunter2"), events.append)
    assert b"hunter2" not in reply.body
    assert story.request_id.encode() in reply.body
    [bug] = events
    assert isinstance(bug, Bug)
    assert "hunter2" in str(bug.error)


def test_request_is_slow_from_the_set_time_on_its_connection_on() -> None:
    def prepare(story: Story) -> None:
        story.asked = Statement("SELECT pg_sleep(2)")
        story.executed = 2.0

    for limit, slow in ((0.0, False), (2.0, True), (2.1, False)):
        events = told(prepare, telling=Telling(slow_statement=limit))
        assert any(isinstance(event, Slow) and event.texts == ("SELECT pg_sleep(2)",) for event in events) is slow


def test_audit_is_told_of_what_was_asked_and_only_when_wanted() -> None:
    def prepare(story: Story) -> None:
        story.asked, story.role = Statement("DELETE FROM t"), "app"
        story.succeeded((0,))

    assert not any(isinstance(event, Audited) for event in told(prepare))
    [audited] = [event for event in told(prepare, telling=Telling(audit=True)) if isinstance(event, Audited)]
    assert (audited.role, audited.texts, audited.rows) == ("app", ("DELETE FROM t",), (0,))
    assert not any(isinstance(event, Audited) for event in told(lambda story: None, telling=Telling(audit=True)))


def test_comment_names_a_sampled_trace_on_a_line_of_its_own() -> None:
    comment = Story(Telling(trace_comment=True), traceparent=TRACEPARENT, bytes_in=0).comment
    assert comment == f"\n/*traceparent='{TRACEPARENT.decode()}'*/"
    assert Story(Telling(), traceparent=TRACEPARENT, bytes_in=0).comment == ""
    unsampled = TRACEPARENT[:-2] + b"00"
    assert Story(Telling(trace_comment=True), traceparent=unsampled, bytes_in=0).comment == ""


def test_time_that_opening_a_connection_took_is_not_told_as_waiting() -> None:
    story = Story(Telling(), traceparent=None, bytes_in=0)
    story.waited, story.connected = 0.010, 0.004
    assert story.timing.startswith(b"queue;dur=6")
