"""An incident, played for real: 300 programs before a pool of 10, and a job that forgets its connections.

What is asked is what the person on call wants to know: which alert fired, at which count, and how long before the first
program was refused. `make incident` plays it at full length and prints the table; a test plays the short form.

The story: programs come in, thirty at a time, and what they ask takes ever longer, as when a table loses its index.
Beside the gateway a job opens connections of its own and leaves each in a transaction.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.request import urlopen

from tests.support.cluster import Cluster, running_cluster
from tests.support.gateway import GatewayProcess, free_port
from tests.support.loading import Load

POLL = 0.1  # seconds between two looks at /status


@dataclass(frozen=True, slots=True)
class Script:
    """How large, and how quick. Seconds."""

    programs: int = 300
    pool: int = 10
    max_connections: int = 30
    wave: int = 30
    """Programs that come at once,"""
    pause: float = 1.5
    """and how long until the next ones do."""
    look: float = 1.0
    """`watch.interval`."""
    wait_timeout: float = 5.0
    statement: float = 0.02
    """What a statement takes at first; each wave makes it longer by as much."""
    forgotten: int = 12
    """Connections that the job opens, one with each wave and the rest at its end."""
    last: float = 60.0
    """When it is over at the latest."""


class Fired(NamedTuple):
    """An alert, when it was first seen to fire. `at` is in seconds from the first wave."""

    at: float
    name: str
    severity: str
    text: str
    programs: int


@dataclass(slots=True)
class Story:
    """What came to pass."""

    fired: list[Fired] = field(default_factory=list)
    first_refusal: float | None = None
    programs_then: int = 0
    reason: str = ""
    answered: int = 0
    refused: int = 0
    backends: int = 0
    """Most connections of the gateway's pools that Postgres was seen to have."""

    def lead(self, name: str, severity: str = "") -> float | None:
        """Seconds from an alert to the first refusal; None when one of the two did not come."""
        for each in self.fired:
            if each.name == name and severity in {"", each.severity} and self.first_refusal is not None:
                return self.first_refusal - each.at
        return None


def play(script: Script) -> Story:
    """Play it, to the first refusal and a little beyond, or to the script's end."""
    with ExitStack() as stage:
        cluster = stage.enter_context(running_cluster({"max_connections": str(script.max_connections)}))
        port = free_port()
        gateway = stage.enter_context(
            GatewayProcess(
                *("serve", "--port", str(port), "--set", f"pool.max_size={script.pool}"),
                *("--set", f"watch.interval={script.look}", "--set", f"pool.wait_timeout={script.wait_timeout}"),
                environment={"DATABASE_URL": cluster.maintenance.url},
            )
        )
        gateway.wait_until_ready(f"http://127.0.0.1:{port}")
        story = _played(script, cluster, port, stage)
        gateway.stop()
    return story


def _played(script: Script, cluster: Cluster, port: int, stage: ExitStack) -> Story:
    story, began = Story(), time.monotonic()
    load = Load(port, cluster.maintenance.url, query=_statement(script.statement))
    programs: list[threading.Thread] = []
    forgotten: list[object] = []
    stage.callback(load.stop)
    while time.monotonic() - began < script.last:
        waves = len(programs) // script.wave
        if len(programs) < script.programs and time.monotonic() - began >= waves * script.pause:
            load.ask(_statement(script.statement * (waves + 1)))
            for _ in range(script.wave):
                programs.append(threading.Thread(target=load.run, daemon=True))
                programs[-1].start()
            if len(forgotten) < script.forgotten:
                forgotten.append(stage.enter_context(_forgotten(cluster)))
        elif len(programs) >= script.programs and len(forgotten) < script.forgotten:
            forgotten.append(stage.enter_context(_forgotten(cluster)))
        _look(port, story, at=time.monotonic() - began, programs=len(programs))
        if load.refused_at is not None and story.first_refusal is None:
            story.first_refusal = load.refused_at - began
            story.programs_then, story.reason = len(programs), json.loads(load.reason)["message"]
        if story.first_refusal is not None and time.monotonic() - began > story.first_refusal + 2:
            break
        time.sleep(POLL)
    load.stop()
    for program in programs:
        program.join(script.wait_timeout + 30)
    story.answered, story.refused = load.counts[200], sum(load.failed.values())
    return story


def _statement(seconds: float) -> str:
    return f"SELECT pg_sleep({seconds:.3f})"


@contextmanager
def _forgotten(cluster: Cluster) -> Iterator[None]:
    """A connection beside the gateway, idle in its transaction."""
    held = subprocess.Popen(
        ["psql", cluster.maintenance.url, "-q"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert held.stdin is not None
    held.stdin.write("SET application_name = 'nightly job';\nBEGIN;\nSELECT 1;\n")
    held.stdin.flush()
    try:
        yield
    finally:
        held.kill()
        held.communicate()


def _look(port: int, story: Story, *, at: float, programs: int) -> None:
    with urlopen(f"http://127.0.0.1:{port}/status", timeout=10) as response:
        status = json.load(response)
    story.backends = max(story.backends, sum(pool["leased"] + pool["idle"] for pool in status["pools"]))
    known = {(each.name, each.severity) for each in story.fired}
    for alert in status["alerts"]:
        if (alert["name"], alert["severity"]) not in known:
            story.fired.append(Fired(at, alert["name"], alert["severity"], alert["text"], programs))


def told(story: Story) -> str:
    """The table, for people."""
    first = story.first_refusal
    lines = [
        "| alert | after | programs | before the first refusal | what it said |",
        "| --- | --- | --- | --- | --- |",
    ]
    for each in story.fired:
        lead = "" if first is None else f"{first - each.at:.1f} s"
        name = f"{each.name}, {each.severity}"
        lines.append(f"| {name} | {each.at:.1f} s | {each.programs} | {lead} | {each.text} |")
    if first is None:
        lines.append("\nNobody was refused.")
    else:
        lines.append(f"\nThe first refusal came after {first:.1f} s, with {story.programs_then} programs:")
        lines.append(story.reason)
    lines.append(
        f"{story.answered} requests were answered, {story.refused} refused; "
        f"the gateway never had more than {story.backends} connections."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    print(told(play(Script())))
    sys.exit(0)
