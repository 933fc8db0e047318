"""Values along voxels or vertices -> volumes, NIfTI and GIFTI files, fsaverage and MNI305.

Modules: `templates` (places values on the functional grid, applies weights), `files` (writes NIfTI
and GIFTI), `recon` (FreeSurfer recon of a subject, in the store or the mirror), `freesurfer` (what
the files of a recon contain) and `resample` (interpolation weights between grids and meshes). Only
`recon` reads the store; the other functions take arrays and an affine.

Guarantees: values are placed by their ``voxel`` labels, NaN is left out of every weighted mean, and
Dask-backed values stay lazy. A recon gives the same values from a store and from a mirror.

Begin with `templates.place`; `templates.to_fsaverage`, `templates.surface_to_fsaverage` and
`templates.to_mni305` apply the weights that `resample` computes.
"""

from laion_zarr.templates.files import write_maps, write_nifti, write_volumes
from laion_zarr.templates.templates import (
    INTERPOLATIONS,
    TARGETS,
    Grid,
    along_voxels,
    by_hemi,
    is_on_surface,
    is_volume,
    mni305_weights,
    on_grid,
    place,
    sphere_weights,
    surface_to_fsaverage,
    surface_weights,
    to_fsaverage,
    to_mni305,
    unmask,
)

__all__ = [
    "INTERPOLATIONS",
    "TARGETS",
    "Grid",
    "along_voxels",
    "by_hemi",
    "is_on_surface",
    "is_volume",
    "mni305_weights",
    "on_grid",
    "place",
    "sphere_weights",
    "surface_to_fsaverage",
    "surface_weights",
    "to_fsaverage",
    "to_mni305",
    "unmask",
    "write_maps",
    "write_nifti",
    "write_volumes",
]
