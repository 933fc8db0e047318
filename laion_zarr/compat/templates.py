"""Template spaces; as `Subject.to_template` of laion_zarr, with arrays and images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import xarray as xr

from laion_zarr.compat._convert import as_numpy
from laion_zarr.store.schema import GRID_DIMS, HEMI

if TYPE_CHECKING:
    from laion_zarr.compat.subject import Subject

__all__ = ["to_template"]


def to_template(subject: Subject, values: Any, target: str, **options: Any) -> Any:
    """Carry values into a template space; the same as ``subject.to_template``."""
    return subject.to_template(values, target, **options)


def as_returned(carried: xr.DataArray) -> Any:
    """A volume as NIfTI image, trials last; hemispheres as dict; one of them as array."""
    if set(GRID_DIMS) <= set(carried.dims):
        values = carried.transpose(*GRID_DIMS, ...).values
        return nib.Nifti1Image(values, np.array(carried.attrs["affine"]))
    if HEMI in carried.dims:
        return {hemi: as_numpy(carried.sel({HEMI: hemi})) for hemi in carried[HEMI].values}
    return as_numpy(carried)
