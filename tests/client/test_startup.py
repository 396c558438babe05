"""What is said first, from the connection string."""

import pytest

from sqlhttp import InterfaceError
from sqlhttp._startup import startup


def test_role_database_and_password_are_decoded() -> None:
    parameters, password = startup("postgresql://http%2Bauth%24:%25%2B%ff@h:5432/my%20db", None)
    assert dict(parameters) == {"user": "http+auth$", "database": "my db", "client_encoding": "UTF8"}
    assert password == b"%+\xff"


def test_a_plus_is_a_plus_and_a_database_is_the_first_part_of_the_path() -> None:
    parameters, _ = startup("postgresql://a+b@h/c+d/e", None)
    assert (parameters["user"], parameters["database"]) == ("a+b", "c+d")
    assert startup("postgresql://role@h/", None).parameters["database"] == "role"


def test_parameters_of_postgres_go_along_and_those_of_drivers_do_not() -> None:
    parameters, _ = startup(
        "postgresql://r:p@h/d?sslmode=require&application_name=me&options=-c%20search_path%3Dx&channel_binding=require",
        None,
    )
    assert set(parameters) == {"user", "database", "application_name", "options", "client_encoding"}
    assert parameters["options"] == "-c search_path=x"


@pytest.mark.parametrize(("url", "password"), [("r:p@", b"p"), ("r@", b"token"), ("r:@", b"token")])
def test_a_token_is_the_password_where_there_is_none(url: str, password: bytes) -> None:
    assert startup(f"postgresql://{url}h/d", "token").password == password


def test_without_either_none_is_shown() -> None:
    assert startup("postgresql://r@h/d", None).password is None


def test_a_wish_for_the_pool_is_a_parameter() -> None:
    assert startup("postgresql://r@h/d", None, pool_mode="session").parameters["pool_mode"] == "session"


@pytest.mark.parametrize("url", [None, "postgresql://h/d", "postgresql://%ff@h/d"])
def test_a_role_is_needed(url: str | None) -> None:
    with pytest.raises(InterfaceError):
        startup(url, "token")
