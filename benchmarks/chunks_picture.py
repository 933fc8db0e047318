"""Draws chunks and reads of betas: ``python benchmarks/chunks_picture.py docs/chunks.png``."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

ROI, REST, READ, LINE = "#e6a57e", "#b9cbe0", "#c44e52", "#555555"
SESSIONS, SHARDS, CHUNKS, ROI_CHUNKS = 4, 4, 6, 5
GAP = 0.12
ROWS = SHARDS * CHUNKS


def _panel(ax: Axes, title: str, below: str) -> None:
    ax.set(xlim=(-0.75, SESSIONS + 0.1), ylim=(ROWS + 0.6, -2.2))
    ax.set_title(title, fontsize=11, loc="left", weight="bold")
    ax.text(-0.7, ROWS + 1.2, below, fontsize=8.5, va="top", linespacing=1.45)
    for n in range(SESSIONS):
        name = f"ses-{n + 1:02d}" if n < SESSIONS - 1 else "…"
        ax.text(n + 0.44, -0.4, name, ha="center", fontsize=8.5)
    ax.text(SESSIONS / 2, -1.5, "trials", ha="center", fontsize=9)
    ax.axis("off")


def _cell(ax: Axes, session: int, row: float, height: float, **how: object) -> None:
    ax.add_patch(Rectangle((session, row), 1 - GAP, height, **how))


def stored(ax: Axes) -> None:
    """Draw chunks and shards, with voxels in storage order."""
    for session in range(SESSIONS):
        for row in range(ROWS):
            colour = ROI if row < ROI_CHUNKS else REST
            _cell(ax, session, row, 1, facecolor=colour, edgecolor="white", lw=0.8)
        for shard in range(SHARDS):
            _cell(ax, session, shard * CHUNKS, CHUNKS, fill=False, edgecolor=LINE, lw=1.6)
    ax.text(-0.15, ROI_CHUNKS / 2, "ROIs", rotation=90, va="center", ha="center", fontsize=9)
    ax.text(-0.15, ROWS * 0.62, "all other voxels", rotation=90, va="center", ha="center")
    ax.text(-0.55, ROWS / 2, "voxels, storage order", rotation=90, va="center", ha="center")


def blocks(ax: Axes) -> None:
    """Draw Dask blocks, with voxels in C order of the grid; one task reads one block."""
    for session in range(SESSIONS):
        for slab in range(SHARDS):
            mine = session == 1 and slab == 1
            colour = READ if mine else "#eeeeee"
            where = (slab * CHUNKS, CHUNKS)
            _cell(ax, session, *where, facecolor=colour, alpha=0.85, edgecolor=LINE, lw=1.6)
    ax.text(-0.3, ROWS / 2, "voxels, C order of the grid", rotation=90, va="center", ha="center")
    ax.text(1.44, 1.5 * CHUNKS, "one task", color="white", ha="center", va="center", fontsize=9)


def streamed(ax: Axes) -> None:
    """Draw one task of a statistic per voxel, which reads some chunks of every session."""
    stored(ax)
    lo, hi = ROI_CHUNKS + 3, ROI_CHUNKS + 5
    ax.add_patch(
        Rectangle((-0.03, lo), SESSIONS - GAP + 0.06, hi - lo, facecolor=READ, alpha=0.85, zorder=3)
    )
    ax.text(1.94, (lo + hi) / 2, "one task", color="white", ha="center", va="center", zorder=4)


def draw(path: Path) -> None:
    """Save the three panels side by side, not to scale."""
    fig, axes = plt.subplots(1, 3, figsize=(13.5, 5.8))
    fig.subplots_adjust(left=0.01, right=0.99, top=0.93, bottom=0.15, wspace=0.06)
    _panel(
        axes[0],
        "In the store",
        "thin: a chunk, 128 voxels × all trials of a session, 0.5 MB\n"
        "thick: a shard, one file of 135 chunks, 17,280 voxels, 70 MB\n"
        "voxels of ROIs come first, those of one ROI side by side",
    )
    stored(axes[0])
    _panel(
        axes[1],
        "get_betas() in Dask",
        "a block: one session × one slab of 17,280 voxels in C order, 72 MB;\n"
        "of a region: one session × all of it.\n"
        "Reads one shard, and the chunks of ROIs that cross the slab.",
    )
    blocks(axes[1])
    _panel(
        axes[2],
        "noise_ceiling(), get_image_betas(), …",
        "a task: four chunks (512 voxels) of each of 30 sessions, 64 MB, in\n"
        "storage order. Each chunk is read once, trials are laid out by image,\n"
        "and only the result is put in C order.",
    )
    streamed(axes[2])
    fig.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
