"""What the fuzzers call: each target takes any bytes and may refuse them with an error of ours; all else is a find.

`coverage_guided` makes bytes by the million, `test_corpus` plays those again that were worth keeping.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress

from sqlhttp_gateway.endpoints.frames import Frames
from sqlhttp_gateway.errors import GatewayError, WaitTimeout
from sqlhttp_gateway.idempotency.keys import ends_transaction
from sqlhttp_gateway.model import Options, Statement
from sqlhttp_gateway.neon.caching import wish_from_comment, wish_from_control
from sqlhttp_gateway.neon.dsn import dsn_from_header
from sqlhttp_gateway.neon.request import decode_request
from sqlhttp_gateway.neon.response import encode_result
from sqlhttp_gateway.observe.audit import relations_of
from sqlhttp_gateway.observe.fingerprint import fingerprint
from sqlhttp_gateway.reads.verdict import has_plan, makes_table
from sqlhttp_gateway.wire import scram
from sqlhttp_gateway.wire.control import control_of
from sqlhttp_gateway.wire.effects import effects_of
from sqlhttp_gateway.wire.exchange import Exchange
from sqlhttp_gateway.wire.foreseen import Foreseen
from sqlhttp_gateway.wire.handshake import Handshake, Password, Proven, StartTls
from sqlhttp_gateway.wire.pipeline import Pipeline
from sqlhttp_gateway.wire.prepared import Sources
from sqlhttp_gateway.wire.proxy_header import decode_proxy_header
from sqlhttp_gateway.wire.session import BackendSession
from sqlhttp_gateway.wire.startup import Startup
from sqlhttp_gateway.wire.told import Greeting
from sqlhttp_gateway.wire.tunnel_events import Failed, Greeted, Listen

_READY = b"Z\0\0\0\x05I"
_VERIFIER = scram.make_verifier(b"pencil", salt=b"s" * 16, iterations=1)


def exchange(data: bytes) -> None:
    """What Postgres sends, cut in two, and its rows as JSON."""
    whole, halves = Exchange(max_bytes=1 << 16), Exchange(max_bytes=1 << 16)
    with suppress(GatewayError):
        rest = whole.receive(data)
        middle = len(data) // 2
        first = halves.receive(data[:middle])
        second = halves.receive(data[middle:]) if first is None else first + data[middle:]
        assert (rest is None) == (second is None)
        assert whole.results == halves.results
        for result in whole.results:
            with suppress(GatewayError):
                encode_result(result, Options(), array_mode=False, array_types={})


def foreseen(data: bytes) -> None:
    """Two answers, the second read by what the first lets expect: as the exchange reads it, or not at all.

    The first byte says by which rules, the two behind it how long the first answer is.
    """
    rules, size = data[:1] or b"\0", int.from_bytes(data[1:3])
    first, second = data[3 : 3 + size], data[3 + size :] + _READY
    count_names, max_bytes = bool(rules[0] & 1), 300 if rules[0] & 2 else 0
    learned = Exchange()
    with suppress(GatewayError):
        learned.receive(first + _READY)
    expected = Foreseen.after(learned.results[0]) if learned.results else None
    if expected is None:
        return
    read = expected.read(second, _READY, max_bytes=max_bytes, count_names=count_names)
    if read is not None:
        judge = Exchange(max_bytes=max_bytes, count_names=count_names)
        assert judge.receive(second) == b""
        assert (judge.error, judge.results) == (None, [read])
    part = expected.read_part(second, 0, count_names=count_names)
    if part is not None:
        result, end, counted = part
        judge = Exchange(count_names=count_names)
        assert judge.receive(second[:end] + _READY) == b""
        assert (judge.error, judge.results, judge.bytes_received) == (None, [result], counted)


def handshake(data: bytes) -> None:
    """What a program sends to log in."""
    machine = Handshake(offers_tls=bool(data[:1] and data[0] & 1))
    machine.receive(data[1:])
    while (event := machine.next_event()) is not None:
        match event:
            case Startup() if data[0] & 2:
                machine.ask_password()
            case Startup():
                machine.ask_scram(_VERIFIER, "nonce-s")
            case StartTls():
                machine.tls_started()
            case Password() | Proven():
                machine.accept()
        machine.to_send()


def request(data: bytes) -> None:
    """A request's body."""
    with suppress(GatewayError):
        decode_request(data)


def dsn(data: bytes) -> None:
    """A connection string."""
    with suppress(GatewayError):
        dsn_from_header(data)


def pipeline(data: bytes) -> None:
    """What a program and its backends send through a tunnel, while it gets a backend, loses it and is refused one.

    The first byte says what kind of tunnel it is. Then come steps: what happens, how many bytes follow, and these.
    """
    kind, data = data[:1] or b"\0", data[1:]
    is_fenced = bool(kind[0] & 1)
    tunnel = Pipeline(
        {"a.b": "1"} if kind[0] & 2 else {}, Sources(), max_message=1000, is_fenced=is_fenced, shares_listen=kind[0] < 8
    )
    is_greeted = bool(kind[0] & 4)
    if is_greeted:
        tunnel.greet(Greeting({"DateStyle": "ISO"}, {"DateStyle": "ISO"}))
    has_backend, is_over = False, False
    with suppress(GatewayError):
        for step, piece in _steps(data):
            if is_over:
                break
            match step:
                case 0 | 1 | 2:
                    tunnel.receive_frontend(piece)
                case 3 | 4 if has_backend:
                    tunnel.receive_backend(piece)
                case 5 if tunnel.needs_backend and not has_backend:
                    has_backend = True
                    tunnel.attach(BackendSession({}, statement_cache_size=_size_of(piece)), lambda: None)
                case 6 if has_backend and tunnel.may_release:
                    has_backend = False
                    tunnel.detach()
                case 7 if tunnel.needs_backend and not has_backend and is_greeted:  # before, it would be ended
                    tunnel.decline(WaitTimeout("no connection"))
            while (event := tunnel.next_event()) is not None:
                is_over |= isinstance(event, Failed)
                is_greeted |= isinstance(event, Greeted)
                if isinstance(event, Listen):
                    tunnel.listening(event.channels)
            tunnel.to_frontend()
            assert has_backend or tunnel.to_backend() == b""
            tunnel.to_backend()


def _steps(data: bytes) -> Iterator[tuple[int, bytes]]:
    """What happens, and with which bytes."""
    while len(data) >= 2:
        step, size = data[0] & 7, data[1]
        yield step, data[2 : 2 + size]
        data = data[2 + size :]


def _size_of(piece: bytes) -> int:
    return piece[0] if piece else 0


def frames(data: bytes) -> None:
    """What comes over a WebSocket, whole and in pieces: no byte lost, none twice, and the same messages."""
    pieces = [data] if not data else [data[at : at + 1 + data[0]] for at in range(0, len(data), 1 + data[0])]
    whole, cut = Frames(max_size=300), Frames(max_size=300)
    one = whole.receive(data)
    many = [frame for piece in pieces for frame in cut.receive(piece)]
    assert data.startswith(b"".join(frame.raw for frame in one))
    assert data.startswith(b"".join(frame.raw for frame in many))
    assert [each.content for each in one if each.content is not None] == [
        each.content for each in many if each.content is not None
    ]


def text(data: bytes) -> None:
    """A statement's text, read by all that judge one by its words."""
    statement = data.replace(b"\0", b"")
    effects_of(statement)
    control_of(statement)
    with suppress(GatewayError):
        wish_from_control(statement)
    words = statement.decode("utf-8", "replace")
    ends_transaction(Statement(words))
    with suppress(GatewayError):
        wish_from_comment(words)
    for look in (fingerprint, relations_of, has_plan, makes_table):
        look(words)


def proxy(data: bytes) -> None:
    """What a trusted proxy says before anything else."""
    with suppress(GatewayError):
        told = decode_proxy_header(data)
        if told is not None:
            assert 0 < told.length <= len(data)
            assert decode_proxy_header(data[: told.length]) == told


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each for each in (exchange, foreseen, handshake, request, dsn, pipeline, frames, text, proxy)
}
