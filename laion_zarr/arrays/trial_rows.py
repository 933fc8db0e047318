"""Betas of a selection by trial: in memory, or in a scratch file for a large selection.

The store keeps all trials of a voxel together, so reading one trial is as expensive as reading all
trials. Training reads trials in any order, many times; the selection is therefore read from the
store once, before training.
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

# Bytes: a larger selection is kept in a scratch file instead of in memory.
MOST_IN_MEMORY = 2 << 30


class _Target:
    """Target of `dask.array.store`; hides the array, whose values Dask would hash otherwise."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __setitem__(self, key: tuple[slice, slice], values: np.ndarray) -> None:
        self._rows[key] = values

    def __dask_tokenize__(self) -> int:
        return id(self._rows)


def _copy(betas: da.Array, rows: Any) -> None:
    """Compute betas block by block into `rows`, with little memory beyond the result."""
    # Always threads: a scheduler with processes would fill copies of the target in these.
    target: Any = _Target(rows)
    da.store(betas, target, lock=False, scheduler="threads")


def in_memory(betas: da.Array) -> NDArray[np.float32]:
    """Read all betas into memory, (trial, voxel)."""
    rows = np.empty(betas.shape, betas.dtype)
    _copy(betas, rows)
    return rows


class ScratchRows:
    """Betas in a scratch file in the temporary folder (``TMPDIR``), deleted with this object.

    A process that unpickles the object reads the same file; if the file does not exist, on another
    computer or at a later time, the process writes a new file from the store.

    Parameters
    ----------
    betas : dask.array.Array, (trial, voxel) float32
        Read once, block by block.

    Raises
    ------
    OSError
        If the disk has too little space for the file.
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
        """Write a block of betas to the file."""
        rows, columns = key
        for row, own in enumerate(np.ascontiguousarray(values), rows.start):
            at = row * self._row_nbytes + columns.start * own.itemsize
            left = memoryview(own).cast("B")
            while left:  # on a nearly full disk, pwrite writes fewer bytes
                n = os.pwrite(self._file, left, at)
                at, left = at + n, left[n:]

    def __getitem__(self, rows: list[int]) -> NDArray[np.float32]:
        """Read the betas of trials by their positions, (row, voxel)."""
        found = np.empty((len(rows), self._betas.shape[1]), self._betas.dtype)
        for row, own in zip(rows, found, strict=True):
            # Not a memory map: its pages would count as memory of this process, more per batch.
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
    """Remove the file, unless this process is a fork of the process that created the file."""
    if os.getpid() == owner:
        path.unlink(missing_ok=True)
