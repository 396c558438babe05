"""Posts alerts to a webhook: JSON, signed, tried again within limits, and never in anybody's way.

A receiver checks `Sqlhttp-Signature: t=SECONDS,v1=HEX` by computing HMAC-SHA256, with the shared secret as key, over
the bytes `SECONDS.BODY`, and by refusing a time that is long ago.
"""

import asyncio
import contextlib
import hmac
import logging
import random
import socket
import time
from collections.abc import Callable
from hashlib import sha256
from http.client import HTTPException

import orjson

from sqlhttp_gateway.observe.alerts import Change

SIGNATURE = "Sqlhttp-Signature"
TIMEOUT = 5.0
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between one try and the next, up to a quarter more by chance; after the last the alert is given up."""
MOST_WAITING = 100
_TRY_AGAIN = frozenset({408, 425, 429})
_LOG = logging.getLogger(__name__)

Post = Callable[[bytes], int]
"""Sends a body; the status that came back. Runs in a thread.

Raises OSError or HTTPException when none did, and ValueError where a URL's name is none.
"""


def body_of(change: Change, *, now: float, gateway: str) -> bytes:
    """What is posted. Times are Unix time; `gateway` says which of several this is."""
    alert = change.alert
    return orjson.dumps(
        {
            "state": "over" if change.is_over else "firing",
            "alert": alert.name,
            "severity": alert.severity,
            "text": alert.text,
            "value": alert.value,
            "threshold": alert.threshold,
            "since": change.since,
            "at": now,
            "gateway": gateway,
        }
    )


def signature(body: bytes, secret: bytes, *, now: int) -> str:
    """The header's value for a body that is sent at `now`, in Unix time."""
    digest = hmac.new(secret, b"%d." % now + body, sha256).hexdigest()
    return f"t={now},v1={digest}"


class Webhook:
    """A queue of posts and the task that sends them, one after the other, so that they arrive in order."""

    def __init__(self, post: Post, *, pauses: tuple[float, ...] = PAUSES) -> None:
        self._post = post
        self._pauses = pauses
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(MOST_WAITING)
        self._task: asyncio.Task[None] | None = None
        self._gateway = socket.gethostname()

    def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def tell(self, change: Change) -> None:
        """Send it soon; the oldest that waits is dropped when too many do."""
        if self._queue.full():
            self._queue.get_nowait()
            self._queue.task_done()
            _LOG.error("webhook: %d alerts wait to be posted; one is dropped", MOST_WAITING)
        self._queue.put_nowait(body_of(change, now=time.time(), gateway=self._gateway))

    async def sent(self) -> None:
        """Return when nothing waits to be sent any more."""
        await self._queue.join()

    async def stop(self) -> None:
        """End, with what waits unsent."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            body = await self._queue.get()
            try:
                await self._send(body)
            finally:
                self._queue.task_done()

    async def _send(self, body: bytes) -> None:
        for pause in (*self._pauses, None):
            try:
                status = await asyncio.to_thread(self._post, body)
            except (OSError, HTTPException, ValueError, RuntimeError) as error:
                # A RuntimeError is a thread that the system has no room for. No text: the URL may be a secret.
                outcome = type(error).__name__
            else:
                if 200 <= status < 300:
                    return
                outcome = f"status {status}"
                if 300 <= status < 500 and status not in _TRY_AGAIN:
                    break
            if pause is not None:
                await asyncio.sleep(pause * (1 + random.random() / 4))
        _LOG.error("webhook: an alert could not be posted: %s", outcome)


def post_to(url: str, secret: bytes | None) -> Post:
    """Posts to `url`; redirects are not followed, since a signed body is for one receiver."""
    from urllib.error import HTTPError
    from urllib.request import Request

    from sqlhttp_gateway.no_redirect import opener

    one_place = opener()

    def post(body: bytes) -> int:
        headers = {"Content-Type": "application/json", "User-Agent": "sqlhttp"}
        if secret is not None:
            headers[SIGNATURE] = signature(body, secret, now=int(time.time()))
        request = Request(url, body, headers, method="POST")
        try:
            with one_place.open(request, timeout=TIMEOUT) as response:
                return int(response.status)
        except HTTPError as error:
            error.close()
            return error.code

    return post
