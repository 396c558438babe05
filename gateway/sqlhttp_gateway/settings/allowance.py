"""What each tenant may take."""

from pydantic import Field

from sqlhttp_gateway.settings.section import Bytes, Seconds, Section


class AllowanceSettings(Section):
    """What one tenant may take: an API key, a token's subject, or a role."""

    max_concurrent: int | None = Field(
        default=None,
        ge=1,
        description="Most requests, and transactions of tunnels, that may run at once.",
        examples=[5],
    )
    max_waiting: int | None = Field(
        default=None, ge=0, description="Most requests that may wait; one more is refused at once.", examples=[20]
    )
    rate: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Requests, and transactions of tunnels, a second.",
        examples=[50],
    )
    burst: int | None = Field(
        default=None,
        ge=1,
        description="How many of them may come at once after a pause; without it, as many as in a second.",
        examples=[100],
    )
    statement_timeout: Seconds | None = Field(
        default=None,
        gt=0,
        description="Seconds that one statement of /sql may run, where statement.timeout is not less.",
        examples=[10],
    )
    max_response_bytes: Bytes | None = Field(
        default=None,
        description="Most bytes of rows in one answer of /sql, where response.max_bytes is not less.",
        examples=[1_048_576],
    )


class LimitsSettings(AllowanceSettings):
    """What one tenant may take, an API key, a token's subject or a role, where nothing else is said of it."""

    roles: dict[str, AllowanceSettings] = Field(
        default={}, description="The same for single roles by name: [limits.roles.NAME], with the names above."
    )
