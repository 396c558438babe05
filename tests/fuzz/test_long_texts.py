"""Texts that a caller makes long on purpose: each is looked at in a time that grows with its length and no faster.

A pattern that begins anew at every byte of a long run takes hours for a megabyte, and nothing else runs meanwhile. What
looks at the texts of callers does so here in a process of its own, which measures the CPU time of each look, and which
is killed when it does not end.
"""

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from time import process_time

from sqlhttp_gateway.auth.credentials import credentials_from_password
from sqlhttp_gateway.cache.results import ResultCache
from sqlhttp_gateway.cache.stamps import Stamps
from sqlhttp_gateway.errors import GatewayError
from sqlhttp_gateway.idempotency.keys import ends_transaction
from sqlhttp_gateway.model import Statement
from sqlhttp_gateway.neon.caching import wish_from_comment, wish_from_control
from sqlhttp_gateway.neon.dsn import dsn_from_header
from sqlhttp_gateway.observe.audit import relations_of
from sqlhttp_gateway.observe.fingerprint import fingerprint
from sqlhttp_gateway.reads.verdict import has_plan, makes_table
from sqlhttp_gateway.settings import CacheSettings
from sqlhttp_gateway.tunnel.changes import Changes
from sqlhttp_gateway.wire.control import control_of
from sqlhttp_gateway.wire.effects import effects_of

LENGTH = 50_000
MOST = 0.5
"""Seconds of CPU time for one look, which takes two milliseconds; with a careless pattern it is several seconds."""
ENOUGH = 150.0
"""Seconds for all of it, for a pattern that takes an hour."""
STARTS = ("", "/* a */", "select 1;", "'", '"', "$a$")
PIECES = (
    *(
        "x",
        " ",
        "\n",
        "(",
        '"',
        "'",
        "with ",
        "/*",
        "--",
        "\\",
        "a(",
        "$",
        "$$",
        "'a",
        "/*x*/ ",
        "/* ",
        "; ",
        ";\n",
        "- ",
    ),
    *("set ", "set a ", "*/", "-- \n", "now", "'1", "insert ", "cache ", "1", "?, ", "(?), ", "E'\\", 'u&"', "\t", "é"),
)
LOOKS: tuple[Callable[[str], object], ...] = (
    lambda text: effects_of(text.encode()),
    lambda text: control_of(text.encode()),
    lambda text: changes().sent(text.encode()),
    lambda text: credentials_from_password(text.encode()),
    lambda text: wish_from_control(text.encode()),
    lambda text: dsn_from_header(b"postgres://a:b@c/" + text.encode()),
    lambda text: ends_transaction(Statement(text)),
    wish_from_comment,
    fingerprint,
    relations_of,
    has_plan,
    makes_table,
)


def changes() -> Changes:
    cache = ResultCache(CacheSettings(), Stamps())
    cache.stamps.keep(("default", "main"), cache.stamps.now() + 10**12)
    return Changes(cache, ("default", "main"))


def look_at_all() -> None:
    """Everything that reads a caller's text, at every text."""
    for number, look in enumerate(LOOKS):
        for start in STARTS:
            for piece in PIECES:
                text = start + piece * (LENGTH // len(piece))
                began = process_time()
                with suppress(GatewayError):
                    look(text)
                took = process_time() - began
                assert took < MOST, f"look {number} took {took:.1f} s for {start!r} and then {piece!r}"


def test_no_text_takes_longer_than_its_length_asks_for() -> None:
    process = multiprocessing.get_context("spawn").Process(target=look_at_all)
    process.start()
    process.join(ENOUGH)
    is_late = process.is_alive()
    process.kill()
    process.join()
    assert not is_late, "a long text was still being looked at"
    assert process.exitcode == 0, "what took too long is in the process's output"
