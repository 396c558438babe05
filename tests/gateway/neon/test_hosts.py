"""Connection strings that name several servers."""

import pytest

from sqlhttp_gateway.errors import InvalidConnectionString
from sqlhttp_gateway.neon.hosts import MAX_HOSTS, Wanted, split_hosts


@pytest.mark.parametrize(
    ("url", "urls"),
    [
        ("postgres://r:p@h/db", ["postgres://r:p@h/db"]),
        ("postgres://r:p@h1,h2:7000/db", ["postgres://r:p@h1/db", "postgres://r:p@h2:7000/db"]),
        ("postgres://r:p@h1,h2", ["postgres://r:p@h1", "postgres://r:p@h2"]),
        (
            "postgres://r:p@[::1]:1,[2001:db8::2]/db?sslmode=require",
            ["postgres://r:p@[::1]:1/db?sslmode=require", "postgres://r:p@[2001:db8::2]/db?sslmode=require"],
        ),
        (
            "postgres://r:p@/db?host=h1,h2&port=1,2&sslmode=disable",
            ["postgres://r:p@h1:1/db?sslmode=disable", "postgres://r:p@h2:2/db?sslmode=disable"],
        ),
        ("postgres://r:p@/db?host=h1,h2&port=7", ["postgres://r:p@h1:7/db", "postgres://r:p@h2:7/db"]),
        ("postgres://r:p@/db?host=h1,/run", ["postgres://r:p@h1/db", "postgres://r:p@/db?host=/run"]),
        (
            "postgres://r:p@%2Frun,%2ftmp:7/db",
            ["postgres://r:p@/db?host=%2Frun", "postgres://r:p@/db?host=%2ftmp&port=7"],
        ),
        ("postgres://r:p@%2Frun/db", ["postgres://r:p@%2Frun/db"]),
        ("postgres://r:p%2C%40@h1,h2/db", ["postgres://r:p%2C%40@h1/db", "postgres://r:p%2C%40@h2/db"]),
    ],
)
def test_each_host_has_a_string_of_its_own(url: str, urls: list[str]) -> None:
    assert split_hosts(url) == (urls, Wanted.ANY)


@pytest.mark.parametrize("word", list(Wanted))
def test_libpqs_words_for_the_kind_of_server_are_taken_out(word: Wanted) -> None:
    url = f"postgres://r:p@h/db?sslmode=require&target_session_attrs={word}"
    assert split_hosts(url) == (["postgres://r:p@h/db?sslmode=require"], word)


@pytest.mark.parametrize(
    "url",
    [
        "postgres://r:secret@h1,,h2/db",
        "postgres://r:secret@/db?host=h1,h2&port=1,2,3",
        "postgres://r:secret@h/db?target_session_attrs=leader",
        "postgres://r:secret@" + ",".join(["h"] * (MAX_HOSTS + 1)) + "/db",
    ],
)
def test_what_libpq_refuses_is_refused_without_telling_the_password(url: str) -> None:
    with pytest.raises(InvalidConnectionString) as caught:
        split_hosts(url)
    assert "secret" not in f"{caught.value} {caught.value.hint}"
