import asyncio
import hmac
import json
import logging
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from sqlhttp_gateway.observe.alerts import Alert, Change, Severity
from sqlhttp_gateway.observe.webhook import MOST_WAITING, SIGNATURE, Post, Webhook, body_of, post_to, signature

CHANGE = Change(Alert("connections", Severity.CRITICAL, 0.9, 0.85, "88 of 97."), is_over=False, since=100.0)


def test_body_says_what_when_and_where() -> None:
    assert json.loads(body_of(CHANGE, now=105.0, gateway="gw-1")) == {
        "state": "firing",
        "alert": "connections",
        "severity": "critical",
        "text": "88 of 97.",
        "value": 0.9,
        "threshold": 0.85,
        "since": 100.0,
        "at": 105.0,
        "gateway": "gw-1",
    }


def test_signature_is_an_hmac_over_time_and_body() -> None:
    expected = hmac.new(b"secret", b'1700000000.{"a":1}', sha256).hexdigest()
    assert signature(b'{"a":1}', b"secret", now=1_700_000_000) == f"t=1700000000,v1={expected}"


class Receiver:
    """Answers with the statuses it was given, one after the other; 0 is no answer at all."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.bodies: list[bytes] = []

    def post(self, body: bytes) -> int:
        self.bodies.append(body)
        status = self.statuses.pop(0)
        if not status:
            raise ConnectionRefusedError(111, "Connection refused")
        return status


async def deliver(post: Post, *changes: Change) -> None:
    webhook = Webhook(post, pauses=(0.0, 0.0))
    webhook.start()
    for change in changes:
        webhook.tell(change)
    async with asyncio.timeout(10):
        await webhook.sent()
    await webhook.stop()


@pytest.mark.parametrize("statuses", [(200,), (204,), (0, 200), (503, 429, 200)])
async def test_post_is_tried_again_until_it_is_taken(
    statuses: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    receiver = Receiver(*statuses)
    await deliver(receiver.post, CHANGE)
    assert len(receiver.bodies) == len(statuses)
    assert len(set(receiver.bodies)) == 1
    assert not caplog.records


@pytest.mark.parametrize(("statuses", "tries"), [((500, 500, 500, 500), 3), ((404, 200), 1), ((302, 200), 1)])
async def test_post_is_given_up_after_the_last_try_or_when_trying_again_is_no_use(
    statuses: tuple[int, ...], tries: int, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = Receiver(*statuses)
    await deliver(receiver.post, CHANGE)
    assert len(receiver.bodies) == tries
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert f"status {statuses[0]}" in record.getMessage()


async def test_alerts_arrive_in_order_and_one_that_fails_does_not_stop_the_next() -> None:
    over = Change(CHANGE.alert, is_over=True, since=100.0)
    receiver = Receiver(404, 200)
    await deliver(receiver.post, CHANGE, over)
    assert [json.loads(body)["state"] for body in receiver.bodies] == ["firing", "over"]


@pytest.mark.parametrize("kind", [OSError, HTTPException, UnicodeError, RuntimeError])
async def test_nothing_that_a_post_fails_of_keeps_the_next_alert_back(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """A name that is too long, or a system that has no room for a thread, ended the task that posts."""
    posted: list[bytes] = []

    def post(body: bytes) -> int:
        posted.append(body)
        if len(posted) <= 3:
            raise kind("https://receiver.example/secret")
        return 200

    await deliver(post, CHANGE, CHANGE)
    assert len(posted) == 4
    [record] = caplog.records
    assert record.getMessage() == f"webhook: an alert could not be posted: {kind.__name__}"


async def test_receiver_that_is_down_for_long_cannot_fill_the_memory(caplog: pytest.LogCaptureFixture) -> None:
    webhook = Webhook(Receiver().post)
    for _ in range(MOST_WAITING + 5):
        webhook.tell(CHANGE)
    assert len(caplog.records) == 5
    await webhook.stop()


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A receiver on loopback that answers /taken with 200 and all else with a redirect to it."""
    received: list[tuple[dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append((dict(self.headers), body))
            self.send_response(200 if self.path == "/taken" else 302)
            self.send_header("Location", "/taken")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}", received
        listening.shutdown()
        thread.join()


def test_real_post_carries_a_signature_that_the_receiver_can_check(
    server: tuple[str, list[tuple[dict[str, str], bytes]]],
) -> None:
    url, received = server
    assert post_to(f"{url}/taken", b"secret")(b'{"a":1}') == 200
    [(headers, body)] = received
    moment, given = (part.partition("=")[2] for part in headers[SIGNATURE].split(","))
    assert given == hmac.new(b"secret", moment.encode() + b"." + body, sha256).hexdigest()
    assert headers["Content-Type"] == "application/json"


def test_redirect_is_not_followed(server: tuple[str, list[tuple[dict[str, str], bytes]]]) -> None:
    url, received = server
    assert post_to(f"{url}/moved", None)(b"{}") == 302
    [(headers, _)] = received
    assert SIGNATURE not in headers
