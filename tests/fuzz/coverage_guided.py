"""`make fuzz`: atheris, guided by coverage, on the codecs that read what strangers send.

Each target takes any bytes and may refuse them with an error of ours; everything else is a find. Seeds are in `corpus`,
a folder a target; what atheris adds goes to the first folder that is named. Arguments are the target's name and
libFuzzer's own.
"""

import sys
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sqlhttp_gateway"]):
    from sqlhttp_gateway.errors import GatewayError
    from sqlhttp_gateway.model import Options
    from sqlhttp_gateway.neon.dsn import dsn_from_header
    from sqlhttp_gateway.neon.request import decode_request
    from sqlhttp_gateway.neon.response import encode_result
    from sqlhttp_gateway.wire import scram
    from sqlhttp_gateway.wire.exchange import Exchange
    from sqlhttp_gateway.wire.handshake import Handshake, Password, Proven, StartTls
    from sqlhttp_gateway.wire.startup import Startup

CORPUS = Path(__file__).parent / "corpus"
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


TARGETS = {each.__name__: each for each in (exchange, handshake, request, dsn)}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: make fuzz TARGET={'|'.join(TARGETS)} [RUNS=1000000]")
    name = sys.argv.pop(1)
    atheris.Setup([*sys.argv, str(CORPUS / name)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
