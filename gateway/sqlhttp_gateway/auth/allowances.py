"""What each tenant may take: what its key or issuer says, else what the settings say of its role, else of all."""

from collections.abc import Iterable
from dataclasses import asdict

import orjson
from pydantic import ValidationError

from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.model import NO_LIMITS, Allowance
from sqlhttp_gateway.settings import AllowanceSettings, LimitsSettings

_MOST = 10_000
"""Answers that are remembered; keys in a table come and go."""


def allowance_of(section: AllowanceSettings) -> Allowance:
    """The limits of one section, for the service as a whole."""
    return Allowance(
        max_concurrent=section.max_concurrent,
        max_waiting=section.max_waiting,
        rate=section.rate,
        burst=section.burst,
        statement_timeout=section.statement_timeout,
        max_response_bytes=section.max_response_bytes,
    )


def limits_as_json(allowance: Allowance) -> bytes | None:
    """The limits that are set, by the names of the settings, as a table keeps them; None when none is."""
    plain = {name: value for name, value in asdict(allowance).items() if value is not None}
    return orjson.dumps(plain) if plain else None


def limits_from_json(limits: object) -> Allowance:
    """What a table's column says. What is none of the settings' limits is taken for the strictest: some was wanted."""
    if limits is None:
        return NO_LIMITS
    try:
        return allowance_of(AllowanceSettings.model_validate(limits))
    except ValidationError:
        return Allowance(max_concurrent=1, max_waiting=0, rate=1.0)


def limits_from_words(words: Iterable[str]) -> Allowance:
    """What a command line says: NAME=NUMBER each.

    Raises:
        ConfigurationError: a word is none of the settings' limits.
    """
    given = dict(word.partition("=")[::2] for word in words)
    try:
        return allowance_of(AllowanceSettings.model_validate(given))
    except ValidationError as error:
        [fault, *_] = error.errors(include_input=False)
        what = "there is no such limit" if fault["type"] == "extra_forbidden" else fault["msg"]
        raise ConfigurationError(f"--limit {'.'.join(map(str, fault['loc']))}: {what}") from None


class Allowances:
    """Finds the allowance of a role, with or without one of a key's or an issuer's own."""

    def __init__(self, settings: LimitsSettings, workers: int) -> None:
        """`workers` processes share each limit that counts requests."""
        self._for_all = allowance_of(settings)
        self._by_role = {role: allowance_of(each) for role, each in settings.roles.items()}
        self._workers = workers
        self._found: dict[tuple[str, Allowance | None], Allowance | None] = {}

    def of(self, role: str, own: Allowance | None = None) -> Allowance | None:
        """The allowance of one process for a tenant with this role; None when nothing is limited."""
        key = (role, own)
        if key not in self._found:
            if len(self._found) >= _MOST:
                self._found.clear()
            merged = (own or NO_LIMITS).or_else(self._by_role.get(role, NO_LIMITS)).or_else(self._for_all)
            self._found[key] = merged.share_of(self._workers) if merged != NO_LIMITS else None
        return self._found[key]
