"""Loops over betas, compiled by numba: they take no lock of Python's, and keep no trials.

Imported where the first task needs it: importing compiles, or takes what was compiled before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.extending import intrinsic

from laion_zarr.analysis.streams.sums import (
    CORRELATION,
    KNOWN,
    LANES,
    LOST,
    SHIFT,
    VARIANCE,
    Kept,
    Plan,
)
from laion_zarr.store.codec import CRC_BYTES
from laion_zarr.store.schema import CHUNK_VOXELS

if config.DISABLE_JIT:
    raise ImportError("numba is told not to compile")

_f4, _f8, _i8, _u4 = types.f4[::1], types.f8[::1], types.i8[::1], types.u4[::1]
_flags = types.b1[::1]
_readonly = types.Array(types.f4, 2, "C", readonly=True)
_strided = types.Array(types.f4, 2, "A", readonly=True)
_columns = types.Array(types.i4, 1, "C", readonly=True)
PLAN = types.NamedTuple((_i8, _u4, _f4, _f4, _f4, _i8, _flags, _i8, _i8, types.b1, types.b1), Plan)
_rows = types.f4[:, ::1]
KEPT = types.NamedTuple((_rows, types.f8[:, ::1], _rows, _rows, _f8, _f4), Kept)
# Sums may be reordered, which vector instructions need; NaN and infinity mean what they mean.
MATHS: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
    "error_model": "numpy",
}
_EPS = float(np.finfo(np.float32).eps)


def compiled_for(signature: Any) -> Callable[..., Any]:
    """Decorator: compile for these types, in the cache if any folder for it can be written."""

    def wrap(function: Callable[..., Any]) -> Any:
        # Numba takes what it compiled before unless this function's own file has changed.
        function.__qualname__ += f"-{_sources()}"
        try:
            return njit(signature, nogil=True, cache=True, **MATHS)(function)
        except (RuntimeError, OSError):  # no folder for it can be written, or its disk is full
            return njit(signature, nogil=True, **MATHS)(function)

    return wrap


@cache
def _sources() -> str:
    """Hash of what compiled loops are made of: the files of this room, constants of others."""
    constants = str((CHUNK_VOXELS, CRC_BYTES)).encode()
    files = sorted(Path(__file__).parent.glob("*.py"))
    return sha256(b"".join([constants, *(file.read_bytes() for file in files)])).hexdigest()[:16]


@njit(**MATHS)
def _mean(betas: np.ndarray) -> float:
    total = 0.0
    for k in range(len(betas)):
        total += betas[k]
    return total / len(betas)


@njit(**MATHS)
def _scale(betas: np.ndarray, mean: float) -> float:
    """1 ÷ standard deviation; NaN where that is no larger than the rounding error."""
    shift, squared = np.float32(mean), np.float32(0)
    rest = np.float32(mean - shift)
    for k in range(len(betas)):
        squared += (betas[k] - shift) * (betas[k] - shift)
    variance = squared / np.float32(len(betas)) - rest * rest
    rounding = np.float32(8 * _EPS * abs(mean))
    return 1 / np.sqrt(variance) if variance > rounding * rounding else np.nan


@njit(**MATHS)
def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson correlation; NaN with fewer than three values, or where a half is constant."""
    # Rounded to the dtype of the values, so that differences of a constant are exactly 0.
    mean, other = np.float32(_mean(first)), np.float32(_mean(second))
    product, square, other_square = 0.0, 0.0, 0.0
    for k in range(len(first)):
        a, b = first[k] - mean, second[k] - other
        product += a * b
        square += a * a
        other_square += b * b
    scale = np.sqrt(square * other_square)
    return product / scale if scale > 0 and len(first) > 2 else np.nan


@njit(**MATHS)
def _rounded_off(shift: float, scale: float) -> Any:
    """What rounding leaves of a shift; it counts where betas differ by little more than that."""
    return np.float32(-(shift - np.float32(shift)) * scale)


@njit(**MATHS)
def _squares(betas: np.ndarray, shift: float, scale: float, weights: np.ndarray) -> Any:
    """Weighted sum of the squares of (betas − shift) · scale."""
    rest, minus, times = _rounded_off(shift, scale), np.float32(shift), np.float32(scale)
    squares = np.float32(0)
    for k in range(len(betas)):
        z = (betas[k] - minus) * times + rest
        squares += weights[k] * z * z
    return squares


@njit(**MATHS)
def _scored(betas: np.ndarray, weights: np.ndarray, scored: bool, state: np.ndarray) -> Any:
    """Shift and scale of the betas of a group, whose squares are kept; 0 and 0 if it is lost."""
    shift = _mean(betas)
    known = np.isfinite(shift)
    if scored:
        scale = _scale(betas, shift)
    else:
        if np.isnan(state[SHIFT]):
            state[SHIFT] = np.float32(shift)
        shift, scale = state[SHIFT], 1.0 if known else np.nan
    if np.isfinite(scale):
        if len(weights) > 0:
            state[VARIANCE] += _squares(betas, shift, scale, weights)
        state[KNOWN] = 1
        return shift, scale
    state[LOST] = 1
    # A finite mean: z-scores of betas that do not vary, of which none is known.
    if not (known or np.isnan(betas).all()):
        state[KNOWN] = 1
    return 0.0, 0.0


@njit(**MATHS)
def _side_by_side(betas: Any, shifts: np.ndarray, scales: np.ndarray, out: np.ndarray) -> None:
    """Write (betas − shift) · scale of `LANES` voxels beside one another, trial after trial."""
    a, b, c, d = betas
    f4 = np.float32
    i, j, k, m = f4(shifts[0]), f4(shifts[1]), f4(shifts[2]), f4(shifts[3])
    w, x, y, z = f4(scales[0]), f4(scales[1]), f4(scales[2]), f4(scales[3])
    e, f = _rounded_off(shifts[0], scales[0]), _rounded_off(shifts[1], scales[1])
    g, h = _rounded_off(shifts[2], scales[2]), _rounded_off(shifts[3], scales[3])
    for n in range(len(a)):
        out[4 * n] = (a[n] - i) * w + e
        out[4 * n + 1] = (b[n] - j) * x + f
        out[4 * n + 2] = (c[n] - k) * y + g
        out[4 * n + 3] = (d[n] - m) * z + h


@intrinsic
def _add_lanes(context: Any, sums: Any, into: Any, values: Any, of: Any) -> Any:
    """Add `LANES` neighbours in `values` to those in `sums`, by one vector instruction.

    The compiler does not find it: for all it knows, the arrays may overlap.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = ir.VectorType(ir.FloatType(), LANES).as_pointer()
        places = []
        for array, index in ((0, 1), (2, 3)):
            data = context.make_array(signature.args[array])(context, builder, args[array]).data
            places.append(builder.bitcast(builder.gep(data, [args[index]]), lanes))
        loaded = [builder.load(place, align=4) for place in places]
        builder.store(builder.fadd(*loaded), places[0], align=4)
        return context.get_dummy_value()

    return types.void(sums, into, values, of), generate


@njit(**MATHS)
def _add_group(
    betas: Any,
    weights: np.ndarray,
    bins: np.ndarray,
    scored: bool,
    memory: np.ndarray,
    kept: Any,
) -> None:
    """Add a group of trials of `LANES` voxels, or of the last ones, to their sums."""
    state, sums = kept
    lanes, scores = memory
    shifts, scales = lanes[:LANES], lanes[LANES:]
    a, b, c, d = betas
    shifts[0], scales[0] = _scored(a, weights, scored, state[0])
    if len(state) > 1:
        shifts[1], scales[1] = _scored(b, weights, scored, state[1])
    if len(state) > 2:
        shifts[2], scales[2] = _scored(c, weights, scored, state[2])
    if len(state) > 3:
        shifts[3], scales[3] = _scored(d, weights, scored, state[3])
    _side_by_side(betas, shifts, scales, scores)
    for k in range(len(bins)):
        _add_lanes(sums, LANES * np.int64(bins[k]), scores, LANES * k)


@njit(**MATHS)
def _apart(sums: np.ndarray, shares: np.ndarray, out: Any) -> None:
    """Write sums that lie side by side, times shares, as the means of `LANES` voxels."""
    a, b, c, d = out
    for k in range(len(shares)):
        a[k] = sums[4 * k] * shares[k]
        b[k] = sums[4 * k + 1] * shares[k]
        c[k] = sums[4 * k + 2] * shares[k]
        d[k] = sums[4 * k + 3] * shares[k]


@njit(**MATHS)
def _finish(means: np.ndarray, weights: np.ndarray, halves: bool, state: np.ndarray) -> None:
    """Finish the variances of a voxel and its correlation, from its means less the shift."""
    squares = np.float32(0)
    for k in range(len(weights)):
        squares += weights[k] * means[k] * means[k]
    state[VARIANCE] -= squares
    if halves:
        half = len(means) // 2
        state[CORRELATION] = _correlation(means[:half], means[half : 2 * half])
    if not state[KNOWN]:
        state[VARIANCE], state[CORRELATION], state[LOST] = np.nan, np.nan, 0


@njit(**MATHS)
def _place(sums: np.ndarray, shares: np.ndarray, shifts: np.ndarray, out: np.ndarray) -> None:
    """Write sums that lie side by side, times shares, as means (bin, `LANES`)."""
    f4 = np.float32
    e, f, g, h = f4(shifts[0]), f4(shifts[1]), f4(shifts[2]), f4(shifts[3])
    for k in range(len(shares)):
        share, row = shares[k], out[k]
        a, b = sums[4 * k] * share + e, sums[4 * k + 1] * share + f
        c, d = sums[4 * k + 2] * share + g, sums[4 * k + 3] * share + h
        row[0], row[1], row[2], row[3] = a, b, c, d


@njit(**MATHS)
def _finish_lanes(voxel: int, plan: Plan, kept: Kept) -> None:
    """Finish `LANES` voxels, or the last ones."""
    sums, own = kept.sums[voxel // LANES], kept.state[voxel : voxel + LANES]
    if plan.halves or len(plan.bin_weights) > 0:
        _apart(sums, plan.shares, (kept.rows[0], kept.rows[1], kept.rows[2], kept.rows[3]))
    for lane in range(len(own)):
        _finish(kept.rows[lane], plan.bin_weights, plan.halves, own[lane])
        kept.lanes[lane] = own[lane, SHIFT] if own[lane, KNOWN] else np.nan
    if len(kept.means):
        _place(sums, plan.shares, kept.lanes, kept.means[:, voxel : voxel + LANES])


@compiled_for(types.void(_f4, _i8, types.i8, _i8, PLAN, KEPT))
def add_sessions(
    decoded: np.ndarray,
    begins: np.ndarray,
    first: int,
    rows: np.ndarray,
    plan: Plan,
    kept: Kept,
) -> None:
    """Add the trials of some sessions to the sums of some voxels.

    Parameters
    ----------
    decoded : numpy.ndarray, (n,) float32
        One chunk (voxel, trial) of each session.
    begins : numpy.ndarray, (session,) int64
        Where the chunk of each session begins in `decoded`.
    first : int
        Number of the first session.
    rows : numpy.ndarray, (voxel,) int64
        Rows of the voxels in the chunks.
    plan, kept
        Where the trials are added, and what is kept of them.
    """
    order, starts, widths, last = plan.order, plan.starts, plan.widths, len(rows) - 1
    for voxel in range(0, len(rows), LANES):
        own = kept.state[voxel : voxel + LANES], kept.sums[voxel // LANES]
        memory = kept.lanes, kept.scores
        if first == 0:
            own[1][:] = 0
        for n in range(len(begins)):
            width = widths[first + n]
            session = decoded[begins[n] : begins[n] + CHUNK_VOXELS * width]
            table = session.reshape((CHUNK_VOXELS, width))
            a, b = table[rows[voxel]], table[rows[min(voxel + 1, last)]]
            c, d = table[rows[min(voxel + 2, last)]], table[rows[min(voxel + 3, last)]]
            for group in range(plan.groups[first + n], plan.groups[first + n + 1]):
                lo, hi = starts[group], starts[group + 1]
                if plan.consecutive[group]:
                    at = order[lo]
                    to = at + hi - lo
                    betas = a[at:to], b[at:to], c[at:to], d[at:to]
                else:
                    some = order[lo:hi]
                    betas = a[some], b[some], c[some], d[some]
                weights, bins = plan.weights[lo:hi], plan.bins[lo:hi]
                _add_group(betas, weights, bins, plan.scored, memory, own)
        if first + len(begins) == len(widths):
            _finish_lanes(voxel, plan, kept)


@compiled_for(types.void(_readonly, _i8, types.f4[:, ::1]))
def place_columns(rows: np.ndarray, columns: np.ndarray, block: np.ndarray) -> None:
    """Write rows (voxel, n) as columns of a block (n, voxel): `columns` says which, (voxel,)."""
    tile = 16  # floats of a cache line
    for lo in range(0, rows.shape[1], tile):
        for voxel in range(len(columns)):
            for k in range(lo, min(lo + tile, rows.shape[1])):
                block[k, columns[voxel]] = rows[voxel, k]


@compiled_for(types.void(_strided, _columns, _columns, types.f4[:, :]))
def copy_columns(
    part: np.ndarray, inside: np.ndarray, columns: np.ndarray, block: np.ndarray
) -> None:
    """Write the columns `inside` of an array as the columns `columns` of another."""
    for k in range(len(block)):
        row, own = block[k], part[k]
        for n in range(len(columns)):
            row[columns[n]] = own[inside[n]]
