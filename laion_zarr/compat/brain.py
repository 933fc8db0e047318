"""NIfTI files and coordinates of a mask file's voxels; methods of `Subject` need no mask file."""

from __future__ import annotations

import os

import numpy as np
import xarray as xr

from laion_zarr import templates
from laion_zarr.arrays.dataset import voxel_positions
from laion_zarr.compat.io import load_nifti_with_affine
from laion_zarr.store.schema import VOXEL

__all__ = ["get_voxel_coordinates", "to_nifti"]

PathLike = str | os.PathLike[str]


def _selected(
    path: PathLike, roi_mask: np.ndarray | None, custom_mask: np.ndarray | None
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Flat indices, C order, of selected voxels of a mask file, and the shape of its grid."""
    mask, _ = load_nifti_with_affine(path)
    voxels = np.flatnonzero(mask)
    within = roi_mask if roi_mask is not None else custom_mask
    if within is not None and np.asarray(within).dtype != bool:
        raise ValueError(f"The mask must be boolean, got {np.asarray(within).dtype}.")
    return voxels if within is None else voxels[within], mask.shape


def to_nifti(
    values: np.ndarray,
    output_path: PathLike,
    brain_mask_path: PathLike,
    affine: np.ndarray,
    roi_mask: np.ndarray | None = None,
    custom_mask: np.ndarray | None = None,
) -> None:
    """Write values of the voxels of a mask file as float32 NIfTI, 0 outside.

    Parameters
    ----------
    values : numpy.ndarray, (voxel,)
        One value per selected voxel, in C order of the grid.
    output_path, brain_mask_path : str or os.PathLike
        File to write, and NIfTI file whose non-zero voxels are the mask.
    affine : numpy.ndarray, (4, 4)
        Affine of the file to write.
    roi_mask, custom_mask : numpy.ndarray, bool, optional
        Selection among the voxels of the mask; `custom_mask` is ignored if `roi_mask` is given.
    """
    voxels, shape = _selected(brain_mask_path, roi_mask, custom_mask)
    axis = xr.Dataset(coords={VOXEL: voxels})
    placed, voxels = templates.place(
        np.asarray(values), axis, int(np.prod(shape)), str(brain_mask_path)
    )
    templates.write_nifti(placed, voxels, shape, affine, output_path)


def get_voxel_coordinates(
    brain_mask_path: PathLike,
    affine: np.ndarray,
    roi_mask: np.ndarray | None = None,
    custom_mask: np.ndarray | None = None,
) -> np.ndarray:
    """Positions of the voxels of a mask file, (voxel, 3) float64, in the mm of the affine.

    Parameters
    ----------
    brain_mask_path : str or os.PathLike
        NIfTI file whose non-zero voxels are the mask.
    affine : numpy.ndarray, (4, 4)
        Affine from grid indices to mm.
    roi_mask, custom_mask : numpy.ndarray, bool, optional
        Selection among the voxels of the mask; `custom_mask` is ignored if `roi_mask` is given.
    """
    voxels, shape = _selected(brain_mask_path, roi_mask, custom_mask)
    found = voxel_positions(voxels, shape, np.asarray(affine))
    return np.stack([found[name].values for name in "xyz"], axis=1)
