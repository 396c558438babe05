from tests.bench.rows import RATIOS, runs
from tests.bench.subjects import SUBJECTS
from tests.bench.workloads import WORKLOADS


def test_every_run_names_a_subject_and_a_workload_there_is() -> None:
    wanted = runs(quick=False)
    assert {run.subject for run in wanted} <= SUBJECTS.keys()
    assert {run.workload for run in wanted} <= WORKLOADS.keys()


def test_the_quick_runs_are_those_of_all_that_have_a_target() -> None:
    quick = set(runs(quick=True))
    assert quick < set(runs(quick=False))
    assert all(ratio.ours in quick and ratio.theirs in quick for ratio in RATIOS if ratio.target is not None)


def test_no_line_stands_twice() -> None:
    lines = [(ratio.what, ratio.against, ratio.quantity.name) for ratio in RATIOS]
    assert len(lines) == len(set(lines))
