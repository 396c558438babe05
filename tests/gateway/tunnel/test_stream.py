"""What a transport has to offer is what the two doors, and the tests' own stream, do offer."""

import inspect

import pytest

from sqlhttp_gateway.endpoints.listener import SocketStream
from sqlhttp_gateway.endpoints.tunnel import WebSocketStream
from sqlhttp_gateway.tunnel.stream import Stream
from tests.support.streams import FakeStream

MEMBERS = {name for name in vars(Stream) if not name.startswith("_")}


def test_a_stream_is_this_and_no_more() -> None:
    assert {
        "abort", "close", "flow", "is_secure", "offers_tls", "origin", "peer", "receive", "send", "start_tls"
    } == MEMBERS  # fmt: skip


@pytest.mark.parametrize("kind", [WebSocketStream, SocketStream, FakeStream])
def test_every_transport_has_the_same_methods(kind: type) -> None:
    for name in MEMBERS:
        wanted = getattr(Stream, name)
        if inspect.isfunction(wanted):
            there, asked = inspect.signature(getattr(kind, name)), inspect.signature(wanted)
            assert there.parameters == asked.parameters, name
            assert name == "flow" or there.return_annotation == asked.return_annotation
