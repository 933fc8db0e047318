"""Values along voxels or vertices -> volumes, fsaverage and MNI305."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from laion_zarr._release import HEMIS
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


def is_volume(values: object) -> bool:
    """Whether values are volumes, (…, x, y, z), by the names of their dims."""
    return isinstance(values, xr.DataArray) and set(GRID_DIMS) <= set(values.dims)


def along_voxels(volumes: xr.DataArray) -> tuple[xr.DataArray, Grid]:
    """Values of volumes along ``voxel``, labelled by flat C-order index of their grid; that grid.

    Raises
    ------
    ValueError
        If the volumes do not say where they lie, in ``attrs["affine"]``.
    """
    if np.size(volumes.attrs.get("affine", ())) != 16:
        raise ValueError("values are a volume without its affine, 16 numbers in attrs['affine'].")
    affine = np.reshape(volumes.attrs["affine"], (4, 4)).astype(float)
    ordered = volumes.transpose(..., *GRID_DIMS)
    shape = ordered.shape[-3:]
    others = ordered.dims[:-3]
    coords: dict[Any, Any] = {dim: ordered[dim] for dim in others if dim in ordered.indexes}
    coords[VOXEL] = np.arange(np.prod(shape))
    data = ordered.data.reshape(*ordered.shape[:-3], int(np.prod(shape)))
    array = xr.DataArray(data, coords, (*others, VOXEL), volumes.name, volumes.attrs)
    return array, (shape, affine)


def _by_position(array: xr.DataArray, last: str = VOXEL) -> xr.DataArray:
    """Name the dims of unlabelled values: the last is `last`, the second to last is trial."""
    dims = [f"axis {n}" for n in range(array.ndim - 2)] + [TRIAL, last][-array.ndim :]
    return xr.DataArray(array.data, dims=dims[: array.ndim])


# -- labelled, lazy


def _in_blocks(array: xr.DataArray, n_out: int) -> xr.DataArray:
    """Split values into Dask blocks of the whole last dim and of so few trials that it is small."""
    one = array.dtype.itemsize * max(n_out, array.shape[-1], 1)
    fit = max(1, _BLOCK_BYTES // one)
    chunks: dict[Any, Any] = {array.dims[-1]: -1}
    for dim in array.dims[:-1]:
        blocks = array.chunksizes.get(dim, (array.sizes[dim],))
        cut = (min(fit, n - lo) for n in blocks for lo in range(0, n, fit))
        chunks[dim] = tuple(cut) or (0,)
    # Only the values become a Dask array; the labels stay in memory.
    return array.copy(data=array.variable.chunk(chunks).data)


def _lazily(
    function: Callable[[np.ndarray], np.ndarray], array: xr.DataArray, sizes: Mapping[str, int]
) -> xr.DataArray:
    """Apply a function from (…, voxel or vertex) to (…, *sizes) arrays, block by block."""
    if not array.shape[-1]:
        raise ValueError("values have no voxel: there is nothing to put into the brain.")
    array = array.astype(np.result_type(array.dtype, np.float32), copy=False)
    return xr.apply_ufunc(
        function,
        _in_blocks(array, int(np.prod(list(sizes.values())))),
        input_core_dims=[array.dims[-1:]],
        output_core_dims=[list(sizes)],
        dask="parallelized",
        output_dtypes=[array.dtype],
        dask_gufunc_kwargs={"output_sizes": dict(sizes)},
        keep_attrs=True,
    )


def on_grid(array: xr.DataArray, affine: np.ndarray, space: str) -> xr.DataArray:
    """Label a volume with grid indices and, if the grid is not oblique, with mm along each axis."""
    coords: dict[str, Any] = {}
    linear = affine[:3, :3]
    aligned = np.allclose(linear, np.diag(linear.diagonal()), atol=_OBLIQUE * np.abs(linear).max())
    for n, (dim, index) in enumerate(zip(GRID_DIMS, "ijk", strict=True)):
        steps = np.arange(array.sizes[dim])
        coords[index] = (dim, steps)
        if aligned:
            coords[dim] = (dim, steps * affine[n, n] + affine[n, 3], {"units": MM})
    return array.assign_coords(coords).assign_attrs(affine=affine.ravel().tolist(), space=space)


def unmask(
    array: xr.DataArray, voxels: np.ndarray, shape: tuple[int, ...], affine: np.ndarray
) -> xr.DataArray:
    """Volumes of the functional grid with the values at `voxels` and NaN elsewhere, lazy."""
    scatter = partial(_scatter, voxels=voxels, shape=shape)
    volumes = _lazily(scatter, array, dict(zip(GRID_DIMS, shape, strict=True)))
    return on_grid(volumes, affine, "T1w")


def _scatter(values: np.ndarray, voxels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    volumes = np.full((*values.shape[:-1], int(np.prod(shape))), np.nan, dtype=values.dtype)
    volumes[..., voxels] = values
    return volumes.reshape(*values.shape[:-1], *shape)


# -- surfaces


def is_on_surface(values: object) -> bool:
    """Whether values are of vertices of the subject's own surface, by their labels."""
    labelled = isinstance(values, xr.DataArray) and VERTEX in values.dims
    return labelled or isinstance(values, Mapping)


def by_hemi(values: Any, hemi: str | None) -> dict[str, xr.DataArray]:
    """Values on the subject's own surface, (…, vertex) by hemisphere.

    Parameters
    ----------
    values : xarray.DataArray, array-like or mapping
        Values of one hemisphere; or of several, by ``"L"`` and ``"R"``, or ``"hemi-L"`` and
        ``"hemi-R"`` as `Subject.get_roi_data` has them (then the ``func.gii``).
    hemi : str or None
        Hemisphere of the values; the one to take from a mapping, or None for all in it.
    """
    if isinstance(values, Mapping):
        given = {str(key).removeprefix("hemi-"): its for key, its in values.items()}
        if not given or set(given) - set(HEMIS) or (hemi or next(iter(given))) not in given:
            raise ValueError(
                f"Values by hemisphere must have the keys 'L' and 'R', or one of them; got "
                f"{list(values)}" + (f", without hemi={hemi!r}." if hemi else ".")
            )
        hemis = [one for one in HEMIS if one in given and hemi in (None, one)]
        forms = {one: given[one] for one in hemis}
        surface = {k: v["func.gii"] if isinstance(v, Mapping) else v for k, v in forms.items()}
        return {one: _of_hemi(its, one) for one, its in surface.items()}
    found = _of_hemi(values, hemi)
    return {found[HEMI].item(): found}


def _of_hemi(values: Any, hemi: str | None) -> xr.DataArray:
    """Values of one hemisphere, (…, vertex) with the coordinate ``hemi``."""
    array = xr.DataArray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"values must be numbers, got the type {array.dtype}.")
    if not isinstance(values, xr.DataArray):
        array = _by_position(array, VERTEX)
    if VERTEX not in array.dims or array.ndim > 2 or HEMI in array.dims:
        raise ValueError(
            f"values of a hemisphere must be (vertex,) or (trial, vertex), got {array.dims}. Pass "
            "both hemispheres as {'L': …, 'R': …}."
        )
    stated = str(array[HEMI].item()) if HEMI in array.coords else None
    if hemi is None and stated is None:
        raise ValueError("Say which hemisphere the values are of: hemi='L', or {'L': …, 'R': …}.")
    if None not in (hemi, stated) and hemi != stated:
        raise ValueError(f"values are of hemi {stated!r}, not {hemi!r}.")
    return array.transpose(..., VERTEX).assign_coords({HEMI: stated or hemi})


def sphere_weights(recon: Recon, hemi: str, density: str) -> Any:
    """Weights from the vertices of a subject's hemisphere to those of fsaverage, barycentric.

    Parameters
    ----------
    recon : Recon
        FreeSurfer recon of the subject.
    hemi : {"L", "R"}
        Hemisphere.
    density : str
        Mesh of fsaverage, one of `recon.DENSITIES`.

    Returns
    -------
    scipy.sparse.csr_array, (vertex of fsaverage, vertex of the subject)
    """
    return resample.on_sphere(fsaverage_sphere(density, hemi), *recon.sphere(hemi))


def surface_to_fsaverage(
    maps: Mapping[str, xr.DataArray], weights: Mapping[str, Any], interpolation: str, density: str
) -> xr.DataArray:
    """Resample values on a subject's surface to fsaverage, (…, hemi, vertex), lazy.

    Raises
    ------
    ValueError
        If values have another number of vertices than the subject's surface.
    """
    carried = []
    for hemi, values in maps.items():
        n_vertices = weights[hemi].shape[1]
        if values.sizes[VERTEX] != n_vertices:
            raise ValueError(
                f"Hemisphere {hemi}: values have {values.sizes[VERTEX]:,} vertices, the subject's "
                f"surface has {n_vertices:,}."
            )
        # The vertices of the values are others than those of the result.
        own = values.drop_vars([HEMI, VERTEX], errors="ignore").rename({VERTEX: "own"})
        sizes = {VERTEX: weights[hemi].shape[0]}
        carried.append(_carried(own, weights[hemi], interpolation, sizes))
    hemis = pd.Index(list(maps), name=HEMI, dtype=object)
    both = xr.concat(carried, hemis, join="exact", compat="override", coords="minimal")
    both = both.transpose(..., HEMI, VERTEX).assign_coords({VERTEX: np.arange(both.sizes[VERTEX])})
    return both.assign_attrs(carried[0].attrs | {"space": density})


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
    return on_grid(carried, MNI305_AFFINE, "MNI305")


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
