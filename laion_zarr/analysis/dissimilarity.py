"""Representational dissimilarity: how much the responses to different images differ."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from laion_zarr.arrays.labels import along, of_one_subject, ordered, with_labels
from laion_zarr.store.schema import ROI, VOXEL

# Bytes of a block of all images and a range of voxels. A block has at least as many voxels as
# images, so that it is no smaller than the image × image matrix that is computed from it.
_BLOCK_BYTES = 32 << 20
# Largest ratio of variance to sum of squares (float64) at which a response counts as constant:
# float32 values that differ at all have a larger ratio.
_ROUNDING = 1e-13


def rdm(betas: xr.DataArray, roi_mask: xr.DataArray | None = None) -> xr.DataArray:
    """Representational dissimilarity matrix: correlation distance between images.

    Parameters
    ----------
    betas : xarray.DataArray, (image, voxel) or (trial, voxel)
        Betas as returned by `Subject.get_image_betas` or `Subject.get_betas`.
    roi_mask : xarray.DataArray, (roi, voxel) bool, optional
        ROIs, each of which gets its own matrix, computed from those voxels of the ROI that `betas`
        has; joined by voxel label. If not provided, one matrix is computed from all voxels of
        `betas`.

    Returns
    -------
    xarray.DataArray, ([roi,] image, image_other) float32
        1 − Pearson correlation over voxels, 0 to 2; the dims are (trial, trial_other) if `betas`
        is by trial. NaN with fewer than three voxels, and for an image whose response is the same
        in all voxels. Lazy if `betas` is lazy, with one Dask block per ROI.

    Raises
    ------
    ValueError
        If `betas` has other dims, or has voxels that `roi_mask` lacks.

    Notes
    -----
    Voxels that are NaN in any image are left out, so that all pairs of images are compared on the
    same voxels: Kriegeskorte et al. (2008), Front. Syst. Neurosci. 2:4. Each voxel is read once and
    added to running sums; memory holds one block of voxels and image × image matrices (float64).

    To compare two matrices, correlate their entries above the diagonal, ``np.triu_indices(n, 1)``,
    with `scipy.stats.spearmanr`. To compare two subjects, first select the images that both saw.

    Examples
    --------
    >>> from laion_zarr import load_subject
    >>> from laion_zarr.analysis import rdm
    >>> sub = load_subject("01")
    >>> betas = sub.get_image_betas(roi=["FFA1", "PPA"], stimuli="shared")
    >>> rdm(betas, sub.dataset["roi_mask"].sel(roi=["FFA1", "PPA"])).dims
    ('roi', 'image', 'image_other')
    """
    if with_labels(betas, "betas").ndim != 2 or VOXEL not in betas.dims:
        raise ValueError(
            f"betas must be (image, voxel) or (trial, voxel), got {tuple(map(str, betas.dims))}."
        )
    (dim,) = (str(name) for name in betas.dims if name != VOXEL)
    data = betas.transpose(dim, VOXEL).data
    coords = {key: c for key, c in betas.coords.items() if VOXEL not in c.dims}
    if dim in betas.coords:
        coords[f"{dim}_other"] = (f"{dim}_other", betas[dim].values)
    dims = (dim, f"{dim}_other")
    attrs = {"description": "1 - Pearson correlation over voxels"}
    if roi_mask is None:
        return xr.DataArray(_of_voxels(data), coords, dims, "rdm", attrs)
    masks = _masks_of(roi_mask, betas)
    stack: Any = da.stack if isinstance(data, da.Array) else np.stack
    values = stack([_of_voxels(data[:, mask]) for mask in masks])
    coords |= {key: c for key, c in roi_mask.coords.items() if c.dims in ((ROI,), ())}
    return xr.DataArray(values, coords, (ROI, *dims), "rdm", attrs)


def _masks_of(roi_mask: xr.DataArray, betas: xr.DataArray) -> np.ndarray:
    """ROI masks aligned to the voxels of `betas`, (roi, voxel) bool."""
    masks = ordered(roi_mask, "roi_mask", ROI, VOXEL)
    if masks.dtype != bool or not masks.sizes[ROI]:
        raise ValueError(
            "roi_mask must be boolean, with one ROI or more; got "
            f"{masks.dtype} of shape {masks.shape}."
        )
    of_one_subject(masks.attrs, betas.attrs)
    return along(masks, betas, VOXEL, "roi_mask").values


def _of_voxels(data: Any) -> Any:
    """Distances between the rows of `data` (image, voxel), as (image, image)."""
    if not isinstance(data, da.Array):
        return _distances(_products(data))
    n = data.shape[0]
    data = data.rechunk((-1, min(data.shape[1], max(n, _BLOCK_BYTES // (4 * max(1, n))))))
    chunks = ((1,) * data.numblocks[1], (n + 1,), (n + 1,))
    parts = da.map_blocks(
        _of_block, data, drop_axis=0, new_axis=(1, 2), chunks=chunks, dtype=np.float64
    )
    total = parts.sum(axis=0, split_every=2)
    return total.map_blocks(_distances, chunks=((n,), (n,)), dtype=np.float32)


def _of_block(block: np.ndarray) -> np.ndarray:
    return _products(block)[None]


def _products(block: np.ndarray) -> np.ndarray:
    """Sums over voxels of the products of all pairs of rows: the images, and a row of ones."""
    known = block[:, ~np.isnan(block).any(axis=0)]
    rows = np.ones((len(known) + 1, known.shape[1]))
    rows[:-1] = known
    return rows @ rows.T


def _distances(products: np.ndarray) -> np.ndarray:
    """Correlation distances (image, image) from the sums of products of `_products`."""
    squares, sums, n = products[:-1, :-1], products[:-1, -1], products[-1, -1]
    if n < 3:
        return np.full(squares.shape, np.nan, dtype=np.float32)
    covariance = squares - np.outer(sums, sums) / n
    variance = covariance.diagonal().copy()
    variance[variance <= _ROUNDING * squares.diagonal()] = np.nan
    scale = np.sqrt(variance)
    found = np.clip(1 - covariance / np.outer(scale, scale), 0, 2)
    np.fill_diagonal(found, np.where(np.isnan(variance), np.nan, 0))
    return found.astype(np.float32)
