"""The hour in a few seconds: what was sampled, and what is made of it. What stayed flat is `test_flatness`'s to say."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.endurance import Endured, endure, show
from tests.faults.flatness import Flat, Moment
from tests.faults.run import STEADY

SEED = 21


@pytest.fixture(scope="module")
def endured() -> Endured:
    return endure(seed=SEED, seconds=5, pace=replace(STEADY, peace=(0.5, 1.0)))


def test_each_second_is_sampled_whatever_happens(endured: Endured) -> None:
    assert endured.report.faults == []
    assert endured.report.moments
    assert [round(sample.at) for sample in endured.samples] == [1, 2, 3, 4, 5][: len(endured.samples)]
    assert len(endured.samples) >= 4
    for sample in endured.samples:
        assert sample.memory > 10
        assert sample.descriptors - sample.callers > 5
        assert sample.callers > 0
        assert sample.threads > 0
    assert any(sample.p50 and sample.direct and sample.backends and sample.requests for sample in endured.samples)


def test_result_is_json_and_a_table(endured: Endured) -> None:
    kept = json.loads(json.dumps(endured.summary(), allow_nan=False))
    assert len(kept["samples"]) == len(endured.samples)
    assert kept["moments"][0]["name"] in kept["troubles"]
    assert f"{len(endured.samples)} samples" in show(endured)


def test_it_is_whole_when_nothing_was_found_and_all_was_flat(endured: Endured) -> None:
    level, grown = Flat("memory, MiB", 80, 80, 84), Flat("memory, MiB", 80, 90, 84)
    assert replace(endured, flat=[level]).is_whole
    assert not replace(endured, flat=[level, grown]).is_whole
    assert "NOT FLAT" in show(replace(endured, flat=[grown]))
    found = replace(endured.report, faults=["acknowledged and lost: a"])
    assert not replace(endured, report=found, flat=[level]).is_whole


def test_picture_is_drawn_also_of_moments_at_which_nothing_was_known(endured: Endured, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from tests.faults.picture import draw

    away = [replace(sample, p50=None, p99=None, direct=None, leased=None) for sample in endured.samples]
    draw([*endured.samples, *away], [Moment("restart", 1.0, 2.5)], tmp_path / "a.png", title="a title")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    draw(endured.samples, [], tmp_path / "b.png", title="no trouble")
    assert (tmp_path / "b.png").exists()
