"""A mirror of brain masks and localizer maps alone, written with nibabel."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

SUB = "sub-01"
SHAPE, FINE_SHAPE, VERTICES = (4, 6, 5), (5, 7, 6), {"L": 9, "R": 11}
AFFINE = nib.affines.from_matvec(np.diag([-1.75, 1.75, 1.75]), (3, -5, 2))
FINE_AFFINE = nib.affines.from_matvec(np.diag([-1.5, 1.5, 1.5]), (3.25, -5, 2))
BRAIN = f"derivatives/anatomical/{SUB}/ses-PrismaAnat/anat/{SUB}_ses-PrismaAnat_space-T1w_res-1pt8"
R2MEAN = (
    f"derivatives/glmsingle-tedana/{SUB}/{SUB}_task-images_space-T1w_stat-rsquare_desc-R2mean"
    "_statmap.nii.gz"
)


def map_file(contrast: str, place: str, ses: str = "floc", run: int | None = None) -> str:
    """Path of a map of the task ``floc``: z, or an effect if there is a run."""
    on = f"hemi-{place}_space-fsnative" if place in "LR" else f"space-T1w_res-{place}"
    middle = "" if run is None else f"_run-{run:02d}"
    stat = "z" if run is None else "effect"
    end = "func.gii" if place in "LR" else "nii.gz"
    stem = f"{SUB}_ses-{ses}_task-floc{middle}_{on}_contrast-{contrast}_stat-{stat}_statmap.{end}"
    return f"derivatives/localizers/{SUB}/ses-{ses}/func/{stem}"


def write_volume(path: Path, values: np.ndarray, affine: np.ndarray, **scaling: Any) -> None:
    """Write raw values, with a slope and an intercept in the header if given."""
    header = nib.Nifti1Header(endianness=">" if values.dtype.byteorder == ">" else "<")
    header.set_data_dtype(values.dtype)
    header.set_data_shape(values.shape)
    header.set_sform(affine, "scanner")
    header["pixdim"][1:4] = nib.affines.voxel_sizes(affine)
    header["scl_slope"], header["scl_inter"] = scaling.get("slope", 1), scaling.get("inter", 0)
    header["vox_offset"] = 352
    path.parent.mkdir(parents=True, exist_ok=True)
    data = header.binaryblock + bytes(4) + values.tobytes(order="F")
    path.write_bytes(gzip.compress(data, 1))


def write_surface(path: Path, values: np.ndarray) -> None:
    """Write one value per vertex, in the dtype that GIFTI has for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = nib.gifti.GiftiDataArray(values, intent="NIFTI_INTENT_SHAPE")
    nib.save(nib.gifti.GiftiImage(darrays=[array]), path)


def write_masks(root: Path, rng: np.random.Generator) -> np.ndarray:
    """Write both brain masks; returns the anatomical one."""
    mask, r2 = rng.random(SHAPE) < 0.5, rng.random(SHAPE).astype("f4")
    mask[1, 2, 3] = True
    write_volume(root / f"{BRAIN}_desc-brain_mask.nii.gz", mask.astype("u1"), AFFINE)
    write_volume(root / R2MEAN, np.where(r2 < 0.3, r2, np.float32(0)), AFFINE)
    return mask


def write_map(root: Path, rng: np.random.Generator, file: str, place: str) -> np.ndarray:
    """Write a map of random numbers, some of them NaN; returns the values."""
    shape = {"1pt8": SHAPE, "1pt5": FINE_SHAPE}.get(place) or (VERTICES[place],)
    values = rng.normal(size=shape).astype("<f4")
    values[rng.random(shape) < 0.4] = np.nan
    if place in VERTICES:
        write_surface(root / file, values)
    else:
        write_volume(root / file, values, AFFINE if place == "1pt8" else FINE_AFFINE)
    return values
