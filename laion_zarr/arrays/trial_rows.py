"""The betas of a selection, trial by trial: in memory, or above a size in a scratch file.

The store keeps all trials of a voxel together, so that one trial of it is as dear as all of them.
Training asks for some trials, in any order, over and over: what it asks of is read once.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Above so many bytes they stream from a file.
MOST_IN_MEMORY = 2 << 30


class _Target:
    """Where Dask puts blocks; not an array to Dask, which would hash all that it holds."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __setitem__(self, key: tuple[slice, slice], values: np.ndarray) -> None:
        self._rows[key] = values

    def __dask_tokenize__(self) -> int:
        return id(self._rows)


def _copy(betas: da.Array, rows: Any) -> None:
    """Read block by block, so that little is held beside the result."""
    # Threads, whatever the scheduler in use: in another process the blocks would be lost.
    target: Any = _Target(rows)
    da.store(betas, target, lock=False, scheduler="threads")


def in_memory(betas: da.Array) -> NDArray[np.float32]:
    """All rows, (trial, voxel)."""
    rows = np.empty(betas.shape, betas.dtype)
    _copy(betas, rows)
    return rows


class ScratchRows:
    """Rows in a scratch file in the temporary folder (``TMPDIR``), which goes when this does.

    Where this is sent to, the same file is read; where that is not to be found, on another
    computer or later, it is written anew from the store.

    Parameters
    ----------
    betas : dask.array.Array, (trial, voxel) float32
        Read once, block by block.

    Raises
    ------
    OSError
        If the file does not fit the disk.
    """

    def __init__(self, betas: da.Array) -> None:
        self._betas = betas
        self._row_nbytes = betas.shape[1] * betas.dtype.itemsize
        self._write()

    def _write(self) -> None:
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
        if self._betas.nbytes > free:
            raise OSError(
                f"The selected betas take {self._betas.nbytes / 1e9:,.1f} GB, more than fits "
                f"memory well, and {folder} has {free / 1e9:,.1f} GB left for a scratch file. Name "
                "a folder with more room in TMPDIR, or select fewer sessions or voxels."
            )
        self._file, name = tempfile.mkstemp(prefix="laion-zarr-", suffix=".betas", dir=folder)
        self._path = Path(name)
        weakref.finalize(self, _remove, self._path, os.getpid())
        weakref.finalize(self, os.close, self._file)
        _copy(self._betas, self)

    def __setitem__(self, key: tuple[slice, slice], values: np.ndarray) -> None:
        """Write a block."""
        rows, columns = key
        for row, own in enumerate(np.ascontiguousarray(values), rows.start):
            at = row * self._row_nbytes + columns.start * own.itemsize
            left = memoryview(own).cast("B")
            while left:  # a disk that is nearly full takes less
                n = os.pwrite(self._file, left, at)
                at, left = at + n, left[n:]

    def __getitem__(self, rows: list[int]) -> NDArray[np.float32]:
        """Read rows, (row, voxel)."""
        found = np.empty((len(rows), self._betas.shape[1]), self._betas.dtype)
        for row, own in zip(rows, found, strict=True):
            # Not a memory map: pages of that count as this process's memory, more with each batch.
            data = os.pread(self._file, self._row_nbytes, row * self._row_nbytes)
            own[:] = np.frombuffer(data, own.dtype)
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {name: its for name, its in self.__dict__.items() if name != "_file"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        try:
            self._file = os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            self._write()
        else:
            weakref.finalize(self, os.close, self._file)


def _remove(path: Path, owner: int) -> None:
    """Remove the file, unless this is a fork of the process that made it."""
    if os.getpid() == owner:
        path.unlink(missing_ok=True)
