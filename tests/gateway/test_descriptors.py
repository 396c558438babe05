"""How many files there are, and how many programs that lets in. What a process may is asked in one of its own."""

import resource
import subprocess
import sys

import pytest

from sqlhttp_gateway.descriptors import MOST, RESERVE, files, most_connections, needed, shortage
from sqlhttp_gateway.settings import load_settings

DEFAULT = load_settings()
SET = load_settings(listen={"max_connections": 5000})


def test_pool_and_a_reserve_come_before_programs() -> None:
    assert needed(load_settings(pool={"max_total": 50})) == 2 * 50 + RESERVE
    four = load_settings(pool={"max_total": 200, "max_size": 8}, listen={"workers": 4})
    assert needed(four) == 2 * 50 + RESERVE, "each worker has its share of the pool"


@pytest.mark.parametrize(
    ("limit", "most"), [(1 << 20, MOST), (MOST, MOST - needed(DEFAULT)), (1024, 1024 - needed(DEFAULT)), (64, 1)]
)
def test_unset_it_is_what_the_files_leave_and_never_none(limit: int, most: int) -> None:
    assert most_connections(DEFAULT, limit) == most


def test_set_it_is_as_set() -> None:
    assert most_connections(SET, 64) == 5000


def test_shortage_names_the_limit_and_what_it_has_to_be() -> None:
    assert shortage(SET, 5000 + needed(SET)) == ""
    assert shortage(SET, 1024) == (
        f"listen.max_connections is 5000, and 1024 files that a worker may open leave room for {1024 - needed(SET)}: "
        f"raise the limit (ulimit -n, LimitNOFILE) to {5000 + needed(SET)}"
    )
    said = shortage(DEFAULT, 64)
    assert said.startswith(f"{MOST} connections of programs are usual, and 64 files that a worker may open leave room")
    assert "leave room for 0: " in said, "there is no less than none"


def test_files_without_a_limit_are_a_number_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda what: unlimited)
    assert files().soft == files().hard > MOST + needed(DEFAULT)
    assert most_connections(DEFAULT, files().soft) == MOST
    assert shortage(SET, files().soft) == ""


SCRIPT = """
import resource, sys
from sqlhttp_gateway.descriptors import files, raise_limit
from sqlhttp_gateway.settings import load_settings
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(*files(), *raise_limit(load_settings(listen={"max_connections": wanted})), *files())
"""


@pytest.mark.parametrize(("soft", "wanted", "raised"), [(100, 300, 300), (100, 5000, 1000), (900, 300, 900)])
def test_soft_limit_is_raised_as_far_as_is_needed_and_allowed(soft: int, wanted: int, raised: int) -> None:
    extra = needed(DEFAULT) if raised == wanted else 0
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(soft), "1000", str(wanted)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == list(map(str, (soft, 1000, raised + extra, 1000, raised + extra, 1000))), done.stderr
