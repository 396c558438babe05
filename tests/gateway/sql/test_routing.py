"""Which kind of server a request needs, read from its options, its caller and, where that is wanted, its plan."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from sqlhttp_gateway.auth.caller import Caller
from sqlhttp_gateway.errors import (
    BadRequest,
    GatewayError,
    PostgresError,
    ResponseTooLarge,
    StatementTimeout,
    TargetDown,
    WaitTimeout,
)
from sqlhttp_gateway.model import Batch, IsolationLevel, Options, PoolKey, Statement, TransactionOptions
from sqlhttp_gateway.neon.bookmark import BOOKMARK
from sqlhttp_gateway.reads.verdict import NOTHING, Verdict
from sqlhttp_gateway.sql import routing
from sqlhttp_gateway.sql.access import Access
from sqlhttp_gateway.sql.routing import Routed
from sqlhttp_gateway.story import Story, Telling

NOBODY = cast(Any, None)
SELECT = Statement("SELECT 1")
READS = Verdict(reads=NOTHING, writes=NOTHING, refusals=())
LOCKS = Verdict(reads=NOTHING, writes=NOTHING, refusals=(("locks", ""),))


class Verdicts:
    """Remembers nothing; answers as the test says."""

    def __init__(self, answer: Verdict | GatewayError) -> None:
        self.answer = answer

    def recall(self, key: object) -> None:
        return None

    async def ask(self, key: object, params: int, run: object) -> Verdict:
        if isinstance(self.answer, GatewayError):
            raise self.answer
        return self.answer


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the last route was made with."""
    kept: dict[str, Any] = {}

    def route(anchor: object, **given: Any) -> Any:
        kept.clear()
        kept.update(given)
        return SimpleNamespace(reads=given["reads"])

    monkeypatch.setattr(routing, "Route", route)
    return kept


async def routed(
    request: Statement | Batch,
    options: Options | None = None,
    *,
    verdicts: Verdicts | None = None,
    selects: bool = True,
    headers: dict[bytes, bytes] | None = None,
) -> Access:
    group = SimpleNamespace(settings=SimpleNamespace(selects=selects))
    pool = cast(Any, SimpleNamespace(key=PoolKey("default", "main", "app"), upstream=SimpleNamespace(group=group)))
    access = Access(pool, lambda: b"", Caller("default", "main", "app", pool, 0.0))
    story = Story(Telling(), traceparent=None, bytes_in=0)
    finder = Routed(NOBODY, registry=NOBODY, probes=NOBODY, verdicts=cast(Any, verdicts))
    found = await finder.access(access, headers or {}, request, options or Options(), story)
    assert found.route is story.route, "so that it is closed when the request has ended"
    return found


async def test_request_that_may_write_goes_to_the_primary(asked: dict[str, Any]) -> None:
    access = await routed(SELECT)
    assert (asked["reads"], asked["is_found"], asked["needs_primary"]) == (False, False, False)
    assert access.prologue_on(NOBODY) is None


async def test_read_only_batch_reads_and_what_runs_in_front_keeps_it_to_that(asked: dict[str, Any]) -> None:
    reading = Options(transaction=TransactionOptions(read_only=True))
    access = await routed(Batch((SELECT,)), reading)
    assert (asked["reads"], asked["is_found"]) == (True, False)
    prologue = access.prologue_on(NOBODY)
    assert prologue is not None
    assert prologue.read_only


async def test_serializable_reads_need_a_primary(asked: dict[str, Any]) -> None:
    transaction = TransactionOptions(read_only=True, isolation_level=IsolationLevel.SERIALIZABLE)
    await routed(Batch((SELECT,)), Options(transaction=transaction))
    assert asked["needs_primary"]


async def test_statement_whose_plan_only_reads_is_found_where_that_is_wanted(asked: dict[str, Any]) -> None:
    await routed(SELECT, verdicts=Verdicts(READS))
    assert (asked["reads"], asked["is_found"]) == (True, True)
    await routed(SELECT, verdicts=Verdicts(LOCKS))
    assert not asked["reads"]
    await routed(SELECT, verdicts=Verdicts(READS), selects=False)
    assert not asked["reads"]
    await routed(Batch((SELECT,)), verdicts=Verdicts(READS))
    assert not asked["reads"], "only the program can say so of a batch"


async def test_plan_that_nobody_can_tell_leaves_the_word_to_the_primary(asked: dict[str, Any]) -> None:
    for error in (PostgresError({"C": "42P01", "M": "no"}), StatementTimeout("60 s"), ResponseTooLarge("a large plan")):
        await routed(SELECT, verdicts=Verdicts(error))
        assert (asked["reads"], asked["is_found"]) == (False, False)


@pytest.mark.parametrize("error", [WaitTimeout("no connection within 5 s"), TargetDown("unreachable for 9 s")])
async def test_nobody_waits_for_the_primary_twice(asked: dict[str, Any], error: GatewayError) -> None:
    with pytest.raises(type(error)):
        await routed(SELECT, verdicts=Verdicts(error))


async def test_what_may_commit_on_its_way_is_not_repeated(asked: dict[str, Any]) -> None:
    for request, is_repeatable in ((SELECT, True), (Statement("CALL p()"), False), (Batch((SELECT,)), True)):
        await routed(request)
        assert asked["is_repeatable"] is is_repeatable


async def test_bookmark_that_cannot_be_read_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        await routed(SELECT, headers={BOOKMARK: b"nonsense"})
