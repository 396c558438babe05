"""The picture of an endurance run: what was sampled over time, with the troubles marked below. Needs matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.faults.flatness import Moment, quiet
from tests.faults.sampling import Sample

_WINDOW = 30
"""Seconds over which lines of rates and latencies are drawn through their middle."""
_INK = {"main": "#0b6e4f", "second": "#d1495b", "third": "#edae49", "pale": "#8d99ae"}


def draw(samples: Sequence[Sample], moments: Sequence[Moment], path: Path, *, title: str) -> None:
    """Write it as PNG.

    Raises:
        ImportError: matplotlib is not installed; it is in the dependency group bench.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    heights = (2, 1.6, 1.6, 2.2, 1.8, 1.8, 0.22 * len({moment.name for moment in moments}) + 0.5)
    figure, axes = pyplot.subplots(
        len(heights),
        1,
        figsize=(12, 1.15 * sum(heights)),
        sharex=True,
        layout="constrained",
        gridspec_kw={"height_ratios": heights},
    )
    minutes = [sample.at / 60 for sample in samples]
    memory, held, postgres, latency, rate, errors, troubles = axes

    memory.plot(minutes, [sample.memory for sample in samples], color=_INK["main"], label="resident memory")
    memory.set_ylabel("MiB")
    memory.set_ylim(0, 1.25 * max(sample.memory for sample in samples))

    held.plot(minutes, [sample.descriptors for sample in samples], color=_INK["main"], lw=0.8, label="descriptors")
    held.plot(minutes, [sample.callers for sample in samples], color=_INK["pale"], lw=0.8, label="of these callers'")
    held.plot(minutes, [sample.threads for sample in samples], color=_INK["second"], label="threads")
    held.set_ylabel("open")

    for name, colour, label in (("backends", _INK["main"], "backends"), ("leased", _INK["third"], "permits in use")):
        figures = _known(samples, name)
        postgres.plot(minutes, figures, ".", color=colour, ms=1, alpha=0.4)
        postgres.plot(minutes, _smooth(figures), color=colour, lw=1.2, label=label)
    postgres.set_ylim(bottom=0)
    postgres.set_ylabel("connections")

    calm = quiet(samples, moments)
    latency.plot(
        minutes, _known(samples, "p99"), ".", color=_INK["pale"], ms=1.5, label="p99 of a second, troubles included"
    )
    when = [sample.at / 60 for sample in calm]
    for name, colour, label in (
        ("p99", _INK["second"], "p99 outside troubles"),
        ("p50", _INK["main"], "p50 outside troubles"),
        ("direct", _INK["third"], "p50 past the gateway"),
    ):
        latency.plot(when, _smooth(_known(calm, name)), color=colour, lw=1.2, label=label)
    latency.set_yscale("log")
    latency.set_ylabel("probe, ms")

    rate.plot(minutes, _smooth([float(sample.requests) for sample in samples]), color=_INK["main"], label="requests/s")
    per_cent = _smooth([sample.cpu * 100 for sample in samples])
    rate.plot(minutes, per_cent, color=_INK["second"], label="gateway's CPU, % of a core")
    rate.set_ylim(bottom=0)
    rate.set_ylabel("a second")

    kinds = sorted({kind for sample in samples for kind in sample.errors})
    for kind in kinds:
        counts = [sample.errors.get(kind, 0) for sample in samples]
        errors.plot(minutes, _summed(counts), lw=1.0, label=f"{kind}: {sum(counts)}")
    errors.set_yscale("symlog", linthresh=1)
    errors.set_ylim(bottom=0)
    errors.set_ylabel(f"errors in {_WINDOW} s")

    _mark(troubles, moments)
    troubles.set_xlabel("minutes")
    for axis in axes:
        axis.grid(visible=True, alpha=0.25)
        axis.margins(x=0.005)
        for moment in moments:
            axis.axvspan(moment.began / 60, max(moment.ended, moment.began + 1) / 60, color="#000000", alpha=0.06, lw=0)
        if axis is not troubles:
            axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _mark(axis: Any, moments: Sequence[Moment]) -> None:
    names = sorted({moment.name for moment in moments}, reverse=True)
    for moment in moments:
        place = names.index(moment.name)
        axis.plot([moment.began / 60, moment.ended / 60], [place, place], color=_INK["second"], lw=3)
        axis.plot(moment.began / 60, place, "|", color=_INK["second"], ms=7)
    axis.set_yticks(range(len(names)), labels=names, fontsize=8)
    axis.set_ylim(-0.7, len(names) - 0.3)


def _known(samples: Sequence[Sample], name: str) -> list[float]:
    """A figure of each, with gaps where it is not known."""
    return [float("nan") if (found := getattr(sample, name)) is None else float(found) for sample in samples]


def _summed(counts: Sequence[int]) -> list[int]:
    """Of those up to each."""
    return [sum(counts[max(0, place + 1 - _WINDOW) : place + 1]) for place in range(len(counts))]


def _smooth(values: Sequence[float]) -> list[float]:
    """The middle of those around each, as far as they are known."""
    smoothed = []
    for place in range(len(values)):
        around = sorted(
            each for each in values[max(0, place - _WINDOW // 2) : place + _WINDOW // 2 + 1] if each == each
        )
        smoothed.append(around[len(around) // 2] if around else float("nan"))
    return smoothed
