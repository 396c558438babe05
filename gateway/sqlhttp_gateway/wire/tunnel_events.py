"""What a tunnel's pipeline tells its holder beside the bytes it has for either side.

Here are the values alone; when each is told is decided in `pipeline`.
"""

from dataclasses import dataclass

from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.wire.effects import Pin
from sqlhttp_gateway.wire.told import Greeting


@dataclass(frozen=True, slots=True)
class Failed:
    """The tunnel has to end; why is already in `to_frontend`. The backend is not fit for anybody."""

    error: GatewayError


@dataclass(frozen=True, slots=True)
class Listen:
    """The program listens: answer with `listening` once somebody hears these channels for it; then it goes on."""

    channels: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Unlisten:
    """The program listens to these no longer."""

    channels: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Pinned:
    """From now on the backend has to stay with the tunnel."""

    pin: Pin


@dataclass(frozen=True, slots=True)
class Unpinned:
    """For this, the backend need not stay any longer."""

    pin: Pin


@dataclass(frozen=True, slots=True)
class Greeted:
    """The program was let in with what its first backend told."""

    greeting: Greeting


@dataclass(frozen=True, slots=True)
class Outdated:
    """The program was let in with what an earlier backend had told, and the first that it got tells something else."""


Event = Failed | Greeted | Outdated | Listen | Unlisten | Pinned | Unpinned


def changes(before: frozenset[Pin], after: frozenset[Pin]) -> list[Event]:
    """What is to be told when the reasons to keep a backend were these and are those."""
    pinned: list[Event] = [Pinned(pin) for pin in sorted(after - before)]
    return [*pinned, *(Unpinned(pin) for pin in sorted(before - after))]
