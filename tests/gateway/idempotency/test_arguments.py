"""The arguments of `sqlhttp idempotency`."""

import argparse

import pytest

from sqlhttp_gateway.idempotency.arguments import add_parser


def test_target_and_database_are_the_defaults_unless_named() -> None:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers(dest="command"))
    plain = parser.parse_args(["idempotency", "install"])
    assert (plain.command, plain.action, plain.target, plain.database) == ("idempotency", "install", "default", None)
    named = parser.parse_args(["idempotency", "install", "--target", "reports", "--database", "main"])
    assert (named.target, named.database) == ("reports", "main")
    with pytest.raises(SystemExit):
        parser.parse_args(["idempotency"])
