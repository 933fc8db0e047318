"""Measures all budgets of the store, beside plain zarr and ways to read betas without the store.

Run ``python benchmarks/budgets.py [--dir DIR] [--size full|tiny] [--json FILE]``. First makes a
synthetic session of full size (two minutes, 3 GB; the whole run takes about ten minutes and 25 GB
of disk), then prints each measured value beside its budget. With ``--dir`` the dataset is kept for
the next run. ``benchmarks/figures.py`` draws the JSON file.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import rivals
import xarray as xr
import zarr
from many_sessions import link_sessions
from measure import (
    CountingStore,
    DistantStore,
    Figure,
    command,
    in_child,
    report,
    seconds,
    side_by_side,
    timed,
    touch_memory,
)
from zarr.storage import LocalStore

from laion_zarr import _release as release
from laion_zarr import load_subject
from laion_zarr.conversion.synthetic import write_dataset
from laion_zarr.store.schema import CHUNK_VOXELS
from laion_zarr.subject import Subject

SUBJECT, SESSION = "sub-01", "ses-01"
LARGE_ROI = "laiongeneral"
N_SESSIONS = 30
GROWTH = (1, 2, 5, 10, 20, 30)
CONVERTED_TOGETHER = 4
N_RUNS = 3
IMPORT = "import time; t = time.perf_counter(); import laion_zarr; print(time.perf_counter() - t)"
# Prints the growth of a process's peak memory by reading an ROI, in units of the result's bytes.
ROI_MEMORY = """
import sys
from pathlib import Path
from laion_zarr import load_subject
def rss(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
sub = load_subject("sub-01", sys.argv[1])
lazy = sub.get_betas(roi=sys.argv[2])
lazy[:1].load()
before = rss("VmRSS")
found = lazy.load()
print((rss("VmHWM") - before) / found.nbytes)
"""


def convert_figures(data: Path, root: Path) -> list[Figure]:
    """Time of a conversion, relative to inflating alone, measured just before and after it."""
    betas = data / release.betas(SUBJECT, SESSION)
    figures = []
    for mask, budget in (("anatomical", 1.8), ("both", 2.5)):
        store = root / f"{mask}.zarr"
        shutil.rmtree(store, ignore_errors=True)
        before = timed(lambda: rivals.inflate(betas))
        options = ["--source", str(data), "--store", str(store), "--mask", mask, "--quiet"]
        found = command("convert", *options)
        bare = (before + timed(lambda: rivals.inflate(betas))) / 2
        opened = load_subject(SUBJECT, store).dataset["betas"]
        size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
        name = f"convert one session, {opened.sizes['voxel']:,} voxels"
        figures += [
            Figure(name, found["seconds"] / bare, "× inflating", budget),
            Figure(f"{name}: time", found["seconds"], "s"),
            Figure(f"{name}: peak memory", found["peak_gb"], "GB", 2.0),
            Figure(f"{name}: store", size / opened.nbytes, "× raw", 0.95),
        ]
    return [*figures, *_together(data, root, bare)]


def _together(data: Path, root: Path, bare: float) -> list[Figure]:
    """Conversion of several sessions, hard links to one session, by two workers."""
    mirror, store = root / "together", root / "together.zarr"
    for old in (mirror, store):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(data, mirror, copy_function=os.link, symlinks=True)
    trials = (mirror / release.trials(SUBJECT, SESSION)).read_text()
    for n in range(2, CONVERTED_TOGETHER + 1):
        session = f"ses-{n:02d}"
        betas = mirror / release.betas(SUBJECT, session)
        betas.parent.mkdir(parents=True)
        os.link(mirror / release.betas(SUBJECT, SESSION), betas)
        table = mirror / release.trials(SUBJECT, session)
        table.write_text(trials.replace(SESSION, session))
    options = ["--source", str(mirror), "--store", str(store), "--mask", "anatomical"]
    found = command("convert", *options, "--n-workers", "2", "--parts", "betas", "--quiet")
    for old in (mirror, store):
        shutil.rmtree(old)
    name = f"convert {CONVERTED_TOGETHER} sessions, 2 workers"
    each = found["seconds"] / CONVERTED_TOGETHER
    return [
        Figure(f"{name}, per session", each / bare, "× inflating", 1.3),
        Figure(f"{name}: peak memory of one", found["peak_gb"], "GB", 2.0),
    ]


def bold_figures(data: Path, root: Path) -> list[Figure]:
    """Reads of one region's time series: three runs, hard links to the betas, as one session."""
    mirror, store = root / "time-series", root / "time-series.zarr"
    for old in (mirror, store):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(data, mirror, copy_function=os.link, symlinks=True)
    for run in range(1, N_RUNS + 1):
        path = mirror / release.bold(SUBJECT, SESSION, run)
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in (path, mirror / release.sidecar(str(release.bold(SUBJECT, SESSION, run)))):
            old.unlink(missing_ok=True)
        os.link(mirror / release.betas(SUBJECT, SESSION), path)
    options = ["--source", str(mirror), "--store", str(store), "--mask", "anatomical", "--quiet"]
    found = command("convert", *options, "--parts", "bold")
    reads = BoldReads(store)
    name = f"time series of one session, {len(reads.sub.get_bold(SESSION)):,} volumes"
    figures = [
        Figure(f"convert {name}: time", found["seconds"], "s"),
        Figure(f"convert {name}: peak memory", found["peak_gb"], "GB", 2.0),
        *reads.small(name),
    ]
    for old in (mirror, store):
        shutil.rmtree(old)
    return figures


class Reads:
    """Reads from one session of a store, compared with zarr-python on the same chunks."""

    array = f"{SESSION}/betas"

    def __init__(self, store: Path) -> None:
        self.store = store
        self.sub = load_subject(SUBJECT, store)
        self.plain = zarr.open_array(store / SUBJECT / self.array, mode="r")
        self.stored = zarr.open_array(store / SUBJECT / "voxels" / "voxel", mode="r")[:]
        self.sizes = {
            roi: int(self.sub.get_roi_mask(roi).sum()) for roi in self.sub.get_available_rois()
        }

    def lazy(self, sub: Subject, roi: str) -> xr.DataArray:
        """What is read: one ROI of the session."""
        return sub.get_betas(session=SESSION, roi=roi)

    def rois(self, least: int, most: int) -> list[str]:
        """ROIs with `least` to `most` voxels; if none exists (tiny dataset), all non-empty ROIs."""
        found = [roi for roi, size in self.sizes.items() if least <= size <= most]
        return found or [roi for roi, size in self.sizes.items() if size]

    def measure(self, roi: str) -> dict[str, float]:
        """Time, time of plain zarr, bytes read per byte of the result, and number of requests."""
        voxels = self.lazy(self.sub, roi)["voxel"].values
        chunks = np.unique(np.flatnonzero(np.isin(self.stored, voxels)) // CHUNK_VOXELS).tolist()
        runs = np.split(chunks, np.flatnonzero(np.diff(chunks) != 1) + 1)
        spans = [slice(CHUNK_VOXELS * run[0], CHUNK_VOXELS * (run[-1] + 1)) for run in runs]
        times = side_by_side(
            {
                "ours": lambda: self.lazy(self.sub, roi).load(),
                "plain": lambda: [self.plain[span] for span in spans],
            }
        )
        counting = CountingStore(self.store, read_only=True)
        lazy = self.lazy(load_subject(SUBJECT, counting), roi)
        before = counting.requests, counting.nbytes
        lazy.load()
        read = counting.nbytes - before[1]
        return times | {"bytes": read / lazy.nbytes, "requests": counting.requests - before[0]}

    def small(self, what: str = "one session") -> list[Figure]:
        """Medians over the ROIs of 300-700 voxels."""
        found = [self.measure(roi) for roi in self.rois(300, 700)]
        by_name = {name: median(each[name] for each in found) for name in found[0]}
        name = f"{len(found)} ROIs of 300-700 voxels, {what}"
        # The budget is 20 ms or twice the time of plain zarr, whichever is longer.
        budget = max(20.0, 2e3 * by_name["plain"])
        return [
            Figure(f"{name}: bytes", by_name["bytes"], "× needed", 2.0),
            Figure(f"{name}: requests", by_name["requests"], "", 12),
            Figure(f"{name}: time", 1e3 * by_name["ours"], "ms", budget),
            Figure(f"{name}: plain zarr", 1e3 * by_name["plain"], "ms"),
        ]

    def large(self) -> list[Figure]:
        """Figures for one ROI of about 20,000 voxels."""
        found = self.measure(LARGE_ROI)
        name = f"{LARGE_ROI}, {self.sizes[LARGE_ROI]:,} voxels, one session"
        return [
            Figure(f"{name}: bytes", found["bytes"], "× needed", 1.2),
            Figure(name, found["ours"] / found["plain"], "× plain zarr", 1.5),
            Figure(f"{name}: time", 1e3 * found["ours"], "ms"),
        ]

    def whole(self) -> list[Figure]:
        """Figures for one session of the whole brain, and for one trial of it."""
        betas = self.sub.get_betas(session=SESSION)
        works = {"ours": lambda: betas.copy().load(), "plain": lambda: self.plain[:]}
        times = side_by_side(works, 3)
        name = f"whole brain, {betas.sizes['voxel']:,} voxels, one session"
        return [
            Figure(name, times["ours"] / times["plain"], "× plain zarr", 2.5),
            Figure(f"{name}: time", times["ours"], "s"),
            Figure("one trial of the whole brain", seconds(lambda: betas[7].copy().load(), 3), "s"),
        ]


class BoldReads(Reads):
    """The same of the preprocessed time series of a session."""

    array = f"bold/{SESSION}/bold"

    def lazy(self, sub: Subject, roi: str) -> xr.DataArray:
        """What is read: one ROI, all runs of the session."""
        return sub.get_bold(SESSION, roi=roi)


def rival_figures(data: Path, root: Path, reads: Reads) -> list[Figure]:
    """Times to read one ROI of one session in several ways; checks that all give equal values."""
    roi = max(reads.rois(300, 700), key=lambda roi: reads.sizes[roi])
    betas = reads.sub.get_betas(session=SESSION, roi=roi).load()
    brain = reads.sub.get_betas(session=SESSION)
    voxels = np.flatnonzero(np.isin(brain["voxel"].values, betas["voxel"].values))
    mask = np.zeros(reads.sub.dataset.attrs["shape"], dtype=bool)
    mask.ravel()[betas["voxel"].values] = True
    source = data / release.betas(SUBJECT, SESSION)
    rivals.write_hdf5(root / "betas.h5", brain.values)
    np.save(root / "roi.npy", betas.values)
    slow = {
        "nibabel, half the trials at a time": lambda: rivals.nibabel_load(source, mask),
        "gzip stream, keeping the mask": lambda: rivals.gzip_stream(source, mask, len(betas)),
    }
    fast = {
        "HDF5 in blocks of trials": lambda: rivals.read_hdf5(root / "betas.h5", voxels),
        "laion_zarr": lambda: reads.sub.get_betas(session=SESSION, roi=roi).values,
        "memmap of just these voxels": lambda: rivals.read_memmap(root / "roi.npy"),
    }
    times = {}
    for way, work in (slow | fast).items():
        times[way] = timed(lambda work=work: np.testing.assert_array_equal(work(), betas.values))
    times |= side_by_side(fast)
    some = np.sort(np.random.default_rng(0).choice(len(betas), min(32, len(betas)), replace=False))
    lazy = reads.sub.get_betas(session=SESSION, roi=roi)[some]
    name = f"{roi}, {len(voxels)} voxels, one session"
    return [
        *(Figure(f"{name}: {way}", time, "s") for way, time in times.items()),
        Figure(f"{name}: 32 random trials", 1e3 * seconds(lambda: lazy.copy().load()), "ms"),
    ]


def many_figures(store: Path, n_sessions: int, root: Path) -> list[Figure]:
    """Times to open a subject and read one ROI, by number of sessions; memory and requests."""
    grown = root / "grown.zarr"
    figures = []
    for n in sorted({n for n in GROWTH if n < n_sessions} | {n_sessions}):
        shutil.rmtree(grown, ignore_errors=True)
        shutil.copytree(store, grown, copy_function=os.link)
        link_sessions(grown, SUBJECT, n)
        figures += _of_sessions(grown, n, promised=n == n_sessions)
    roi = _middle(Reads(grown))
    memory = in_child(ROI_MEMORY, grown, roi)
    distant = DistantStore(LocalStore(grown, read_only=True))
    load_subject(SUBJECT, distant).get_betas()
    name = f"{n_sessions} sessions"
    return [
        *figures,
        Figure(f"{roi}, {name}: memory", memory, "× result", 3.0),
        Figure(f"open in a bucket, {name}: requests", distant.requests, "", 25),
        Figure(f"open in a bucket, {name}: rounds of requests", distant.rounds, "", 4),
    ]


def _middle(reads: Reads) -> str:
    """The ROI whose number of voxels is nearest to 500."""
    return min(reads.rois(300, 700), key=lambda roi: abs(reads.sizes[roi] - 500))


def _of_sessions(store: Path, n: int, promised: bool) -> list[Figure]:
    reads = Reads(store)
    roi = _middle(reads)
    opening = seconds(lambda: load_subject(SUBJECT, store).get_betas())
    reading = seconds(lambda: reads.sub.get_betas(roi=roi).load())
    what = f"{roi}, {reads.sizes[roi]} voxels, {n} sessions"
    return [
        Figure(f"open, {n} sessions", 1e3 * opening, "ms", 150 if promised else None),
        Figure(what, reading, "s", 0.5 if promised else None),
    ]


def all_figures(data: Path, root: Path, n_sessions: int) -> Iterator[Figure]:
    """All figures of the table, in order."""
    betas = (data / release.betas(SUBJECT, SESSION)).stat().st_size
    touch_memory(4 * betas)
    # Conversions come before any read: the peak RSS of a child process includes its parent's RSS.
    yield from convert_figures(data, root)
    yield from bold_figures(data, root)
    verified = command("verify", "--store", str(root / "both.zarr"), "--quiet")
    yield Figure("verify, both masks", verified["seconds"], "s")
    yield from many_figures(root / "anatomical.zarr", n_sessions, root)
    # The budgets apply to a store with one mask; figures for both masks are shown without budget.
    for mask, note in (("anatomical", ""), ("both", ", both masks stored")):
        reads = Reads(root / f"{mask}.zarr")
        for found in (*reads.small(), *reads.large(), *reads.whole()):
            budget = None if note else found.budget
            yield replace(found, what=found.what + note, budget=budget)
    yield from rival_figures(data, root, Reads(root / "anatomical.zarr"))
    imports = median(in_child(IMPORT) for _ in range(5))
    yield Figure("import laion_zarr", imports, "s", 0.3)


def main() -> None:
    """Make the dataset, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, help="folder that keeps the dataset and the stores")
    parser.add_argument("--size", default="full")
    parser.add_argument("--sessions", type=int, default=N_SESSIONS, help="of the long subject")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    root = arguments.dir or Path(tempfile.mkdtemp())
    data = root / "data"
    if not (data / release.betas(SUBJECT, SESSION)).exists():
        write_dataset(data, arguments.size, [SUBJECT], [SESSION], progress=True)
    report(all_figures(data, root, arguments.sessions), arguments.json)
    if arguments.dir is None:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
