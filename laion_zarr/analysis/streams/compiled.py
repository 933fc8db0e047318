"""Loops over betas, compiled by numba: they take no lock of Python's, and keep no trials.

Imported where the first task needs it: importing compiles, or takes what was compiled before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types

from laion_zarr.analysis.streams.sums import Kept, Plan

_f4, _f8, _i8, _u4 = types.f4[::1], types.f8[::1], types.i8[::1], types.u4[::1]
_flags = types.b1[::1]
PLAN = types.NamedTuple((_i8, _u4, _f4, _f4, _f4, _i8, _flags, _i8, _i8, types.b1, types.b1), Plan)
KEPT = types.NamedTuple((types.f4[:, ::1], _f4, _f8, _f8, _flags, _flags), Kept)
# Sums may be reordered, which vector instructions need; NaN and infinity mean what they mean.
MATHS: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
    "error_model": "numpy",
}
_EPS = float(np.finfo(np.float32).eps)


def compiled_for(signature: Any) -> Callable[..., Any]:
    """Decorator: compile for these types, in the cache if any folder for it can be written."""

    def wrap(function: Callable[..., Any]) -> Any:
        try:
            return njit(signature, nogil=True, cache=True, **MATHS)(function)
        except RuntimeError:  # neither the package's folder nor the user's can be written
            return njit(signature, nogil=True, **MATHS)(function)

    return wrap


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
def _add(
    betas: np.ndarray,
    shift: Any,
    scale: Any,
    weights: np.ndarray,
    bins: np.ndarray,
    sums: np.ndarray,
) -> Any:
    """Add (betas − shift) · scale to their bins; returns the weighted sum of their squares."""
    # What rounding leaves of the shift counts where betas differ by little more than that.
    rest = np.float32(-(shift - np.float32(shift)) * scale)
    shift, scale, squares = np.float32(shift), np.float32(scale), np.float32(0)
    for k in range(len(betas)):
        z = (betas[k] - shift) * scale + rest
        squares += weights[k] * z * z
    for k in range(len(betas)):
        sums[bins[k]] += (betas[k] - shift) * scale + rest
    return squares


@njit(**MATHS)
def _means(sums: np.ndarray, shares: np.ndarray, weights: np.ndarray, shift: Any) -> Any:
    """Turn sums into means; returns the weighted sum of their squares, `shift` left out."""
    shift, squares = np.float32(shift), np.float32(0)
    for k in range(len(sums)):
        mean = sums[k] * shares[k]
        squares += weights[k] * mean * mean
        sums[k] = mean + shift
    return squares


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
def _finish(voxel: int, plan: Plan, kept: Kept) -> None:
    """Make means of the sums of a voxel, and its variances and correlation."""
    sums = kept.means[voxel]
    shift = np.float64(kept.shift[voxel]) if kept.known[voxel] else np.nan
    kept.variances[voxel] -= _means(sums, plan.shares, plan.bin_weights, shift)
    if plan.halves:
        half = len(sums) // 2
        kept.correlation[voxel] = _correlation(sums[:half], sums[half : 2 * half])
    if not kept.known[voxel]:
        kept.variances[voxel], kept.lost[voxel] = np.nan, False


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
    for voxel in range(len(rows)):
        sums = kept.means[voxel]
        if first == 0:
            sums[:] = 0
        for n in range(len(begins)):
            width = plan.widths[first + n]
            begin = begins[n] + rows[voxel] * width
            session = decoded[begin : begin + width]
            for group in range(plan.groups[first + n], plan.groups[first + n + 1]):
                lo, hi = plan.starts[group], plan.starts[group + 1]
                if plan.consecutive[group]:
                    betas = session[plan.order[lo] : plan.order[lo] + hi - lo]
                else:
                    betas = session[plan.order[lo:hi]]
                mean = _mean(betas)
                if plan.scored:
                    shift, scale = mean, _scale(betas, mean)
                else:
                    if np.isnan(kept.shift[voxel]):
                        kept.shift[voxel] = mean
                    shift = np.float64(kept.shift[voxel])
                    scale = 1.0 if np.isfinite(mean) else np.nan
                if np.isfinite(scale):
                    own = plan.weights[lo:hi], plan.bins[lo:hi], sums
                    kept.variances[voxel] += _add(betas, shift, scale, *own)
                    kept.known[voxel] = True
                else:
                    kept.lost[voxel] = True
                    # A finite mean: z-scores of betas that do not vary, of which none is known.
                    if not (np.isfinite(mean) or np.isnan(betas).all()):
                        kept.known[voxel] = True
        if first + len(begins) == len(plan.widths):
            _finish(voxel, plan, kept)


@compiled_for(types.void(types.Array(types.f4, 2, "C", readonly=True), _i8, types.f4[:, ::1]))
def place_columns(rows: np.ndarray, columns: np.ndarray, block: np.ndarray) -> None:
    """Write rows (voxel, n) as columns of a block (n, voxel): `columns` says which, (voxel,)."""
    tile = 16  # floats of a cache line
    for lo in range(0, rows.shape[1], tile):
        for voxel in range(len(columns)):
            for k in range(lo, min(lo + tile, rows.shape[1])):
                block[k, columns[voxel]] = rows[voxel, k]
