"""Answers that several gateways share, in Valkey or Redis, and the word between them of what ends.

Every bucket of `stamps` has a generation there, a value that is never used twice. An answer is stored with the
generations that its buckets had before its query began, and is good as long as they are the same; what invalidates
sets new ones and tells all gateways by pub/sub, so that none keeps it in its own memory either. A bucket without a
generation gets one before it is relied on: one that the server has lost never comes back.

The server is never waited for longer than `shared_timeout`, and after a failure not asked again until the connection
that listens is back. Meanwhile each gateway goes by its own memory, for `shared_staleness` at most, since what others
invalidate is not heard; and what it invalidates itself is kept for when the server is there again.
"""

import asyncio
import contextlib
import json
import logging
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.model import Bookmark

_CHANNEL = "changes"
_GENERATION_LIFE = 400 * 86_400
"""Seconds; longer than any answer lives."""
_MAX_STORING = 100
"""Answers that are on their way to the server at once; one more is not stored there."""
_RECONNECT = (0.1, 2.0)
"""Seconds between two tries to listen again: the first, and the most."""
_PING_EVERY = 1.0

_LOG = logging.getLogger(__name__)
_UNEXPECTED = re.compile("unexpected keyword argument '([a-z_0-9]+)'", re.IGNORECASE)

_GET = """local e = redis.call('HMGET', KEYS[1], 'k', 'g', 'h', 'b')
if not e[1] then return false end
local left = redis.call('PTTL', KEYS[1])
local i = 1
local g = {}
for each in string.gmatch(e[2], '%S+') do g[#g + 1] = each end
for bucket in string.gmatch(e[1], '%S+') do
  if redis.call('GET', ARGV[1] .. bucket) ~= g[i] then redis.call('DEL', KEYS[1]) return false end
  i = i + 1
end
return {e[1], e[3], e[4], left}"""
_GENERATIONS = """local g = {}
for i = 3, #ARGV do
  redis.call('SET', ARGV[1] .. ARGV[i], ARGV[2] .. i, 'NX', 'EX', '%d')
  g[#g + 1] = redis.call('GET', ARGV[1] .. ARGV[i])
end
return g"""
# Where there is no room even for that, the generation goes: what was stored with it is as good for nothing.
_END = """for i = 5, #ARGV do
  local set = redis.pcall('SET', ARGV[1] .. ARGV[i], ARGV[2] .. i, 'EX', '%d')
  if set.err then redis.call('DEL', ARGV[1] .. ARGV[i]) end
end
return redis.call('PUBLISH', ARGV[3], ARGV[4])"""


class Shared(NamedTuple):
    """An answer as it was found there."""

    body: bytes
    row_count: int
    ttl: float
    swr: float
    cost: float
    age: float
    """Seconds since its query began."""
    buckets: tuple[int, ...]
    since: Bookmark | None = None
    seen: Bookmark | None = None
    """As of an entry in a process's own memory."""


def redis_of(url: str, timeout: float) -> Any:
    """A client of it, which has not connected yet.

    Raises:
        ConfigurationError: the package redis is missing, or the URL cannot be used.
    """
    try:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        raise ConfigurationError("cache.shared_url needs the package redis: install sqlhttp[redis]") from None
    try:
        client: Any = Redis.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0)
        )
    except ValueError as error:
        # What is quoted as no port is a piece of the password, where that has a slash in it.
        why = str(error).partition(" as ")[0]
        raise ConfigurationError(f"cache.shared_url cannot be used: {why}") from None
    try:  # what stands behind the ? is looked at by each connection alone, and would be said to nobody
        client.connection_pool.make_connection()
        is_text = client.get_encoder().decode_responses
    except Exception as error:  # a TypeError, an AttributeError, or one of redis-py's: whatever its value is taken for
        raise ConfigurationError(f"cache.shared_url cannot be used: {_parameter_in(error, url)}") from None
    if is_text:
        raise ConfigurationError("cache.shared_url cannot be used: answers are bytes, so decode_responses cannot be on")
    return client


def _parameter_in(error: Exception, url: str) -> str:
    """Which of a URL's parameters a connection does not take."""
    if "@" in url.partition("?")[2]:  # it may be a piece of the password
        return "a ? in its password has to be written %3F"
    named = _UNEXPECTED.search(str(error))
    if named is not None:
        return f'a connection of this kind takes no parameter "{named[1]}"'
    return f"a parameter behind its ? has a value that cannot be used ({type(error).__name__})"


class SharedStore:
    """One process's connection to it."""

    def __init__(
        self, url: str, *, prefix: str, timeout: float, heard: Callable[[Sequence[int]], None], lost: Callable[[], None]
    ) -> None:
        """`heard` is told which buckets another process has ended; `lost` that some may have been missed.

        Raises:
            ConfigurationError: the package redis is missing, or the URL cannot be used.
        """
        self._redis = redis_of(url, timeout)
        from redis.exceptions import OutOfMemoryError

        self._no_room: type[Exception] = OutOfMemoryError
        self._prefix = prefix
        self._timeout = timeout
        self._heard = heard
        self._lost = lost
        self._me = secrets.token_hex(8)
        self._count = 0
        self._get = self._redis.register_script(_GET)
        self._generations = self._redis.register_script(_GENERATIONS % _GENERATION_LIFE)
        self._end = self._redis.register_script(_END % _GENERATION_LIFE)
        self._unsent: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self.is_connected = False
        """Whether everything that others end is heard."""
        self._is_away = False
        """The log has it that the server cannot be used."""

    def start(self) -> None:
        """Begin to listen."""
        self._listening = asyncio.get_running_loop().create_task(self._listen())

    async def stop(self) -> None:
        """Close the connections."""
        tasks = [*self._tasks, *([self._listening] if self._listening is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(Exception):
            await self._redis.aclose()

    async def get(self, key: bytes) -> Shared | None:
        """A good answer, if there is one and the server says so in time."""
        found = await self._ask(self._get, [self._entry(key)], [self._prefix + "g:"])
        if not found:
            return None
        buckets, head, body, left = found
        row_count, ttl, swr, cost, *bookmarks = json.loads(head)
        since, seen = (Bookmark(*each) if each is not None else None for each in (bookmarks or (None, None)))
        age = max(0.0, ttl + swr - left / 1000)
        return Shared(body, row_count, ttl, swr, cost, age, tuple(map(int, buckets.split())), since, seen)

    async def generations(self, buckets: Iterable[int]) -> tuple[tuple[int, ...], bytes] | None:
        """What an answer that rests on these is to be stored with; to be asked before its query begins."""
        names = tuple(buckets)
        found = await self._ask(self._generations, [], [self._prefix + "g:", self._unique(), *names])
        return (names, b" ".join(found)) if found else None

    def put(self, key: bytes, found: Shared, generations: tuple[tuple[int, ...], bytes]) -> None:
        """Store an answer, behind everybody's back."""
        left = int((found.ttl + found.swr - found.age) * 1000)
        if left > 0 and self.is_connected and len(self._tasks) < _MAX_STORING:
            self._spawn(self._put(key, found, generations, left))

    async def end(self, buckets: Sequence[int]) -> None:
        """Let what rests on these be good nowhere; without the server, as soon as it is there again."""
        self._unsent.update(buckets)
        await self._send_unsent()

    def end_soon(self, buckets: Sequence[int]) -> None:
        """The same for whoever cannot wait."""
        self._unsent.update(buckets)
        self._spawn(self._send_unsent())

    # ── inside ──

    async def _ask(self, script: Any, keys: list[str], arguments: list[Any]) -> Any:
        """What a script answers; None from a server that is full, and without one, which is then left alone for a
        while."""
        if not self.is_connected:
            return None
        try:
            async with asyncio.timeout(self._timeout):
                return await script(keys=keys, args=arguments)
        except self._no_room:
            return None  # it is there, and full
        except Exception as error:  # redis-py has classes of its own, and lets some of asyncio's through
            self._fail(error)
            return None

    async def _put(self, key: bytes, found: Shared, generations: tuple[tuple[int, ...], bytes], left: int) -> None:
        buckets, marks = generations
        head = json.dumps([found.row_count, found.ttl, found.swr, found.cost, found.since, found.seen])
        name = self._entry(key)
        try:
            async with asyncio.timeout(self._timeout * 5), self._redis.pipeline(transaction=True) as pipe:
                pipe.delete(name)
                pipe.hset(name, mapping={"k": " ".join(map(str, buckets)), "g": marks, "h": head, "b": found.body})
                pipe.pexpire(name, left)
                await pipe.execute()
        except self._no_room:
            return
        except Exception as error:  # as above
            self._fail(error)

    async def _send_unsent(self) -> None:
        if self.is_connected:
            await self._send(self._redis, self._timeout)

    async def _send(self, client: Any, timeout: float) -> bool:
        """Tell what is to end. What comes meanwhile is told with the next."""
        if not self._unsent:
            return True
        buckets = list(self._unsent)
        self._unsent.clear()
        message = json.dumps([self._me, buckets])
        try:
            async with asyncio.timeout(timeout):
                await self._end(
                    keys=[],
                    args=[self._prefix + "g:", self._unique(), self._prefix + _CHANNEL, message, *buckets],
                    client=client,
                )
        except BaseException as error:
            self._unsent.update(buckets)
            if not isinstance(error, Exception):
                raise
            self._fail(error)
            return False
        return True

    def _fail(self, error: Exception) -> None:
        if not self._is_away:
            self._is_away = True
            # Its class alone: the text may quote the URL.
            _LOG.warning("the server of cache.shared_url cannot be used: %s", type(error).__name__)
        if self.is_connected:
            self.is_connected = False
            self._wake.set()

    async def _listen(self) -> None:
        delay = _RECONNECT[0]
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    async with asyncio.timeout(max(1.0, self._timeout)):
                        await pubsub.subscribe(self._prefix + _CHANNEL)
                        while await pubsub.get_message(timeout=self._timeout) is None:
                            pass
                    if await self._send(self._redis, max(1.0, self._timeout)):
                        self._wake.clear()
                        self._lost()  # what was ended meanwhile, nobody here has heard of
                        self.is_connected = True
                        if self._is_away:
                            self._is_away = False
                            _LOG.info("the server of cache.shared_url can be used again")
                        delay = _RECONNECT[0]
                        await self._hear(pubsub)
            except Exception as error:  # whatever it is, it is tried again
                self._fail(error)
            self.is_connected = False
            await asyncio.sleep(delay)
            delay = min(delay * 2, _RECONNECT[1])

    async def _hear(self, pubsub: Any) -> None:
        """Until the server is gone, or says nothing for too long."""
        silent = 0.0
        while not self._wake.is_set():
            message = await pubsub.get_message(timeout=0.2)
            if message is None:
                silent += 0.2
                if silent >= 2 * _PING_EVERY:
                    raise TimeoutError
                if silent >= _PING_EVERY:
                    await pubsub.ping()
                continue
            silent = 0.0
            if message["type"] == "message":
                sender, buckets = json.loads(message["data"])
                if sender != self._me:
                    self._heard(buckets)

    def _entry(self, key: bytes) -> str:
        return f"{self._prefix}e:{key.hex()}"

    def _unique(self) -> str:
        self._count += 1
        return f"{self._me}.{self._count}."

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
