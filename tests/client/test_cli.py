"""The console script: which command is whose."""

import builtins
import sys
from typing import Any

import pytest

from sqlhttp import _cli, _query_command, _tunnel_command


def without_gateway(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """As in an installation without the extra: the gateway's first import of another package fails."""
    real = builtins.__import__

    def fails(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "sqlhttp_gateway":
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fails)


def test_query_is_the_clients_own(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []

    def main(arguments: list[str]) -> int:
        given.append(arguments)
        return 7

    monkeypatch.setattr(_query_command, "main", main)
    monkeypatch.setattr(sys, "argv", ["sqlhttp", "query", "select 1", "--format", "csv"])
    assert _cli.main() == 7
    assert given == [["select 1", "--format", "csv"]]


def test_tunnel_is_the_clients_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tunnel_command, "main", lambda arguments: 7 if arguments == ["https://db"] else 8)
    assert _cli.main(["tunnel", "https://db"]) == 7


def test_every_other_command_is_the_gateways(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import ModuleType

    import sqlhttp_gateway

    fake: Any = ModuleType("sqlhttp_gateway.cli")
    fake.main = lambda arguments: 5 if arguments == ["serve", "--workers", "2"] else 6
    monkeypatch.setitem(sys.modules, "sqlhttp_gateway.cli", fake)
    monkeypatch.setattr(sqlhttp_gateway, "cli", fake, raising=False)
    assert _cli.main(["serve", "--workers", "2"]) == 5


@pytest.mark.parametrize("missing", ["sqlhttp_gateway", "pydantic"])
def test_without_the_gateway_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    without_gateway(monkeypatch, missing)
    assert _cli.main(["serve"]) == 2
    assert capsys.readouterr().err == "sqlhttp: 'serve' needs the gateway: pip install 'sqlhttp[gateway]'\n"
    assert _cli.main(["--help"]) == _cli.main([]) == 0
    assert "sqlhttp query" in capsys.readouterr().out


def test_a_fault_of_the_gateways_own_is_not_taken_for_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    without_gateway(monkeypatch, "sqlhttp_gateway.typo")
    with pytest.raises(ModuleNotFoundError, match="typo"):
        _cli.main(["serve"])
