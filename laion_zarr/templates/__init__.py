"""Values along the voxel axis -> volumes, NIfTI files, fsaverage and MNI305.

Modules: `templates` (places values on the functional grid, writes NIfTI files, applies weights),
`recon` (FreeSurfer recon of a subject) and `resample` (interpolation weights between grids and
meshes). The functions take arrays and an affine, and do not read the store.

Guarantees: values are placed by their ``voxel`` labels, NaN is left out of every weighted mean, and
Dask-backed values stay lazy.

Begin with `templates.place`; `templates.to_fsaverage` and `templates.to_mni305` apply the weights
that `resample` computes.
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
