"""What every runner of statements has, to be awaited: the same names as in `_runs`."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar, overload

from sqlhttp._call import Positional, column_of, first_of, one_of, value_of, wanting
from sqlhttp._errors import NeonDbError
from sqlhttp._options import ClientOptions, Wanted
from sqlhttp._retry import Pause, Steps
from sqlhttp._runs import Queries
from sqlhttp._template import Query, Text, query_of

Answer = TypeVar("Answer", covariant=True)
Row = TypeVar("Row")
Kind = TypeVar("Kind")


class AsyncRuns(Queries[Answer]):
    """Runs statements one at a time."""

    __slots__ = ()

    async def _run(self, options: ClientOptions, query: Query[Any], positional: Positional | None = None) -> Any:
        raise NotImplementedError

    @overload
    async def __call__(self, text: Text, *params: Any) -> Answer: ...
    @overload
    async def __call__(
        self: "AsyncRuns[list[Any]]", text: Text, *params: Any, row: Callable[..., Kind]
    ) -> list[Kind]: ...
    @overload
    async def __call__(self, text: Text, *params: Any, row: Callable[..., Any]) -> Any: ...
    async def __call__(self, text: Text, *params: Any, row: Callable[..., Any] | None = None) -> Any:
        """Run one statement: `sql("select * from users where id = $1", 7)`, or with a template string.

        Raises:
            NeonDbError: its subclasses say what went wrong, `may_have_run` whether the statement may have taken effect.
        """
        query = query_of(text, params)
        return await self._run(self._options, query if row is None else wanting(query, Wanted(row=row)))

    # ── less than a list of rows ─────────────────────────────────────────────────────────────────────────────────────

    @overload
    async def one(self: "AsyncRuns[Iterable[Row]]", text: Text, *params: Any) -> Row: ...
    @overload
    async def one(self, text: Text, *params: Any, row: Callable[..., Kind]) -> Kind: ...
    async def one(self, text: Text, *params: Any, row: Callable[..., Any] | None = None) -> Any:
        """The only row.

        Raises:
            NoDataFound, TooManyRows: there is none, or another one. The statement has run.
        """
        return one_of(await (self(text, *params) if row is None else self(text, *params, row=row)))

    @overload
    async def first(self: "AsyncRuns[Iterable[Row]]", text: Text, *params: Any) -> Row | None: ...
    @overload
    async def first(self, text: Text, *params: Any, row: Callable[..., Kind]) -> Kind | None: ...
    async def first(self, text: Text, *params: Any, row: Callable[..., Any] | None = None) -> Any:
        """The first row, or None."""
        return first_of(await (self(text, *params) if row is None else self(text, *params, row=row)))

    async def val(self, text: Text, *params: Any) -> Any:
        """The first column of the first row; None without a row."""
        return value_of(await self._run(self._options, query_of(text, params), Positional.ROWS))

    async def col(self, text: Text, *params: Any) -> list[Any]:
        """The first column of every row."""
        return column_of(await self._run(self._options, query_of(text, params), Positional.ROWS))

    async def execute(self, text: Text, *params: Any) -> int | None:
        """How many rows the statement inserted, changed, deleted or selected; None where Postgres counts none."""
        answer = await self._run(self._options, query_of(text, params), Positional.FULL)
        return answer.row_count  # type: ignore[no-any-return]


async def tried(steps: Steps, attempt: Callable[[float | None], Awaitable[Any]]) -> Any:
    """Carry out what `_retry.attempts` decides; `attempt` is given the deadline."""
    step = next(steps)
    try:
        while True:
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                step = steps.send(None)
                continue
            try:
                brought = await attempt(step.deadline)
            except NeonDbError as error:
                step = steps.throw(error)
            else:
                step = steps.send(brought)
    except StopIteration as done:
        return done.value
