"""The server's side of start-up and log-in, for a tunnel or the TCP door, as a machine that never waits.

Bytes go in by `receive`, however they are cut or glued; `next_event` tells what to do next and `to_send` what to
write first. The machine decodes and refuses; whether a password is right, a certificate is at hand or a backend is
free is for its holder to find out:

    StartTls       write, then begin TLS, then `tls_started`
    CancelRequest  pass it on, close without a word
    Startup        `ask_password` or `ask_scram`
    Password       look it up, then `accept` or `refuse`
    Proven         SCRAM went through: `accept`
    Refused        write, then close: the ErrorResponse is in `to_send`
    Terminated     close

After `accept`, `take_rest` has the bytes that came too early, a driver's first query for instance. The limits are
Postgres's own; the manual's "Message Flow" and Postgres's `ProcessStartupPacket` are where the rules come from.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from struct import unpack_from

from sqlhttp_gateway.errors import BadRequest, GatewayError, PasswordFailed
from sqlhttp_gateway.wire import backend, scram
from sqlhttp_gateway.wire.buffer import MessageBuffer
from sqlhttp_gateway.wire.messages import decode_password, decode_sasl_initial_response, decode_sasl_response
from sqlhttp_gateway.wire.startup import Startup, decode_startup

MAX_STARTUP = 10_000
"""Bytes of a start-up packet; Postgres's MAX_STARTUP_PACKET_LENGTH."""
MAX_PASSWORD = 1024
"""Bytes of an answer to an authentication request; as Postgres bounds a SASL message."""
TLS_HANDSHAKE = b"\x16"
"""Its first byte; a start-up packet begins with 0."""

_CANCEL_REQUEST = 80877102
_SSL_REQUEST = 80877103
_GSSENC_REQUEST = 80877104
_TERMINATE = b"X"


@dataclass(frozen=True, slots=True)
class StartTls:
    """The program asked for TLS, and the answer that it shall have it waits in `to_send`."""


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Somebody who shows this key wants what runs under it to stop. The secret has 4 to 256 bytes."""

    process_id: int
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Password:
    """The program's password in clear text; bytes, since nothing says what encoding it is in."""

    password: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Proven:
    """SCRAM succeeded. The keys log in wherever the same verifier is kept, so they are worth a password."""

    keys: scram.Keys


@dataclass(frozen=True, slots=True)
class Refused:
    """The conversation is over; `error` is what the program is told."""

    error: GatewayError


@dataclass(frozen=True, slots=True)
class Terminated:
    """The program said goodbye before it was logged in."""


Event = StartTls | CancelRequest | Startup | Password | Proven | Refused | Terminated


class _Phase(Enum):
    STARTUP = auto()
    TLS = auto()  # between our S and the end of the TLS handshake
    ASK = auto()  # start-up is told, the holder has not chosen how to ask
    PASSWORD = auto()
    SASL_INITIAL = auto()
    SASL_RESPONSE = auto()
    DECIDE = auto()  # the proof is told, the holder has not decided
    DONE = auto()
    OVER = auto()


class Handshake:
    """One program's way in. `offers_tls` answers an SSLRequest with S; `is_secure` says that TLS is already there."""

    def __init__(self, *, offers_tls: bool = False, is_secure: bool = False, max_password: int = MAX_PASSWORD) -> None:
        self._buffer = MessageBuffer(max_size=max_password + 5)
        self._offers_tls = offers_tls
        self._max_password = max_password
        self._phase = _Phase.STARTUP
        self._out: list[bytes] = []
        self._seen: set[int] = set()
        self._role = ""
        self._scram: scram.Server | None = None
        self._mechanisms: tuple[str, ...] = ()
        self._mechanism = ""
        self.is_secure = is_secure
        """Whether what is said here travels in TLS."""

    @property
    def is_over(self) -> bool:
        """Nothing more will happen but a close."""
        return self._phase is _Phase.OVER

    def receive(self, data: bytes) -> None:
        """Take what the program sent."""
        self._buffer.receive(data)

    def to_send(self) -> bytes:
        """What is to be written now. Each call gives what came up since the one before."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def next_event(self) -> Event | None:
        """What happened next, or None while more bytes, or the holder's decision, are needed."""
        try:
            match self._phase:
                case _Phase.STARTUP:
                    return self._read_packet()
                case _Phase.PASSWORD | _Phase.SASL_INITIAL | _Phase.SASL_RESPONSE:
                    return self._read_answer()
        except GatewayError as error:
            return self._refused(error)
        return None

    # ── the holder's decisions ──

    def tls_started(self) -> None:
        """The TLS handshake is complete."""
        self._expect(_Phase.TLS)
        self.is_secure = True
        self._phase = _Phase.STARTUP

    def ask_password(self) -> None:
        """Ask for the password in clear text."""
        self._expect(_Phase.ASK)
        self._out.append(backend.AuthenticationCleartextPassword)
        self._phase = _Phase.PASSWORD

    def ask_scram(self, verifier: scram.Verifier, nonce: str, *, channel_binding: bytes | None = None) -> None:
        """Ask for a SCRAM-SHA-256 proof. `channel_binding` is the hash of our certificate, where TLS is ours."""
        self._expect(_Phase.ASK)
        self._scram = scram.Server(verifier, nonce, role=self._role, channel_binding=channel_binding)
        self._mechanisms = (scram.MECHANISM,)
        if channel_binding is not None:
            self._mechanisms = (scram.MECHANISM_PLUS, scram.MECHANISM)
        self._out.append(backend.encode_authentication_sasl(self._mechanisms))
        self._phase = _Phase.SASL_INITIAL

    def accept(self) -> None:
        """The program is who it says. What the server tells next (ParameterStatus, …) is the holder's."""
        self._expect(_Phase.DECIDE)
        self._out.append(backend.AuthenticationOk)
        self._phase = _Phase.DONE

    def refuse(self, error: GatewayError) -> None:
        """Tell the program why not; then write and close. Possible at any moment."""
        self._refused(error)

    def take_rest(self) -> bytes:
        """The bytes that came after the last message of the log-in."""
        self._expect(_Phase.DONE)
        return self._buffer.take_all()

    # ── inside ──

    def _expect(self, phase: _Phase) -> None:
        if self._phase is not phase:
            raise RuntimeError(f"handshake is at {self._phase.name}, not at {phase.name}")

    def _refused(self, error: GatewayError) -> Refused:
        self._out.append(backend.encode_error_response(error, severity="FATAL"))
        self._phase = _Phase.OVER
        return Refused(error)

    def _over(self, event: Event) -> Event:
        self._phase = _Phase.OVER
        return event

    def _read_packet(self) -> Event | None:
        while True:
            if self._buffer.starts_with(TLS_HANDSHAKE):
                raise BadRequest("TLS has to be asked for with an SSLRequest first")
            packet = self._buffer.next_packet(max_size=MAX_STARTUP)
            if packet is None:
                return None
            code: int = unpack_from("!I", packet, 4)[0]
            if code == _CANCEL_REQUEST:
                if not 16 <= len(packet) <= 268:
                    raise BadRequest("invalid length of cancel request packet")
                return self._over(CancelRequest(unpack_from("!I", packet, 8)[0], packet[12:]))
            if code in (_SSL_REQUEST, _GSSENC_REQUEST) and code not in self._seen and not self.is_secure:
                self._seen.add(code)
                if code == _SSL_REQUEST and self._offers_tls:
                    return self._begin_tls()
                self._out.append(b"N")
                continue
            return self._read_startup(packet)

    def _begin_tls(self) -> StartTls:
        if len(self._buffer):
            # Whoever sits in between could have put in a start-up message of his own (CVE-2021-23214).
            raise BadRequest("received unencrypted data after SSL request")
        self._out.append(b"S")
        self._phase = _Phase.TLS
        return StartTls()

    def _read_startup(self, packet: bytes) -> Startup:
        startup = decode_startup(packet)
        if startup.minor_version or startup.protocol_options:
            self._out.append(backend.encode_negotiate_protocol_version(startup.protocol_options))
        self._role = startup.role
        self._phase = _Phase.ASK
        return startup

    def _read_answer(self) -> Event | None:
        frame = self._buffer.next_frame(max_size=self._max_password + 5)
        if frame is None:
            return None
        if frame[:1] == _TERMINATE:
            return self._over(Terminated())
        if self._phase is _Phase.PASSWORD:
            password = decode_password(frame).password
            if not password:
                # Postgres refuses an empty password by itself, so that no other server ever has to.
                raise PasswordFailed(f'password authentication failed for user "{self._role}"')
            self._phase = _Phase.DECIDE
            return Password(password)
        return self._read_sasl(frame)

    def _read_sasl(self, frame: bytes) -> Event | None:
        assert self._scram is not None
        data: bytes | None
        if self._phase is _Phase.SASL_INITIAL:
            initial = decode_sasl_initial_response(frame)
            if initial.mechanism not in self._mechanisms:
                raise BadRequest("client selected an invalid SASL authentication mechanism")
            self._phase, self._mechanism, data = _Phase.SASL_RESPONSE, initial.mechanism, initial.data
        else:
            data = decode_sasl_response(frame).data
        if data is None:  # the program waits to be asked for its first word
            self._out.append(backend.encode_authentication_sasl_continue(b""))
            return self._read_answer()
        answer = self._scram.receive(data, mechanism=self._mechanism)
        if self._scram.keys is None:
            self._out.append(backend.encode_authentication_sasl_continue(answer))
            return self._read_answer()
        self._out.append(backend.encode_authentication_sasl_final(answer))
        self._phase = _Phase.DECIDE
        return Proven(self._scram.keys)
