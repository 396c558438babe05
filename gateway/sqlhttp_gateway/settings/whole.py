"""All sections together, with what one of them asks of another."""

from contextvars import ContextVar
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from sqlhttp_gateway.settings.allowance import LimitsSettings
from sqlhttp_gateway.settings.auth import AuthSettings
from sqlhttp_gateway.settings.cache import CacheSettings
from sqlhttp_gateway.settings.callers import IssuerSettings, KeySettings, LoginSettings
from sqlhttp_gateway.settings.listen import DrainSettings, ListenSettings
from sqlhttp_gateway.settings.observe import (
    AdminSettings,
    AuditSettings,
    LogSettings,
    MetricsSettings,
    TraceSettings,
    WatchSettings,
)
from sqlhttp_gateway.settings.pool import BreakerSettings, PoolSettings
from sqlhttp_gateway.settings.request import (
    IdempotencySettings,
    RequestSettings,
    ResponseSettings,
    StatementSettings,
)
from sqlhttp_gateway.settings.section import Section
from sqlhttp_gateway.settings.targets import ReplicaSettings, TargetSettings, TenantSettings
from sqlhttp_gateway.settings.tunnel import TunnelSettings

PREFIX = "SQLHTTP_"
toml_file: ContextVar[Path | None] = ContextVar("toml_file", default=None)
"""The file from which settings are being made; pydantic-settings builds its sources before it sees the arguments."""


class Settings(BaseSettings):
    """The whole of them, one section a subject."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        validate_default=True,
        case_sensitive=False,
    )

    database_url: SecretStr | None = Field(
        default=None,
        description="postgres://role:password@host:port/database of the default target, or by a Unix socket "
        "postgres://role:password@/database?host=/folder/of/socket. Also DATABASE_URL.",
    )
    aliases: tuple[str, ...] = Field(
        default=(), description="Hosts of connection strings that mean the default target by name."
    )
    replicas: tuple[SecretStr, ...] = Field(
        default=(),
        description="Connection strings of more servers of the default target, a primary or replicas of it; "
        "database_url may also name several hosts.",
        examples=[["postgres://role:password@replica/database"]],
    )
    targets: dict[str, TargetSettings] = Field(default={}, description="More targets, by name.")
    logins: dict[str, LoginSettings] = Field(
        default={}, description="Roles whose password the gateway holds, under any name."
    )
    keys: dict[str, KeySettings] = Field(default={}, description="API keys by their ids.")
    issuers: dict[str, IssuerSettings] = Field(default={}, description="Issuers of tokens (JWT), under any name.")
    tenants: dict[str, TenantSettings] = Field(
        default={}, description="Tenants: hosts and databases that lead to a target and a database, by name."
    )
    unknown_host: Literal["default", "refuse"] = Field(
        default="default",
        description="What a connection string with a host that is no target's gets: the default, or an error.",
    )
    listen: ListenSettings = ListenSettings()
    pool: PoolSettings = PoolSettings()
    breaker: BreakerSettings = BreakerSettings()
    request: RequestSettings = RequestSettings()
    response: ResponseSettings = ResponseSettings()
    statement: StatementSettings = StatementSettings()
    auth: AuthSettings = AuthSettings()
    idempotency: IdempotencySettings = IdempotencySettings()
    replica: ReplicaSettings = ReplicaSettings()
    drain: DrainSettings = DrainSettings()
    log: LogSettings = LogSettings()
    audit: AuditSettings = AuditSettings()
    admin: AdminSettings = AdminSettings()
    metrics: MetricsSettings = MetricsSettings()
    trace: TraceSettings = TraceSettings()
    tunnel: TunnelSettings = TunnelSettings()
    cache: CacheSettings = CacheSettings()
    watch: WatchSettings = WatchSettings()
    limits: LimitsSettings = LimitsSettings()

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        targets = {"default", *self.targets}
        for section in ("logins", "keys", "issuers"):
            for name, each in getattr(self, section).items():
                if each.target not in targets:
                    raise ValueError(f"{section}.{name}.target: there is no target {each.target!r}")
                if section != "logins" and each.login and each.statements is None and self.auth.set_role != "any":
                    raise ValueError(
                        f"{section}.{name}.login needs statements beside it, since whoever sends SQL can leave a role "
                        "that was set (or set auth.set_role)"
                    )
        for name, tenant in self.tenants.items():
            if "{name}" not in tenant.target and tenant.target not in targets:
                raise ValueError(f"tenants.{name}.target: there is no target {tenant.target!r}")
        for name, issuer in self.issuers.items():
            for other in self.issuers:
                if other.startswith(f"{name}:"):  # a subject is named jwt:ISSUER:SUBJECT, which would be either's
                    raise ValueError(f"issuers.{name} and issuers.{other}: one name cannot be another's up to a colon")
            if (issuer.jwks_url or "").startswith("http:") and not self.auth.jwks_insecure:
                raise ValueError(f"issuers.{name}.jwks_url must begin with https:// (or set auth.jwks_insecure)")
        return self

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        self.check_bounds()
        return self

    def check_bounds(self) -> None:
        """Make sure that there is enough for each worker.

        Raises:
            ValueError: there is not.
        """
        for name in ("max_size", "max_total"):
            bound = getattr(self.pool, name)
            if bound < self.listen.workers:
                raise ValueError(
                    f"pool.{name} ({bound}) must be at least listen.workers ({self.listen.workers}), "
                    "since every worker needs one connection"
                )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = toml_file.get()
        if file is None:
            return init_settings, env_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)


def shown(settings: Settings) -> list[tuple[str, str, str]]:
    """Name, value and default of every setting, for people who may see how the gateway does; secrets are stars."""
    lines = []
    for section, value in settings:
        if not isinstance(value, Section):
            lines.append((section, "" if value is None else str(value), ""))
            continue
        for name, field in type(value).model_fields.items():
            lines.append((f"{section}.{name}", str(getattr(value, name)), str(field.default)))
    return lines
