"""Draws figures that ``budgets.py``, ``scale.py`` or ``threads.py`` measured.

Run ``python benchmarks/figures.py JSON DIR``. Also prints them as a Markdown table for the
documentation.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

OURS, OTHERS, LIMIT = "#c44e52", "#9aa5b1", "#4c72b0"
_WAY = re.compile(r"(.+ voxels, one session): (.+)")
_AT_SCALE = re.compile(r"((.+), \d+ sessions): peak memory of a worker")
_GROWTH = re.compile(r"(open|\S+, \d+ voxels), (\d+) sessions")
_THREADS = re.compile(r"(.+), (\d+) threads?")
Figures = list[dict[str, Any]]


def budgets(figures: Figures, path: Path) -> None:
    """Draw the share of each budget that was used."""
    promised = [f for f in figures if f["budget"] is not None][::-1]
    used = [f["value"] / f["budget"] for f in promised]
    fig, ax = plt.subplots(figsize=(9, 0.34 * len(promised) + 1), layout="constrained")
    ax.barh([f["what"] for f in promised], used, color=[OURS if u > 1 else LIMIT for u in used])
    for row, figure in enumerate(promised):
        text = f"{figure['value']:.3g} of {figure['budget']:.3g} {figure['unit']}"
        ax.text(max(used[row], 1) + 0.02, row, text, va="center", fontsize=8)
    ax.axvline(1, color="k", lw=1)
    ax.set(xlim=(0, 1.4), xlabel="share of the budget that was used")
    ax.spines[["top", "right"]].set_visible(False)
    fig.savefig(path, dpi=130)
    plt.close(fig)


def ways(figures: Figures, path: Path) -> None:
    """Draw the times to read one ROI of one session in several ways."""
    found = [
        (match[1], match[2], f["value"])
        for f in figures
        if f["unit"] == "s" and (match := _WAY.fullmatch(f["what"]))
    ]
    title = next(what for what, way, _ in found if way == "laion_zarr")
    rows = [(way, value) for what, way, value in found if what == title][::-1]
    colours = [
        OURS if way == "laion_zarr" else LIMIT if "memmap" in way else OTHERS for way, _ in rows
    ]
    fig, ax = plt.subplots(figsize=(8, 2.6), layout="constrained")
    bars = ax.barh([way for way, _ in rows], [value for _, value in rows], color=colours)
    labels = [f"{v:.0f} s" if v >= 1 else f"{1e3 * v:.3g} ms" for _, v in rows]
    ax.bar_label(bars, labels, padding=4)
    ax.set(xscale="log", xlabel="seconds", title=title)
    ax.margins(x=0.2)
    ax.spines[["top", "right"]].set_visible(False)
    fig.savefig(path, dpi=130)
    plt.close(fig)


def growth(figures: Figures, path: Path) -> None:
    """Draw the times to open a subject and to read one ROI, by number of sessions."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for figure in figures:
        if match := _GROWTH.fullmatch(figure["what"]):
            scale = 1e3 if figure["unit"] == "s" else 1
            lines.setdefault(match[1], []).append((int(match[2]), scale * figure["value"]))
    fig, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
    for (name, points), colour in zip(lines.items(), (LIMIT, OURS), strict=True):
        label = "open the subject, lazy betas ready" if name == "open" else f"read {name}"
        ax.plot(*zip(*points, strict=True), "o-", color=colour, label=label)
    ax.set(xlabel="sessions of the subject", ylabel="ms", ylim=(0, None), xlim=(0, None))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    fig.savefig(path, dpi=130)
    plt.close(fig)


def scale(figures: Figures, path: Path) -> None:
    """Draw time and memory of whole-subject analyses, with plain reading and the memory limit."""
    values = {f["what"]: f["value"] for f in figures}
    matches = [match for what in values if (match := _AT_SCALE.fullmatch(what))][::-1]
    names = [match[2] for match in matches]
    times, peaks = (
        [values[f"{match[1]}: {what}"] for match in matches]
        for what in ("time", "peak memory of a worker")
    )
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3), sharey=True, layout="constrained")
    for what in (what for what in values if what.startswith("plain zarr") and "time" in what):
        left.axvline(values[what], color=OTHERS, lw=1.5, ls="--", zorder=0)
        label = f"all betas only read,\n{what.split(', ')[1]}"
        left.text(values[what], len(names) - 0.4, label, fontsize=8, ha="center", va="bottom")
    bars = left.barh(names, times, color=OURS)
    labels = left.bar_label(bars, fmt="%.3g s", padding=4)
    plt.setp(labels, backgroundcolor="white")
    left.set(xlabel="seconds", xlim=(0, 1.3 * max(times)))
    right.bar_label(right.barh(names, peaks, color=LIMIT), fmt="%.2g GB", padding=4)
    right.axvline(2, color="k", lw=1)
    right.text(2, len(names) - 0.4, "limit", fontsize=8, ha="center", va="bottom")
    right.set(xlabel="peak memory of a worker, GB", xlim=(0, 2.3))
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    fig.savefig(path, dpi=130)
    plt.close(fig)


def throughput(figures: Figures, path: Path) -> None:
    """Draw bytes per second of each statistic by number of threads, and half of raw reading."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for figure in figures:
        if figure["unit"] == "GB/s" and (match := _THREADS.fullmatch(figure["what"])):
            lines.setdefault(match[1], []).append((int(match[2]), figure["value"]))
    fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for (name, points), marker in zip(lines.items(), "os^D", strict=True):
        raw = name.startswith("raw")
        threads, rates = zip(*points, strict=True)
        ax.plot(threads, rates, f"{marker}-", color=OTHERS if raw else None, label=name)
        if raw:
            half = [rate / 2 for rate in rates]
            ax.plot(threads, half, "--", color=OTHERS, label="half of it: the budget")
    ax.set(xlabel="threads", ylabel="GB of betas per second", xticks=threads, ylim=(0, None))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8)
    fig.savefig(path, dpi=130)
    plt.close(fig)


def main() -> None:
    """Draw the figures and print the table."""
    source, folder = map(Path, sys.argv[1:])
    figures: Figures = json.loads(source.read_text(encoding="utf-8"))
    if any(_AT_SCALE.fullmatch(f["what"]) for f in figures):
        scale(figures, folder / "scale.png")
    elif any(_THREADS.fullmatch(f["what"]) for f in figures):
        throughput(figures, folder / "threads.png")
    else:
        budgets(figures, folder / "budgets.png")
        ways(figures, folder / "ways.png")
        growth(figures, folder / "growth.png")
    print("| what | measured | budget |\n|---|---|---|")
    for f in figures:
        budget = "" if f["budget"] is None else f"≤ {f['budget']:.3g}"
        print(f"| {f['what']} | {f['value']:.3g} {f['unit']} | {budget} |")


if __name__ == "__main__":
    main()
