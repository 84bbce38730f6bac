"""The four plots of docs/benchmarks.md. Without matplotlib there are none, and that is said."""

import math
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import busy, latency, table_size
from benchmarks.model import Results
from benchmarks.peers import OURS, SUBJECTS

SIZE = (9, 5)
DPI = 110
COLOURS = {name: f"C{place}" for place, name in enumerate(name for name in SUBJECTS if name != OURS)}
ZERO = 0.1
"""Rows/s at which a rate of 0 is drawn: a logarithmic axis has no 0."""


def draw(output: Path, done: dict[str, Results]) -> list[str]:
    """Draw the plots of the benchmarks that ran; return what is to be said about it."""
    wanted = {name: plot for name, plot in PLOTS.items() if name in done}
    if not wanted:
        return []
    try:
        matplotlib: Any = import_module("matplotlib")
        matplotlib.use("Agg")
        pyplot: Any = import_module("matplotlib.pyplot")
    except ModuleNotFoundError:
        return ["plots skipped: matplotlib is not installed (extra `bench`)"]
    for name, plot in wanted.items():
        figure, axes = pyplot.subplots(figsize=SIZE, dpi=DPI)
        plot(axes, done[name])
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1.0))
        figure.tight_layout()
        figure.savefig(output / f"{name}.png")
        pyplot.close(figure)
    return [f"plots written to {', '.join(f'{name}.png' for name in wanted)}"]


def _style(name: str) -> dict[str, Any]:
    """Return the look of a subject's line, the same in every plot: ours black and thick."""
    if name == OURS:
        return {"linewidth": 3.0, "color": "black", "marker": "o"}
    return {"linewidth": 1.5, "color": COLOURS.get(name, "silver"), "marker": "o", "markersize": 4}


def _busy(axes: Any, results: Results) -> None:  # noqa: ANN401 - matplotlib may not be installed
    threads = results.params("threads")
    for name in results.subjects():
        points = [(count, results.median(name, "committed_per_second", threads=count)) for count in threads]
        known = [(count, max(rate, ZERO)) for count, rate in points if not math.isnan(rate)]
        axes.plot(
            [threads.index(count) for count, _ in known],
            [rate for _, rate in known],
            label=SUBJECTS[name].label,
            **_style(name),
        )
    axes.axhline(busy.RATE, color="grey", linestyle=":", label="offered")
    axes.set(
        yscale="log",
        xlabel="busy threads of pure Python",
        ylabel="rows/s committed meanwhile",
        xticks=range(len(threads)),
    )
    axes.set_xticklabels([f"{count:.0f}" for count in threads])
    axes.set_title("Committed rows/s beside busy threads (50 000 rows/s offered)")


def _throughput(axes: Any, results: Results) -> None:  # noqa: ANN401 - likewise
    producers = results.params("producers")
    for name in results.subjects():
        rates = [results.median(name, "rows_per_second", producers=count) for count in producers]
        if SUBJECTS[name].kind == "raw":
            axes.axhline(
                rates[0],
                linestyle=":",
                color="grey" if name == "raw_executemany" else "silver",
                label=SUBJECTS[name].label,
            )
            continue
        axes.plot(range(len(producers)), rates, label=SUBJECTS[name].label, **_style(name))
    axes.set(yscale="log", xlabel="producers", ylabel="rows/s, first call to flush", xticks=range(len(producers)))
    axes.set_xticklabels([f"{count:.0f}" for count in producers])
    axes.set_title("Rows/s with producers at full speed")


def _latency(axes: Any, results: Results) -> None:  # noqa: ANN401 - likewise
    places = range(len(latency.PERCENTILES))
    for name, locked, values in latency.curves(results):
        style = _style(name) | ({"linestyle": "--"} if locked else {})
        axes.plot(places, values, label=latency.label(name, locked=locked), **style)
    axes.set(yscale="log", xlabel="percentile of calls", ylabel="µs", xticks=places)
    axes.set_xticklabels([f"{percent:g}" for percent in latency.PERCENTILES])
    axes.set_title("Latency of storing one row, 10 000 rows/s")


def _table_size(axes: Any, results: Results) -> None:  # noqa: ANN401 - likewise
    rows = max(results.params("rows"))
    sizes = [rows * part / 1e6 for part in table_size.PARTS]
    axes.plot(
        sizes, [results.median(OURS, f"rate_{part}") for part in table_size.PARTS], label="rows/s", **_style(OURS)
    )
    axes.set(xlabel="million rows in the table", ylabel="rows/s, one producer", ylim=(0, None))
    axes.set_title("Insert rate against the size of the table")


PLOTS: dict[str, Callable[[Any, Results], None]] = {
    "busy": _busy,
    "throughput": _throughput,
    "latency": _latency,
    "table_size": _table_size,
}
