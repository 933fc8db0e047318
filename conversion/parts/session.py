"""Convert one session: inflate the betas, gather voxels in storage order, transpose, encode.

Runs in a worker process; independent of other sessions.
"""

from __future__ import annotations

import queue
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from zarr.storage import LocalStore

from laion_zarr.conversion.budget import COLLECTED_TRIALS, VOLUMES_AHEAD
from laion_zarr.conversion.source.files import Identity, Source
from laion_zarr.conversion.source.nifti import Grid, Volume, open_volume
from laion_zarr.conversion.source.problems import damaged
from laion_zarr.conversion.source.tables import read_trials
from laion_zarr.conversion.write.writer import PartWriter
from laion_zarr.errors import StoreError
from laion_zarr.store import codec
from laion_zarr.store.objects import StoreLike, open_store
from laion_zarr.store.parts import Part
from laion_zarr.store.schema import (
    BETAS,
    CHUNK_VOXELS,
    COORDINATES,
    SESSION_ARRAYS,
    SLAB_VOXELS,
    TRIAL,
    TRIAL_LABELS,
    VOXEL_INDEX,
    ArraySpec,
    chunk_table,
    trial_columns,
)

# Threads that encode. Measured: a third thread saves no time. The inflating thread has ended.
_ENCODERS = 2
_WRITERS = 2
_TILE_TRIALS = 64
_NOTHING = np.empty((0, 0), "<f4")


@dataclass(frozen=True)
class SessionTask:
    """Everything that a worker needs to convert one session.

    Attributes
    ----------
    source, store, storage_options
        Source to read from; store to write to, and its fsspec options.
    subject, session : str
        Ids, such as ``"sub-01"`` and ``"ses-01"``.
    betas, trials : str
        Paths of the beta series and the trial table, relative to the source.
    identities : mapping of str to dict
        Size and CRC-32 of each source file and sidecar when the work was planned.
    grid : Grid
        The functional grid of the subject.
    voxels : numpy.ndarray, (voxel,) int32
        Flat C indices of the stored voxels, in storage order.
    path : str
        Group of the store to write to.
    slabs_kept : int
        Number of slabs of betas that fit in memory; the others go through a scratch file.
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
    slabs_kept: int


Progress = Callable[[int], None]


def convert_session(task: SessionTask, progress: Progress) -> Part:
    """Write one session's group; `progress` is called with the bytes of each volume inflated."""
    source = task.source
    table = read_trials(source, task.trials, task.session)
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
    with open_volume(source, task.betas) as volume:
        check_betas(volume, task.grid, task.trials, len(table))
        with _slabs(task, len(table), store) as slabs:
            _read_volumes(volume, slabs, progress)
            shape = (len(task.voxels), len(table))
            _write_betas(writer, slabs, shape, _provenance(task, sidecars))
    _write_labels(writer, task, table, sidecars)
    source.check_unchanged(task.identities)
    return writer.part(task.identities)


def _provenance(task: SessionTask, sidecars: Mapping[str, Any]) -> dict[str, Any]:
    source = {"file": task.betas, **task.identities[task.betas]}
    sidecar = {"sidecar": sidecars["betas"]} if "betas" in sidecars else {}
    return {"source": source, **sidecar}


def check_betas(volume: Volume, grid: Grid, trials: str, n_rows: int) -> None:
    """Raise unless the beta series has one volume per trial, on the subject's grid."""
    if len(volume.shape) != 4:
        raise damaged(volume.path, f"a {len(volume.shape)}-D image", "4-D, one volume per trial")
    volume.grid.check_same(grid)
    if volume.shape[3] != n_rows:
        rows = f"{n_rows}, a row of {trials} for each (or is that the damaged one?)"
        raise damaged(volume.path, f"{volume.shape[3]} volumes", rows)


@dataclass
class Slab:
    """Betas of one slab of voxels, while they are collected trial by trial.

    Attributes
    ----------
    index : numpy.ndarray, (voxel,) int
        Positions of the voxels in a volume of the file (flat, Fortran order).
    rows : numpy.ndarray, (trial, voxel) float32
        All trials; of a slab in the scratch file, a buffer of the latest trials.
    offset : int or None
        First byte of the slab in the scratch file; None if the slab stays in memory.
    """

    index: np.ndarray
    rows: np.ndarray
    offset: int | None


class Slabs:
    """All slabs of a session: filled trial by trial, then returned and freed slab by slab.

    Parameters
    ----------
    index : numpy.ndarray, (voxel,) int
        Positions of the voxels in a volume of the file (flat, Fortran order), in storage order.
    n_trials : int
        Number of trials of the session.
    n_kept : int
        Number of slabs that stay in memory.
    scratch : _Scratch
        File for all other slabs.
    """

    def __init__(self, index: np.ndarray, n_trials: int, n_kept: int, scratch: _Scratch) -> None:
        self._n_trials = n_trials
        self._scratch = scratch
        self._slabs = []
        for number, lo in enumerate(range(0, len(index), SLAB_VOXELS)):
            part = index[lo : lo + SLAB_VOXELS]
            kept = number < n_kept
            rows = np.empty((n_trials if kept else COLLECTED_TRIALS, len(part)), "<f4")
            offset = None if kept else (lo - n_kept * SLAB_VOXELS) * n_trials * rows.itemsize
            self._slabs.append(Slab(part, rows, offset))

    def fill(self, trial: int, gather: Callable[[np.ndarray, np.ndarray], None]) -> None:
        """Store one trial; `gather(index, row)` copies a volume's values at `index` into `row`."""
        for number, slab in enumerate(self._slabs):
            if slab.offset is None:
                gather(slab.index, slab.rows[trial])
                continue
            # Each slab is written after a different trial: inflating never waits for all slabs.
            row = (trial + number) % COLLECTED_TRIALS
            gather(slab.index, slab.rows[row])
            if row == COLLECTED_TRIALS - 1 or trial == self._n_trials - 1:
                count = min(row, trial) + 1
                offset = slab.offset + (trial + 1 - count) * slab.rows[0].nbytes
                self._scratch.write(offset, slab.rows[row + 1 - count : row + 1].data)

    def whole(self) -> Iterator[tuple[int, np.ndarray]]:
        """Number and betas of each slab, (trial, voxel) float32, valid until the next is requested.

        Slabs in memory come first. The slabs of the scratch file follow, the last one first: the
        file is truncated after each slab, which frees disk space for the shards to be written.
        """
        n_kept = sum(slab.offset is None for slab in self._slabs)
        for number in range(n_kept):
            rows, self._slabs[number].rows = self._slabs[number].rows, _NOTHING
            yield number, rows
        # One buffer for all slabs of the file: new memory is slow, as the kernel clears each page.
        buffer = np.empty(self._n_trials * SLAB_VOXELS if n_kept < len(self._slabs) else 0, "<f4")
        for number in reversed(range(n_kept, len(self._slabs))):
            slab = self._slabs[number]
            slab.rows = _NOTHING
            rows = buffer[: self._n_trials * len(slab.index)].reshape(self._n_trials, -1)
            assert slab.offset is not None
            self._scratch.take_end(slab.offset, rows.data)
            yield number, rows


@contextmanager
def _slabs(task: SessionTask, n_trials: int, store: Any) -> Iterator[Slabs]:
    index = _fortran_index(task.voxels, task.grid.shape)
    # In the folder of a local store, where there is disk space; /tmp may be in memory.
    folder = store.root / Path(task.path).parent if isinstance(store, LocalStore) else None
    with _Scratch(folder) as scratch:
        yield Slabs(index, n_trials, task.slabs_kept, scratch)


class _Scratch:
    """Temporary file for slabs, deleted when closed; a full disk is reported as a `StoreError`.

    The file is not memory-mapped: on a full disk, the kernel kills a process that writes to a map.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder or Path(tempfile.gettempdir())
        with self._needing_room():
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    def __enter__(self) -> _Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, offset: int, data: memoryview) -> None:
        """Write data at an offset in bytes."""
        with self._needing_room():
            self._file.seek(offset)
            self._file.write(data)
            self._file.flush()

    def take_end(self, offset: int, out: memoryview) -> None:
        """Read from an offset to the end of the file, then truncate the file at the offset."""
        self._file.seek(offset)
        self._file.readinto(out)
        self._file.truncate(offset)

    @contextmanager
    def _needing_room(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{self._folder} cannot take the scratch file for betas beyond --memory: "
                f"{error.strerror}. Free space, or name more --memory, then run the same command: "
                "what is whole is kept."
            ) from error


def _fortran_index(voxels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Convert flat C indices to flat Fortran indices: in NIfTI files, x varies fastest."""
    return np.ravel_multi_index(np.unravel_index(voxels, shape), shape, order="F")


def _read_volumes(volume: Volume, slabs: Slabs, progress: Progress) -> None:
    for trial, buffer in enumerate(_read_ahead(volume)):
        values = volume.typed(buffer)

        def gather(index: np.ndarray, row: np.ndarray, values: np.ndarray = values) -> None:
            if values.dtype == row.dtype and not volume.is_scaled:
                np.take(values, index, out=row, mode="clip")
            else:
                row[:] = volume.convert(values[index])

        slabs.fill(trial, gather)
        progress(len(buffer))


def _read_ahead(volume: Volume) -> Iterator[bytearray]:
    """Yield the volumes in order; a separate thread inflates them, which takes most of the time."""
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
    writer: PartWriter, slabs: Slabs, shape: tuple[int, int], attributes: Mapping[str, Any]
) -> None:
    writer.metadata(BETAS, shape, attributes)
    tables: dict[int, Future[np.ndarray]] = {}
    with ThreadPoolExecutor(_ENCODERS) as pool, ThreadPoolExecutor(_WRITERS) as disk:
        for number, rows in slabs.whole():
            starts = range(0, rows.shape[1], CHUNK_VOXELS)
            chunks = list(pool.map(partial(_encode_chunk, rows), starts))
            # A shard is written while the next one is encoded; at most two are being written.
            wait([*tables.values()][:-1])
            tables[number] = disk.submit(_write_shard, writer, number, chunks)
            del rows, chunks
    in_order = [tables[number].result() for number in sorted(tables)]
    writer.array(chunk_table(BETAS.name), np.concatenate(in_order))


def _write_shard(writer: PartWriter, number: int, chunks: list[bytes]) -> np.ndarray:
    """Write one slab's chunks as a shard; returns the table of the chunks."""
    shard, table = codec.join_shard(chunks, SLAB_VOXELS // CHUNK_VOXELS)
    chunks.clear()
    writer.put(f"{BETAS.name}/c/{number}/0", shard)
    return table


def _encode_chunk(rows: np.ndarray, start: int) -> bytes:
    """Encode one chunk, (128 voxels, trial), of a slab (trial, voxel); pad the last with NaN."""
    values = rows[:, start : start + CHUNK_VOXELS]
    chunk = np.empty((CHUNK_VOXELS, len(rows)), rows.dtype)
    chunk[values.shape[1] :] = np.nan
    # In tiles that fit the CPU cache: twice as fast as numpy's own transposed copy.
    for trial in range(0, len(rows), _TILE_TRIALS):
        piece = slice(trial, trial + _TILE_TRIALS)
        chunk[: values.shape[1], piece] = values[piece].T
    return codec.encode_chunk(chunk, "lz4")


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
    """Specification of the array for a table column that the schema does not define."""
    kinds = {"i": "int64", "u": "uint64", "f": "float64", "b": "bool"}
    dtype = kinds.get(column.to_numpy().dtype.kind, "string")
    return ArraySpec(name, dims, dtype, f"column {name} of the release's table")
