"""Which databases are paused. What that means for a pool is for the pool and its gate to say."""


class Pauses:
    """A database by its name, or all of them."""

    __slots__ = ("_all", "_databases")

    def __init__(self) -> None:
        self._all = False
        self._databases: set[str] = set()

    def __bool__(self) -> bool:
        """Whether anything is paused."""
        return self._all or bool(self._databases)

    def cover(self, database: str) -> bool:
        """Whether `database` is paused, by itself or with all others."""
        return self._all or database in self._databases

    @property
    def begun(self) -> list[str | None]:
        """What `begin` was told of and `end` was not."""
        return [*([None] if self._all else []), *sorted(self._databases)]

    def begin(self, database: str | None) -> None:
        """Pause a database; None: all, those that nobody has used yet included."""
        if database is None:
            self._all = True
        else:
            self._databases.add(database)

    def end(self, database: str | None) -> None:
        """Pause it no longer; None: nothing is paused any more, not even what was paused by its name."""
        if database is not None:
            self._databases.discard(database)
        else:
            self._all = False
            self._databases.clear()
