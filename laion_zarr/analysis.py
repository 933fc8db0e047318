"""Statistics over trials and images: labels in, labels out, lazy where the input is."""

from __future__ import annotations

from functools import partial

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr

from laion_zarr._schema import IMAGE, IMAGE_NAME

COUNT = "n_trials"
# Of all trials and some voxels: what a task holds, beside a sorted copy of it.
_BLOCK_BYTES = 128 << 20


def average_repeats(betas: xr.DataArray) -> xr.DataArray:
    """Average over the repeats of each image.

    Parameters
    ----------
    betas : xarray.DataArray, (trial, …)
        With ``image_name`` along its trials: betas, embeddings, any other values by trial.

    Returns
    -------
    xarray.DataArray, (image, …)
        Mean over the trials of each image that are not NaN, NaN if all are; of the same dtype,
        summed up in float64. Images are sorted by name as plain strings, so that averages of
        several subjects line up. ``n_trials`` counts the trials of each image; labels along trials
        that are the same for all trials of an image stay. Lazy if `betas` is.

    Raises
    ------
    ValueError
        If nothing says what was seen.

    Examples
    --------
    >>> from laion_zarr import load_subject
    >>> from laion_zarr.analysis import average_repeats
    >>> mean = average_repeats(load_subject("01").get_betas(roi="FFA1"))
    >>> mean.dims
    ('image', 'voxel')
    """
    name = IMAGE_NAME.name
    if name not in betas.coords or betas[name].ndim != 1:
        raise ValueError(
            f"average_repeats needs {name!r} as a coordinate along trials, found "
            f"{', '.join(map(str, betas.coords)) or 'none'}."
        )
    (dim,) = betas[name].dims
    labels = betas[name].values
    images, codes = np.unique(labels.astype(str), return_inverse=True)
    ordered = betas.transpose(dim, ...)
    mean = partial(_mean_by_code, codes=codes)
    if isinstance(ordered.data, da.Array):
        data = _with_all_rows(ordered.data)
        shape = ((len(images),), *data.chunks[1:])
        values = da.map_blocks(mean, data, dtype=betas.dtype, chunks=shape, meta=data._meta)
    else:
        values = mean(ordered.values)
    coords = {
        **{key: c for key, c in betas.coords.items() if dim not in c.dims},
        **_per_image(betas, dim, codes, len(images)),
        IMAGE: images.astype(object),
        COUNT: (IMAGE, np.bincount(codes, minlength=len(images))),
    }
    return xr.DataArray(values, coords, (IMAGE, *ordered.dims[1:]), betas.name, betas.attrs)


def _with_all_rows(data: da.Array) -> da.Array:
    """The same in blocks of all rows and as many columns as a task can hold."""
    columns = max(1, _BLOCK_BYTES // max(1, data.shape[0] * data.dtype.itemsize))
    return data.rechunk(
        {0: -1} | {axis: min(columns, data.shape[axis]) for axis in range(1, data.ndim)}
    )


def _mean_by_code(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Mean of the rows of each code, without NaN; every code occurs."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    rows = values[order]
    known = ~np.isnan(rows)
    counts = np.add.reduceat(known, starts, axis=0, dtype=np.int32)
    rows[~known] = 0
    sums = np.add.reduceat(rows, starts, axis=0, dtype=np.float64)
    means = np.full(sums.shape, np.nan, dtype=values.dtype)
    np.divide(sums, counts, out=means, where=counts > 0, casting="same_kind")
    return means


def _per_image(
    betas: xr.DataArray, dim: object, codes: np.ndarray, n_images: int
) -> dict[object, tuple[str, np.ndarray]]:
    """Labels of trials that say something of the image."""
    first = np.zeros(n_images, dtype=np.intp)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    found = {}
    for name, coord in betas.coords.items():
        if coord.dims != (dim,) or name in (dim, IMAGE_NAME.name):
            continue
        own = coord.values[first]
        if pd.Series(coord.values).equals(pd.Series(own[codes])):
            found[name] = (IMAGE, own)
    return found
