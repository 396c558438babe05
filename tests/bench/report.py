"""What was measured as text for people and as JSON for machines. A figure is the median over the rounds."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from tests.bench.measure import Run, Sample
from tests.bench.rows import Ratio
from tests.bench.workloads import WORKLOADS

Samples = Mapping[Run, Sequence[Sample]]
"""Of each run one sample a round, all in the same order; a run that could not be made is missing."""


def ratio_values(ratio: Ratio, samples: Samples) -> list[float]:
    """The ratio in each round; empty where it could not be measured."""
    pairs = zip(samples.get(ratio.ours, ()), samples.get(ratio.theirs, ()), strict=False)
    values = [ratio.quantity.of(ours, theirs) for ours, theirs in pairs]
    return [value for value in values if value is not None]


def is_met(ratio: Ratio, value: float) -> bool | None:
    """Whether a value reaches the target; None without one."""
    if ratio.target is None:
        return None
    return value >= ratio.target if ratio.quantity.better == "more" else value <= ratio.target


def ratio_table(ratios: Sequence[Ratio], samples: Samples, missing: Mapping[str, str]) -> str:
    """The table of ratios: what was wanted, what was reached, and the two figures it is made of; of which build.

    `missing` says of subjects that could not be measured why.
    """
    lines = [("what", "build", "against", "of", "wanted", "reached", "lowest", "highest", "", "ours", "theirs")]
    for ratio in ratios:
        values = ratio_values(ratio, samples)
        sign = "≥" if ratio.quantity.better == "more" else "≤"
        target = "" if ratio.target is None else f"{sign} {ratio.target:g}"
        if not values:
            failed = errors(ratio, samples)
            why = missing.get(ratio.ours.subject) or missing.get(ratio.theirs.subject)
            why = why or (f"{failed} errors" if failed else "not measured")
            lines.append((ratio.what, ratio.build, ratio.against, ratio.quantity.name, target, "", "", "", why, "", ""))
            continue
        quantity = ratio.quantity
        middle_value = median(values)
        shown = [_figure(value, quantity.unit) for value in (middle_value, min(values), max(values))]
        verdict = _verdict(is_met(ratio, middle_value), errors(ratio, samples))
        ours = _of(samples[ratio.ours], quantity.ours, quantity.part)
        theirs = "" if ratio.theirs == ratio.ours else _of(samples[ratio.theirs], quantity.theirs, quantity.part)
        lines.append((ratio.what, ratio.build, ratio.against, quantity.name, target, *shown, verdict, ours, theirs))
    return aligned(lines, left={0, 1, 2, 3, 8})


def errors(ratio: Ratio, samples: Samples) -> int:
    """Requests of either side that failed, in all rounds."""
    return sum(sample.errors for run in {ratio.ours, ratio.theirs} for sample in samples.get(run, ()))


def _verdict(met: bool | None, failed: int) -> str:
    """A figure with errors is none, whatever it says."""
    if failed:
        return f"{failed} errors"
    return {True: "reached", False: "missed", None: ""}[met]


def _of(samples: Sequence[Sample], part: Callable[[Sample], float | None], unit: str) -> str:
    value = middle(samples, part)
    return "" if value is None else f"{value:,.0f} {unit}"


def sample_table(samples: Samples) -> str:
    """Every run with its figures."""
    lines = [
        (
            "workload",
            "at once",
            "subject",
            "per s",
            "p50 µs",
            "p99 µs",
            "server µs",
            "client µs",
            "Postgres µs",
            "MiB",
            "errors",
        )
    ]
    order = list(WORKLOADS)
    for run in sorted(samples, key=lambda run: (order.index(run.workload), run.connections)):
        seen = samples[run]
        lines.append(
            (
                run.workload,
                str(run.connections),
                run.subject,
                f"{middle(seen, lambda sample: sample.rate or None) or 0:,.0f}",
                *(
                    _whole(middle(seen, of))
                    for of in (
                        lambda sample: sample.p50,
                        lambda sample: sample.p99,
                        lambda sample: sample.server_cpu,
                        lambda sample: sample.client_cpu,
                        lambda sample: sample.postgres_cpu,
                        lambda sample: sample.memory,
                    )
                ),
                str(sum(sample.errors for sample in seen)),
            )
        )
    return aligned(lines, left={0, 2})


def middle(samples: Sequence[Sample], of: Callable[[Sample], float | None]) -> float | None:
    """The median of something over the rounds; None where it was not measured."""
    values = [value for sample in samples if (value := of(sample)) is not None]
    return median(values) if values else None


def as_json(ratios: Sequence[Ratio], samples: Samples) -> dict[str, Any]:
    """The same figures, each round's own included."""
    told = []
    for ratio in ratios:
        values = ratio_values(ratio, samples)
        told.append(
            {
                "what": ratio.what,
                "build": ratio.build,
                "against": ratio.against,
                "of": ratio.quantity.name,
                "unit": ratio.quantity.unit,
                "better": ratio.quantity.better,
                "ours": ratio.ours._asdict(),
                "theirs": ratio.theirs._asdict(),
                "target": ratio.target,
                "errors": errors(ratio, samples),
                "median": median(values) if values else None,
                "rounds": values,
                "reached": is_met(ratio, median(values)) if values and not errors(ratio, samples) else None,
            }
        )
    runs = [run._asdict() | {"rounds": [sample.as_json() for sample in samples[run]]} for run in samples]
    return {"ratios": told, "runs": runs}


def _figure(value: float, unit: str) -> str:
    return f"{value:.2f}" if unit == "x" else f"{value:.0f} {unit}"


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def aligned(lines: Sequence[Sequence[str]], *, left: set[int]) -> str:
    """Columns under their heads; those of `left` begin at the left."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column in left else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
