"""Draw the pictures of docs/one_host.md from docs/one_host.json: ``python -m bench.plots``.

Needs matplotlib (``pip install -e '.[plots]'``). The same data give the same files, byte by byte, with one version of
it; each says of which data it was made (`digest`), which tests/test_plots.py compares. Text stays text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
DATA = DOCS / "one_host.json"
FOLDER = DOCS / "plots"
COLOURS = ("#1b6ca8", "#d1495b", "#5b8c5a", "#8a6bbf")
Data = dict[str, Any]


def digest(data: Data) -> str:
    """What a picture says of the data that it was made of."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def shares(axes: Any, data: Data) -> None:
    """Parts of a processor over time, with lines where they are to be."""
    ends, begin = data["until_s"], 0.0
    marks = [0.0, *(ends[step - 1] for step in data["changes_s"]), ends[-1]]
    for number, colour in enumerate(COLOURS[:3]):
        parts = [row[number] for row in data["parts"]]
        axes.step([begin, *ends], [parts[0], *parts], where="pre", color=colour, linewidth=1.8)
        for weights, start, end in zip(data["weights"], marks, marks[1:], strict=False):
            axes.hlines(weights[number] / sum(weights), start, end, color=colour, linestyle=":", linewidth=1)
            text = f"weight {weights[number]}" if weights[number] else "paused"
            axes.text(start + 0.15, weights[number] / sum(weights) + 0.015, text, color=colour)
    axes.set(xlabel="seconds that the processor computed", ylabel="part of it", ylim=(-0.02, 1.0), xlim=(0, ends[-1]))


def linux(axes: Any, data: Data) -> None:
    """What guests take, booted one by one."""
    guests = range(1, len(data["scanned_mib"]) + 1)
    axes.plot(guests, data["unshared_mib"], color=COLOURS[1], marker="o", markersize=3)
    axes.plot(guests, data["scanned_mib"], color=COLOURS[0], marker="o", markersize=3)
    axes.text(6.2, data["unshared_mib"][5] + 60, "each for itself", color=COLOURS[1], ha="right")
    axes.text(9.5, data["scanned_mib"][8] + 60, "scanned behind each boot", color=COLOURS[0], ha="right")
    axes.set(xlabel="Linux guests of 256 MiB", ylabel="MiB of frames", xlim=(0.5, guests[-1] + 0.5), ylim=(0, None))
    axes.set_xticks(list(guests))


def clones(axes: Any, data: Data) -> None:
    """What clones take."""
    for name, colour, text, place, side in (
        ("fresh_mib", COLOURS[0], "before they run", (0.97, 0.45), "right"),
        ("worked_mib", COLOURS[1], "and for what each stores in\n10 virtual seconds", (0.03, 0.75), "left"),
    ):
        count, mib = zip(*data[name], strict=True)
        axes.plot([0, *count], [0, *mib], color=colour, marker="o", markersize=2.5)
        words = f"{text}: {mib[-1] / count[-1]:.2f} MiB"
        axes.text(*place, words, transform=axes.transAxes, color=colour, ha=side)
    axes.set(xlabel=f"clones of a Linux guest of {data['size_mib']} MiB", ylabel="MiB of memory")
    axes.set(xlim=(0, None), ylim=(0, None))


def swap(axes: Any, data: Data) -> None:
    """Where pages are."""
    stored = data["stored_mib"]
    axes.plot(stored, data["frames_mib"], color=COLOURS[0], linewidth=1.8)
    axes.plot(stored, data["file_mib"], color=COLOURS[1], linewidth=1.8)
    axes.axhline(data["host_mib"], color="#888888", linestyle=":", linewidth=1)
    axes.text(0.5, data["host_mib"] + 0.4, "what the host has", color="#666666")
    axes.text(9.5, 11.5, "in frames", color=COLOURS[0], ha="right")
    axes.text(21.5, 5.0, "in the swap file", color=COLOURS[1], ha="left")
    axes.set(xlabel="MiB that three guests have stored to, one after the other", ylabel="MiB", xlim=(0, stored[-1]))
    axes.set_ylim(0, data["host_mib"] + 4)


def disks(axes: Any, data: Data) -> None:
    """What guests read; one without a limit leaves the picture at once."""
    limited = [name for name in data if name not in ("ms", "no limit")]
    most = 1.1 * max(data[name][-1] for name in limited)
    for name, colour in zip(("no limit", *limited), COLOURS, strict=True):
        axes.plot(data["ms"], data[name], color=colour, linewidth=1.8)
        if name != "no limit":
            end = data["ms"][-1], data[name][-1]
            axes.annotate(name, end, (4, -3), textcoords="offset points", color=colour)
    axes.text(25, 0.93 * most, f"no limit: {data['no limit'][-1]:,} KiB", color=COLOURS[0])
    axes.set(xlabel="milliseconds of the guest's time", ylabel="KiB read", xlim=(0, data["ms"][-1]), ylim=(0, most))


PLOTS: dict[str, Callable[[Any, Data], None]] = {
    "shares": shares, "linux": linux, "clones": clones, "swap": swap, "disks": disks,
}  # fmt: skip


def draw(name: str, data: Data, to: Path) -> None:
    """Write one picture."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams.update(
        {
            "svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif", "font.size": 9,
            "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#666666", "path.simplify": True,
        }
    )  # fmt: skip
    figure, axes = pyplot.subplots(figsize=(6.2, 2.9), layout="constrained")
    PLOTS[name](axes, data)
    figure.savefig(to, metadata={"Date": None, "Description": f"data {digest(data)}"})
    pyplot.close(figure)
    to.write_text("\n".join(line.rstrip() for line in to.read_text().splitlines()) + "\n")


def main() -> None:
    """See above."""
    FOLDER.mkdir(exist_ok=True)
    every = json.loads(DATA.read_text())
    for name in PLOTS:
        draw(name, every[name], FOLDER / f"{name}.svg")
        print(FOLDER.name + f"/{name}.svg", (FOLDER / f"{name}.svg").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
