"""Measures averages over the trials of each image: the part is made, and responses are read.

Run ``python benchmarks/averages.py [--dir DIR] [--size full|tiny] [--json FILE]``. Subjects of 8
and of 30 sessions are hard links to one full-size session, see ``scale.py``. Making the part is
compared with the streaming noise ceiling of the same betas in as many threads, and with both that
and packing and writing the same values and nothing else; reading an image is compared with
zarr-python, which reads the same row. Requests and bytes are those of chunks of averages;
*needed* are the bytes of the result. *Its trials* are the betas of the image, which are read and
averaged where a store has no averages.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from measure import CountingStore, Figure, measure_in_folder, side_by_side, timed
from numcodecs import blosc
from scale import SESSION, SUBJECT, make_subject
from threads import CRC_BYTES, with_threads

from laion_zarr import convert, load_subject
from laion_zarr.analysis import noise_ceiling
from laion_zarr.analysis.repeats import image_betas
from laion_zarr.analysis.streams.stream import compiled_loops
from laion_zarr.conversion.synthetic import write_dataset

PART = "averages"
ROI_VOXELS = 400
SHARDS_AT_ONCE = 16  # 0.5 GB


class Size(NamedTuple):
    """Size of the dataset, numbers of sessions, and runs."""

    dataset: str
    sessions: tuple[int, ...]
    runs: int


SIZES = {"full": Size("full", (8, 30), 15), "tiny": Size("tiny", (2,), 1)}


def make(root: Path, size: Size) -> None:
    """Make subjects of many sessions; one is made and converted unless the folder holds it."""
    one, data = root / "anatomical.zarr", root / "data"
    if not one.exists():
        write_dataset(data, size.dataset, [SUBJECT], [SESSION], progress=True)
        convert(data, one, SUBJECT, SESSION, mask="anatomical", progress=False)
    for n_sessions in size.sessions:
        make_subject(one, root / f"of-{n_sessions}.zarr", n_sessions)


class Counted(CountingStore):
    """Counts reads of the chunks of averages alone."""

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        """Read an object, and count if it is a shard of averages."""
        if f"/{PART}/mean/c/" in key or f"/{PART}/mean_by_voxel/c/" in key:
            return await super().get(key, *args, **options)
        return await super(CountingStore, self).get(key, *args, **options)


def region_of(sub: Any, n_voxels: int) -> str:
    """The ROI whose number of voxels is nearest."""
    sizes = {roi: int(sub.get_roi_mask(roi).sum()) for roi in sub.get_available_rois()}
    return min(sizes, key=lambda roi: abs(sizes[roi] - n_voxels))


def making(store: Path, n_sessions: int) -> Iterator[Figure]:
    """Time and size of the part, beside the streaming noise ceiling."""
    compiled_loops()  # imported before anything is measured
    betas, n = load_subject(SUBJECT, store).get_betas(), os.cpu_count() or 1
    stream = timed(with_threads(noise_ceiling(betas), n))
    options = {"parts": PART, "n_workers": n, "overwrite": True, "progress": False}
    seconds = timed(partial(convert, None, store, SUBJECT, **options))
    what, gb = f"{n_sessions} sessions", betas.nbytes / 1e9
    yield Figure(f"noise ceiling, {what}, {n} threads", gb / stream, "GB/s")
    yield Figure(f"averages made, {what}, {n} threads", gb / seconds, "GB/s")
    yield Figure(f"averages made, {what}: time", seconds / stream, "× noise ceiling", 1.5)
    alone = packed_and_written(store / SUBJECT / PART, n)
    yield Figure(
        f"the same packed and written by itself, {what}", alone / stream, "× noise ceiling"
    )
    bound = seconds / (stream + alone)
    yield Figure(f"averages made, {what}: time", bound, "× noise ceiling, then packed and written")
    nbytes = sum(p.stat().st_size for p in (store / SUBJECT / PART).rglob("*") if p.is_file())
    yield Figure(f"averages stored, {what}", nbytes / 1e9, "GB")


def packed_and_written(part: Path, n_threads: int) -> float:
    """Seconds to compress all chunks of the part again and write them, in threads."""
    folder = part.parent / "again"
    folder.mkdir()
    seconds = 0.0
    with ThreadPoolExecutor(n_threads) as pool:
        for name in ("mean", "mean_by_voxel"):
            table = zarr.open_array(part / f"{name}_chunks", mode="r")[:].astype(int)
            # The rows of a shard follow one another, and its first chunk is at 0.
            shards = np.split(table, np.flatnonzero(table[1:, 0] == 0) + 1)
            files = sorted_shards(part / name)
            for lo in range(0, len(files), SHARDS_AT_ONCE):
                some = slice(lo, lo + SHARDS_AT_ONCE)
                held = list(pool.map(unpacked, files[some], shards[some]))
                targets = [folder / str(n) for n in range(len(held))]
                seconds += timed(lambda: list(pool.map(pack, held, targets)))  # noqa: B023
                for target in targets:
                    target.unlink()
    folder.rmdir()
    return seconds


def sorted_shards(array: Path) -> list[Path]:
    """Files of an array's shards, in the order of its chunk table: by blocks of columns first."""
    files = [path for path in (array / "c").rglob("*") if path.is_file()]
    return sorted(files, key=lambda path: (int(path.name), int(path.parent.name)))


def unpacked(file: Path, chunks: np.ndarray) -> list[np.ndarray]:
    """Values of the chunks of a shard."""
    data = memoryview(file.read_bytes())
    return [
        np.frombuffer(blosc.decompress(data[at : at + size - CRC_BYTES]), np.float32)
        for at, size, _ in chunks.tolist()
    ]


def pack(chunks: list[np.ndarray], file: Path) -> None:
    """Compress chunks as the store does, and write them to a file."""
    packed = [blosc.compress(values, b"lz4", 5, blosc.BITSHUFFLE) for values in chunks]
    with file.open("wb") as target:
        target.writelines(packed)


def reading(store: Path, n_sessions: int, runs: int) -> Iterator[Figure]:
    """Responses to one image, of the whole brain and of a region; of a region to all images."""
    counted = Counted(store)
    sub, what = load_subject(SUBJECT, counted), f"{n_sessions} sessions"
    name = str(sub.metadata["label"][0])
    lazy, region = sub.get_image_betas(images=name), region_of(sub, ROI_VOXELS)
    mean = zarr.open_array(store / SUBJECT / PART / "mean", mode="r")
    works: dict[str, Callable[[], Any]] = {
        "plain": lambda: mean[3],
        "whole brain": lazy.compute,
        "asked for and read": lambda: sub.get_image_betas(images=name).compute(),
        "region": lambda: sub.get_image_betas(roi=region, images=name).compute(),
    }
    times = side_by_side(works, runs)
    one = "one image, whole brain"
    yield Figure(f"{one}, {what}", 1e3 * times["whole brain"], "ms", 20)
    yield Figure(f"{one}, {what}: time", times["whole brain"] / times["plain"], "× plain zarr")
    yield Figure(f"{one}, {what}: asked for and read", 1e3 * times["asked for and read"], "ms")
    counted.requests = counted.nbytes = 0
    lazy.compute()
    yield Figure(f"{one}, {what}: requests", counted.requests, "", 10)
    yield Figure(f"{one}, {what}: bytes", counted.nbytes / lazy.nbytes, "× needed", 1.3)
    trials = sub.sel(image_name=name, mask_source="anatomical")["betas"]
    yield Figure(f"{one}, {what}: its trials", timed(trials.compute), "s")
    yield Figure(f"one image, {region}, {what}", 1e3 * times["region"], "ms")
    yield from region_by_voxel(sub, region, what, max(2, runs // 5))


def region_by_voxel(sub: Any, region: str, what: str, runs: int) -> Iterator[Figure]:
    """Responses of a region to all images, from averages voxel by voxel, and from betas."""
    every, betas = sub.get_image_betas(roi=region), sub.get_betas(roi=region)
    anew = image_betas(betas, "session", np.ones(len(betas), dtype=bool))
    times = side_by_side({"averages": every.compute, "betas": anew.compute}, runs)
    shown = f"all images, {every.sizes['voxel']} voxels of {region}, {what}"
    yield Figure(f"{shown}: from averages", times["averages"], "s", 0.6)
    yield Figure(f"{shown}: from betas", times["betas"], "s")


def figures(root: Path, size: Size) -> Iterator[Figure]:
    """The part, made and read, by number of sessions."""
    for n_sessions in size.sessions:
        store = root / f"of-{n_sessions}.zarr"
        yield from making(store, n_sessions)
        yield from reading(store, n_sessions, size.runs)


if __name__ == "__main__":
    measure_in_folder(__doc__, SIZES, "anatomical.zarr", make, figures)
