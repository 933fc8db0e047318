"""Draws what ``budgets.py`` measured: ``python benchmarks/figures.py FIGURES.json DIR``.

Prints the same as a table for the documentation.
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
_GROWTH = re.compile(r"(open|\S+, \d+ voxels), (\d+) sessions")
Figures = list[dict[str, Any]]


def budgets(figures: Figures, path: Path) -> None:
    """How much of each budget was used."""
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
    """One region of one session, in every way there is."""
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
    """Opening, and one region, by number of sessions."""
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


def main() -> None:
    """Draw and print."""
    source, folder = map(Path, sys.argv[1:])
    figures: Figures = json.loads(source.read_text(encoding="utf-8"))
    budgets(figures, folder / "budgets.png")
    ways(figures, folder / "ways.png")
    growth(figures, folder / "growth.png")
    print("| what | measured | budget |\n|---|---|---|")
    for f in figures:
        budget = "" if f["budget"] is None else f"≤ {f['budget']:.3g}"
        print(f"| {f['what']} | {f['value']:.3g} {f['unit']} | {budget} |")


if __name__ == "__main__":
    main()
