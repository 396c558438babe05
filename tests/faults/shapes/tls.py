"""TLS on both sides: between gateway and Postgres, which proves itself, and at both doors, whose certificate changes.

Beside what holds anyway: no connection of the gateway to Postgres is ever without TLS, whatever happens to those that
are cut in the middle of a handshake; and a program that trusts the authority is never shown anything else.
"""

import os
import signal
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from random import Random

import pytest

from tests.faults.episodes import EPISODES
from tests.faults.leaving import LEAVING
from tests.faults.shapes.shape import Shape
from tests.faults.troubles import TROUBLES
from tests.faults.world import POSTGRES, Ground, World
from tests.support.cluster import Cluster
from tests.support.installed_postgres import installed, running_with_tls


@contextmanager
def standing(options: Mapping[str, str]) -> Iterator[Shape]:
    """One Postgres with a certificate, of the authority that has also signed the gateway's."""
    versions = installed()
    if not versions:
        pytest.skip("no Postgres with TLS is installed")
    with running_with_tls(versions[-1], POSTGRES | dict(options)) as (server, authority):
        cluster = Cluster(server)  # type: ignore[arg-type]  # all that a Cluster asks of it is there
        door = authority.issue("door")

        async def renew(world: World, luck: Random) -> None:
            """The doors' certificate is replaced and the gateway told so."""
            authority.issue("door")
            os.kill(world.pid, signal.SIGHUP)

        yield Shape(
            Ground(
                (cluster,),
                query=f"?sslmode=verify-full&sslrootcert={authority.root}",
                settings={
                    "SQLHTTP_LISTEN__TLS_CERTIFICATE": str(door.certificate),
                    "SQLHTTP_LISTEN__TLS_KEY": str(door.key),
                },
                tls=ssl.create_default_context(cafile=str(authority.root)),
                encrypts=True,
            ),
            troubles={**TROUBLES, "renew certificate": (6, renew)},
            kinds=EPISODES | LEAVING,
        )
