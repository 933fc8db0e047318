"""Dask arrays whose blocks are windows of one array, which is the result: nothing is copied."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import dask.array as da
import numpy as np

from laion_zarr.store.objects import Memory

# What may be in memory at once, such as a session of the whole brain.
_WHOLE_BYTES = 5 << 28


def is_small(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Whether an array may be in memory at once."""
    return math.prod(shape) * dtype.itemsize <= _WHOLE_BYTES


class WholeMemory:
    """Memory for a whole array, taken when its first block is made; a computation has its own.

    Blocks that are windows of it are the array without a copy. Elsewhere, as in another process,
    there is another memory, and blocks are copied.
    """

    def __init__(self, shape: tuple[int, int], dtype: np.dtype, moved: bool = False) -> None:
        self.shape, self.dtype = shape, dtype
        self._moved = moved
        self._lock = Lock()
        self._values: np.ndarray | None = None
        self._spares: list[Memory] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return WholeMemory, (self.shape, self.dtype, True)

    def is_of_all(self) -> bool:
        """Whether all blocks are made in this process, and go to whoever asked for the whole."""
        return not (self._moved or on_a_worker())

    def values(self) -> np.ndarray:
        """The memory, as an array of the whole."""
        with self._lock:
            if self._values is None:
                self._values = np.empty(self.shape, self.dtype)
            return self._values

    def spare(self) -> Memory:
        """Memory for a block while it is made, which is used again: fresh memory is dear."""
        with self._lock:
            return self._spares.pop() if self._spares else Memory()

    def give_back(self, spare: Memory) -> None:
        """Keep memory for the next block."""
        with self._lock:
            self._spares.append(spare)


@dataclass(frozen=True)
class Written:
    """Columns that were written into a memory; in another process, a copy of them.

    Attributes
    ----------
    memory : WholeMemory
        The memory.
    columns : numpy.ndarray of int
        Which columns.
    """

    memory: WholeMemory
    columns: np.ndarray

    def __reduce__(self) -> tuple[Any, ...]:
        return np.asarray, (np.take(self.memory.values(), self.columns, axis=1),)


def memory_of(name: str) -> str:
    """Key of the memory that the blocks of an array are windows of."""
    return f"memory-{name}"


class _LikeDask(type):
    """Metaclass of arrays that xarray takes for Dask's: it compares types, see its issue 11539."""

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is da.Array

    def __hash__(cls) -> int:
        return hash(da.Array)


class WholeArray(da.Array, metaclass=_LikeDask):
    """Dask array whose blocks are windows of a `WholeMemory`, unless they were made elsewhere.

    It is in all else a Dask array, and what is computed from it is one.
    """

    __slots__ = ("_made",)
    _made: str

    def as_made(self) -> bool:
        """Whether no values were assigned to a part of it, which would change it in place."""
        return self._made == self.name

    def __dask_postcompute__(self) -> tuple[Callable[..., np.ndarray], tuple[()]]:
        return (_result, ()) if self.as_made() else super().__dask_postcompute__()

    def __reduce__(self) -> tuple[Any, ...]:
        return da.Array, (self.dask, self.name, self.chunks, self.dtype, self._meta)


def windows(sizes: Sequence[int]) -> list[slice]:
    """Where blocks of these sizes lie along an axis."""
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]


def _result(blocks: list[list[np.ndarray]]) -> np.ndarray:
    """The array of its blocks: what they are windows of, or a copy."""
    downs = windows([len(line[0]) for line in blocks])
    rights = windows([piece.shape[1] for piece in blocks[0]])
    shape, base = (downs[-1].stop, rights[-1].stop), blocks[0][0].base
    pieces = [piece for line in blocks for piece in line]
    places = [(down, across) for down in downs for across in rights]
    if isinstance(base, np.ndarray) and base.shape == shape and not on_a_worker():
        there = [base[place].__array_interface__ for place in places]
        ours = [piece.__array_interface__ for piece in pieces]
        if ours == there and all(piece.base is base for piece in pieces):
            return base
    out = np.empty(shape, blocks[0][0].dtype)
    for piece, place in zip(pieces, places, strict=True):
        out[place] = piece
    return out


def on_a_worker() -> bool:
    """Whether a worker of a cluster runs this; it keeps blocks for what is asked for next."""
    distributed: Any = sys.modules.get("distributed")
    try:
        return distributed is not None and distributed.get_worker() is not None
    except ValueError:
        return False
