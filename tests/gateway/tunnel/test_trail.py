"""What the audit is told of a tunnel's statements."""

from types import SimpleNamespace
from typing import Any

from sqlhttp_gateway.auth.grant import Grant
from sqlhttp_gateway.events import Audited, Event
from sqlhttp_gateway.tunnel.trail import Trail
from tests.support.postgres_model import command_complete, error, query, ready


def test_each_exchange_is_told_with_who_asked_and_what_came_of_it() -> None:
    told: list[Event] = []
    caller: Any = SimpleNamespace(target="default", database="app", role="ada", grant=Grant("key:1", b"secret"))
    now = iter(range(100))
    trail = Trail(caller, request_id="id", observe=told.append, clock=lambda: float(next(now)))
    trail.sent(query("SELECT 1"))
    trail.said(command_complete("SELECT 1") + ready())
    trail.sent(query("SELECT 1/0"))
    trail.said(error("22012", "no") + ready())
    trail.sent(query("SELECT 3"))
    trail.left()
    shared = {"request_id": "id", "tenant": "key:1", "target": "default", "database": "app", "role": "ada"}
    assert told == [
        Audited(**shared, is_proven=True, outcome=outcome, sqlstate=code, seconds=1.0, texts=(text,), rows=rows,
                traceparent="")
        for text, outcome, code, rows in (
            ("SELECT 1", "ok", "", (1,)), ("SELECT 1/0", "postgres", "22012", ()), ("SELECT 3", "cancelled", "", ())
        )
    ]  # fmt: skip


def test_role_without_a_grant_is_its_own_tenant() -> None:
    told: list[Any] = []
    caller: Any = SimpleNamespace(target="default", database="app", role="ada", grant=None)
    trail = Trail(caller, request_id="id", observe=told.append, clock=lambda: 0.0)
    trail.sent(query("SELECT 1"))
    trail.said(ready())
    assert told[0].tenant == "ada"
