"""How cost and memory grow as a PNG, by matplotlib where it is installed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.axes import Axis, Point
from tests.bench.measure import Unavailable

_COST, _MEMORY, _ALLOWED = "#0b6e4f", "#d1495b", "#8d99ae"
_LEAST_HEIGHT = 100.0
"""MiB that the scale of memory shows at least, so that a wobble looks like one."""


def draw(measured: Sequence[tuple[Axis, Sequence[Point]]], path: Path) -> None:
    """Write the picture: a column for each axis; above the CPU time of a request, below the memory, both with a dotted
    line for what growth in proportion would be.

    Raises:
        Unavailable: matplotlib is not installed, or there is nothing to draw.
    """
    if not measured:
        raise Unavailable("no plot: nothing was measured")
    try:
        import matplotlib
    except ImportError:
        raise Unavailable("no plot: matplotlib is not installed (it is in the dependency group bench)") from None
    matplotlib.use("agg")
    from matplotlib import pyplot

    rows = 2 if len(measured) > 4 else 1  # of pairs
    wide = -(-len(measured) // rows)
    figure, axes = pyplot.subplots(2 * rows, wide, figsize=(4 * wide, 6 * rows), squeeze=False, layout="constrained")
    for number, (axis, points) in enumerate(measured):
        row, column = divmod(number, wide)
        _draw_cost(axes[2 * row][column], axis, points)
        _draw_memory(axes[2 * row + 1][column], axis, points)
    for number in range(len(measured), rows * wide):
        row, column = divmod(number, wide)
        axes[2 * row][column].set_visible(False)
        axes[2 * row + 1][column].set_visible(False)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _draw_cost(plot: Any, axis: Axis, points: Sequence[Point]) -> None:
    """CPU of a request; what is work may cost in proportion, all else should cost the same."""
    sizes, first, last = [point.size for point in points], points[0], points[-1]
    plot.loglog(sizes, [point.cpu for point in points], marker="o", color=_COST)
    allowed = [last.cpu * size / last.size for size in sizes] if axis.is_work else [first.cpu] * len(sizes)
    plot.loglog(sizes, allowed, ":", color=_ALLOWED)
    plot.set_ylim(10, max(1_000, 2 * max(point.cpu for point in points)))
    plot.set_title(axis.name, fontsize=10)
    _label(plot, "gateway CPU, µs a request")


def _draw_memory(plot: Any, axis: Axis, points: Sequence[Point]) -> None:
    """The most that was resident, and what the room of each one more allows."""
    sizes, first = [point.size for point in points], points[0]
    plot.semilogx(sizes, [point.memory for point in points], marker="o", color=_MEMORY)
    allowed = [first.memory + (size - first.size) * axis.room / 1024 for size in sizes]
    plot.semilogx(sizes, allowed, ":", color=_ALLOWED)
    plot.set_ylim(0, max(_LEAST_HEIGHT, 1.2 * max(point.memory for point in points)))
    _label(plot, "gateway memory, MiB")


def _label(plot: Any, text: str) -> None:
    plot.set_ylabel(text, fontsize=8)
    plot.xaxis.set_major_formatter("{x:,.0f}")
    plot.yaxis.set_major_formatter("{x:,.0f}")
    plot.grid(visible=True, alpha=0.3)
