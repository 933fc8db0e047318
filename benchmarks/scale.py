"""Measures whole-subject analyses on a Dask cluster of two workers of 2 GB, beside plain reading.

Run ``python benchmarks/scale.py [--dir DIR] [--size full|tiny] [--sessions 30] [--json FILE]``. The
subject's sessions are hard links to one full-size session, each with a trial table of its own
(6,204 images of 4 or 12 repeats in 30 sessions), so that 33 GB of betas take one gigabyte of disk.
First makes and converts that session, unless ``--dir`` holds it (see ``budgets.py``).
"""

from __future__ import annotations

import argparse
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from distributed import Client, LocalCluster, get_task_stream
from many_sessions import link_sessions
from measure import Figure, report, timed

from laion_zarr import _release as release
from laion_zarr import convert, load_subject
from laion_zarr.analysis import fit_encoding, noise_ceiling, split_half_reliability
from laion_zarr.conversion.synthetic import write_dataset

SUBJECT, SESSION = "sub-01", "ses-01"
N_SESSIONS, FEW_SESSIONS = 30, 5
N_WORKERS, MEMORY = 2, "2GB"
# As docs/cluster.md advises: malloc keeps freed memory, since memory that is returned to the system
# at once must be allocated again page by page.
KEEP_MEMORY = {
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 1 << 24,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 1 << 21,
}
ENCODING, REGION, N_FEATURES = "encoding model", "face", 1024
# Numbers of images in the release, in 30 sessions: images shown 12 times; shared,
# out-of-distribution and unique images, each shown 4 times.
FREQUENT, RARE, OOD, UNIQUE = 813, 308, 371, 4712
# Reads and decodes whole sessions with zarr-python alone, shard by shard.
PLAIN = """
import sys, time
import zarr
store, *sessions = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
for session in sessions:
    betas = zarr.open_array(f"{store}/{session}/betas", mode="r")
    for lo in range(0, betas.shape[0], betas.shards[0]):
        betas[lo : lo + betas.shards[0]]
"""


def image_names(n_trials: int) -> np.ndarray:
    """Image name of each trial, (trial,): repeats as in the release, in random order."""
    share = n_trials / (12 * FREQUENT + 4 * (RARE + OOD + UNIQUE))
    counts = [max(1, round(share * n)) for n in (FREQUENT, RARE, OOD)]
    kinds = ("12rep_LAION_cluster_{}_i0.jpg", "4rep_NSD_{}.jpg", "4rep_OOD_shape_{}.png")
    shared = [
        f"shared_{kind.format(n)}"
        for kind, count, repeats in zip(kinds, counts, (12, 4, 4), strict=True)
        for n in range(count)
        for _ in range(repeats)
    ]
    rest = n_trials - len(shared)
    unique = [f"unique_LAION_initial_cluster_{n // 4}_i0_p01.jpg" for n in range(rest)]
    return np.random.default_rng(0).permutation([*shared, *unique][:n_trials]).astype(object)


def make_subject(store: Path, grown: Path, n_sessions: int) -> None:
    """Make a store with a subject of many sessions from a store with one session."""
    shutil.rmtree(grown, ignore_errors=True)
    shutil.copytree(store, grown, copy_function=os.link)
    n_trials = len(load_subject(SUBJECT, store).metadata)
    names = image_names(n_sessions * n_trials).reshape(n_sessions, n_trials)
    link_sessions(grown, SUBJECT, n_sessions, names)


def plain(store: Path, n_processes: int) -> float:
    """Seconds to read and decode all betas, with the sessions divided among processes."""
    sessions = load_subject(SUBJECT, store).get_sessions()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", PLAIN, str(store / SUBJECT)]
    readers = [
        subprocess.Popen([*command, *sessions[n::n_processes]], **pipes)  # type: ignore[call-overload]
        for n in range(n_processes)
    ]
    for reader in readers:
        reader.stdout.readline()

    def read() -> None:
        for reader in readers:
            print(file=reader.stdin, flush=True)
        statuses = [reader.wait() for reader in readers]
        assert not any(statuses)

    return timed(read)


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak_gb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("VmHWM"))


def _spilled_gb(dask_worker: Any) -> float:
    found = dask_worker.data.cumulative_metrics
    return sum(n for key, n in found.items() if key[-1] == "bytes" and "write" in key[0]) / 1e9


def run(client: Client, name: str, lazy: Any, work: Callable[[Any], Any]) -> dict[str, float]:
    """Run one analysis: its time, peak memory, size of the task graph, and spilled memory."""
    client.run(_reset_peak)
    spilled = sum(client.run(_spilled_gb).values())
    graph = len(pickle.dumps(dask.optimize(lazy.data)[0].dask))
    with get_task_stream(client) as tasks:
        start = time.time()
        work(lazy)
        seconds = time.time() - start
    began = min(part["start"] for task in tasks.data for part in task["startstops"])
    return {
        "seconds": seconds,
        "first": began - start,
        "graph": graph / 1e6,
        "peak": max(client.run(_peak_gb).values()),
        "spilled": sum(client.run(_spilled_gb).values()) - spilled,
    }


def analyses(sub: Any, folder: Path) -> dict[str, tuple[Any, Callable[[Any], Any]]]:
    """Analyses to measure, by name: a lazy array, and the function that computes it."""

    def kept(lazy: Any) -> None:
        shutil.rmtree(folder / "kept.zarr", ignore_errors=True)
        lazy.drop_encoding().to_zarr(folder / "kept.zarr", consolidated=False)

    betas, region = sub.get_betas(), sub.get_image_betas(roi=REGION)
    images = region["image"].values
    values = da.random.default_rng(0).normal(size=(len(images), N_FEATURES), chunks=-1)
    features = xr.DataArray(values, {"image": images}, ("image", "feature"))
    model = fit_encoding(features, region)["weights"]
    return {
        "noise ceiling, whole brain": (noise_ceiling(betas), lambda lazy: lazy.compute()),
        "reliability, whole brain": (split_half_reliability(betas), lambda lazy: lazy.compute()),
        "z-scores averaged by image, all ROIs, to a store": (sub.get_image_betas(roi="all"), kept),
        "z-scores averaged by image, whole brain, to a store": (sub.get_image_betas(), kept),
        f"{ENCODING}, {REGION}": (model, lambda lazy: lazy.compute()),
    }


def of_subject(client: Client, store: Path, folder: Path) -> dict[str, dict[str, float]]:
    """Run all analyses of one subject; results by name of the analysis."""
    found = {}
    for name, (lazy, work) in analyses(load_subject(SUBJECT, store), folder).items():
        found[name] = run(client, name, lazy, work)
    shutil.rmtree(folder / "kept.zarr")
    return found


def own_figures(name: str, own: dict[str, float]) -> Iterator[Figure]:
    """Figures of one analysis that need no comparison."""
    yield Figure(f"{name}: time", own["seconds"], "s")
    yield Figure(f"{name}: peak memory of a worker", own["peak"], "GB", 2.0)
    yield Figure(f"{name}: spilled", own["spilled"], "GB", 0.0)
    yield Figure(f"{name}: graph", own["graph"], "MB", 10.0)
    yield Figure(f"{name}: first task after", own["first"], "s")


def figures(root: Path, n_sessions: int) -> Iterator[Figure]:
    """All figures of the table, in order."""
    few = min(FEW_SESSIONS, n_sessions)
    stores = {n: root / f"scale-{n}.zarr" for n in sorted({few, n_sessions})}
    for n, store in stores.items():
        make_subject(root / "anatomical.zarr", store, n)
    sub = load_subject(SUBJECT, stores[n_sessions])
    betas = sub.get_betas()
    what = f"{n_sessions} sessions"
    yield Figure(f"betas, {what}", betas.nbytes / 1e9, "GB")
    yield Figure(f"images, {what}", len(np.unique(betas["image_name"])), "")
    alone, together = (plain(stores[n_sessions], n) for n in (1, N_WORKERS))
    for name, seconds in (("one process", alone), (f"{N_WORKERS} processes", together)):
        yield Figure(f"plain zarr, {name}, {what}: time", seconds, "s")
        yield Figure(f"plain zarr, {name}, {what}", betas.nbytes / 1e9 / seconds, "GB/s")
    with (
        dask.config.set(KEEP_MEMORY),
        LocalCluster(
            n_workers=N_WORKERS, threads_per_worker=1, memory_limit=MEMORY, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        found = {n: of_subject(client, store, root) for n, store in stores.items()}
    for name, own in found[n_sessions].items():
        yield from own_figures(f"{name}, {what}", own)
        if name.startswith(ENCODING):  # limited by computing, not by reading
            continue
        region = sub.get_betas(roi="all" if "ROIs" in name else None)
        share = region.nbytes / betas.nbytes / own["seconds"]
        unit = "× plain zarr's bytes/s"
        yield Figure(f"{name}, {what}: of one process", share * alone, unit)
        yield Figure(f"{name}, {what}: of {N_WORKERS} processes", share * together, unit)
        before = found[few][name]
        growth = own["seconds"] / before["seconds"] * few / n_sessions
        yield Figure(f"{name}, {few} to {what}: time of a session", growth, "×", 1.25)
        more = own["peak"] / before["peak"]
        yield Figure(f"{name}, {few} to {what}: peak memory", more, "×")
    for store in stores.values():
        shutil.rmtree(store)


def main() -> None:
    """Make the dataset, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, help="folder that keeps the dataset and its store")
    parser.add_argument("--size", default="full")
    parser.add_argument("--sessions", type=int, default=N_SESSIONS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    root = arguments.dir or Path(tempfile.mkdtemp())
    data, store = root / "data", root / "anatomical.zarr"
    if not (data / release.betas(SUBJECT, SESSION)).exists():
        write_dataset(data, arguments.size, [SUBJECT], [SESSION], progress=True)
    if not store.exists():
        convert(data, store, SUBJECT, SESSION, mask="anatomical", progress=False)
    report(figures(root, arguments.sessions), arguments.json)
    if arguments.dir is None:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
