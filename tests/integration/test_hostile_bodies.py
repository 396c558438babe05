"""Bodies made to harm: each is answered at once, holds nobody else up, and leaves its connection as it was."""

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.support.cluster import Cluster
from tests.support.gateway import Gateway
from tests.support.program import Program, program_of, scratch_database

COULD_NOT = "could not parse the HTTP request body: "
DEEP = f"{COULD_NOT}depth limit exceeded"
NO_UTF8 = f"{COULD_NOT}str is not valid UTF-8"
VALUE = b'{"query":"SELECT length($1::text)","params":['
REFUSED: dict[str, tuple[bytes, str]] = {
    "100,000 brackets": (b"[" * 100_000, DEEP),
    "100,000 brackets, closed": (b"[" * 100_000 + b"]" * 100_000, DEEP),
    "100,000 braces": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, DEEP),
    "100,000 brackets in a parameter": (VALUE + b"[" * 100_000 + b"]" * 100_000 + b"]}", DEEP),
    "500 brackets in a parameter": (
        VALUE + b"[" * 500 + b"]" * 500 + b"]}",
        f"{COULD_NOT}values are nested too deeply",
    ),
    "brackets to the last byte": (b"[" * 10_000_000, DEEP),
    "a member twice": (b'{"query":"SELECT 1","query":"SELECT 2"}', f'{COULD_NOT}duplicate field "query"'),
    "a member twice, once in disguise": (
        b'{"query":"SELECT 1","qu\\u0065ry":"SELECT 2"}',
        f'{COULD_NOT}duplicate field "query"',
    ),
    "parameters twice": (b'{"query":"SELECT $1","params":[1],"params":[2]}', f'{COULD_NOT}duplicate field "params"'),
    "a high surrogate alone": (VALUE + b'"\\ud800"]}', f"{COULD_NOT}no low surrogate in string"),
    "a low surrogate alone": (VALUE + b'"\\udc00"]}', f"{COULD_NOT}invalid high surrogate in string"),
    "a surrogate in bytes": (VALUE + b'"\xed\xa0\x80"]}', NO_UTF8),
    "a slash in two bytes": (VALUE + b'"\xc0\xaf"]}', NO_UTF8),
    "a byte that is no UTF-8": (VALUE + b'"\xff"]}', NO_UTF8),
    "UTF-16": ('{"query":"SELECT 1"}'.encode("utf-16"), NO_UTF8),
    "a byte order mark": (b'\xef\xbb\xbf{"query":"SELECT 1"}', f"{COULD_NOT}UTF-8 byte order mark"),
    "NUL in a parameter": (VALUE + b'"a\\u0000b"]}', 'invalid byte sequence for encoding "UTF8": 0x00'),
    "NUL in the query": (b'{"query":"SELECT 1\\u0000; DROP TABLE t"}', "the query contains a NUL character"),
    "NUL as it is": (b'{"query":"SELECT 1\0"}', f"{COULD_NOT}unexpected control character in string"),
    "NaN": (VALUE + b"NaN]}", f"{COULD_NOT}unexpected character"),
    "Infinity": (VALUE + b"Infinity]}", f"{COULD_NOT}unexpected character"),
    "65,536 parameters": (
        b'{"query":"SELECT 1","params":[' + b",".join([b"1"] * 65_536) + b"]}",
        "a statement takes at most 65535 parameters, not 65536",
    ),
    "five million parameters": (
        b'{"query":"SELECT 1","params":[' + b",".join([b"1"] * 5_000_000) + b"]}",
        "a statement takes at most 65535 parameters, not 5000000",
    ),
    "700,000 statements": (
        b'{"queries":[' + b",".join([b'{"query":""}'] * 700_000) + b"]}",
        "a batch has at most 10000 statements, not 700000",
    ),
    "comments within comments": (
        b'{"query":"' + b"/*" * 100_000 + b'"}',
        "the query has comments within comments, more than 1000 deep",
    ),
    "a member's name of ten megabytes": (b'{"' + b"k" * 10_000_000 + b'":1}', f'{COULD_NOT}"query" is missing'),
    "nothing": (b"", f"{COULD_NOT}EOF while parsing a value"),
    "null": (b"null", f"{COULD_NOT}it is not an object"),
    "half of it": (b'{"query":"SELECT 1"', f"{COULD_NOT}unexpected end of data"),
    "more behind it": (b'{"query":"SELECT 1"}{}', f"{COULD_NOT}unexpected content after document"),
    "compressed": (gzip.compress(b'{"query":"SELECT 1"}'), NO_UTF8),
}
TAKEN: dict[str, tuple[bytes, str]] = {
    "1e400": (VALUE + b"1e400]}", "5"),
    "an exponent of a thousand digits": (VALUE + b"1e" + b"9" * 1000 + b"]}", "1002"),
    "100,000 digits": (VALUE + b"9" * 100_000 + b"]}", "100000"),
    "100,000 digits behind the point": (VALUE + b"0." + b"9" * 100_000 + b"]}", "100002"),
    "200 brackets in a parameter": (VALUE + b"[" * 200 + b'"a"' + b"]" * 200 + b"]}", "403"),
    "800,000 members that mean nothing": (
        b'{"query":"SELECT 1",' + b",".join(b'"%07d":1' % each for each in range(800_000)) + b"}",
        "1",
    ),
    "ten megabytes of white space": (b" " * 10_000_000 + b'{"query":"SELECT 1"}', "1"),
}
LONGEST = 10.0
"""Seconds that an answer may take on a busy machine; the longest here takes one. Nested comments took for ever."""


@pytest.fixture(scope="module")
def program(postgres: Cluster, gateway: Gateway) -> Iterator[Program]:
    with scratch_database(postgres) as database, program_of(gateway, database) as program:
        yield program


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_and_the_connection_goes_on(program: Program, name: str) -> None:
    body, message = REFUSED[name]
    since = time.monotonic()
    response = program.post(body)
    took = time.monotonic() - since
    assert response.json()["message"].startswith(message)
    assert response.status_code == (413 if "at most 10000 statements" in message else 400)
    assert took < LONGEST
    assert program.value("SELECT 1") == 1


@pytest.mark.parametrize("name", TAKEN)
def test_it_is_taken_to_the_last_digit(program: Program, name: str) -> None:
    body, value = TAKEN[name]
    response = program.post(body, {"Neon-Raw-Text-Output": "true", "Neon-Array-Mode": "true"})
    assert response.json()["rows"] == [[value]]


def test_a_number_of_100_000_digits_keeps_them(program: Program) -> None:
    digits = "9" * 100_000
    answer = program.post(b'{"query":"SELECT $1::numeric","params":[%b]}' % digits.encode())
    assert answer.json()["rows"] == [{"numeric": digits}]


def test_what_is_too_large_for_a_type_is_told_with_its_beginning(program: Program) -> None:
    answer = program.post(b'{"query":"SELECT $1::int8","params":[1e400]}')
    assert (answer.status_code, answer.json()["code"]) == (400, "22P02")


def test_others_are_answered_meanwhile(program: Program, gateway: Gateway) -> None:
    """The longest time for which one such body keeps the gateway from everybody else: bounded by the body's size."""
    with _waits(gateway) as waits:
        for _ in range(10):
            for body, _ in REFUSED.values():
                program.post(body)
            if len(waits) > 10:
                break
    assert len(waits) > 10
    assert max(waits) < LONGEST / 2


@contextmanager
def _waits(gateway: Gateway) -> Iterator[list[float]]:
    """Seconds that somebody else waits for an answer, again and again."""
    waits: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(trust_env=False, timeout=60.0) as http:
            while not stop.is_set():
                since = time.monotonic()
                http.get(f"{gateway.url}/livez")
                waits.append(time.monotonic() - since)
                stop.wait(0.005)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield waits
    finally:
        stop.set()
        thread.join()
