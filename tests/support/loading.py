"""Programs that ask a gateway one small statement after another, until they are told to stop, and what they got."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException


class Load:
    """Counts answers by status, and requests that got none under the name of the error."""

    def __init__(self, port: int, dsn: str, *, query: str = "SELECT 1 AS one", host: str = "127.0.0.1") -> None:
        self.counts: Counter[int | str] = Counter()
        self.answered_at: list[float] = []
        """When each answer of status 200 was there, on the monotonic clock."""
        self.refused_at: float | None = None
        """When the first answer of another status was there, or none at all."""
        self.reason = ""
        """What that said."""
        self._where = host, port
        self._headers = {"Neon-Connection-String": dsn}
        self._body = json.dumps({"query": query})
        self._stop = threading.Event()
        self._lock = threading.Lock()

    @property
    def failed(self) -> dict[int | str, int]:
        """All but the answers of status 200."""
        return {outcome: number for outcome, number in self.counts.items() if outcome != 200}

    def ask(self, query: str) -> None:
        """Ask this from now on."""
        self._body = json.dumps({"query": query})

    def run(self) -> None:
        """One program: one connection, as long as the server keeps it."""
        connection: HTTPConnection | None = None
        while not self._stop.is_set():
            connection = connection or HTTPConnection(*self._where, timeout=30)
            outcome: int | str
            try:
                connection.request("POST", "/sql", self._body, self._headers)
                response = connection.getresponse()
                text = response.read()
                outcome = response.status
                if response.will_close:
                    connection.close()
                    connection = None
            except (OSError, HTTPException) as error:
                outcome = type(error).__name__
                connection.close()
                connection = None
                text = repr(error).encode()
            with self._lock:
                self.counts[outcome] += 1
                if outcome == 200:
                    self.answered_at.append(time.monotonic())
                elif self.refused_at is None:
                    self.refused_at, self.reason = time.monotonic(), text.decode(errors="replace")
            if outcome != 200:
                self._stop.wait(0.005)
        if connection is not None:
            connection.close()

    def stop(self) -> None:
        self._stop.set()

    def wait_for(self, number: int) -> None:
        """Until so many more answers of status 200 have come."""
        goal, deadline = self.counts[200] + number, time.monotonic() + 30
        while self.counts[200] < goal:
            assert time.monotonic() < deadline, f"no answers: {dict(self.counts)}"
            time.sleep(0.01)


@contextmanager
def loading(load: Load, *, programs: int = 4) -> Iterator[Load]:
    """So many programs at once, for the length of the block."""
    threads = [threading.Thread(target=load.run, daemon=True) for _ in range(programs)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stop()
        for thread in threads:
            thread.join(35)
