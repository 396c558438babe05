import argparse

import pytest

from sqlhttp_gateway.cache.arguments import add_cache_parser


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_cache_parser(parser.add_subparsers(dest="command"))
    return parser.parse_args(["cache", *arguments])


@pytest.mark.parametrize("action", ["watch", "unwatch"])
def test_table_is_named_and_the_rest_has_defaults(action: str) -> None:
    found = parsed(action, "app.users")
    assert (found.action, found.table, found.target, found.database) == (action, "app.users", "default", None)


def test_without_a_table_there_is_nothing_to_watch(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("watch")
    assert "TABLE" in capsys.readouterr().err
