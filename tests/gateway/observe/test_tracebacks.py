"""Tracebacks for the log: all of where it happened, nothing of the values it happened with."""

import pytest

from sqlhttp_gateway.errors import ConfigurationError, PostgresError, WaitTimeout
from sqlhttp_gateway.observe.tracebacks import WITHHELD, told

SECRET = "hunter2"


def caught(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        if cause is not None:
            raise error from cause
        raise error
    except BaseException as raised:
        return raised


@pytest.mark.parametrize(
    "error",
    [
        ValueError(f"invalid literal for int() with base 10: '{SECRET}'"),
        KeyError(SECRET),
        UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, f"of {SECRET}"),
        PostgresError({"M": f"invalid input syntax for type integer: {SECRET}", "C": "22P02"}),
        Exception(SECRET),
    ],
)
def test_a_text_that_may_quote_a_value_is_not_told(error: Exception) -> None:
    text = told(caught(error))
    assert SECRET not in text
    assert text.startswith("Traceback (most recent call last):\n")
    assert "in caught\n    raise error\n" in text
    assert text.endswith(f"{type(error).__qualname__}: {WITHHELD}")


@pytest.mark.parametrize(
    ("error", "last"),
    [
        (AttributeError("'NoneType' object has no attribute 'key'"), "AttributeError: 'NoneType' object has no"),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (
            ConfigurationError("pool.max_size: too many"),
            "sqlhttp_gateway.errors.ConfigurationError: pool.max_size: too",
        ),
        (WaitTimeout("no connection within 5 s"), "sqlhttp_gateway.errors.WaitTimeout: no connection within 5 s"),
        (RecursionError("maximum recursion depth exceeded"), "RecursionError: maximum recursion depth exceeded"),
    ],
)
def test_a_text_that_quotes_none_is_told(error: Exception, last: str) -> None:
    assert told(caught(error)).splitlines()[-1].startswith(last)


def test_what_led_to_it_is_told_in_order_and_without_values() -> None:
    text = told(caught(RuntimeError("no such pool"), caught(KeyError(SECRET))))
    assert SECRET not in text
    assert text.index("KeyError: (its") < text.index("because of it") < text.index("RuntimeError: no such pool")


def test_a_context_that_was_suppressed_is_not_told() -> None:
    def fails() -> None:
        try:
            raise KeyError(SECRET)
        except KeyError:
            raise RuntimeError("no such pool") from None

    with pytest.raises(RuntimeError) as raised:
        fails()
    assert "KeyError" not in told(raised.value)


def test_each_of_a_group_is_told() -> None:
    text = told(caught(ExceptionGroup(SECRET, [caught(ValueError(SECRET)), caught(OSError("gone"))])))
    assert SECRET not in text
    assert "ValueError: (its" in text
    assert text.endswith("OSError: gone")


def test_errors_that_lead_to_each_other_are_told_once() -> None:
    first, second = ValueError("a"), OSError("b")
    first.__cause__, second.__cause__ = second, first
    assert told(first).count("ValueError") == 1
