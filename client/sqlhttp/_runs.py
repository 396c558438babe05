"""What every runner of statements has, synchronously: a client over HTTP, a session, a transaction.

They differ in where a statement goes (`_run`) and in the options a single call may have (`query`). `_runs_async` has
the same names for asyncio; what waits for nothing, `Queries`, is the same for both.
"""

from collections.abc import Callable, Iterable, Mapping
from time import sleep
from typing import Any, Generic, TypeVar, overload

from sqlhttp._call import Positional, column_of, first_of, one_of, value_of, wanting
from sqlhttp._errors import NeonDbError
from sqlhttp._options import ClientOptions, Wanted
from sqlhttp._retry import Pause, Steps
from sqlhttp._template import Maker, Query, Text, query_of
from sqlhttp._types import Decoder

Answer = TypeVar("Answer", covariant=True)
Row = TypeVar("Row")
Kind = TypeVar("Kind")

DictRow = dict[str, Any]
TupleRow = tuple[Any, ...]


class Queries(Maker, Generic[Answer]):
    """Makes queries that are run later, by whoever runs them at once as well. `Answer` is what running one returns."""

    __slots__ = ("_options",)

    def __init__(self, options: ClientOptions) -> None:
        self._options = options

    @overload
    def q(self, text: Text, *params: Any) -> Query[Answer]: ...
    @overload
    def q(self: "Queries[list[Any]]", text: Text, *params: Any, row: Callable[..., Kind]) -> Query[list[Kind]]: ...
    @overload
    def q(
        self,
        text: Text,
        *params: Any,
        array_mode: bool | None = ...,
        full_results: bool | None = ...,
        row: Callable[..., Any] | None = ...,
        types: Mapping[int, Decoder] | None = ...,
    ) -> Query[Any]: ...
    def q(
        self,
        text: Text,
        *params: Any,
        array_mode: bool | None = None,
        full_results: bool | None = None,
        row: Callable[..., Any] | None = None,
        types: Mapping[int, Decoder] | None = None,
    ) -> Query[Any]:
        """A query to run later, in `transaction`, or to put into another one in place of a parameter."""
        return wanting(query_of(text, params), Wanted(array_mode, full_results, row, types))


class Runs(Queries[Answer]):
    """Runs statements one at a time."""

    __slots__ = ()

    def _run(self, options: ClientOptions, query: Query[Any], positional: Positional | None = None) -> Any:
        raise NotImplementedError

    @overload
    def __call__(self, text: Text, *params: Any) -> Answer: ...
    @overload
    def __call__(self: "Runs[list[Any]]", text: Text, *params: Any, row: Callable[..., Kind]) -> list[Kind]: ...
    @overload
    def __call__(self, text: Text, *params: Any, row: Callable[..., Any]) -> Any: ...
    def __call__(self, text: Text, *params: Any, row: Callable[..., Any] | None = None) -> Any:
        """Run one statement: `sql("select * from users where id = $1", 7)`, or with a template string.

        Raises:
            NeonDbError: its subclasses say what went wrong, `may_have_run` whether the statement may have taken effect.
        """
        query = query_of(text, params)
        return self._run(self._options, query if row is None else wanting(query, Wanted(row=row)))

    # ── less than a list of rows ─────────────────────────────────────────────────────────────────────────────────────

    @overload
    def one(self: "Runs[Iterable[Row]]", text: Text, *params: Any) -> Row: ...
    @overload
    def one(self, text: Text, *params: Any, row: Callable[..., Kind]) -> Kind: ...
    def one(self, text: Text, *params: Any, row: Callable[..., Any] | None = None) -> Any:
        """The only row.

        Raises:
            NoDataFound, TooManyRows: there is none, or another one. The statement has run.
        """
        return one_of(self(text, *params) if row is None else self(text, *params, row=row))

    @overload
    def first(self: "Runs[Iterable[Row]]", text: Text, *params: Any) -> Row | None: ...
    @overload
    def first(self, text: Text, *params: Any, row: Callable[..., Kind]) -> Kind | None: ...
    def first(self, text: Text, *params: Any, row: Callable[..., Any] | None = None) -> Any:
        """The first row, or None."""
        return first_of(self(text, *params) if row is None else self(text, *params, row=row))

    def val(self, text: Text, *params: Any) -> Any:
        """The first column of the first row; None without a row."""
        return value_of(self._run(self._options, query_of(text, params), Positional.ROWS))

    def col(self, text: Text, *params: Any) -> list[Any]:
        """The first column of every row."""
        return column_of(self._run(self._options, query_of(text, params), Positional.ROWS))

    def execute(self, text: Text, *params: Any) -> int | None:
        """How many rows the statement inserted, changed, deleted or selected; None where Postgres counts none."""
        return self._run(self._options, query_of(text, params), Positional.FULL).row_count  # type: ignore[no-any-return]


def tried(steps: Steps, attempt: Callable[[float | None], Any]) -> Any:
    """Carry out what `_retry.attempts` decides; `attempt` is given the deadline."""
    step = next(steps)
    try:
        while True:
            if isinstance(step, Pause):
                sleep(step.seconds)
                step = steps.send(None)
                continue
            try:
                brought = attempt(step.deadline)
            except NeonDbError as error:
                step = steps.throw(error)
            else:
                step = steps.send(brought)
    except StopIteration as done:
        return done.value
