from dataclasses import replace

from tests.bench.measure import Run, Sample
from tests.bench.quantities import ADDED_P50, CLIENT_CPU, RATE
from tests.bench.report import as_json, is_met, ratio_table, ratio_values, sample_table
from tests.bench.rows import Ratio

OURS, THEIRS = Run("gateway", "key", 64), Run("constant", "key", 64)
RATIO = Ratio("a lookup", "a constant", RATE, 0.5, OURS, THEIRS)
SAMPLES = {
    OURS: [Sample(100, 1.0, p50=300.0), Sample(60, 1.0, p50=310.0), Sample(40, 1.0, p50=320.0)],
    THEIRS: [Sample(100, 1.0, p50=100.0), Sample(100, 1.0, p50=100.0), Sample(100, 1.0, p50=100.0)],
}


def test_a_ratio_is_taken_within_each_round() -> None:
    assert ratio_values(RATIO, SAMPLES) == [1.0, 0.6, 0.4]
    assert ratio_values(replace(RATIO, quantity=ADDED_P50), SAMPLES) == [200.0, 210.0, 220.0]


def test_the_table_shows_the_median_and_whether_it_reaches_the_target() -> None:
    assert ratio_table([RATIO], SAMPLES, {}).split("\n")[1].split() == [
        *("a", "lookup", "plain", "a", "constant", "requests/s"),
        *("≥", "0.5", "0.60", "0.40", "1.00", "reached"),
        *("60", "/s", "100", "/s"),
    ]


def test_a_line_says_of_which_build_of_the_gateway_it_is() -> None:
    compiled = replace(RATIO, ours=OURS._replace(subject="gateway, compiled"))
    client = replace(RATIO, quantity=CLIENT_CPU, ours=Run("call: sqlhttp", "key", 1))
    assert [ratio.build for ratio in (RATIO, compiled, client)] == ["plain", "compiled", ""]
    assert [told["build"] for told in as_json([RATIO, compiled], SAMPLES)["ratios"]] == ["plain", "compiled"]


def test_a_figure_with_errors_is_none() -> None:
    failed = SAMPLES | {OURS: [replace(sample, errors=1) for sample in SAMPLES[OURS]]}
    [line] = ratio_table([RATIO], failed, {}).split("\n")[1:]
    assert "3 errors" in line
    assert "reached" not in line
    assert as_json([RATIO], failed)["ratios"][0]["reached"] is None


def test_less_is_better_where_the_quantity_says_so() -> None:
    assert is_met(replace(RATIO, quantity=ADDED_P50), 0.4)
    assert not is_met(RATIO, 0.4)
    assert is_met(replace(RATIO, target=None), 0.4) is None


def test_what_could_not_be_measured_says_why() -> None:
    table = ratio_table([RATIO], {OURS: SAMPLES[OURS]}, {"constant": "it is not installed"})
    assert "it is not installed" in table
    assert as_json([RATIO], {OURS: SAMPLES[OURS]})["ratios"][0]["median"] is None


def test_a_figure_that_was_not_measured_is_left_empty() -> None:
    assert sample_table({OURS: [Sample(10, 1.0)]}).split("\n")[1].split() == ["key", "64", "gateway", "10", "0"]
