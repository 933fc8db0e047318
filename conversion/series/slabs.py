"""Slabs of a 4-D series: voxels collected volume by volume, in memory or in a scratch file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from zarr.abc.store import Store
from zarr.storage import LocalStore

from laion_zarr.conversion.budget import COLLECTED_VOLUMES
from laion_zarr.errors import StoreError
from laion_zarr.store.schema import SLAB_VOXELS

_NOTHING = np.empty((0, 0), "<f4")


@dataclass
class Slab:
    """Values of one slab of voxels, while they are collected volume by volume.

    Attributes
    ----------
    index : numpy.ndarray, (voxel,) int
        Positions of the voxels in a volume of the file (flat, Fortran order).
    rows : numpy.ndarray, (volume, voxel) float32
        All volumes; of a slab in the scratch file, a buffer of the latest volumes.
    offset : int or None
        First byte of the slab in the scratch file; None if the slab stays in memory.
    """

    index: np.ndarray
    rows: np.ndarray
    offset: int | None


class Slabs:
    """All slabs of a series: filled volume by volume, then returned and freed slab by slab.

    Parameters
    ----------
    index : numpy.ndarray, (voxel,) int
        Positions of the voxels in a volume of the file (flat, Fortran order), in storage order.
    n_volumes : int
        Number of volumes of the series.
    n_kept : int
        Number of slabs that stay in memory.
    scratch : Scratch
        File for all other slabs.
    """

    def __init__(self, index: np.ndarray, n_volumes: int, n_kept: int, scratch: Scratch) -> None:
        self._n_volumes = n_volumes
        self._scratch = scratch
        self._slabs = []
        for number, lo in enumerate(range(0, len(index), SLAB_VOXELS)):
            part = index[lo : lo + SLAB_VOXELS]
            kept = number < n_kept
            rows = np.empty((n_volumes if kept else COLLECTED_VOLUMES, len(part)), "<f4")
            offset = None if kept else (lo - n_kept * SLAB_VOXELS) * n_volumes * rows.itemsize
            self._slabs.append(Slab(part, rows, offset))

    def fill(self, volume: int, gather: Callable[[np.ndarray, np.ndarray], None]) -> None:
        """Store one volume; `gather(index, row)` copies its values at `index` into `row`."""
        for number, slab in enumerate(self._slabs):
            if slab.offset is None:
                gather(slab.index, slab.rows[volume])
                continue
            # Each slab is written after a different volume: inflating never waits for all slabs.
            row = (volume + number) % COLLECTED_VOLUMES
            gather(slab.index, slab.rows[row])
            if row == COLLECTED_VOLUMES - 1 or volume == self._n_volumes - 1:
                count = min(row, volume) + 1
                offset = slab.offset + (volume + 1 - count) * slab.rows[0].nbytes
                self._scratch.write(offset, slab.rows[row + 1 - count : row + 1].data)

    def whole(self) -> Iterator[tuple[int, np.ndarray]]:
        """Number and values (volume, voxel) of each slab, valid until the next is requested.

        Slabs in memory come first. The slabs of the scratch file follow, the last one first: the
        file is truncated after each slab, which frees disk space for the shards to be written.
        """
        n_kept = sum(slab.offset is None for slab in self._slabs)
        for number in range(n_kept):
            rows, self._slabs[number].rows = self._slabs[number].rows, _NOTHING
            yield number, rows
        # One buffer for all slabs of the file: new memory is slow, as the kernel clears each page.
        buffer = np.empty(self._n_volumes * SLAB_VOXELS if n_kept < len(self._slabs) else 0, "<f4")
        for number in reversed(range(n_kept, len(self._slabs))):
            slab = self._slabs[number]
            slab.rows = _NOTHING
            rows = buffer[: self._n_volumes * len(slab.index)].reshape(self._n_volumes, -1)
            assert slab.offset is not None
            self._scratch.take_end(slab.offset, rows.data)
            yield number, rows


@contextmanager
def open_slabs(
    store: Store, path: str, index: np.ndarray, n_volumes: int, n_kept: int
) -> Iterator[Slabs]:
    """Slabs, as `Slabs` takes them, with a scratch file near `path`, the part to be written."""
    # In the folder of a local store, where there is disk space; /tmp may be in memory.
    folder = store.root / Path(path).parent if isinstance(store, LocalStore) else None
    with Scratch(folder) as scratch:
        yield Slabs(index, n_volumes, n_kept, scratch)


class Scratch:
    """Temporary file for slabs, deleted when closed; a full disk is reported as a `StoreError`.

    The file is not memory-mapped: on a full disk, the kernel kills a process that writes to a map.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder or Path(tempfile.gettempdir())
        with self._needing_room():
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    def __enter__(self) -> Scratch:
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
                f"{self._folder} cannot take the scratch file for what is beyond --memory: "
                f"{error.strerror}. Free space, or name more --memory, then run the same command: "
                "what is whole is kept."
            ) from error
