"""How many connections there may be, how long to wait for one, and when a server is given up."""

from typing import Self

from pydantic import Field, model_validator

from sqlhttp_gateway.settings.section import MAX_SECONDS, Seconds, Section


class PoolSettings(Section):
    """How many connections, and how long to wait for one."""

    max_size: int = Field(default=10, ge=1, description="Most connections to one (target, database, role).")
    min_size: int = Field(
        default=0, ge=0, description="Idle connections kept open to each (target, database, role) in use."
    )
    max_total: int = Field(default=50, ge=1, description="Most connections over all pools together.")
    wait_timeout: Seconds = Field(default=5.0, gt=0, description="Seconds that a request may wait for a connection.")
    max_waiting: int = Field(
        default=1000, ge=0, description="Requests that may wait for one pool; one more is refused at once."
    )
    pause_limit: Seconds = Field(
        default=60.0,
        gt=0,
        description="Seconds that a request may wait for RESUME, beside wait_timeout, while its database is paused.",
    )
    idle_timeout: Seconds = Field(
        default=300.0, gt=0, description="Seconds after which an unused connection is closed."
    )
    max_lifetime: Seconds = Field(
        default=3600.0, gt=0, description="Seconds after which a connection is replaced, less up to a tenth by chance."
    )
    connect_timeout: Seconds = Field(default=5.0, gt=0, description="Seconds that opening one connection may take.")
    client_check_interval: Seconds = Field(
        default=0.5,
        ge=0,
        le=MAX_SECONDS,
        description="Seconds after which Postgres (14 or later), while it runs a statement, looks whether the gateway "
        "is still there, so that a gateway that was killed leaves nothing running; 0: never.",
    )
    statement_cache_size: int = Field(
        default=200,
        ge=0,
        description="Named prepared statements kept on each connection; 0 for an upstream transaction pooler.",
    )

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        if self.min_size > self.max_size:
            raise ValueError(f"min_size ({self.min_size}) is above max_size ({self.max_size})")
        return self


class BreakerSettings(Section):
    """When a server that cannot be reached is given up, until it can be reached again."""

    failures: int = Field(
        default=5,
        ge=0,
        description="Connections in a row that could not be opened, after which requests that need one are refused at "
        "once with 503; 0: they never are.",
    )
    probe_interval: Seconds = Field(
        default=0.25,
        ge=0.01,
        description="Seconds, up to a half more or less by chance, between two tries in the background meanwhile.",
    )


def per_worker(pool: PoolSettings, workers: int) -> PoolSettings:
    """The pool bounds of one of `workers` processes, so that together they keep to the bounds as set.

    The one place where a bound of the whole service becomes the bound of a process.
    """
    if workers == 1:
        return pool
    return pool.model_copy(
        update={
            "max_size": pool.max_size // workers,
            "max_total": pool.max_total // workers,
            "min_size": pool.min_size // workers,
            "max_waiting": pool.max_waiting // workers,
        }
    )
