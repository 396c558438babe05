"""`sqlhttp idempotency install`: the table of keys, made beforehand by somebody who may."""

import argparse

from sqlhttp_gateway.auth.one_command import lease_for, run
from sqlhttp_gateway.idempotency.store import install
from sqlhttp_gateway.settings import Settings


def idempotency(settings: Settings, arguments: argparse.Namespace) -> int:
    """Install the table; 0.

    Raises:
        ConfigurationError: there is no such target, or Postgres refuses.
    """
    run(_install(settings, arguments.target, arguments.database))
    print("The table of idempotency keys is there.")
    return 0


async def _install(settings: Settings, target: str, database: str | None) -> None:
    async with lease_for(settings, target, database=database) as lease:
        await install(lease)
