"""Measures streaming statistics by number of threads, beside raw reading and decoding.

Run ``python benchmarks/threads.py [--dir DIR] [--size full|tiny] [--json FILE]``. A subject of 30
sessions (hard links to one full-size session, see ``scale.py``) is read by Dask's threaded
scheduler with 1, 2, 4, 8 and 16 threads, as far as the machine has cores. *Raw* reads the same
bytes of the same shards in as many threads, and unpacks them by numcodecs: no checksums, no labels,
no statistics. Ratios are of the fastest of several runs, taken in turns.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import dask
import numpy as np
import xarray as xr
import zarr
from measure import Figure, measure_in_folder, side_by_side
from numcodecs import blosc
from scale import SESSION, SUBJECT, make_subject

from laion_zarr import convert, load_subject
from laion_zarr.analysis import noise_ceiling, split_half_reliability
from laion_zarr.arrays.dask_blocks import source_of
from laion_zarr.conversion.synthetic import write_dataset
from laion_zarr.store.schema import CHUNK_VOXELS

THREADS = (1, 2, 4, 8, 16)
CHUNKS_OF_A_TASK = 4
CRC_BYTES = 4  # at the end of each chunk


class Size(NamedTuple):
    """Size of the dataset, number of sessions, tasks of each thread, and runs."""

    dataset: str
    sessions: int
    tasks: int
    runs: int


SIZES = {"full": Size("full", 30, 16, 5), "tiny": Size("tiny", 2, 1, 1)}


def make(root: Path, size: Size) -> None:
    """Make a subject of many sessions; one is made and converted unless the folder holds it."""
    one, data = root / "anatomical.zarr", root / "data"
    if not one.exists():
        write_dataset(data, size.dataset, [SUBJECT], [SESSION], progress=True)
        convert(data, one, SUBJECT, SESSION, mask="anatomical", progress=False)
    make_subject(one, root / "many.zarr", size.sessions)


class Raw:
    """Reads and decodes the first chunks of each session, as tasks of `CHUNKS_OF_A_TASK`."""

    def __init__(self, store: Path, sessions: list[str], n_chunks: int) -> None:
        self.groups = [store / SUBJECT / session / "betas" for session in sessions]
        self.arrays = [zarr.open_array(group, mode="r") for group in self.groups]
        tables = [zarr.open_array(f"{group}_chunks", mode="r")[:].tolist() for group in self.groups]
        self.tables = tables
        self.per_shard = self.arrays[0].shards[0] // self.arrays[0].chunks[0]
        self.n_chunks = min(n_chunks, len(tables[0]))

    def __call__(self, n_threads: int) -> None:
        """Read and decode all chunks in threads; a task lies in one shard."""
        tasks = [
            range(lo, min(lo + CHUNKS_OF_A_TASK, start + self.per_shard, self.n_chunks))
            for start in range(0, self.n_chunks, self.per_shard)
            for lo in range(start, min(start + self.per_shard, self.n_chunks), CHUNKS_OF_A_TASK)
        ]
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(self._task, tasks))

    def _task(self, chunks: range) -> None:
        for group, array, table in zip(self.groups, self.arrays, self.tables, strict=True):
            decoded = np.empty(array.chunks, np.float32)
            start, (last, nbytes, _) = table[chunks[0]][0], table[chunks[-1]]
            with (group / "c" / str(chunks[0] // self.per_shard) / "0").open("rb") as file:
                file.seek(start)
                packed = memoryview(file.read(last + nbytes - start))
            for chunk in chunks:
                offset = table[chunk][0] - start
                blosc.decompress(packed[offset : offset + table[chunk][1] - CRC_BYTES], decoded)


def first_chunks(sub: Any, n_chunks: int) -> xr.DataArray:
    """Betas of the voxels of the first chunks, all sessions."""
    source = source_of(sub.get_betas().data)
    assert source is not None
    return sub.get_betas(mask=source.betas.handle.storage_order() < n_chunks * CHUNK_VOXELS)


def with_threads(lazy: xr.DataArray, n_threads: int) -> Callable[[], None]:
    """Function that computes with Dask's threaded scheduler."""

    def work() -> None:
        with dask.config.set(scheduler="threads", num_workers=n_threads):
            lazy.compute()

    return work


def of_threads(sub: Any, store: Path, n: int, size: Size) -> Iterator[Figure]:
    """Figures of one number of threads."""
    n_chunks = CHUNKS_OF_A_TASK * size.tasks * max(n, 2)
    betas = first_chunks(sub, n_chunks)
    raw = Raw(store, sub.get_sessions(), n_chunks)
    averages = sub.get_image_betas(mask=np.isin(sub.get_betas()["voxel"], betas["voxel"]))
    works = {
        "noise ceiling": with_threads(noise_ceiling(betas), n),
        "split half": with_threads(split_half_reliability(betas), n),
        "averages by image": with_threads(averages, n),
    }
    times = side_by_side({"raw": partial(raw, n), **works}, size.runs, min)
    what, gb = f"{n} threads" if n > 1 else "1 thread", betas.nbytes / 1e9
    yield Figure(f"raw read and decode, {what}", gb / times["raw"], "GB/s")
    for name in works:
        yield Figure(f"{name}, {what}", gb / times[name], "GB/s")
        yield Figure(f"{name}, {what}: time", times[name] / times["raw"], "× raw", 2.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    works["noise ceiling"]()
    waits = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before
    yield Figure(f"noise ceiling, {what}: waits of its threads", waits / gb, "per GB")


def figures(root: Path, size: Size) -> Iterator[Figure]:
    """Statistics by number of threads."""
    sub = load_subject(SUBJECT, root / "many.zarr")
    cores = os.cpu_count() or 1
    for n in (n for n in THREADS if n <= cores):
        yield from of_threads(sub, root / "many.zarr", n, size)


if __name__ == "__main__":
    measure_in_folder(__doc__, SIZES, "many.zarr", make, figures)
