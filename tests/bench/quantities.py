"""What of two samples is put in relation, and how: rates, CPU times, latencies, memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests.bench.measure import Sample

Part = Callable[[Sample], float | None]
"""One figure of a sample; None where it was not measured."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """What of two samples is put in relation: `ours` of the first, `theirs` of the second, each in `part` of a unit."""

    name: str
    unit: str
    """Of the relation; x is a quotient."""
    better: Literal["more", "less"]
    relation: Callable[[float | None, float | None], float | None]
    part: str
    ours: Part
    theirs: Part

    def of(self, ours: Sample, theirs: Sample) -> float | None:
        """The relation of two samples; None where something was not measured."""
        return self.relation(self.ours(ours), self.theirs(theirs))


def _quotient(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or not theirs else ours / theirs


def _difference(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours - theirs


def _alone(ours: float | None, theirs: float | None) -> float | None:
    return ours


def _rate(sample: Sample) -> float | None:
    return sample.rate or None


def _server_cpu(sample: Sample) -> float | None:
    return sample.server_cpu


def _postgres_cpu(sample: Sample) -> float | None:
    return sample.postgres_cpu


def _client_cpu(sample: Sample) -> float | None:
    return sample.client_cpu


def _p50(sample: Sample) -> float | None:
    return sample.p50


def _memory(sample: Sample) -> float | None:
    return sample.memory


def _memory_of_each(sample: Sample) -> float | None:
    return sample.memory and sample.memory / sample.requests * 1024


RATE = Quantity("requests/s", "x", "more", _quotient, "/s", _rate, _rate)
SERVER_CPU = Quantity("server CPU", "x", "less", _quotient, "µs", _server_cpu, _server_cpu)
POSTGRES_CPU = Quantity("Postgres's CPU", "x", "less", _quotient, "µs", _postgres_cpu, _postgres_cpu)
CLIENT_CPU = Quantity("client CPU", "x", "less", _quotient, "µs", _client_cpu, _client_cpu)
CPU_OF_EACH = Quantity("CPU of each", "x", "less", _quotient, "µs", _server_cpu, _client_cpu)
P50 = Quantity("p50", "x", "less", _quotient, "µs", _p50, _p50)
ADDED_P50 = Quantity("p50 added", "µs", "less", _difference, "µs", _p50, _p50)
MEMORY = Quantity("memory", "MiB", "less", _alone, "MiB", _memory, _memory)
MEMORY_OF_EACH = Quantity("memory of each", "KiB", "less", _alone, "KiB", _memory_of_each, _memory_of_each)
