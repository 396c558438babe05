import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from sqlhttp_gateway import cli
from sqlhttp_gateway.settings import Settings

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "sqlhttp.service"
ANALYZE = shutil.which("systemd-analyze")


def read() -> dict[str, list[str]]:
    """Values by name; a name may come more than once."""
    values: dict[str, list[str]] = defaultdict(list)
    for line in UNIT.read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            values[name].append(value)
    return values


def test_command_line_is_one_that_the_gateway_understands() -> None:
    [command] = read()["ExecStart"]
    program, *arguments = command.split()
    assert program == "/opt/sqlhttp/bin/sqlhttp"
    assert cli._parser().parse_args(arguments).command == "serve"


def test_wrong_setting_is_not_tried_again() -> None:
    assert read()["RestartPreventExitStatus"] == ["2"], "the exit status that the command line promises"


def test_a_reload_that_comes_before_it_listens_leaves_nobody_without_a_gateway() -> None:
    """To systemd SIGHUP is an orderly end, after which on-failure restarts nothing."""
    values = read()
    assert "-HUP" in values["ExecReload"][0]
    assert values["Restart"] == ["on-failure"]
    assert values["RestartForceExitStatus"] == ["SIGHUP"]


def test_gateway_has_time_to_end_in_order() -> None:
    drain = Settings().drain
    assert float(read()["TimeoutStopSec"][0]) > drain.notice + drain.grace
    assert read()["KillMode"] == ["mixed"]


def test_it_is_nobody_and_may_write_nothing() -> None:
    values = read()
    assert values["DynamicUser"] == ["yes"]
    assert values["ProtectSystem"] == ["strict"]
    assert values["CapabilityBoundingSet"] == [""]


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
def test_systemd_knows_every_line() -> None:
    assert ANALYZE is not None
    done = subprocess.run([ANALYZE, "verify", str(UNIT)], capture_output=True, text=True, timeout=60)
    faults = [line for line in done.stderr.splitlines() if UNIT.name in line and "is not executable" not in line]
    assert faults == []
