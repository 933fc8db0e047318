"""Values along the voxel axis -> volumes, NIfTI files, fsaverage and MNI305.

Knows how voxels are placed on the functional grid (`templates.place`), the FreeSurfer recon of a
subject (`recon`), and how values are interpolated between grids and meshes (`resample`). Takes
arrays and an affine; knows neither the store nor the subject that they come from.

Promises that values are placed by their ``voxel`` labels, that NaN stays out of every weighted
mean, and that lazy values stay lazy.

Begin with `templates.place`; `templates.to_fsaverage` and `templates.to_mni305` apply the weights
that `resample` makes.
"""

from laion_zarr.templates.templates import (
    INTERPOLATIONS,
    TARGETS,
    mni305_weights,
    place,
    surface_weights,
    to_fsaverage,
    to_mni305,
    unmask,
    write_nifti,
)

__all__ = [
    "INTERPOLATIONS",
    "TARGETS",
    "mni305_weights",
    "place",
    "surface_weights",
    "to_fsaverage",
    "to_mni305",
    "unmask",
    "write_nifti",
]
