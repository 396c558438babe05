"""What each pool's server told at log-in, so that whoever comes next is let in without a backend.

A greeting is right for those whose start-up asks for the same. Only application_name may differ, as its value is the
one that was asked for. The first who asks for something gets a backend, whose server says what it makes of that.
"""

from collections.abc import Mapping
from dataclasses import replace

from sqlhttp_gateway.model import PoolKey
from sqlhttp_gateway.wire.told import Greeting

MAX_KNOWN = 1000
"""Greetings that are kept, some 2 kB each; the one used least recently goes first."""
_NAME = "application_name"
_MAX_NAME = 63
"""Bytes that Postgres keeps of it (NAMEDATALEN - 1)."""

_Key = tuple[PoolKey, tuple[tuple[str, str], ...]]


class Greetings:
    """The greetings of all pools."""

    def __init__(self) -> None:
        self._known: dict[_Key, Greeting] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, pool: PoolKey, parameters: Mapping[str, str]) -> Greeting | None:
        """The greeting of whoever asks for these parameters, if somebody was greeted so before."""
        key = _key(pool, parameters)
        greeting = self._known.pop(key, None)
        if greeting is None:
            return None
        self._known[key] = greeting  # now the most recently used
        name = parameters.get(_NAME)
        if name is None or not _is_plain(name):
            return greeting
        return replace(greeting, told={**greeting.told, _NAME: name})

    def keep(self, pool: PoolKey, parameters: Mapping[str, str], greeting: Greeting) -> None:
        """Somebody who asked for these was greeted so."""
        name = parameters.get(_NAME)
        if name is not None and _is_plain(name):
            usual = greeting.reported.get(_NAME, "")
            greeting = replace(greeting, told={**greeting.told, _NAME: usual})
        self._known[_key(pool, parameters)] = greeting
        while len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]

    def forget(self, pool: PoolKey) -> None:
        """The server tells something else by now."""
        for key in [key for key in self._known if key[0] == pool]:
            del self._known[key]


def _key(pool: PoolKey, parameters: Mapping[str, str]) -> _Key:
    return pool, tuple(
        sorted((name.lower(), value) for name, value in parameters.items() if not (name == _NAME and _is_plain(value)))
    )


def _is_plain(name: str) -> bool:
    """Whether Postgres shows the name exactly as it was given."""
    return len(name) <= _MAX_NAME and name.isascii() and name.isprintable()
