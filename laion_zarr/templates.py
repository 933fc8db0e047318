"""From the voxel axis back into the brain: NIfTI on the functional grid."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import xarray as xr

from laion_zarr._schema import VOXEL

# Dask-backed values are computed this many trials at a time.
_TRIALS_AT_ONCE = 64


def place(values: object, axis: xr.Dataset, n_grid: int) -> tuple[xr.DataArray, np.ndarray]:
    """Say where on the grid each value goes.

    Parameters
    ----------
    values : xarray.DataArray or array-like
        Along ``voxel`` (any order, by its labels), or (…, voxel) over `axis`.
    axis : xarray.Dataset
        Carries the voxel axis that unlabelled values follow, as its ``voxel`` coordinate.
    n_grid : int
        Voxels of the whole grid.

    Returns
    -------
    values : xarray.DataArray, (voxel,) or (trial, voxel)
    voxels : numpy.ndarray, (voxel,) int
        Flat C index of each.
    """
    voxels = axis[VOXEL].values
    if isinstance(values, xr.DataArray) and VOXEL in values.coords:
        if VOXEL not in values.dims:
            raise ValueError("values are of one voxel; keep the axis, as in .isel(voxel=[3]).")
        labels = values[VOXEL].values
        if labels.size and (labels.min() < 0 or labels.max() >= n_grid):
            raise ValueError(f"values name voxels beyond the grid of {n_grid:,} voxels.")
        if len(np.unique(labels)) != len(labels):
            raise ValueError("values name a voxel twice.")
        array = values.transpose(..., VOXEL)
        voxels = labels
    else:
        plain = np.asarray(values)
        if plain.ndim == 0 or plain.shape[-1] != len(voxels):
            raise ValueError(
                f"values have shape {plain.shape}, and the voxel axis has {len(voxels):,} voxels. "
                "Pass the roi=, mask= and mask_source= they were selected with, or a DataArray "
                "with its voxel labels."
            )
        array = xr.DataArray(plain, dims=(*map(str, range(plain.ndim - 1)), VOXEL))
    if array.ndim > 2:
        raise ValueError(f"values must be (voxel,) or (trial, voxel), got {array.ndim} axes.")
    return array, voxels


def _header(shape: tuple[int, ...], affine: np.ndarray) -> bytes:
    import nibabel as nib

    header = nib.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape(shape)
    header.set_zooms((*nib.affines.voxel_sizes(affine), *(1.0,) * (len(shape) - 3)))
    header.set_sform(affine, code="aligned")
    header.set_qform(affine, code="aligned")
    header.set_xyzt_units("mm")
    header["vox_offset"] = 352
    return header.binaryblock + bytes(4)


def _volumes(values: xr.DataArray, voxels: np.ndarray, shape: tuple[int, ...]) -> Iterator[bytes]:
    rows = values if values.ndim == 2 else values.expand_dims("volume")
    volume = np.zeros(shape, dtype="<f4")
    for lo in range(0, rows.shape[0], _TRIALS_AT_ONCE):
        for row in rows[lo : lo + _TRIALS_AT_ONCE].values:
            volume.reshape(-1)[voxels] = row
            yield volume.tobytes(order="F")


def write_nifti(
    values: xr.DataArray,
    voxels: np.ndarray,
    shape: tuple[int, ...],
    affine: np.ndarray,
    path: str | os.PathLike[str],
) -> Path:
    """Write values as float32 NIfTI, 0 outside, one volume in memory at a time."""
    target = Path(path)
    if not target.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"{target} must end in .nii or .nii.gz.")
    full_shape = shape if values.ndim == 1 else (*shape, values.shape[0])
    partial = target.with_name(f".{target.name}.partial")
    try:
        with partial.open("wb") as raw, _packed(raw, target) as out:
            out.write(_header(full_shape, affine))
            for volume in _volumes(values, voxels, shape):
                out.write(volume)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _packed(raw: BinaryIO, target: Path) -> BinaryIO | gzip.GzipFile:
    if target.suffix == ".nii":
        return raw
    # No name and no time in the header: the same values give the same file.
    return gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=1, mtime=0)
