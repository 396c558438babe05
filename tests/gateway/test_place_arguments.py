"""Where a command works, as it is said on the command line."""

import argparse

import pytest

from sqlhttp_gateway.cli import main
from sqlhttp_gateway.place_arguments import add_place
from sqlhttp_gateway.pools.targets import DEFAULT


def place(*words: str) -> tuple[str, str | None]:
    parser = argparse.ArgumentParser()
    add_place(parser)
    said = parser.parse_args(words)
    return said.target, said.database


def test_nothing_said_is_the_default_target_s_own_database() -> None:
    assert place() == (DEFAULT, None)


def test_both_can_be_said() -> None:
    assert place("--target", "reports", "--database", "shop") == ("reports", "shop")


@pytest.mark.parametrize("command", [("auth", "install"), ("cache", "watch"), ("idempotency", "install")])
def test_commands_that_work_in_one_database_take_them(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "--target" in shown
    assert "--database" in shown
