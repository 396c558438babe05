"""SCRAM-SHA-256 (RFC 5802, RFC 7677) as Postgres speaks it: verifiers, and both sides of the exchange.

A verifier is what `pg_authid.rolpassword` holds. With one, a password can be checked (`verify_password`) and a program
can be logged in (`Server`) without Postgres being asked; with a password, or with the keys that a `Server` learned,
the gateway can log in to Postgres itself (`Client`). Nonces come in as arguments, so that nothing here is random.
How long a proof is believed, and on which thread it is computed, is not decided here.
"""

import hmac
import stringprep
import unicodedata
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import md5, pbkdf2_hmac, sha256

from sqlhttp_gateway.errors import BadRequest, PasswordFailed, RemoteProtocolError

MECHANISM = "SCRAM-SHA-256"
MECHANISM_PLUS = "SCRAM-SHA-256-PLUS"
"""The mechanism with channel binding; offered only where the gateway itself ends the TLS connection."""

DEFAULT_ITERATIONS = 4096  # Postgres's SCRAM_SHA_256_DEFAULT_ITERATIONS
_SALT_BYTES = 16  # Postgres's SCRAM_DEFAULT_SALT_LEN
_KEY_BYTES = 32
_HEXADECIMAL = frozenset("0123456789abcdef")


# ── verifiers ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Verifier:
    """A SCRAM-SHA-256 verifier: enough to check a password, not enough to log in with. `repr` shows no key."""

    iterations: int
    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Md5Verifier:
    """The hexadecimal digest of password and role, as Postgres kept it before SCRAM."""

    digest: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Keys:
    """What a password, salted and stretched, becomes: enough to log in where the same verifier is kept."""

    client_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


def parse_verifier(text: str) -> Verifier | Md5Verifier | None:
    """The verifier in `pg_authid.rolpassword`, or None when the text is none that Postgres would use itself."""
    if len(text) == 35 and text.startswith("md5") and _HEXADECIMAL.issuperset(text[3:]):
        return Md5Verifier(text[3:])
    try:
        mechanism, salting, keys = text.split("$")
        iterations_text, salt_text = salting.split(":")
        stored_text, server_text = keys.split(":")
        salt, stored_key, server_key = _decode(salt_text), _decode(stored_text), _decode(server_text)
    except ValueError:
        return None
    if mechanism != MECHANISM or not (iterations_text.isascii() and iterations_text.isdigit()):
        return None
    iterations = int(iterations_text)
    if iterations < 1 or not salt or len(stored_key) != _KEY_BYTES or len(server_key) != _KEY_BYTES:
        return None
    return Verifier(iterations, salt, stored_key, server_key)


def make_verifier(password: bytes, *, salt: bytes, iterations: int = DEFAULT_ITERATIONS) -> Verifier:
    """The verifier that Postgres would keep for `password`."""
    keys = derive_keys(password, salt=salt, iterations=iterations)
    return Verifier(iterations, salt, sha256(keys.client_key).digest(), keys.server_key)


def mock_verifier(role: str, key: bytes, *, iterations: int = DEFAULT_ITERATIONS) -> Verifier:
    """A verifier for a role that does not exist: no password fits, and checking one takes as long as for a real role.

    The salt is always the same for one role and one secret `key`, as it would be for a real one; a salt that changed
    between two attempts would tell that the role is made up. Postgres does the same (`mock_scram_secret`).
    """

    def derived(label: bytes) -> bytes:
        return hmac.digest(key, label + role.encode(), "sha256")

    return Verifier(iterations, derived(b"salt:")[:_SALT_BYTES], derived(b"stored:"), derived(b"server:"))


def verify_password(verifier: Verifier | Md5Verifier, password: bytes, role: str) -> bool:
    """Whether `password` is the role's. Takes milliseconds of processor time, so keep it off the event loop."""
    if isinstance(verifier, Md5Verifier):
        digest = md5(password + role.encode(), usedforsecurity=False).hexdigest()
        return hmac.compare_digest(digest, verifier.digest)
    keys = derive_keys(password, salt=verifier.salt, iterations=verifier.iterations)
    return hmac.compare_digest(sha256(keys.client_key).digest(), verifier.stored_key)


def derive_keys(password: bytes, *, salt: bytes, iterations: int) -> Keys:
    """Both keys of `password`. This is the slow part: `iterations` rounds of HMAC."""
    salted = pbkdf2_hmac("sha256", normalized_password(password), salt, iterations)
    return Keys(hmac.digest(salted, b"Client Key", "sha256"), hmac.digest(salted, b"Server Key", "sha256"))


def normalized_password(password: bytes) -> bytes:
    """`password` after SASLprep (RFC 4013), or as it is where SASLprep refuses it.

    The fallback is Postgres's own, so that a password in another encoding than UTF-8 works at all. Postgres also
    passes ASCII through unseen, control characters included.
    """
    if password.isascii():
        return password
    try:
        text = password.decode()
    except UnicodeDecodeError:
        return password
    prepared = unicodedata.normalize("NFKC", "".join(_mapped(text)))
    if not prepared or any(_is_prohibited(char) for char in prepared) or not _reads_one_way(prepared):
        return password
    return prepared.encode()


def _mapped(text: str) -> Iterator[str]:
    for char in text:
        if stringprep.in_table_c12(char):  # first, as Postgres does: U+200B is in both tables
            yield " "
        elif not stringprep.in_table_b1(char):
            yield char


_PROHIBITED = (
    stringprep.in_table_a1,  # unassigned in Unicode 3.2
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def _is_prohibited(char: str) -> bool:
    return any(in_table(char) for in_table in _PROHIBITED)


def _reads_one_way(text: str) -> bool:
    # RFC 3454, section 6: right-to-left text begins and ends so, and has nothing left-to-right within.
    if not any(map(stringprep.in_table_d1, text)):
        return True
    if any(map(stringprep.in_table_d2, text)):
        return False
    return stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])


# ── the exchange ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Client:
    """The gateway logs in to Postgres: `first`, then each SASL answer into `receive`, until `done`.

    `secret` is the password, or the keys that a `Server` with the same verifier learned from the program: then the
    program's log-in is passed on although its password was never seen. `user` stays empty, since Postgres takes the
    role from the start-up message.
    """

    def __init__(self, secret: bytes | Keys, nonce: str, *, user: str = "") -> None:
        self._secret = secret
        self._nonce = nonce
        self._first_bare = f"n={user.replace('=', '=3D').replace(',', '=2C')},r={nonce}"
        self._server_signature: bytes | None = None
        self.done = False

    def first(self) -> bytes:
        """The client-first-message, for SASLInitialResponse."""
        return f"n,,{self._first_bare}".encode()

    def receive(self, data: bytes) -> bytes | None:
        """The answer to one server message; None when the server has proven that it knows the password too.

        Raises:
            RemoteProtocolError: the message is malformed, not for this nonce, or not from who knows the verifier.
        """
        text = _text(data, RemoteProtocolError)
        if self._server_signature is None:
            return self._answer_challenge(text)
        attributes = _attributes(text)
        try:
            signature = _decode(attributes.get("v", ""))
        except ValueError:
            signature = b""
        if not hmac.compare_digest(signature, self._server_signature):
            raise RemoteProtocolError("the server did not prove that it knows the password")
        self.done = True
        return None

    def _answer_challenge(self, server_first: str) -> bytes:
        attributes = _attributes(server_first)
        try:
            nonce, salt, iterations = attributes["r"], _decode(attributes["s"]), int(attributes["i"])
        except (KeyError, ValueError):
            raise RemoteProtocolError("malformed SCRAM challenge") from None
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce) or iterations < 1:
            raise RemoteProtocolError("the SCRAM challenge is not for this exchange")
        keys = self._secret
        if not isinstance(keys, Keys):
            keys = derive_keys(keys, salt=salt, iterations=iterations)
        final = f"c=biws,r={nonce}"
        auth_message = f"{self._first_bare},{server_first},{final}".encode()
        signature = hmac.digest(sha256(keys.client_key).digest(), auth_message, "sha256")
        self._server_signature = hmac.digest(keys.server_key, auth_message, "sha256")
        return f"{final},p={_encode(_xor(keys.client_key, signature))}".encode()


class Server:
    """The gateway logs a program in: each SASL message into `receive`, the answer out, until `keys` is there.

    `nonce` is at least 18 random bytes as printable text without a comma. `channel_binding` is the hash of the
    gateway's certificate (tls-server-end-point, RFC 5929) where SCRAM-SHA-256-PLUS was offered, else None.
    """

    def __init__(self, verifier: Verifier, nonce: str, *, role: str, channel_binding: bytes | None = None) -> None:
        self._verifier = verifier
        self._nonce = nonce
        self._role = role
        self._channel_binding = channel_binding
        self._expected_binding = ""
        self._first_bare = ""
        self._server_first = ""
        self.keys: Keys | None = None
        """After success: the caller's keys, which log in wherever the same verifier is kept. Worth a password."""

    def receive(self, data: bytes, *, mechanism: str = MECHANISM) -> bytes:
        """The answer to one client message. `mechanism` counts for the first only.

        Raises:
            BadRequest: the message breaks the protocol.
            PasswordFailed: the proof is not of this password.
        """
        text = _text(data, BadRequest)
        if not self._server_first:
            return self._challenge(text, mechanism)
        return self._check(text)

    def _challenge(self, client_first: str, mechanism: str) -> bytes:
        parts = client_first.split(",", 2)
        if len(parts) != 3:
            raise BadRequest("malformed SCRAM message")
        binding, authorization, self._first_bare = parts
        if authorization:
            raise BadRequest("the program asks for another identity than its role, which SCRAM here does not know")
        self._expected_binding = _encode(f"{binding},,".encode() + self._binding_data(binding, mechanism))
        # The role is in the start-up message; like Postgres, the name given here is not looked at.
        client_nonce = _attributes(self._first_bare).get("r", "")
        if not client_nonce or not self._first_bare.startswith("n="):
            raise BadRequest("malformed SCRAM message")
        self._nonce = client_nonce + self._nonce
        verifier = self._verifier
        self._server_first = f"r={self._nonce},s={_encode(verifier.salt)},i={verifier.iterations}"
        return self._server_first.encode()

    def _binding_data(self, binding: str, mechanism: str) -> bytes:
        if mechanism == MECHANISM_PLUS:
            if self._channel_binding is None or binding != "p=tls-server-end-point":
                raise BadRequest("SCRAM channel binding of a type that was not offered")
            return self._channel_binding
        if binding == "y" and self._channel_binding is not None:
            # The program can bind and was told that we cannot: somebody in between has changed our offer.
            raise BadRequest("SCRAM channel binding negotiation error")
        if binding not in ("n", "y"):
            raise BadRequest("the program selected SCRAM-SHA-256 without channel binding, but sent binding data")
        return b""

    def _check(self, client_final: str) -> bytes:
        without_proof, _, proof_text = client_final.rpartition(",p=")
        attributes = _attributes(without_proof)
        try:
            proof = _decode(proof_text)
        except ValueError:
            proof = b""
        if len(proof) != _KEY_BYTES or not without_proof.startswith("c="):
            raise BadRequest("malformed SCRAM message")
        if attributes["c"] != self._expected_binding:
            raise BadRequest("SCRAM channel binding check failed")
        if attributes.get("r") != self._nonce:
            raise BadRequest("the SCRAM nonce is not the one of this exchange")
        auth_message = f"{self._first_bare},{self._server_first},{without_proof}".encode()
        client_key = _xor(proof, hmac.digest(self._verifier.stored_key, auth_message, "sha256"))
        if not hmac.compare_digest(sha256(client_key).digest(), self._verifier.stored_key):
            raise PasswordFailed(f'password authentication failed for user "{self._role}"')
        self.keys = Keys(client_key, self._verifier.server_key)
        return f"v={_encode(hmac.digest(self._verifier.server_key, auth_message, 'sha256'))}".encode()


def _attributes(text: str) -> dict[str, str]:
    """`a=value,b=value` as a dict. An attribute that came twice keeps its first value."""
    attributes: dict[str, str] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        attributes.setdefault(name, value)
    return attributes


def _text(data: bytes, fault: type[BadRequest | RemoteProtocolError]) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise fault("malformed SCRAM message: not UTF-8") from None


def _encode(data: bytes) -> str:
    return b64encode(data).decode()


def _decode(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except Base64Error as error:
        raise ValueError("not base64") from error


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left) ^ int.from_bytes(right)).to_bytes(_KEY_BYTES)
