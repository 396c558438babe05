"""A tunnel's pipeline between a program and backends whose every message the test writes."""

from collections.abc import Mapping

from sqlhttp_gateway.wire.effects import Pin
from sqlhttp_gateway.wire.pipeline import Pipeline
from sqlhttp_gateway.wire.prepared import Sources
from sqlhttp_gateway.wire.session import BackendSession
from sqlhttp_gateway.wire.tunnel_events import Event, Greeted
from tests.support.postgres_model import (
    BIND_COMPLETE,
    NO_PARAMETERS,
    PARSE_COMPLETE,
    ROW_DESCRIPTION,
    SYNC,
    command_complete,
    describe,
    parameter_status,
    parse,
    query,
    ready,
    row,
)

REPORTED = {"TimeZone": "UTC", "client_encoding": "UTF8"}
KEY = b"K\0\0\0\x0c\0\0\0\x07abcd"
GREETING = parameter_status("TimeZone", "UTC") + parameter_status("client_encoding", "UTF8") + KEY + ready()
SELECTED = PARSE_COMPLETE + BIND_COMPLETE + row(b"1") + command_complete("SELECT 1") + ready()
LOOK = NO_PARAMETERS + ROW_DESCRIPTION
NAMED = PARSE_COMPLETE + LOOK
"""What the backend says to a Parse under a name of ours, which we let it describe; the program gets ParseComplete."""
SET_ZONE = PARSE_COMPLETE + BIND_COMPLETE + row(b"UTC") + command_complete("SELECT 1") + ready()
SET_DONE = BIND_COMPLETE + row(b"x") + command_complete("SELECT 1") + ready()


def a_backend(reported: Mapping[str, str] = REPORTED, *, size: int = 100) -> BackendSession:
    """A backend that reports this at its log-in and keeps so many statements."""
    return BackendSession(reported, statement_cache_size=size)


def a_tunnel(
    parameters: Mapping[str, str] | None = None,
    *,
    sources: Sources | None = None,
    pins: tuple[Pin, ...] = (),
    shares_listen: bool = True,
    max_message: int = 1000,
) -> Pipeline:
    """A tunnel before its log-in."""
    return Pipeline(
        parameters or {},
        Sources() if sources is None else sources,
        key_data=KEY,
        pins=pins,
        shares_listen=shares_listen,
        max_message=max_message,
    )


def logged_in(tunnel: Pipeline | None = None, backend: BackendSession | None = None) -> Pipeline:
    """A tunnel after its log-in, without a backend."""
    tunnel = tunnel or a_tunnel()
    tunnel.attach(backend or a_backend())
    assert tunnel.to_frontend() == GREETING
    assert tunnel.may_release
    tunnel.detach()
    return tunnel


def attached(tunnel: Pipeline | None = None, backend: BackendSession | None = None) -> Pipeline:
    """A tunnel after its log-in that keeps its backend."""
    tunnel = tunnel or a_tunnel()
    tunnel.attach(backend or a_backend())
    assert tunnel.to_frontend() == GREETING
    return tunnel


def sent(tunnel: Pipeline, data: bytes) -> bytes:
    """What the backend gets when the program sends `data`."""
    tunnel.receive_frontend(data)
    return tunnel.to_backend()


def answered(tunnel: Pipeline, data: bytes) -> bytes:
    """What the program gets when the backend sends `data`."""
    tunnel.receive_backend(data)
    return tunnel.to_frontend()


def named(name: str, text: str) -> bytes:
    """A Parse under a name of ours, and the Describe that follows it."""
    return parse(name, text) + describe("S", name)


def events(tunnel: Pipeline) -> list[Event]:
    """What else has happened since the log-in."""
    return [event for event in iter(tunnel.next_event, None) if not isinstance(event, Greeted)]


def run(tunnel: Pipeline, text: str, tag: str, *, status: str = "I") -> bytes:
    """Run one simple query; the question that follows it, if any."""
    sent(tunnel, query(text))
    done = command_complete(tag) + ready(status)
    assert answered(tunnel, done) == done
    return tunnel.to_backend()


def answer_question(tunnel: Pipeline, *values: bytes | None) -> None:
    """The server answers what it was asked after a transaction."""
    done = command_complete("SELECT 1") + ready()
    assert answered(tunnel, PARSE_COMPLETE + BIND_COMPLETE + row(*values) + done) == b""


def prepare(tunnel: Pipeline, name: str, text: str) -> bytes:
    """Parse `text` as `name`, on an attached tunnel; its name on the backend."""
    frames = sent(tunnel, parse(name, text) + SYNC)
    assert answered(tunnel, NAMED + ready()) == PARSE_COMPLETE + ready()
    return frames[5 : frames.index(b"\0", 5)]
