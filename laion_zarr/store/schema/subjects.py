"""Arrays of a subject: along voxels, trials, vertices and the grid."""

from __future__ import annotations

from laion_zarr.store.schema.specs import (
    CHUNK_VOXELS,
    MM,
    NC,
    PERCENT,
    ROI,
    SECONDS,
    SIGNAL_CHANGE,
    SLAB_VOXELS,
    T1W_SPACE,
    TIME,
    TRIAL,
    VERTEX,
    VOXEL,
    ArraySpec,
    Chunking,
    chunk_table,
    specs_by_name,
)

# Group attribute that tells xarray which arrays are coordinates (names separated by blanks).
COORDINATES = "coordinates"
VOXEL_LABELS = ("i", "j", "k", "x", "y", "z", "in_anatomical", "in_rsquare", "category")
TRIAL_LABELS = ("session", "run", "beta_index", "image_name")

_PER_VOXEL = (VOXEL,)
_PER_TRIAL = (TRIAL,)
GRID_DIMS = ("x", "y", "z")

VOXEL_INDEX = ArraySpec(
    VOXEL, _PER_VOXEL, "int32", "flat C-order index into the functional grid, in storage order"
)

VOXEL_ARRAYS = specs_by_name(
    VOXEL_INDEX,
    ArraySpec("i", _PER_VOXEL, "int16", "first grid index"),
    ArraySpec("j", _PER_VOXEL, "int16", "second grid index"),
    ArraySpec("k", _PER_VOXEL, "int16", "third grid index"),
    ArraySpec("x", _PER_VOXEL, "float64", f"position in the {T1W_SPACE}", MM),
    ArraySpec("y", _PER_VOXEL, "float64", f"position in the {T1W_SPACE}", MM),
    ArraySpec("z", _PER_VOXEL, "float64", f"position in the {T1W_SPACE}", MM),
    ArraySpec("in_anatomical", _PER_VOXEL, "bool", "voxel is in the anatomical brain mask"),
    ArraySpec("in_rsquare", _PER_VOXEL, "bool", "voxel is in the rsquare brain mask"),
    ArraySpec(ROI, (ROI,), "string", "name of the region of interest"),
    ArraySpec("category", (ROI,), "string", "category of the region of interest"),
    ArraySpec("roi_mask", (ROI, VOXEL), "bool", "voxel is in the region of interest"),
    ArraySpec(NC, (NC,), "string", "which cross-session noise ceiling"),
    ArraySpec("noise_ceiling", (NC, VOXEL), "float32", "cross-session noise ceiling", PERCENT),
)


BETAS = ArraySpec(
    "betas",
    (VOXEL, TRIAL),
    "float32",
    "single-trial GLMsingle betas (TYPED)",
    SIGNAL_CHANGE,
    Chunking(CHUNK_VOXELS, SLAB_VOXELS // CHUNK_VOXELS, "lz4"),
)
SESSION_ARRAYS = specs_by_name(
    BETAS,
    chunk_table(BETAS.name),
    VOXEL_INDEX,
    ArraySpec(TRIAL, _PER_TRIAL, "int32", "0-based trial of this session, as in the volumes"),
    ArraySpec("session", _PER_TRIAL, "string", "session of the trial"),
    ArraySpec("run", _PER_TRIAL, "int64", "run of the trial, 1-12"),
    ArraySpec("beta_index", _PER_TRIAL, "int64", "0-based volume of the source file"),
    ArraySpec("image_name", _PER_TRIAL, "string", "file name of the stimulus (`label`)"),
)

_PER_TIME = (TIME,)
BOLD = ArraySpec(
    "bold",
    (VOXEL, TIME),
    "float32",
    "preprocessed time series of the runs of a session, one run after the other",
    chunking=BETAS.chunking,
)
BOLD_ARRAYS = specs_by_name(
    BOLD,
    chunk_table(BOLD.name),
    VOXEL_INDEX,
    ArraySpec(TIME, _PER_TIME, "float64", "time from the start of the run", SECONDS),
    ArraySpec("run", _PER_TIME, "int64", "run of the time point, from 1"),
)

MAP_ARRAYS = specs_by_name(
    ArraySpec("session_noise_ceiling", _PER_VOXEL, "float32", "noise ceiling", PERCENT),
    ArraySpec("r2", _PER_VOXEL, "float32", "GLMsingle R²", PERCENT),
    ArraySpec("hrf_index", _PER_VOXEL, "float32", "GLMsingle HRF of the library, 0-19"),
    ArraySpec("fracridge", _PER_VOXEL, "float32", "GLMsingle ridge fraction"),
)

TRIAL_ARRAYS = specs_by_name(
    ArraySpec(TRIAL, _PER_TRIAL, "int32", "global trial index: sessions in order, then volumes"),
    SESSION_ARRAYS["session"],
    SESSION_ARRAYS["run"],
    SESSION_ARRAYS["beta_index"],
    ArraySpec("session_trial", _PER_TRIAL, "int32", "0-based trial of the session"),
    SESSION_ARRAYS["image_name"],
    ArraySpec("unique_or_shared", _PER_TRIAL, "string", "whether every subject saw the image"),
    ArraySpec("repetition", _PER_TRIAL, "int32", "0-based count of this image so far"),
    ArraySpec("stim_idx", _PER_TRIAL, "int32", "0-based row of the stimulus metadata, -1 if none"),
)

ANATOMY_ARRAYS = specs_by_name(
    ArraySpec("t1w", GRID_DIMS, "float32", "T1-weighted image on the functional grid"),
    ArraySpec("t2w", GRID_DIMS, "float32", "T2-weighted image on the functional grid"),
    ArraySpec("brain_mask", GRID_DIMS, "bool", "anatomical brain mask on the functional grid"),
    ArraySpec(
        "brain_mask_full",
        ("x_full", "y_full", "z_full"),
        "bool",
        "anatomical brain mask at full resolution; affine in the attributes",
    ),
)


def surface_mask(roi: str) -> ArraySpec:
    """Mask of an ROI over the vertices of one hemisphere, in the group ``hemi-L`` or ``hemi-R``."""
    return ArraySpec(roi, (VERTEX,), "bool", f"vertex is in {roi} (func.gii)")


def surface_label(roi: str) -> ArraySpec:
    """Vertices of an ROI as listed in its FreeSurfer ``.label`` file, in file order."""
    name = f"{roi}_label"
    return ArraySpec(name, (name,), "int32", f"vertices of {roi} in its FreeSurfer label")
