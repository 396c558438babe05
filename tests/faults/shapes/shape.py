"""What one constellation consists of: ground for the gateways, what happens there, and what callers do."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from random import Random

from tests.faults.episodes import Episode
from tests.faults.troubles import Trouble, Weighted
from tests.faults.world import Ground, World


@dataclass(frozen=True, slots=True)
class Shape:
    """One of them, standing."""

    ground: Ground
    troubles: Mapping[str, Weighted]
    kinds: Mapping[str, tuple[int, Episode]]
    """The episodes, those with invariants of this constellation's own included."""


def to_their_end(troubles: Mapping[str, Weighted]) -> dict[str, Weighted]:
    """The same, which go on to their end although the run ends meanwhile: what they took away is there again then."""
    return {name: (weight, _to_its_end(trouble)) for name, (weight, trouble) in troubles.items()}


def _to_its_end(trouble: Trouble) -> Trouble:
    async def unbroken(world: World, luck: Random) -> None:
        happening = asyncio.ensure_future(trouble(world, luck))
        try:
            await asyncio.shield(happening)
        except asyncio.CancelledError:
            await happening
            raise

    return unbroken


Standing = Callable[[Mapping[str, str]], AbstractContextManager[Shape]]
"""Lets one stand for the length of a block, with these settings of Postgres beside the usual."""
