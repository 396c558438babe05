"""What each tenant may take: what its key or issuer says, else what the settings say of its role, else of all."""

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
