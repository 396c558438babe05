"""Requests that are over, for whatever listens to them."""

from typing import Any

from sqlhttp_gateway.events import Answered

USUAL = Answered(
    request_id="00000000-0000-4000-a000-000000000000",
    status=200,
    outcome="ok",
    sqlstate="",
    database="main",
    role="app",
    statements=1,
    rows=1,
    bytes_out=200,
    seconds=0.004,
    waited=0.001,
    target="default",
    is_proven=True,
    executed=0.002,
    reused=1,
    bytes_in=50,
)


def answered(**changes: Any) -> Answered:
    """A statement that went well on the database main, but for `changes`."""
    return USUAL._replace(**changes)
