"""Readers of files of the release, for scripts that read some files themselves.

The functions read files of the local mirror, not the store, and return numpy arrays or tables.
"""

from __future__ import annotations

import os
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

__all__ = [
    "load_freesurfer_label",
    "load_gifti_mask",
    "load_nifti_4d",
    "load_nifti_data",
    "load_nifti_mask",
    "load_nifti_with_affine",
    "load_tsv",
]

PathLike = str | os.PathLike[str]


def _load(path: PathLike, **options: Any) -> Any:
    """Load an image of any type; typed Any, since `nibabel` derives the type from the file."""
    return nib.load(path, **options)


def load_nifti_mask(path: PathLike) -> np.ndarray:
    """Mask of the non-zero voxels of a NIfTI, flat in C order, (grid,) bool."""
    return np.asarray(_load(path).dataobj).ravel().astype(bool)


def load_nifti_data(path: PathLike, mask_path: PathLike) -> np.ndarray:
    """Values of a 3-D NIfTI inside a mask, (voxel,) float32, in C order of the grid."""
    return np.asarray(_load(path).dataobj, np.float32).ravel()[load_nifti_mask(mask_path)]


def load_nifti_4d(path: PathLike, voxel_mask: np.ndarray, streaming: bool = False) -> np.ndarray:
    """Values of a 4-D NIfTI inside a mask, (volume, voxel) float32.

    Parameters
    ----------
    path : str or os.PathLike
        Path of the 4-D NIfTI.
    voxel_mask : numpy.ndarray, (grid,) bool
        Mask of the voxels to read, flat in C order.
    streaming : bool, optional
        Has no effect: in either case, one volume at a time is in memory.
    """
    image = _load(path, keep_file_open=True)  # else each volume inflates the file from its start
    if len(image.shape) != 4:
        raise ValueError(f"{path} has shape {image.shape}; expected four axes.")
    inside = np.asarray(voxel_mask).astype(bool)
    values = np.empty((image.shape[3], int(inside.sum())), dtype=np.float32)
    for volume, row in enumerate(values):
        row[:] = np.asarray(image.dataobj[..., volume], np.float32).ravel()[inside]
    return values


def load_nifti_with_affine(path: PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Values of a NIfTI, in the file's dtype, and its (4, 4) affine."""
    image = _load(path)
    return np.asarray(image.dataobj), np.array(image.affine)


def load_tsv(path: PathLike) -> pd.DataFrame:
    """Read a tab-separated table."""
    return pd.read_csv(path, sep="\t")


def load_gifti_mask(path: PathLike) -> np.ndarray:
    """Mask of the non-zero vertices of a ``.func.gii``, (vertex,) bool."""
    return np.asarray(_load(path).darrays[0].data).astype(bool)


def load_freesurfer_label(path: PathLike) -> np.ndarray:
    """Vertex indices of a FreeSurfer ``.label``, in file order, (vertex,) int."""
    return np.asarray(nib.freesurfer.read_label(os.fspath(path)), dtype=int)
