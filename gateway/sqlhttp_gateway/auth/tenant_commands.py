"""What `sqlhttp tenants` does: one look at the table of tenants, and what is printed."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from pydantic import ValidationError

from sqlhttp_gateway.auth import tenant_table
from sqlhttp_gateway.auth.allowances import limits_from_words
from sqlhttp_gateway.auth.one_command import lease_for, run
from sqlhttp_gateway.auth.tenants import Tenant
from sqlhttp_gateway.errors import ConfigurationError
from sqlhttp_gateway.pools.targets import DEFAULT
from sqlhttp_gateway.settings import Settings, TenantSettings
from sqlhttp_gateway.settings.load import in_words


def tenants(settings: Settings, arguments: argparse.Namespace) -> int:
    """Add, list or remove; 0, or 1 when there is no such tenant.

    Raises:
        ConfigurationError: Postgres refuses.
    """
    known = f"gateways know within auth.keys_refresh ({settings.auth.keys_refresh:g} s)"
    if arguments.action == "list":
        for each in run(_read(settings)):
            names = ", ".join([*each.hosts, *each.databases]) or "-"
            limits = ", ".join(f"{name}={value}" for name, value in asdict(each.allowance).items() if value is not None)
            print("\t".join([each.name, names, f"{each.target}/{each.database or '*'}", limits or "-"]))
        return 0
    if arguments.action == "add":
        _check(arguments.host_name)
        tenant = Tenant(
            arguments.name,
            hosts=tuple(host.lower() for host in arguments.host_name),
            databases=tuple(arguments.database_name),
            target=arguments.target,
            database=arguments.database,
            allowance=limits_from_words(arguments.limit),
        )
        run(_add(settings, tenant))
        print(f"{tenant.name} is kept in sqlhttp.tenants; {known}, with auth.tenants_table = true.")
        if "{name}" not in tenant.target and tenant.target not in {DEFAULT, *settings.targets}:
            print(f'The settings have no target "{tenant.target}" yet: add a section under [targets].')
        return 0
    if run(_remove(settings, arguments.name)):
        print(f"{arguments.name} is removed; {known}.")
        return 0
    print(f"no tenant is called {arguments.name}")
    return 1


def _check(hosts: Sequence[str]) -> None:
    """Refuse what the settings would refuse: a name that no request has leads nowhere."""
    try:
        TenantSettings(hosts=tuple(hosts))
    except ValidationError as error:
        raise ConfigurationError(in_words(error)) from None


async def _add(settings: Settings, tenant: Tenant) -> None:
    async with lease_for(settings) as lease:
        await tenant_table.create(lease)
        await tenant_table.add(lease, tenant)


async def _read(settings: Settings) -> list[Tenant]:
    async with lease_for(settings) as lease:
        return await tenant_table.read(lease)


async def _remove(settings: Settings, name: str) -> bool:
    async with lease_for(settings) as lease:
        return await tenant_table.remove(lease, name)
