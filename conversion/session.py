"""One session's betas into the store: inflate, gather in storage order, transpose, encode.

Runs in a worker process; knows nothing of other sessions.
"""

from __future__ import annotations

import mmap
import os
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from zarr.storage import LocalStore

from laion_zarr import _codec
from laion_zarr._schema import (
    BETAS,
    CHUNK_TABLE,
    CHUNK_VOXELS,
    COORDINATES,
    SESSION_ARRAYS,
    SLAB_VOXELS,
    TRIAL,
    TRIAL_LABELS,
    VOXEL_INDEX,
    ArraySpec,
    trial_columns,
)
from laion_zarr._store import Part, StoreLike, open_store
from laion_zarr.conversion.plan import VOLUMES_AHEAD
from laion_zarr.conversion.sources import Grid, Identity, Source, Volume, damaged
from laion_zarr.conversion.write import PartWriter
from laion_zarr.errors import StoreError

# The scratch file's pages are handed back to the kernel this often, so that they do not count.
_RELEASE_EVERY = 16
_BLOCK = 1 << 22


@dataclass(frozen=True)
class SessionTask:
    """All that a worker needs to convert one session.

    Attributes
    ----------
    source, store, storage_options
        Where to read, where to write.
    subject, session : str
        Ids.
    betas, trials : str
        Files, relative to the source.
    identities : mapping of str to dict
        Each source file, with its sidecars, as it was when the work was planned.
    grid : Grid
        The functional grid of the subject.
    voxels : numpy.ndarray, (voxel,) int32
        Flat C indices in storage order.
    path : str
        Group to write.
    in_memory : bool
        Whether the betas fit in memory; else they go through a scratch file.
    """

    source: Source
    store: StoreLike
    storage_options: dict[str, Any] | None
    subject: str
    session: str
    betas: str
    trials: str
    identities: Mapping[str, Identity]
    grid: Grid
    voxels: np.ndarray
    path: str
    in_memory: bool


Progress = Callable[[int], None]


def convert_session(task: SessionTask, progress: Progress) -> Part:
    """Write one session's group; `progress` is told the unpacked bytes as they are read."""
    source = task.source
    table = source.read_trials(task.trials, task.session)
    store = open_store(task.store, task.storage_options, read_only=False)
    writer = PartWriter(store, task.path)
    sidecars = {
        kind: source.json(sidecar)
        for kind, path in (("betas", task.betas), ("trials", task.trials))
        if (sidecar := source.sidecar(path, frozenset(task.identities)))
    }
    writer.group(
        {
            COORDINATES: " ".join(TRIAL_LABELS),
            "session": task.session,
            "tsv_columns": trial_columns(table.columns),
        }
    )
    with source.volume(task.betas) as volume:
        check_betas(volume, task.grid, len(table))
        with _slabs(task, volume, store) as slabs:
            _read_volumes(volume, task, slabs, progress)
            _write_betas(writer, slabs, len(table), _provenance(task, sidecars))
    _write_labels(writer, task, table, sidecars)
    source.check_unchanged(task.identities)
    return writer.part(task.identities)


def _provenance(task: SessionTask, sidecars: Mapping[str, Any]) -> dict[str, Any]:
    source = {"file": task.betas, **task.identities[task.betas]}
    sidecar = {"sidecar": sidecars["betas"]} if "betas" in sidecars else {}
    return {"source": source, **sidecar}


def check_betas(volume: Volume, grid: Grid, n_rows: int) -> None:
    """Refuse a beta series that is not one volume per trial on the subject's grid."""
    if len(volume.shape) != 4:
        raise damaged(volume.path, f"a {len(volume.shape)}-D image", "4-D, one volume per trial")
    volume.grid.check_same(grid)
    if volume.shape[3] != n_rows:
        raise damaged(
            volume.path, f"{volume.shape[3]} volumes", f"{n_rows}, as the trial table has rows"
        )


@dataclass
class Slab:
    """The betas of one slab while they are collected.

    Attributes
    ----------
    index : numpy.ndarray, (voxel,) int
        Positions in a volume as it lies in the file (Fortran order).
    values : numpy.ndarray, (trial, voxel) float32
        Filled volume by volume.
    """

    index: np.ndarray
    values: np.ndarray


class Slabs(list[Slab]):
    """All slabs of a session; in a scratch file if there is one."""

    def __init__(self, slabs: list[Slab], scratch: mmap.mmap | None) -> None:
        super().__init__(slabs)
        self._scratch = scratch

    def release(self) -> None:
        """Give the scratch file's pages back; their content stays in the file."""
        if self._scratch is not None:
            self._scratch.madvise(mmap.MADV_DONTNEED)


@contextmanager
def _slabs(task: SessionTask, volume: Volume, store: Any) -> Iterator[Slabs]:
    n_trials = volume.shape[3]
    fortran = _fortran_index(task.voxels, task.grid.shape)
    parts = [fortran[lo : lo + SLAB_VOXELS] for lo in range(0, len(fortran), SLAB_VOXELS)]
    if task.in_memory:
        yield Slabs([Slab(part, np.empty((n_trials, len(part)), "<f4")) for part in parts], None)
        return
    # Beside the store, where there is room; /tmp may be memory.
    folder = store.root / Path(task.path).parent if isinstance(store, LocalStore) else None
    with _scratch_file(folder, len(fortran) * n_trials * 4) as file:
        # Not closed by hand: arrays point into it, and it goes with the last of them.
        scratch = mmap.mmap(file.fileno(), 0)
        yield Slabs(_map_slabs(scratch, parts, n_trials), scratch)


def _scratch_file(folder: Path | None, size: int) -> IO[bytes]:
    """Open a file that takes its room on the disk now.

    Into a hole of a mapped file on a full disk nothing is written: the kernel ends the process.
    """
    try:
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        try:
            _reserve(file, size)
        except OSError:
            file.close()
            raise
    except OSError as error:
        raise StoreError(
            f"{folder or tempfile.gettempdir()} cannot take a scratch file of {size / 1e9:.2f} GB: "
            f"{error.strerror}. Free space, or name more --memory, then run the same command: "
            "what is whole is kept."
        ) from error
    return file


def _reserve(file: IO[bytes], size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for start in range(0, size, _BLOCK):  # macOS
        file.write(bytes(min(_BLOCK, size - start)))
    file.flush()


def _map_slabs(scratch: mmap.mmap, parts: list[np.ndarray], n_trials: int) -> list[Slab]:
    slabs, offset = [], 0
    for part in parts:
        count = n_trials * len(part)
        values = np.frombuffer(scratch, "<f4", count, offset).reshape(n_trials, len(part))
        slabs.append(Slab(part, values))
        offset += count * 4
    return slabs


def _fortran_index(voxels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Flat C indices -> flat Fortran indices: NIfTI has x running fastest."""
    return np.ravel_multi_index(np.unravel_index(voxels, shape), shape, order="F")


def _read_volumes(volume: Volume, task: SessionTask, slabs: Slabs, progress: Progress) -> None:
    for trial, buffer in enumerate(_read_ahead(volume)):
        values = volume.typed(buffer)
        for slab in slabs:
            if values.dtype == slab.values.dtype and not volume.is_scaled:
                np.take(values, slab.index, out=slab.values[trial], mode="clip")
            else:
                slab.values[trial] = volume.convert(values[slab.index])
        if trial % _RELEASE_EVERY == 0:
            slabs.release()
        progress(len(buffer))
    slabs.release()


def _read_ahead(volume: Volume) -> Iterator[bytearray]:
    """Volumes in order, inflated in a thread of their own: inflating takes most of the time."""
    free: queue.Queue[bytearray] = queue.Queue()
    full: queue.Queue[bytearray | BaseException | None] = queue.Queue()
    for _ in range(VOLUMES_AHEAD):
        free.put(volume.buffer())
    stop = threading.Event()

    def inflate() -> None:
        try:
            for _ in range(volume.shape[3]):
                buffer = free.get()
                if stop.is_set():
                    return
                volume.read_into(buffer)
                full.put(buffer)
            volume.finish()
            full.put(None)
        except BaseException as error:
            full.put(error)

    thread = threading.Thread(target=inflate, name="inflate", daemon=True)
    thread.start()
    try:
        while (item := full.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
            free.put(item)
    finally:
        stop.set()
        free.put(bytearray())
        thread.join()


def _write_betas(
    writer: PartWriter, slabs: Slabs, n_trials: int, attributes: Mapping[str, Any]
) -> None:
    n_voxels = sum(len(slab.index) for slab in slabs)
    writer.metadata(BETAS, (n_voxels, n_trials), attributes)
    tables = []
    # One shard is written while the next is encoded; its betas are let go before that.
    with ThreadPoolExecutor(1) as disk:
        writing: Future[None] | None = None
        for number, slab in enumerate(slabs):
            shard, table = _codec.encode_shard(_chunks(slab.values))
            slab.values = slab.values[:0].copy()
            if writing is not None:
                writing.result()
            writing = disk.submit(writer.put, f"{BETAS.name}/c/{number}/0", shard)
            tables.append(table)
            slabs.release()
        if writing is not None:
            writing.result()
    writer.array(CHUNK_TABLE, np.concatenate(tables))


def _chunks(values: np.ndarray) -> Iterator[np.ndarray]:
    """(trial, voxel) -> chunks of (256, trial); the last one is filled up with NaN."""
    for lo in range(0, values.shape[1], CHUNK_VOXELS):
        block = np.ascontiguousarray(values[:, lo : lo + CHUNK_VOXELS].T)
        if len(block) < CHUNK_VOXELS:
            padding = np.full((CHUNK_VOXELS - len(block), block.shape[1]), np.nan, block.dtype)
            block = np.concatenate([block, padding])
        yield block


def _write_labels(
    writer: PartWriter, task: SessionTask, table: pd.DataFrame, sidecars: Mapping[str, Any]
) -> None:
    writer.array(VOXEL_INDEX, task.voxels)
    writer.array(SESSION_ARRAYS[TRIAL], np.arange(len(table), dtype=np.int32))
    source = {"file": task.trials, **task.identities[task.trials]}
    for name, stored in trial_columns(table.columns).items():
        spec = SESSION_ARRAYS.get(stored) or column_spec(stored, table[name], (TRIAL,))
        extra = sidecars.get("trials", {}).get(name)
        attributes = {"source": source} | ({"sidecar": extra} if extra else {})
        writer.array(spec, table[name].to_numpy(), attributes)


def column_spec(name: str, column: pd.Series, dims: tuple[str, ...]) -> ArraySpec:
    """The array of a table's column that the schema does not name."""
    kinds = {"i": "int64", "u": "uint64", "f": "float64", "b": "bool"}
    dtype = kinds.get(column.to_numpy().dtype.kind, "string")
    return ArraySpec(name, dims, dtype, f"column {name} of the release's table")
