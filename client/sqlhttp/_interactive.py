"""What a transaction says and when it is over: BEGIN, COMMIT, ROLLBACK, savepoints. Steps, as in `_line`."""

from typing import Any

from sqlhttp import _errors as errors
from sqlhttp._line import Line, Steps
from sqlhttp._request import ISOLATION_LEVELS, Statement, TransactionOptions

_LEVELS = dict(
    zip(ISOLATION_LEVELS, ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"), strict=True)
)
_COMMIT = Statement("COMMIT")
_ROLLBACK = Statement("ROLLBACK")


def begin_statement(options: TransactionOptions) -> Statement:
    """BEGIN with what the options say.

    Raises:
        InterfaceError: the isolation level is unknown.
    """
    words = ["BEGIN"]
    if options.isolation_level is not None:
        if options.isolation_level not in _LEVELS:
            raise errors.InterfaceError(f"unknown isolation level; one of {', '.join(ISOLATION_LEVELS)}")
        words.append(f"ISOLATION LEVEL {_LEVELS[options.isolation_level]}")
    if options.read_only:
        words.append("READ ONLY")
    if options.deferrable:
        words.append("DEFERRABLE")
    return Statement(" ".join(words))


class OpenTransaction:
    """A transaction that has begun on a line."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._is_over = False
        self._savepoints = 0
        self._failure: errors.NeonDbError | None = None

    @property
    def is_over(self) -> bool:
        """Whether it was ended; one that is lost with its connection was not."""
        return self._is_over

    def run(self, *statements: Statement) -> Steps[list[dict[str, Any]]]:
        """The statements' answers; see `Line.run`.

        Raises:
            InterfaceError: the transaction is over.
        """
        self._check()
        try:
            answers = yield from self._line.run(*statements)
        except errors.NeonDbError as error:
            self._failure = error
            raise
        finally:
            if self._line.status == "I":
                self._is_over = True  # the program has said COMMIT or ROLLBACK itself
        return answers

    def commit(self) -> Steps[None]:
        """COMMIT.

        Raises:
            InFailedSqlTransaction: a statement had failed, so that Postgres has rolled back instead.
            OutcomeUnknown: the connection ended before Postgres said so.
        """
        self._check()
        self._is_over = True
        if not self._line.is_usable and self._failure is not None:
            raise self._failure  # the program has passed over it
        [answer] = yield from self._line.run(_COMMIT)
        if answer["command"] == "ROLLBACK":
            raise self._failed()

    def roll_back(self) -> Steps[None]:
        """ROLLBACK."""
        self._check()
        self._is_over = True
        yield from self._line.run(_ROLLBACK)

    # ── savepoints ───────────────────────────────────────────────────────────────────────────────────────────────────

    def save(self) -> Steps[str]:
        """A new savepoint's name."""
        name = f"sqlhttp_{self._savepoints + 1}"
        yield from self.run(Statement(f"SAVEPOINT {name}"))
        self._savepoints += 1
        return name

    def release(self, name: str) -> Steps[None]:
        """Keep what has happened since the savepoint, as a part of the transaction.

        Raises:
            InFailedSqlTransaction: a statement had failed since, so that all since the savepoint is undone instead.
        """
        if self._line.status == "E":
            error = self._failed()
            yield from self.undo(name)
            raise error
        yield from self.run(Statement(f"RELEASE {name}"))

    def undo(self, name: str) -> Steps[None]:
        """Undo all that has happened since the savepoint, and forget it."""
        yield from self.run(Statement(f"ROLLBACK TO {name}"), Statement(f"RELEASE {name}"))
        self._failure = None

    def undo_and_keep(self, name: str) -> Steps[None]:
        """Undo all that has happened since the savepoint, which can be used again."""
        yield from self.run(Statement(f"ROLLBACK TO {name}"))
        self._failure = None

    def _check(self) -> None:
        if self._is_over:
            raise errors.InterfaceError("the transaction is over")

    def _failed(self) -> errors.NeonDbError:
        from sqlhttp.errors import InFailedSqlTransaction

        error = InFailedSqlTransaction(
            "a statement had failed, so that the transaction was rolled back and not committed", code="25P02"
        )
        error.__cause__ = self._failure
        return error
