"""Files of values: NIfTI on a grid, GIFTI on fsaverage, named as BIDS derivatives."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import xarray as xr

from laion_zarr import _release as release
from laion_zarr.store.schema import GRID_DIMS, HEMI, VERTEX, VOXEL
from laion_zarr.templates.recon import DENSITIES, SIDES


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """Path to write to, which takes the place of `target` when all is written."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


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
    # By Dask block, usually a session: reading a part of a block takes as long as the whole block.
    ends = np.cumsum(rows.chunks[0] if rows.chunks else rows.shape[:1])
    for lo, hi in pairwise([0, *ends.tolist()]):
        for row in rows[lo:hi].values:
            volume.reshape(-1)[voxels] = row
            yield volume.tobytes(order="F")


def write_nifti(
    values: xr.DataArray,
    voxels: np.ndarray,
    shape: tuple[int, ...],
    affine: np.ndarray,
    path: str | os.PathLike[str],
) -> Path:
    """Write values as float32 NIfTI, 0 at other voxels, one Dask block in memory at a time."""
    target = Path(path)
    if not target.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"{target} must end in .nii or .nii.gz.")
    full_shape = shape if values.ndim == 1 else (*shape, values.shape[0])
    with _staged(target) as path, path.open("wb") as raw, _packed(raw, target) as out:
        out.write(_header(full_shape, affine))
        for volume in _volumes(values, voxels, shape):
            out.write(volume)
    return target


def write_volumes(values: xr.DataArray, path: str | os.PathLike[str]) -> Path:
    """Write volumes, (…, x, y, z), as float32 NIfTI on their own grid, NaN as it is.

    Raises
    ------
    ValueError
        If the volumes do not say where they are, or have more than one further axis.
    """
    if "affine" not in values.attrs:
        raise ValueError(
            'volumes must have their affine in .attrs["affine"], as those of Subject.unmask and '
            "get_localizer_volume; computing with xr.set_options(keep_attrs=True) keeps it."
        )
    values = values.transpose(..., *GRID_DIMS)
    if values.ndim > 4:
        raise ValueError(f"volumes must be (x, y, z) or (trial, x, y, z), got {values.dims}.")
    lead, shape = values.shape[:-3], values.shape[-3:]
    n_voxels = int(np.prod(shape))
    flat = xr.DataArray(values.data.reshape(*lead, n_voxels), dims=(*values.dims[:-3], VOXEL))
    affine = np.array(values.attrs["affine"], dtype=np.float64).reshape(4, 4)
    return write_nifti(flat, np.arange(n_voxels), shape, affine, path)


def _packed(raw: BinaryIO, target: Path) -> BinaryIO | gzip.GzipFile:
    if target.suffix == ".nii":
        return raw
    # No file name and no time in the gzip header: equal values give equal files.
    return gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=1, mtime=0)


# -- maps in a template space


def write_maps(
    values: xr.DataArray,
    folder: str | os.PathLike[str],
    subject: str,
    session: release.Id | None = None,
    desc: str | None = None,
) -> list[Path]:
    """Write values in a template space: a NIfTI volume, or a GIFTI file for each hemisphere.

    Values are float32, NaN where the array has NaN; trials are volumes, or arrays of a GIFTI file.
    """
    space = values.attrs["space"]
    if set(GRID_DIMS) <= set(values.dims):
        name = release.template_map(subject, space, "nii.gz", session, desc)
        return [write_volumes(values, _in(folder, name))]
    density = {"den": DENSITIES[space]}
    each = list(values.transpose(HEMI, ...)) if HEMI in values.dims else [values]
    written = []
    for one in each:
        hemi = str(one[HEMI].item())
        named = {**density, "hemi": hemi}
        name = release.template_map(subject, "fsaverage", "func.gii", session, desc, **named)
        written.append(_write_surface(one, _in(folder, name), hemi))
    return written


def _in(folder: str | os.PathLike[str], name: str) -> Path:
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder) / name


def _write_surface(values: xr.DataArray, target: Path, hemi: str) -> Path:
    import nibabel as nib

    rows = np.atleast_2d(values.transpose(..., VERTEX).values).astype(np.float32)
    arrays = [
        nib.gifti.GiftiDataArray(row, intent="NIFTI_INTENT_NONE", datatype="NIFTI_TYPE_FLOAT32")
        for row in rows
    ]
    structure = f"Cortex{SIDES[hemi].capitalize()}"
    meta = nib.gifti.GiftiMetaData(AnatomicalStructurePrimary=structure)
    with _staged(target) as path:
        path.write_bytes(nib.gifti.GiftiImage(darrays=arrays, meta=meta).to_bytes())
    return target
