"""Where figures come from: the machine, the versions, the settings and how busy it was."""

import os
import platform
import subprocess
import time
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlhttp_gateway.settings import Settings
from tests.bench.loads import WRK
from tests.bench.measure import family_cpu_seconds
from tests.bench.processes import ROOT
from tests.bench.stage import POSTGRES, Stage, pgbouncer_version
from tests.support.cluster import FAST

_PACKAGES = ("asyncpg", "httptools", "httpx", "orjson", "starlette", "uvicorn", "uvloop")
_OPTIONAL = ("granian", "hypercorn")


def describe(stage: Stage) -> dict[str, Any]:
    """Everything that does not change during a run."""
    return {
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "usable cores": len(os.sched_getaffinity(0)),
            "memory GiB": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        },
        "versions": {
            "sqlhttp": _commit(),
            "python": platform.python_version(),
            "postgres": stage.database.psql("SHOW server_version").strip(),
            "pgbouncer": pgbouncer_version(),
            "wrk": _wrk_version(),
            **{name: metadata.version(name) for name in _PACKAGES},
            **{name: metadata.version(name) for name in _OPTIONAL if find_spec(name)},
        },
        "settings": {
            "gateway": Settings.model_construct().model_dump(mode="json", exclude={"database_url"}),
            "postgres": FAST | POSTGRES,
            "postgres is asked by": stage.by.value,
        },
    }


class Others:
    """How much of the machine everybody else used while the bench ran."""

    def __init__(self, postgres: int) -> None:
        """Counts from now on; `postgres` is the postmaster, whose backends are not this process's own children."""
        self._postgres = postgres
        self._began, self._busy, self._own = self._read()

    def share(self) -> float:
        """Their part of all cores' time since the last call, 0 to 1."""
        began, busy, own = self._began, self._busy, self._own
        self._began, self._busy, self._own = self._read()
        spent = (self._busy - busy) - (self._own - own)
        return max(0.0, spent / ((self._began - began) * (os.cpu_count() or 1)))

    def _read(self) -> tuple[float, float, float]:
        own = family_cpu_seconds(os.getpid()) + family_cpu_seconds(self._postgres)
        ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        idle = ticks[3] + ticks[4]  # the fourth waits for nothing, the fifth for a disk
        return time.monotonic(), (sum(ticks[:8]) - idle) / os.sysconf("SC_CLK_TCK"), own


def load_average() -> float:
    """The system's, over the last minute."""
    return os.getloadavg()[0]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    """The commit if this is a clone; "+" says that files differ from it."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True, timeout=10, check=False
    )
    return told.stdout.strip() or "of unknown commit"


def _wrk_version() -> str | None:
    if WRK is None:
        return None
    told = subprocess.run([WRK, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    return told.split(" [")[0].removeprefix("wrk ").strip()
