"""Throughput and latency against concurrency as a PNG, by matplotlib where it is installed."""

from pathlib import Path
from typing import Any

from tests.bench.measure import Run, Unavailable
from tests.bench.report import Samples, middle
from tests.bench.rows import CONNECTIONS, GRID_SUBJECTS, GRID_WORKLOADS
from tests.bench.workloads import WORKLOADS

_TICKS = (*CONNECTIONS, 1000)
_COLOURS = {"gateway": "#0b6e4f", "constant": "#8d99ae", "plain": "#d1495b", "asyncpg pool": "#edae49"}


def plot(samples: Samples, path: Path, *, title: str) -> None:
    """Write the picture: a column for each workload; above requests per second, below p50 and p99.

    Raises:
        Unavailable: matplotlib is not installed, or there is nothing to draw.
    """
    workloads = [name for name in GRID_WORKLOADS if len(_counts(samples, name)) > 1]
    if not workloads:
        raise Unavailable("no plot: nothing was measured over several numbers of connections")
    try:
        import matplotlib
    except ImportError:
        raise Unavailable("no plot: matplotlib is not installed (it is in the dependency group bench)") from None
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        2, len(workloads), figsize=(4.2 * len(workloads), 7.2), sharex=True, squeeze=False, layout="constrained"
    )
    for column, workload in enumerate(workloads):
        rate, latency = axes[0][column], axes[1][column]
        for subject in GRID_SUBJECTS:
            _draw(rate, latency, samples, subject, workload)
        rate.set_title(WORKLOADS[workload].title, fontsize=10)
        rate.set_ylim(bottom=0)
        latency.set_yscale("log")
        latency.set_xscale("log", base=2)
        latency.set_xticks(_TICKS, labels=[f"{tick:,}" for tick in _TICKS])
        latency.set_xlabel("keep-alive connections")
        for axis in (rate, latency):
            axis.grid(visible=True, alpha=0.3)
    axes[0][0].set_ylabel("requests per second")
    axes[1][0].set_ylabel("milliseconds: p50 (line), p99 (dashes)")
    handles: dict[str, Any] = {}
    for axis in axes[0]:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    labels = [subject for subject in GRID_SUBJECTS if subject in handles]
    figure.legend([handles[label] for label in labels], labels, loc="outside lower center", ncols=len(labels))
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _counts(samples: Samples, workload: str) -> set[int]:
    return {run.connections for run in samples if run.workload == workload and run.subject in GRID_SUBJECTS}


def _draw(rate: Any, latency: Any, samples: Samples, subject: str, workload: str) -> None:
    """One subject's lines."""
    points = [
        (connections, samples[run]) for connections in _TICKS if (run := Run(subject, workload, connections)) in samples
    ]
    if not points:
        return
    colour = _COLOURS[subject]
    x = [connections for connections, _ in points]
    rate.plot(x, [middle(seen, lambda s: s.rate) for _, seen in points], marker="o", color=colour, label=subject)
    latency.plot(x, [(middle(seen, lambda s: s.p50) or 0) / 1000 for _, seen in points], marker="o", color=colour)
    latency.plot(x, [(middle(seen, lambda s: s.p99) or 0) / 1000 for _, seen in points], "--", color=colour, alpha=0.7)
