"""Who asks, once that is proven: the pool that is theirs, and within which bounds.

How it is proven is the work of `authenticate`.
"""

from typing import NamedTuple

from sqlhttp_gateway.auth.grant import Grant
from sqlhttp_gateway.model import Allowance
from sqlhttp_gateway.neon.dsn import dsn_from_header
from sqlhttp_gateway.pools.pool import Pool


class Caller(NamedTuple):
    """Who asks, and the pool that is theirs."""

    target: str
    database: str
    role: str
    pool: Pool
    proven_until: float
    """When the credentials have to be proven again, on the loop's clock."""
    grant: Grant | None = None
    """The bounds of a key or token, and the password to open connections with; None: the caller showed the role's own
    password, and may do what the role may."""
    allowance: Allowance | None = None
    """What its tenant may take; None: as much as it likes."""
    is_tenant: bool = False
    """Whether a tenant's name led here, so that all of its database is counted as one, and apart from every other."""

    @property
    def tenant(self) -> str:
        """Whom turns and limits are counted by."""
        if self.grant is not None:
            return self.grant.tenant
        return f"tenant:{self.target}/{self.database}" if self.is_tenant else f"role:{self.target}/{self.role}"


def password_of(connection_string: bytes) -> bytes:
    """The password in a connection string that has been used before; needed only to open a connection."""
    return dsn_from_header(connection_string).password or b""
