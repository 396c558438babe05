"""A backend that comes unclean is proven clean, or what was sent to it is there to be sent again."""

import pytest

from sqlhttp_gateway.errors import RemoteProtocolError
from sqlhttp_gateway.pools.scrub import AHEAD
from sqlhttp_gateway.wire.ahead import row
from sqlhttp_gateway.wire.cutting import Cutter, Edit, Wait
from sqlhttp_gateway.wire.naming import Naming
from sqlhttp_gateway.wire.owed import QUERY, Entry, Kind, Owed
from sqlhttp_gateway.wire.own_statements import OwnStatements
from sqlhttp_gateway.wire.prepared import Sources
from sqlhttp_gateway.wire.session import BackendSession, Session
from sqlhttp_gateway.wire.unproven import Unproven
from tests.support.postgres_model import BIND_COMPLETE, SYNC, command_complete, error, parameter_status, query, ready

ZONE = (("timezone", b"asia/tokyo"),)
ZONE_SET = BIND_COMPLETE + row([b"Asia/Tokyo"]) + command_complete("SELECT 1")
FIRST, SECOND = query("SELECT 1"), query("SELECT 2")


class Passing(Cutter):
    """Passes queries as they are."""

    def _edit(self, tag: int, data: bytes, position: int, following: int) -> Edit | Wait:
        self._owed.add(QUERY)
        return None

    def _pass_whole(self, data: bytes) -> bool:
        return False

    def _sweep(self) -> bytes:
        return b""


class Coming:
    """A backend that comes, and a program that has sent two queries."""

    def __init__(self, *, knows_parameters: bool = False, sends: bytes = FIRST + SECOND) -> None:
        self.owed, self.out, self.replies = Owed(), list[bytes](), list[bytes]()
        self.statuses: list[bytes] = []
        self.session = Session({"timezone": "asia/tokyo"})
        names, sources = Naming(Sources(), self.session, self.owed), Sources()
        names.attach(BackendSession({}, statement_cache_size=10))
        self.own = OwnStatements(waiting=self.owed, names=names, sources=sources, to_backend=self.out)
        if knows_parameters:
            self.own.set_parameters(ZONE, lambda values: None)
            self.owed.clear()
            self.out.clear()
        self.requests = Passing(waiting=self.owed, to_backend=self.out, max_message=1000)
        self.requests.receive(sends)
        self.unproven = Unproven(
            waiting=self.owed,
            requests=self.requests,
            own=self.own,
            session=self.session,
            to_backend=self.out,
            to_frontend=self.replies,
            on_status=self.statuses.append,
        )

    @property
    def sent(self) -> bytes:
        data = b"".join(self.out)
        self.out.clear()
        return data


def test_first_query_goes_along_and_the_rest_waits_for_the_proof() -> None:
    coming = Coming()
    assert coming.unproven.begin(AHEAD, (), is_greeted=True) == ()
    coming.unproven.send_first()
    assert coming.sent == AHEAD.scrub + AHEAD.commit + FIRST
    answer = command_complete("SELECT 1") + ready()
    assert coming.unproven.receive(AHEAD.scrubbed + AHEAD.committed + answer) == answer
    assert (coming.unproven.cleansing, coming.unproven.is_refused) == (None, False)
    assert len(coming.owed) == 1
    coming.requests.is_held = False
    coming.requests.advance()
    assert coming.sent == SECOND


def test_parameters_that_the_backend_has_been_taught_are_set_with_it_as_postgres_writes_them() -> None:
    coming = Coming(knows_parameters=True)
    settings = coming.own.settings(ZONE)
    assert settings is not None
    assert coming.unproven.begin(AHEAD, ZONE, is_greeted=True) == ()
    assert coming.sent == AHEAD.scrub + settings[0].frames + AHEAD.commit
    coming.unproven.send_first()
    assert coming.unproven.receive(AHEAD.scrubbed + ZONE_SET + AHEAD.committed) == b""
    assert coming.session.parameters == {"timezone": b"Asia/Tokyo"}


@pytest.mark.parametrize(("knows_parameters", "is_greeted"), [(False, True), (True, False)])
def test_others_have_still_to_be_set(knows_parameters: bool, is_greeted: bool) -> None:
    coming = Coming(knows_parameters=knows_parameters)
    assert coming.unproven.begin(AHEAD, ZONE, is_greeted=is_greeted) == ZONE
    assert coming.sent == AHEAD.scrub + AHEAD.commit
    assert len(coming.owed) == 1


def test_refusal_leaves_everything_to_be_sent_again() -> None:
    coming = Coming()
    coming.unproven.begin(AHEAD, (), is_greeted=True)
    coming.unproven.send_first()
    assert coming.sent.endswith(FIRST)
    assert coming.unproven.receive(error("55000", "not now")) == b""
    assert coming.unproven.has_failed
    assert coming.sent == SYNC
    assert coming.unproven.receive(ready()) == b""
    assert coming.unproven.is_refused
    assert not coming.owed
    assert coming.unproven.detach()
    assert not coming.unproven.detach()
    coming.requests.is_held = False
    coming.requests.advance()
    assert coming.sent == FIRST + SECOND


def test_where_nothing_goes_along_postgres_is_asked_to_answer_and_once() -> None:
    coming = Coming(sends=b"")
    coming.unproven.begin(AHEAD, (), is_greeted=True)
    coming.unproven.send_first()
    assert coming.sent == AHEAD.scrub + AHEAD.commit + SYNC
    assert coming.unproven.receive(error("55000", "not now")) == b""
    assert coming.sent == b"", "the Sync that is there brings the answer"
    coming.unproven.receive(ready())
    assert coming.unproven.is_refused


def test_what_was_done_is_not_sent_again_when_a_later_backend_refuses() -> None:
    coming = Coming()
    coming.unproven.begin(AHEAD, (), is_greeted=True)
    coming.unproven.send_first()
    coming.unproven.receive(AHEAD.scrubbed + AHEAD.committed + command_complete("SELECT 1") + ready())
    coming.unproven.detach()
    assert coming.sent.endswith(FIRST)
    coming.unproven.refuse()
    coming.requests.is_held = False
    coming.requests.advance()
    assert coming.sent == SECOND


def test_what_the_gateway_says_itself_comes_once_the_backend_is_clean() -> None:
    coming = Coming(sends=b"")
    coming.unproven.begin(AHEAD, ZONE, is_greeted=True)
    coming.owed.add(Entry(Kind.LOCAL, reply=BIND_COMPLETE))
    coming.owed.add(QUERY)
    coming.unproven.receive(AHEAD.scrubbed + AHEAD.committed)
    assert coming.replies == [BIND_COMPLETE]
    assert coming.owed.first is QUERY


def test_parameter_that_the_cleaning_changes_is_told() -> None:
    coming = Coming()
    coming.unproven.begin(AHEAD, (), is_greeted=True)
    coming.unproven.send_first()
    status = parameter_status("TimeZone", "UTC")
    coming.unproven.receive(status + AHEAD.scrubbed + AHEAD.committed)
    assert coming.statuses == [status]


def test_other_values_than_were_set_are_no_answer() -> None:
    coming = Coming(knows_parameters=True)
    coming.unproven.begin(AHEAD, ZONE, is_greeted=True)
    coming.unproven.send_first()
    two = ZONE_SET.replace(row([b"Asia/Tokyo"]), row([b"Asia/Tokyo", b"x"]))
    with pytest.raises(RemoteProtocolError, match="other values"):
        coming.unproven.receive(AHEAD.scrubbed + two + AHEAD.committed)
