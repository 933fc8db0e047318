"""Chunks in files are read, proven, unpacked and added up in one call, without Python's lock.

The C functions for it come with packages that Zarr needs: c-blosc with numcodecs, CRC-32C with
google-crc32c; `pread` is the system's. Each is tried when this module is imported: where one is
missing, or does not do what it should, the import fails. Chunks then go the way through Python,
which gives the same values.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import google_crc32c._crc32c
import numba
import numpy as np
from numba import njit, types
from numcodecs import blosc

from laion_zarr.analysis.streams.compiled import KEPT, MATHS, PLAN, add_sessions, compiled_for
from laion_zarr.analysis.streams.sums import SESSIONS_AT_ONCE, Kept, Plan
from laion_zarr.store import codec
from laion_zarr.store.chunks import InFiles
from laion_zarr.store.schema import CHUNK_VOXELS


class Functions(NamedTuple):
    """Functions of C, as ctypes finds them.

    Attributes
    ----------
    read : ctypes function
        ``ssize_t pread(int file, void *to, size_t n, off_t offset)``
    checksum : ctypes function
        ``uint32_t crc32c_value(const uint8_t *data, size_t n)``
    decompress : ctypes function
        ``int blosc_decompress_ctx(const void *from, void *to, size_t n, int n_threads)``
    """

    read: Any
    checksum: Any
    decompress: Any


def _function(library: str | None, name: str, result: Any, *parameters: Any) -> Any:
    try:
        found = getattr(ctypes.CDLL(library), name)
    except (AttributeError, OSError, TypeError) as error:  # TypeError: no name is none of Windows'
        raise ImportError(f"{library or 'the system'} has no function {name}") from error
    found.restype, found.argtypes = result, parameters
    return found


def _tried(functions: Functions) -> Functions:
    """Raise ImportError unless the functions do with a chunk what the store's codec does."""
    betas = np.arange(4096, dtype=np.float32)
    chunk = codec.encode_chunk(betas, "lz4")[: -codec.CRC_BYTES]
    found = np.zeros_like(betas)
    n = functions.decompress(chunk, found.ctypes.data, found.nbytes, 1)
    if n != betas.nbytes or (found != betas).any():
        raise ImportError("c-blosc does not unpack as numcodecs does")
    if functions.checksum(chunk, len(chunk)) != codec.crc32c(chunk):
        raise ImportError("google-crc32c does not compute a CRC-32C")
    return functions


_Pointer, _Size, _Int = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_CRC = google_crc32c._crc32c.__file__
FUNCTIONS = _tried(
    Functions(
        _function(None, "pread", ctypes.c_ssize_t, _Int, _Pointer, _Size, ctypes.c_long),
        _function(_CRC, "crc32c_value", ctypes.c_uint32, _Pointer, _Size),
        _function(blosc.__file__, "blosc_decompress_ctx", _Int, _Pointer, _Pointer, _Size, _Int),
    )
)


class Buffers(NamedTuple):
    """Memory of a call, used again by the next one.

    Attributes
    ----------
    packed : numpy.ndarray, (n,) uint8
        A chunk as it is stored.
    decoded : numpy.ndarray, (n,) float32
        A chunk of each of `SESSIONS_AT_ONCE` sessions.
    """

    packed: np.ndarray
    decoded: np.ndarray


_FUNCTIONS = types.NamedTuple(tuple(map(numba.typeof, FUNCTIONS)), Functions)
_FILES = types.NamedTuple((types.i8[::1], types.i8[:, ::1]), InFiles)
_BUFFERS = types.NamedTuple((types.u1[::1], types.f4[::1]), Buffers)


@njit(**MATHS)
def _number(data: np.ndarray, at: int) -> Any:
    """A number of four bytes, the lowest first."""
    number = np.int64(0)
    for k in range(4):
        number |= np.int64(data[at + k]) << (8 * k)
    return number


@njit(**MATHS)
def _unpacked(
    functions: Functions, file: int, place: np.ndarray, packed: np.ndarray, decoded: np.ndarray
) -> bool:
    """Read and prove a chunk, and unpack it; False if anything is not as it should be."""
    offset, n_bytes = place[0], place[1] - codec.CRC_BYTES
    if not 16 <= n_bytes <= len(packed):  # the header of blosc
        return False
    n_read = 0
    while n_read < n_bytes:
        rest = packed[n_read:n_bytes]
        n = functions.read(file, rest.ctypes.data, len(rest), offset + n_read)
        if n <= 0:
            return False
        n_read += n
    if functions.checksum(packed.ctypes.data, n_bytes) != place[2]:
        return False
    # As `bounds.payloads.check_blosc`: nothing inflates beyond its shape.
    if _number(packed, 4) != decoded.nbytes or _number(packed, 12) != n_bytes:
        return False
    if not 0 < _number(packed, 8) <= decoded.nbytes:
        return False
    n = functions.decompress(packed.ctypes.data, decoded.ctypes.data, decoded.nbytes, 1)
    return n == decoded.nbytes


@compiled_for(types.b1(_FUNCTIONS, _FILES, _BUFFERS, types.i8[::1], PLAN, KEPT))
def add_files(
    functions: Functions,
    files: InFiles,
    buffers: Buffers,
    rows: np.ndarray,
    plan: Plan,
    kept: Kept,
) -> bool:
    """Add the trials of a chunk of all sessions to the sums of some voxels.

    Parameters
    ----------
    functions : Functions
        `FUNCTIONS`.
    files : InFiles
        Where the chunk of each session lies.
    buffers : Buffers
        Memory, as `buffers_for` makes it.
    rows : numpy.ndarray, (voxel,) int64
        Rows of the voxels in the chunks.
    plan, kept
        Where the trials are added, and what is kept of them.

    Returns
    -------
    bool
        False if a chunk is damaged, cut short or none of the store's; `kept` is then meaningless.
    """
    n_sessions = len(plan.widths)
    begins = np.zeros(SESSIONS_AT_ONCE, np.int64)
    for first in range(0, n_sessions, SESSIONS_AT_ONCE):
        last, end = min(n_sessions, first + SESSIONS_AT_ONCE), 0
        for n in range(first, last):
            begins[n - first] = end
            end += CHUNK_VOXELS * plan.widths[n]
            own = buffers.decoded[begins[n - first] : end]
            if not _unpacked(functions, files.descriptors[n], files.places[n], buffers.packed, own):
                return False
        add_sessions(buffers.decoded, begins[: last - first], first, rows, plan, kept)
    return True


def buffers_for(plan: Plan) -> Buffers:
    """Memory for the chunks of the sessions of a plan."""
    values = CHUNK_VOXELS * int(plan.widths.max(initial=0))
    packed = np.empty(4 * values + blosc.MAX_OVERHEAD, np.uint8)
    return Buffers(packed, np.empty(SESSIONS_AT_ONCE * values, np.float32))
