"""Every setting, with its default, unit and limits; frozen once read.

A file for each subject, `whole.py` for all together, `load.py` for where they come from. The descriptions are the
documentation: the example file and the README table are made from them.
"""

from sqlhttp_gateway import pydantic_alone  # noqa: F401 - first, or it would come too late
from sqlhttp_gateway.settings.allowance import AllowanceSettings, LimitsSettings
from sqlhttp_gateway.settings.auth import AuthSettings
from sqlhttp_gateway.settings.cache import CacheSettings
from sqlhttp_gateway.settings.callers import IssuerSettings, KeySettings, LoginSettings
from sqlhttp_gateway.settings.listen import DrainSettings, ListenSettings
from sqlhttp_gateway.settings.load import load_settings, unknown_environment
from sqlhttp_gateway.settings.observe import (
    AdminSettings,
    AuditSettings,
    LogSettings,
    MetricsSettings,
    TraceSettings,
    WatchSettings,
)
from sqlhttp_gateway.settings.pool import BreakerSettings, PoolSettings, per_worker
from sqlhttp_gateway.settings.request import IdempotencySettings, RequestSettings, ResponseSettings, StatementSettings
from sqlhttp_gateway.settings.section import Section
from sqlhttp_gateway.settings.targets import ReplicaSettings, TargetSettings, TenantSettings
from sqlhttp_gateway.settings.tunnel import TunnelSettings
from sqlhttp_gateway.settings.whole import Settings, shown

__all__ = [
    "AdminSettings",
    "AllowanceSettings",
    "AuditSettings",
    "AuthSettings",
    "BreakerSettings",
    "CacheSettings",
    "DrainSettings",
    "IdempotencySettings",
    "IssuerSettings",
    "KeySettings",
    "LimitsSettings",
    "ListenSettings",
    "LogSettings",
    "LoginSettings",
    "MetricsSettings",
    "PoolSettings",
    "ReplicaSettings",
    "RequestSettings",
    "ResponseSettings",
    "Section",
    "Settings",
    "StatementSettings",
    "TargetSettings",
    "TenantSettings",
    "TraceSettings",
    "TunnelSettings",
    "WatchSettings",
    "load_settings",
    "per_worker",
    "shown",
    "unknown_environment",
]
