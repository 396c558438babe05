"""An issuer's keys: which are usable, how often they are fetched, and what serves while they cannot be."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sqlhttp_gateway.auth.jwks import MAX_BYTES, KeySet, NotFetched, fetch_url, keys_from_jwks, read_file, verify
from sqlhttp_gateway.errors import KeySetUnavailable
from tests.support.issuer import Issuer, serving


class Source:
    """Stands for the network: what it answers, how often it was asked, and what time it is."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.is_down = False
        self.fetches = 0
        self.now = 1000.0
        self.changes = 0

    def __call__(self) -> bytes:
        self.fetches += 1
        if self.is_down:
            raise OSError("unreachable")
        return self.issuer.jwks()

    def key_set(self) -> KeySet:
        return KeySet("mine", self, clock=lambda: self.now, on_change=self._count)

    def _count(self) -> None:
        self.changes += 1


@pytest.fixture
def source() -> Source:
    issuer = Issuer()
    issuer.rotate("one")
    return Source(issuer)


def settle(keys: KeySet) -> "object":
    """What refreshes in the background, to be awaited."""
    assert keys._fetching is not None
    return keys._fetching


# ── which keys are usable ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "ES384", "EdDSA"])
def test_key_is_usable_for_its_algorithm_alone(algorithm: str) -> None:
    issuer = Issuer()
    issuer.rotate("one", algorithm)
    assert set(keys_from_jwks(issuer.jwks())) == {("one", algorithm)}


def test_rsa_key_that_names_no_algorithm_is_usable_for_all_three() -> None:
    issuer = Issuer()
    issuer.rotate("one", "RS256")
    public = issuer.public("one")
    del public["alg"]
    usable = keys_from_jwks(json.dumps({"keys": [public]}).encode())
    assert set(usable) == {("one", "RS256"), ("one", "RS384"), ("one", "RS512")}


@pytest.mark.parametrize(
    "change",
    [
        {"use": "enc"},
        {"key_ops": ["sign"]},
        {"kid": 1},
        {"alg": "HS256"},
        {"crv": "P-521"},
        {"x": "AA"},
        {"kty": "oct"},
    ],
)
def test_key_for_another_use_or_of_another_kind_is_passed_over(source: Source, change: dict[str, object]) -> None:
    broken = source.issuer.public("one") | change
    good = source.issuer.public("one") | {"kid": "good"}
    assert {kid for kid, _ in keys_from_jwks(json.dumps({"keys": [broken, good, 1, None]}).encode())} == {"good"}


def test_symmetric_key_in_a_public_set_is_never_used() -> None:
    entry = {"kty": "oct", "kid": "one", "alg": "HS256", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}
    with pytest.raises(ValueError, match="no usable key"):
        keys_from_jwks(json.dumps({"keys": [entry]}).encode())


def test_short_rsa_key_is_passed_over() -> None:
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

    issuer = Issuer()
    issuer.keys["short"] = ("RS256", generate_private_key(65537, 1024))
    with pytest.raises(ValueError, match="no usable key"):
        keys_from_jwks(issuer.jwks())


def test_of_a_private_key_only_the_public_half_is_kept(source: Source) -> None:
    usable = keys_from_jwks(source.issuer.jwks(d="AQAB"))
    assert not hasattr(usable["one", "ES256"], "private_numbers")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"keys":{}}', b'{"keys":[]}', b"\xff"])
def test_anything_that_is_no_key_set_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        keys_from_jwks(data)


def test_signature_is_verified(source: Source) -> None:
    key = keys_from_jwks(source.issuer.jwks())["one", "ES256"]
    assert not verify("ES256", key, b"signed", b"\0" * 64)


# ── when they are fetched ────────────────────────────────────────────────────────────────────────────────────────────


async def test_keys_are_fetched_when_first_needed_and_then_kept(source: Source) -> None:
    keys = source.key_set()
    assert await keys.key("one", "ES256") is not None
    assert await keys.key("one", "RS256") is None
    source.now += 300.0
    assert await keys.key("one", "ES256") is not None
    assert source.fetches == 1


async def test_old_keys_are_refreshed_behind_the_callers_back(source: Source) -> None:
    keys = source.key_set()
    await keys.key("one", "ES256")
    source.now += 300.1
    source.issuer.rotate("two")
    assert await keys.key("one", "ES256") is not None
    await settle(keys)  # type: ignore[misc]
    assert source.fetches == 2
    assert await keys.key("two", "ES256") is not None


async def test_unknown_key_id_asks_once_in_a_while_however_many_come(source: Source) -> None:
    keys = source.key_set()
    await keys.key("one", "ES256")
    source.issuer.rotate("two")
    source.now += 29.9
    for number in range(1000):
        assert await keys.key(f"made up {number}", "ES256") is None
    assert source.fetches == 1
    source.now += 0.2
    assert await keys.key("two", "ES256") is not None
    for number in range(1000):
        assert await keys.key(f"made up {number}", "ES256") is None
    assert source.fetches == 2


async def test_unknown_key_id_waits_for_a_refresh_that_is_under_way(source: Source) -> None:
    keys = source.key_set()
    await keys.key("one", "ES256")
    source.issuer.rotate("two")
    source.now += 300.1  # the same look finds the set too old, so that the refresh has just begun
    assert await keys.key("two", "ES256") is not None
    assert source.fetches == 2


async def test_key_that_the_issuer_withdrew_is_good_no_more_and_those_who_remember_are_told(source: Source) -> None:
    keys = source.key_set()
    await keys.key("one", "ES256")
    source.issuer.keys.clear()
    source.issuer.rotate("two")
    source.now += 300.1
    await keys.key("one", "ES256")
    await settle(keys)  # type: ignore[misc]
    assert source.changes == 1
    assert await keys.key("one", "ES256") is None


async def test_last_good_set_serves_while_the_issuer_is_down_and_not_for_ever(source: Source) -> None:
    keys = source.key_set()
    await keys.key("one", "ES256")
    source.is_down = True
    source.now += 86_400.0
    assert await keys.key("one", "ES256") is not None
    await settle(keys)  # type: ignore[misc]
    assert await keys.key("one", "ES256") is not None
    source.now += 31.0
    with pytest.raises(KeySetUnavailable, match="issuer mine"):
        await keys.key("one", "ES256")
    source.is_down = False
    source.now += 30.0
    assert await keys.key("one", "ES256") is not None


async def test_issuer_that_was_never_reached_is_not_asked_by_every_request(source: Source) -> None:
    keys = source.key_set()
    source.is_down = True
    for _ in range(100):
        with pytest.raises(KeySetUnavailable):
            await keys.key("one", "ES256")
    assert source.fetches == 1


async def test_set_without_a_usable_key_does_not_replace_a_good_one(source: Source) -> None:
    keys = source.key_set()
    await keys.key("one", "ES256")
    known = dict(source.issuer.keys)
    source.issuer.keys.clear()
    source.now += 300.1
    await keys.key("one", "ES256")
    await settle(keys)  # type: ignore[misc]
    assert await keys.key("one", "ES256") is not None
    source.issuer.keys.update(known)


# ── how they are fetched ─────────────────────────────────────────────────────────────────────────────────────────────


def test_set_comes_over_http(source: Source) -> None:
    with serving() as server:
        server.body = source.issuer.jwks()
        assert fetch_url(server.url)() == server.body
        assert server.paths == ["/jwks.json"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed_least_of_all_to_an_address_inside(source: Source, status: int) -> None:
    with serving() as inside, serving() as server:
        inside.body = source.issuer.jwks()
        server.status, server.headers = status, {"Location": inside.url}
        with pytest.raises(NotFetched, match=f"^status {status}$"):
            fetch_url(server.url)()
        assert inside.paths == []


@pytest.mark.parametrize("status", [204, 404, 500])
def test_other_status_is_no_key_set(status: int) -> None:
    with serving() as server:
        server.status, server.body = status, b""
        with pytest.raises(NotFetched, match=f"^status {status}$"):
            fetch_url(server.url)()


def test_answer_that_does_not_end_is_given_up() -> None:
    with serving() as server:
        server.body = b" " * (MAX_BYTES + 1)
        with pytest.raises(NotFetched, match="more than 65536 bytes"):
            fetch_url(server.url)()


def test_answer_that_drips_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        over = threading.Event()

        def drip() -> None:
            program, _ = listening.accept()
            with program:
                program.recv(65536)
                program.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
                while not over.wait(0.02):
                    try:
                        program.sendall(b" ")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(NotFetched, match="not complete within"):
                fetch_url(f"http://127.0.0.1:{listening.getsockname()[1]}/", timeout=0.2)()
        finally:
            over.set()
            thread.join()


def test_set_may_lie_in_a_file(source: Source, tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_bytes(source.issuer.jwks())
    assert read_file(file)() == source.issuer.jwks()
    file.write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(NotFetched):
        read_file(file)()


async def test_failure_is_logged_without_the_url(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as server:
        server.status = 500
        keys = KeySet("mine", fetch_url(f"{server.url}?token=hunter2"))
        with pytest.raises(KeySetUnavailable):
            await keys.key("one", "ES256")
    assert "mine" in caplog.text
    assert "status 500" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("fault", [RecursionError("deep"), TypeError("odd"), UnicodeError("torn")])
async def test_fault_that_nobody_foresaw_is_one_fetch_that_failed(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def fetch() -> bytes:
        raise fault

    keys = KeySet("mine", fetch)
    with pytest.raises(KeySetUnavailable):
        await keys.key("one", "ES256")
    assert type(fault).__name__ in caplog.text


def test_gateway_that_is_shown_no_tokens_does_not_load_what_verifies_them() -> None:
    program = (
        "import sys, sqlhttp_gateway.serve; print([name for name in ('cryptography', 'jwt') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]", "9 MiB a worker"


async def test_issuer_that_was_never_reached_is_tried_again_soon_and_not_at_once(source: Source) -> None:
    keys = source.key_set()
    source.is_down = True
    for seconds, fetches in ((0.0, 1), (0.9, 1), (0.1, 2)):
        source.now += seconds
        with pytest.raises(KeySetUnavailable):
            await keys.key("one", "ES256")
        assert source.fetches == fetches
    source.is_down = False
    source.now += 1.0
    assert await keys.key("one", "ES256") is not None


class Stuck(Source):
    """An issuer whose answer does not end: a thread waits for it, whatever time limit there is."""

    def __init__(self, issuer: Issuer) -> None:
        super().__init__(issuer)
        self.may_end = threading.Event()
        self.began = threading.Event()

    def __call__(self) -> bytes:
        self.began.set()
        super().__call__()
        self.may_end.wait(30)
        return self.issuer.jwks()


@pytest.fixture
def stuck() -> Stuck:
    issuer = Issuer()
    issuer.rotate("one")
    return Stuck(issuer)


async def test_issuer_whose_answer_does_not_end_keeps_one_thread_and_no_more(stuck: Stuck) -> None:
    """All the others are for whoever resolves the name of a server."""
    keys = KeySet("mine", stuck, clock=lambda: stuck.now, timeout=0.01)
    for _ in range(5):
        with pytest.raises(KeySetUnavailable):
            await keys.key("one", "ES256")
        stuck.now += 60
    assert stuck.fetches == 1
    stuck.may_end.set()
    assert keys._thread is not None
    await keys._thread
    keys._timeout = 30.0
    assert await keys.key("one", "ES256") is not None
    assert stuck.fetches == 2


async def test_request_that_waits_for_keys_which_are_given_up_is_refused_and_not_cancelled(stuck: Stuck) -> None:
    """So it is when the settings are read again, and say other things of the issuer."""
    keys = KeySet("mine", stuck, clock=lambda: stuck.now)
    waiting = asyncio.create_task(keys.key("one", "ES256"))
    await asyncio.to_thread(stuck.began.wait, 30)
    await keys.stop()
    stuck.may_end.set()  # the loop waits at its end for the thread
    with pytest.raises(KeySetUnavailable):
        await waiting
