"""`neon(url)` and what it returns: a callable that runs SQL over HTTP."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import Any, NamedTuple

from sqlhttp._endpoint import Destination, destination
from sqlhttp._request import IsolationLevel, TransactionOptions, request
from sqlhttp._response import Shape, batch, single
from sqlhttp._retry import Pause, Retry, Steps, attempts
from sqlhttp._template import Query, query_of, statement_of
from sqlhttp._transport import SocketTransport, Transport
from sqlhttp._types import Decoder

TIMEOUT = 75.0
"""Seconds a call may take. Above the gateway's own 60 s for a statement, so that its clearer word arrives first."""


class ClientOptions(NamedTuple):
    """What `neon()` was told."""

    destination: Destination
    transport: Transport
    auth_token: str | None = None
    shape: Shape = Shape()
    transaction: TransactionOptions = TransactionOptions()
    headers: Mapping[str, str] | None = None
    timeout: float | None = TIMEOUT
    retry: Retry | None = Retry()


def neon(
    url: str | None = None,
    *,
    endpoint: str | None = None,
    auth_token: str | None = None,
    array_mode: bool = False,
    full_results: bool = False,
    isolation_level: IsolationLevel | None = None,
    read_only: bool | None = None,
    deferrable: bool | None = None,
    timeout: float | None = TIMEOUT,
    types: Mapping[int, Decoder] | None = None,
) -> "Sql":
    """A client for the database of `url`; nothing is sent until it is used."""
    return Sql(
        ClientOptions(
            destination=destination(url, endpoint, os.environ, with_token=auth_token is not None),
            transport=SocketTransport(),
            auth_token=auth_token,
            shape=Shape(tuple if array_mode else dict, full_results, types),
            transaction=TransactionOptions(isolation_level, read_only, deferrable),
            timeout=timeout,
        )
    )


class Sql:
    """Runs SQL over HTTP: `sql("select * from users where id = $1", 7)`."""

    def __init__(self, options: ClientOptions) -> None:
        self._options = options

    def __call__(self, text: str | Query, *params: Any) -> Any:
        """Run one statement and return its rows."""
        return self._run(query_of(text, params), self._options.shape)

    def query(
        self,
        text: str | Query,
        params: Sequence[Any] = (),
        *,
        array_mode: bool | None = None,
        full_results: bool | None = None,
        types: Mapping[int, Decoder] | None = None,
    ) -> Any:
        """Run one statement with options of its own."""
        shape = self._options.shape
        if array_mode is not None:
            shape = shape._replace(row=tuple if array_mode else dict)
        if full_results is not None:
            shape = shape._replace(full_results=full_results)
        if types is not None:
            shape = shape._replace(types=types)
        return self._run(query_of(text, tuple(params)), shape)

    def q(self, text: str | Query, *params: Any) -> Query:
        """A statement to run later, in `transaction`, or a part of another one."""
        return query_of(text, params)

    def transaction(
        self,
        queries: "Iterable[Query] | Callable[[Callable[..., Query]], Iterable[Query]]",
        *,
        isolation_level: IsolationLevel | None = None,
        read_only: bool | None = None,
        deferrable: bool | None = None,
    ) -> list[Any]:
        """Run the statements in one transaction, and return the rows of each."""
        wanted = list(queries(self.q) if callable(queries) else queries)
        own = self._options.transaction
        merged = TransactionOptions(
            own.isolation_level if isolation_level is None else isolation_level,
            own.read_only if read_only is None else read_only,
            own.deferrable if deferrable is None else deferrable,
        )
        out = request(
            [statement_of(query) for query in wanted],
            batch=True,
            connection_string=self._options.destination.connection_string,
            token=self._options.auth_token,
            transaction=merged,
            extra=self._options.headers,
        )
        shapes = [self._options.shape] * len(wanted)
        texts = tuple(query.text for query in wanted)
        return self._drive(  # type: ignore[no-any-return]
            out,
            attempts(
                lambda reply, number: batch(reply, shapes, queries=texts, attempts=number),
                retry=self._options.retry,
                reads_only=bool(merged.read_only),
                deadline=self._deadline(),
            ),
        )

    def _run(self, query: Query, shape: Shape) -> Any:
        out = request(
            [statement_of(query)],
            batch=False,
            connection_string=self._options.destination.connection_string,
            token=self._options.auth_token,
            extra=self._options.headers,
        )
        return self._drive(
            out,
            attempts(
                lambda reply, number: single(reply, shape, query=query.text, attempts=number),
                retry=self._options.retry,
                reads_only=False,
                deadline=self._deadline(),
            ),
        )

    def _deadline(self) -> float | None:
        return None if self._options.timeout is None else monotonic() + self._options.timeout

    def _drive(self, out: Any, steps: Steps) -> Any:
        from sqlhttp._errors import NeonDbError

        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    from time import sleep

                    sleep(step.seconds)
                    step = steps.send(None)
                    continue
                try:
                    reply = self._options.transport.send(self._options.destination.endpoint, out, step.deadline)
                except NeonDbError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as done:
            return done.value
