"""Settings that were read again while the gateway runs: what is different, and what of that takes effect at once.

Pure. Who reads them and when is the business of `serve`; how a change takes effect, that of its owner's `reconfigure`.
"""

from collections.abc import Iterator
from typing import NamedTuple

from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.settings import Section, Settings

LIVE = frozenset(
    {
        *("database_url", "replicas", "aliases", "unknown_host", "targets", "tenants"),
        *("logins", "keys", "issuers"),
        *("pool", "replica", "request", "response", "statement", "auth", "drain", "log"),
        *("listen.cleartext_password", "listen.tls_certificate", "listen.tls_key", "listen.tls_refresh"),
        "listen.max_connections",
        *("listen.allow_from", "listen.trusted_proxies", "listen.forwarded_header"),
        *("admin.allow_from", "admin.roles"),
        *("trace.server_timing", "trace.comment"),
        *("watch.connections_warning", "watch.connections_critical", "watch.idle_in_transaction"),
        *("watch.waiting", "watch.long_query", "watch.pool_wait"),
        *("breaker", "limits"),
        *("cache.max_bytes", "cache.max_entry_bytes", "cache.max_ttl", "cache.max_swr", "cache.max_fetching"),
        *("cache.key_defaults", "cache.role_defaults", "cache.database_defaults"),
        "tunnel",
    }
)
"""What takes effect without a restart: whole sections, and single settings. All else is as it was at the start."""
_BUT = frozenset({"auth.keys_table", "auth.tenants_table"})
"""Settings of those sections that do need one."""


class Changes(NamedTuple):
    """The names of the settings that differ, such as `pool.max_size` and `keys.0123456789ab`."""

    live: tuple[str, ...]
    restart: tuple[str, ...]
    """Those that need a restart."""


def changes(old: Settings, new: Settings) -> Changes:
    """What differs, in the order of the settings. Never a value, which may be a secret."""
    names = tuple(_different(old, new))
    live = tuple(name for name in names if is_live(name) and not _begins_or_ends(name, old, new))
    return Changes(live, tuple(name for name in names if name not in live))


def in_effect(old: Settings, new: Settings) -> Settings:
    """The new settings, but for those that need a restart, which are the old ones.

    Raises:
        ConfigurationError: the two do not go together.
    """
    update: dict[str, object] = {}
    for name in changes(old, new).restart:
        section, _, leaf = name.partition(".")
        if leaf:
            before = update.get(section, getattr(new, section))
            assert isinstance(before, Section)
            update[section] = before.model_copy(update={leaf: getattr(getattr(old, section), leaf)})
        else:
            update[section] = getattr(old, section)
    settings = new.model_copy(update=update)
    try:
        settings.check_bounds()
    except ValueError as error:
        raise ConfigurationError(f"{error}; another number of those needs a restart") from None
    return settings


def is_live(name: str) -> bool:
    """Whether a change of this setting takes effect without a restart."""
    return name not in _BUT and (name in LIVE or name.partition(".")[0] in LIVE)


def _begins_or_ends(name: str, old: Settings, new: Settings) -> bool:
    """A port speaks TLS for as long as it is open, or never; and a gateway has a cache from its start, or none."""
    if name == "cache.max_bytes":
        return not old.cache.max_bytes or not new.cache.max_bytes
    is_certificate = name in {"listen.tls_certificate", "listen.tls_key"}
    return is_certificate and (old.listen.tls_certificate is None) != (new.listen.tls_certificate is None)


def _different(old: Settings, new: Settings) -> Iterator[str]:
    for name in Settings.model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        if isinstance(before, Section):
            leaves = type(before).model_fields
            yield from (f"{name}.{leaf}" for leaf in leaves if getattr(before, leaf) != getattr(after, leaf))
        elif isinstance(before, dict):
            # By their names: one that was added, changed or removed.
            yield from (f"{name}.{key}" for key in {**before, **after} if before.get(key) != after.get(key))
        else:
            yield name
