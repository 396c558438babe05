"""The arguments of the commands about keys."""

import argparse
from datetime import UTC, datetime, timedelta, timezone

import pytest

from sqlhttp_gateway.auth.arguments import add_parsers, expiry

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_parsers(parser.add_subparsers(dest="command"))
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90d", NOW + timedelta(days=90)),
        ("12h", NOW + timedelta(hours=12)),
        ("30m", NOW + timedelta(minutes=30)),
        ("2031-02-03", datetime(2031, 2, 3, tzinfo=UTC)),
        ("2031-02-03T04:05:06+02:00", datetime(2031, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=2)))),
    ],
)
def test_end_of_a_key_is_a_length_of_time_or_a_date(text: str, expected: datetime) -> None:
    assert expiry(text, now=NOW) == expected


@pytest.mark.parametrize(
    "text", ["", "90", "d", "-1d", "1y", "tomorrow", "0001-01-01T00:00+14:00", "9999-12-31T23:59-01:00"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="90d, or a date"):
        expiry(text, now=NOW)


def test_key_needs_a_role_and_a_database(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("keys", "create", "--role", "app")
    assert "--database" in capsys.readouterr().err


def test_places_may_be_repeated() -> None:
    given = parsed("keys", "create", "--role", "a", "--database", "b", "--origin", "x", "--origin", "y")
    assert given.origin == ["x", "y"]
