from tests.bench.rows import BY_TCP, RATIOS, runs
from tests.bench.stage import COMPILED
from tests.bench.subjects import SUBJECTS
from tests.bench.workloads import WORKLOADS


def test_every_run_names_a_subject_and_a_workload_there_is() -> None:
    wanted = runs(quick=False, in_both_ways=True, compiled=True)
    assert {run.subject for run in wanted} <= SUBJECTS.keys()
    assert {run.workload for run in wanted} <= WORKLOADS.keys()


def test_the_quick_runs_are_those_of_all_that_have_a_target() -> None:
    quick = set(runs(quick=True, in_both_ways=False, compiled=True))
    assert quick < set(runs(quick=False, in_both_ways=False, compiled=True))
    assert all(ratio.ours in quick and ratio.theirs in quick for ratio in RATIOS if ratio.target is not None)


def test_the_compiled_build_is_measured_beside_the_plain_one_only_where_that_is_wanted() -> None:
    for quick in (True, False):
        plain, both = (set(runs(quick=quick, in_both_ways=False, compiled=wanted)) for wanted in (False, True))
        compiled = {run for run in both if run.subject.endswith(COMPILED)}
        assert compiled == both - plain or quick
        assert compiled.isdisjoint(plain)
        assert {run._replace(subject=run.subject.removesuffix(COMPILED)) for run in compiled} <= both


def test_of_the_compiled_build_all_is_wanted_that_is_of_the_plain_one() -> None:
    wanted = {
        build: {(r.what, r.against, r.quantity.name, r.target) for r in RATIOS if r.build == build and r.target}
        for build in ("plain", "compiled")
    }
    assert wanted["compiled"] == wanted["plain"]


def test_no_line_stands_twice() -> None:
    lines = [(ratio.what, ratio.build, ratio.against, ratio.quantity.name) for ratio in RATIOS]
    assert len(lines) == len(set(lines))


def test_who_asks_by_the_socket_is_set_against_nobody_who_asks_by_tcp() -> None:
    asks_nobody = {"constant"}
    for ratio in RATIOS:
        ours, theirs = (run.subject.endswith(BY_TCP) for run in (ratio.ours, ratio.theirs))
        if ours != theirs and ratio.theirs.subject not in asks_nobody:
            # The one comparison of the two ways is of the gateway with itself, and says so.
            assert ratio.ours.subject + BY_TCP == ratio.theirs.subject
            assert ratio.what.endswith(", by the socket")
            assert ratio.against == "the same by TCP"


def test_the_way_by_tcp_is_measured_beside_the_other_only_where_that_is_wanted() -> None:
    both, one = (set(runs(quick=False, in_both_ways=wanted)) for wanted in (True, False))
    assert {run.subject for run in both - one} == {
        *("gateway, by TCP", "plain, by TCP", "gateway, kept, by TCP", "asyncpg kept, by TCP"),
        *("wire, WebSocket, by TCP", "wire, direct, by TCP"),
    }
