"""What one request may take of a connection."""

from dataclasses import dataclass
from math import inf

from sqlhttp_gateway.model import Allowance


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may take: `max_bytes` of rows, `statement_timeout` seconds for each statement (0: none)."""

    max_bytes: int
    statement_timeout: float

    def within(self, allowance: Allowance) -> "Limits":
        """These, or those of a tenant where they are lower."""
        most, timeout = allowance.max_response_bytes, allowance.statement_timeout
        return Limits(
            max_bytes=min(most or self.max_bytes, self.max_bytes),
            statement_timeout=min(timeout, self.statement_timeout or inf) if timeout else self.statement_timeout,
        )
