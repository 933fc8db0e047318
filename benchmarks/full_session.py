"""One full-size synthetic session: convert, verify, read; side by side with the least possible.

Run ``python benchmarks/full_session.py [--dir DIR] [--size full|tiny] [--json FILE]``. Makes the
session first (about two minutes and 3 GB for ``full``), then prints a table of ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import zarr
from isal import igzip
from zarr.storage import LocalStore

from laion_zarr import _layout as layout
from laion_zarr import load_subject
from laion_zarr.conversion.synthetic import write_dataset

SUBJECT, SESSION = "sub-01", "ses-01"
REPEATS = 5
ROIS = ("FFA1", "V1v", "face", "laiongeneral")


def seconds(work: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Median wall time."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return median(times)


def command(*arguments: str) -> tuple[float, float]:
    """Wall time and peak RSS (GB) of a command, in a process of its own."""
    code = "import sys; from laion_zarr.conversion.cli import main; sys.exit(main(sys.argv[1:]))"
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, arguments
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e9


def inflate(path: Path) -> None:
    """Read a gzip to its end, and nothing else."""
    buffer = bytearray(1 << 24)
    with igzip.open(path) as file:
        while file.readinto(buffer):
            pass


class CountingStore(LocalStore):
    """A local store that counts what is read."""

    requests = 0
    nbytes = 0

    async def get(self, *args: Any, **options: Any) -> Any:
        """Read, and count."""
        value = await super().get(*args, **options)
        self.requests += 1
        self.nbytes += 0 if value is None else len(value)
        return value


def convert_figures(data: Path, store: Path, mask: str) -> dict[str, float]:
    """Conversion against inflating alone, in turn."""
    betas = data / layout.betas(SUBJECT, SESSION)
    shutil.rmtree(store, ignore_errors=True)
    bare = seconds(lambda: inflate(betas), 1)
    options = ["--source", str(data), "--store", str(store), "--mask", mask, "--quiet"]
    wall, peak = command("convert", *options)
    bare = (bare + seconds(lambda: inflate(betas), 1)) / 2
    raw = load_subject(SUBJECT, store).dataset["betas"].nbytes
    size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    return {
        f"convert, {mask}: seconds": wall,
        f"convert, {mask}: ÷ inflating alone": wall / bare,
        f"convert, {mask}: peak RSS, GB": peak,
        f"convert, {mask}: store ÷ raw betas": size / raw,
    }


def read_figures(store: Path) -> dict[str, float]:
    """Reads against zarr-python on the same chunks, in turn."""
    sub = load_subject(SUBJECT, store)
    plain = zarr.open_array(store / SUBJECT / SESSION / "betas", mode="r")
    stored = zarr.open_array(store / SUBJECT / SESSION / "voxel", mode="r")[:]
    figures = {}
    for roi in ROIS:
        voxels = sub.get_betas(roi=roi)["voxel"].values
        if not voxels.size:  # of the tiny size
            continue
        chunks = np.unique(np.flatnonzero(np.isin(stored, voxels)) // 256)
        mine = seconds(lambda roi=roi: sub.get_betas(session=SESSION, roi=roi).load())  # type: ignore[misc]
        theirs = seconds(lambda ids=chunks: [plain[256 * c : 256 * (c + 1)] for c in ids])  # type: ignore[misc]
        counting = CountingStore(store, read_only=True)
        counted = load_subject(SUBJECT, counting)
        lazy = counted.get_betas(session=SESSION, roi=roi)
        before = counting.requests, counting.nbytes
        lazy.load()
        figures |= {
            f"{roi} ({len(voxels):,} voxels): ms": mine * 1e3,
            f"{roi}: ÷ plain zarr": mine / theirs,
            f"{roi}: bytes read ÷ needed": (counting.nbytes - before[1]) / lazy.nbytes,
            f"{roi}: requests": counting.requests - before[0],
        }
    brain = seconds(lambda: sub.get_betas(session=SESSION).load(), 3)
    figures["whole brain: seconds"] = brain
    figures["whole brain: ÷ plain zarr"] = brain / seconds(lambda: plain[:], 3)
    figures["open, betas lazy: ms"] = 1e3 * seconds(
        lambda: load_subject(SUBJECT, store).get_betas()
    )
    return figures


def main() -> None:
    """Make, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, help="folder that keeps the dataset and the stores")
    parser.add_argument("--size", default="full")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    root = arguments.dir or Path(tempfile.mkdtemp())
    data = root / "data"
    if not (data / layout.betas(SUBJECT, SESSION)).exists():
        write_dataset(data, arguments.size, [SUBJECT], [SESSION], progress=True)
    # Before anything is read: a child's peak RSS begins with what its parent had.
    figures = convert_figures(data, root / "one.zarr", "anatomical")
    figures |= convert_figures(data, root / "both.zarr", "both")
    figures |= read_figures(root / "one.zarr")
    wall, _ = command("verify", "--store", str(root / "both.zarr"), "--quiet")
    figures["verify, both: seconds"] = wall
    for name, value in figures.items():
        print(f"{name:<48}{value:12,.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")
    if arguments.dir is None:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
