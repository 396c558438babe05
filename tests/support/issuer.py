"""An issuer of tokens: keys that rotate, a small HTTP server that shows them, and tokens true and false."""

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from jwt.algorithms import get_default_algorithms

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey
_ALGORITHMS = get_default_algorithms()


def new_private_key(algorithm: str) -> PrivateKey:
    """A fresh key for one algorithm."""
    match algorithm:
        case "ES256":
            return generate_ec(SECP256R1())
        case "ES384":
            return generate_ec(SECP384R1())
        case "EdDSA":
            return Ed25519PrivateKey.generate()
        case _:
            return generate_rsa(65537, 2048)


def encode(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(algorithm: str, key: Any, header: Mapping[str, Any] | bytes, claims: Mapping[str, Any] | bytes) -> str:
    """A token with exactly this header and these claims; bytes are taken as they are."""
    parts = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in (header, claims)]
    signed = ".".join(map(encode, parts))
    return f"{signed}.{encode(_ALGORITHMS[algorithm].sign(signed.encode(), key))}"


class Issuer:
    """Keys by their ids, and what is made with them."""

    def __init__(self) -> None:
        self.keys: dict[str, tuple[str, PrivateKey]] = {}

    def rotate(self, key_id: str, algorithm: str = "ES256") -> None:
        """One more key; what was there stays."""
        self.keys[key_id] = (algorithm, new_private_key(algorithm))

    def token(self, key_id: str, claims: Mapping[str, Any] | bytes, **header: Any) -> str:
        """A token signed with one of the keys; `header` goes over the usual one."""
        algorithm, key = self.keys[key_id]
        return sign(algorithm, key, {"alg": algorithm, "kid": key_id, **header}, claims)

    def jwks(self, **extra: Any) -> bytes:
        """The public keys as the set that is shown; `extra` goes into every one."""
        return json.dumps({"keys": [self.public(key_id) | extra for key_id in self.keys]}).encode()

    def public(self, key_id: str) -> dict[str, Any]:
        algorithm, key = self.keys[key_id]
        found: dict[str, Any] = _ALGORITHMS[algorithm].to_jwk(key.public_key(), as_dict=True)
        found.pop("key_ops", None)
        return found | {"kid": key_id, "alg": algorithm, "use": "sig"}


class Server:
    """Answers every GET as a test says, and counts them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b"{}"
        self.paths: list[str] = []


@contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.paths.append(self.path)
            self.send_response(server.status)
            for name, value in server.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(server.body)))
            self.end_headers()
            self.wfile.write(server.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        server = Server(f"http://127.0.0.1:{listening.server_port}/jwks.json")
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
