"""Values along the voxel axis -> volumes, NIfTI files, fsaverage and MNI305."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xarray as xr

from laion_zarr.store.schema import GRID_DIMS, HEMI, MM, TRIAL, VERTEX, VOXEL
from laion_zarr.templates import resample
from laion_zarr.templates.recon import Recon, fsaverage_sphere, moved

Grid = tuple[tuple[int, ...], np.ndarray]  # shape and affine

# Approximate maximum size of a Dask block, both of the values and of the result made from them; a
# block holds at least one trial.
_BLOCK_BYTES = 64 << 20
# Offsets (mm) at which a volume is sampled along a surface normal, as in nilearn: ten points, up to
# 3 mm on either side.
_OFFSETS = np.linspace(3, -3, 10)
# 2 mm voxels, axes to the right, front and top, the field of view of FSL and SPM, which contains
# the whole brain.
MNI305_SHAPE = (91, 109, 91)
MNI305_AFFINE = np.array([[2.0, 0, 0, -90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
# A grid axis that is tilted by less than this (mm per mm) counts as parallel to an axis of the
# space: the error is microns over a brain.
_OBLIQUE = 1e-6
TARGETS = ("fsaverage", "MNI305")
INTERPOLATIONS = ("linear", "nearest")


def place(
    values: object, axis: xr.Dataset, n_grid: int, which: str
) -> tuple[xr.DataArray, np.ndarray]:
    """Determine the voxel of the grid that each value belongs to.

    Parameters
    ----------
    values : xarray.DataArray or array-like
        Along ``voxel`` (any order, placed by its labels), or (…, voxel) in the order of `axis`.
    axis : xarray.Dataset
        Dataset whose ``voxel`` coordinate is the voxel axis of unlabelled values.
    n_grid : int
        Number of voxels of the whole grid.
    which : str
        Description of the voxel axis, for the error message.

    Returns
    -------
    values : xarray.DataArray, (voxel,) or (trial, voxel)
    voxels : numpy.ndarray, (voxel,) int
        Flat C-order index of each value.
    """
    array = xr.DataArray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"values must be numbers, got the type {array.dtype}.")
    if isinstance(values, xr.DataArray) and VOXEL in values.coords:
        if VOXEL not in values.dims:
            raise ValueError("values are of one voxel; keep the axis, as in .isel(voxel=[3]).")
        voxels = values[VOXEL].values
        if voxels.size and (voxels.min() < 0 or voxels.max() >= n_grid):
            raise ValueError(f"values name voxels beyond the grid of {n_grid:,} voxels.")
        if len(np.unique(voxels)) != len(voxels):
            raise ValueError("values name a voxel twice.")
    else:
        voxels = axis[VOXEL].values
        if not (isinstance(values, xr.DataArray) and VOXEL in values.dims):
            array = _by_position(array)
        if array.ndim == 0 or array.sizes[VOXEL] != len(voxels):
            raise ValueError(
                f"values have shape {np.shape(array)}, and the voxel axis has {len(voxels):,} "
                f"voxels ({which}). Pass the roi=, mask= and mask_source= they were selected "
                "with, or a DataArray with its voxel labels."
            )
    if array.ndim > 2:
        raise ValueError(f"values must be (voxel,) or (trial, voxel), got {array.ndim} axes.")
    return array.transpose(..., VOXEL), voxels


def _by_position(array: xr.DataArray) -> xr.DataArray:
    """Name the dims of unlabelled values: the last is voxel, the second to last is trial."""
    dims = [f"axis {n}" for n in range(array.ndim - 2)] + [TRIAL, VOXEL][-array.ndim :]
    return xr.DataArray(array.data, dims=dims[: array.ndim])


# -- labelled, lazy


def _in_blocks(array: xr.DataArray, n_out: int) -> xr.DataArray:
    """Split values into Dask blocks of all voxels and of so few trials that a block stays small."""
    one = array.dtype.itemsize * max(n_out, array.sizes[VOXEL], 1)
    fit = max(1, _BLOCK_BYTES // one)
    chunks: dict[Any, Any] = {VOXEL: -1}
    for dim in array.dims[:-1]:
        blocks = array.chunksizes.get(dim, (array.sizes[dim],))
        cut = (min(fit, n - lo) for n in blocks for lo in range(0, n, fit))
        chunks[dim] = tuple(cut) or (0,)
    # Only the values become a Dask array; the labels stay in memory.
    return array.copy(data=array.variable.chunk(chunks).data)


def _lazily(
    function: Callable[[np.ndarray], np.ndarray], array: xr.DataArray, sizes: Mapping[str, int]
) -> xr.DataArray:
    """Apply a function from (…, voxel) arrays to (…, *sizes) arrays, block by block."""
    if not array.sizes[VOXEL]:
        raise ValueError("values have no voxel: there is nothing to put into the brain.")
    array = array.astype(np.result_type(array.dtype, np.float32), copy=False)
    return xr.apply_ufunc(
        function,
        _in_blocks(array, int(np.prod(list(sizes.values())))),
        input_core_dims=[[VOXEL]],
        output_core_dims=[list(sizes)],
        dask="parallelized",
        output_dtypes=[array.dtype],
        dask_gufunc_kwargs={"output_sizes": dict(sizes)},
        keep_attrs=True,
    )


def _on_grid(array: xr.DataArray, affine: np.ndarray, space: str) -> xr.DataArray:
    """Label a volume with grid indices and, if the grid is not oblique, with mm along each axis."""
    coords: dict[str, Any] = {}
    linear = affine[:3, :3]
    aligned = np.allclose(linear, np.diag(linear.diagonal()), atol=_OBLIQUE * np.abs(linear).max())
    for n, (dim, index) in enumerate(zip(GRID_DIMS, "ijk", strict=True)):
        steps = np.arange(array.sizes[dim])
        coords[index] = (dim, steps)
        if aligned:
            coords[dim] = (dim, steps * affine[n, n] + affine[n, 3], {"units": MM})
    return array.assign_coords(coords).assign_attrs(affine=affine.tolist(), space=space)


def unmask(
    array: xr.DataArray, voxels: np.ndarray, shape: tuple[int, ...], affine: np.ndarray
) -> xr.DataArray:
    """Volumes of the functional grid with the values at `voxels` and NaN elsewhere, lazy."""
    scatter = partial(_scatter, voxels=voxels, shape=shape)
    volumes = _lazily(scatter, array, dict(zip(GRID_DIMS, shape, strict=True)))
    return _on_grid(volumes, affine, "T1w")


def _scatter(values: np.ndarray, voxels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    volumes = np.full((*values.shape[:-1], int(np.prod(shape))), np.nan, dtype=values.dtype)
    volumes[..., voxels] = values
    return volumes.reshape(*values.shape[:-1], *shape)


# -- templates


def surface_weights(recon: Recon, grid: Grid, hemi: str, surface: str, density: str) -> Any:
    """Weights from a grid's voxels to one hemisphere of fsaverage, through the subject's surface.

    Parameters
    ----------
    recon : Recon
        FreeSurfer recon of the subject.
    grid : tuple of shape and affine
        Grid of the voxels.
    hemi : {"L", "R"}
        Hemisphere.
    surface : str
        Surface along which the volume is sampled, one of `recon.SURFACES`.
    density : str
        Mesh of fsaverage, one of `recon.DENSITIES`.

    Returns
    -------
    scipy.sparse.csr_array, (vertex, grid)
    """
    (vertices, faces), sphere = recon.registered(hemi, surface)
    across = resample.on_sphere(fsaverage_sphere(density, hemi), *sphere)
    used = np.unique(across.indices)
    shape, affine = grid
    points = moved(np.linalg.inv(affine), resample.along_normals(vertices, faces, _OFFSETS))
    sampled = sum(resample.trilinear(some[used], shape) for some in points) / len(points)
    return across[:, used] @ sampled


def mni305_weights(recon: Recon, grid: Grid) -> Any:
    """Weights from a grid's voxels to the MNI305 voxels of `MNI305_SHAPE`, (place, grid)."""
    shape, affine = grid
    to_index = np.linalg.inv(affine) @ recon.from_mni305() @ MNI305_AFFINE
    places = np.stack(np.unravel_index(np.arange(np.prod(MNI305_SHAPE)), MNI305_SHAPE), axis=1)
    return resample.trilinear(moved(to_index, places), shape)


def to_fsaverage(
    array: xr.DataArray,
    voxels: np.ndarray,
    weights: Mapping[str, Any],
    interpolation: str,
    density: str,
) -> xr.DataArray:
    """Interpolate values at `voxels` to the vertices of fsaverage, (…, hemi, vertex), lazy."""
    from scipy.sparse import vstack

    hemis = np.array(list(weights), dtype=object)
    both = vstack(list(weights.values()), format="csr")
    sizes = {HEMI: hemis.size, VERTEX: both.shape[0] // hemis.size}
    carried = _carried(array, both[:, voxels], interpolation, sizes)
    return carried.assign_coords({HEMI: hemis, VERTEX: np.arange(sizes[VERTEX])}).assign_attrs(
        space=density
    )


def to_mni305(
    array: xr.DataArray, voxels: np.ndarray, weights: Any, interpolation: str
) -> xr.DataArray:
    """Interpolate values at `voxels` to the MNI305 grid, (…, x, y, z), lazy."""
    sizes = dict(zip(GRID_DIMS, MNI305_SHAPE, strict=True))
    carried = _carried(array, weights[:, voxels], interpolation, sizes)
    return _on_grid(carried, MNI305_AFFINE, "MNI305")


def _carried(
    array: xr.DataArray, weights: Any, interpolation: str, sizes: Mapping[str, int]
) -> xr.DataArray:
    if interpolation == "nearest":
        weights = resample.strongest(weights)
    weights = weights.astype(np.result_type(array.dtype, np.float32))
    carry = partial(_carry_block, weights=weights, shape=tuple(sizes.values()))
    return _lazily(carry, array, sizes)


def _carry_block(values: np.ndarray, weights: Any, shape: tuple[int, ...]) -> np.ndarray:
    return resample.carry(values, weights).reshape(*values.shape[:-1], *shape)


# -- NIfTI


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
    # No file name and no time in the gzip header: equal values give equal files.
    return gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=1, mtime=0)
