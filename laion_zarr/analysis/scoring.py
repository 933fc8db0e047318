"""Predictions of encoding models, and their scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from laion_zarr.analysis.device import check_device, product_on
from laion_zarr.analysis.reliability import correlation
from laion_zarr.arrays.labels import along, of_one_subject, ordered, shared
from laion_zarr.store.schema import FEATURE, IMAGE, VOXEL


def predict(model: xr.Dataset, features: xr.DataArray, device: str | None = None) -> xr.DataArray:
    """Betas that a model predicts from features.

    Parameters
    ----------
    model : xarray.Dataset
        Model as returned by `fit_encoding`.
    features : xarray.DataArray, (image, feature)
        Features of any images. Joined with the features of `model` by label if both have labels,
        otherwise by position.
    device : str, optional
        Device to compute on, as PyTorch names it (``"cuda"``). If not provided, the CPU, by numpy.

    Returns
    -------
    xarray.DataArray, (image, voxel) float32
        In units of the betas; NaN for images whose features are NaN. Features are standardized by
        the mean and scale of the images trained on. Lazy if `model` or `features` is lazy.

    Raises
    ------
    ImportError, RuntimeError
        If `device` cannot be used, see `fit_encoding`.
    ValueError
        If `features` does not have the features that the model was trained on.

    Examples
    --------
    >>> from laion_zarr import load_stimuli, load_subject
    >>> from laion_zarr.analysis import fit_encoding, predict
    >>> features = load_stimuli().embeddings["CLIP"]
    >>> model = fit_encoding(features, load_subject("01").get_image_betas(roi="face"))
    >>> predict(model, features).dims
    ('image', 'voxel')
    """
    predicted = _weighted(model, ordered(features, "features", IMAGE, FEATURE), device)
    attrs = model["intercept"].attrs | {"description": "predicted betas"}
    return (predicted + model["intercept"]).rename("predicted").assign_attrs(attrs)


def score(
    model: xr.Dataset,
    features: xr.DataArray,
    betas: xr.DataArray,
    noise_ceiling: xr.DataArray | None = None,
    device: str | None = None,
) -> xr.Dataset:
    """How well a model predicts the betas of images.

    Parameters
    ----------
    model : xarray.Dataset
        Model as returned by `fit_encoding`.
    features : xarray.DataArray, (image, feature)
        Features of the images to test on; may have further images.
    betas : xarray.DataArray, (image, voxel)
        Betas of the images to test on, which must not include images that the model was trained on.
        Joined with `features` by image and with `model` by voxel.
    noise_ceiling : xarray.DataArray, (voxel,), percent, optional
        Noise ceiling of betas averaged over as many repeats as the test images have.
    device : str, optional
        Device to predict on, as PyTorch names it (``"cuda"``). If not provided, the CPU, by numpy.

    Returns
    -------
    xarray.Dataset
        ``correlation`` (voxel) float32: Pearson's, over images, between predicted and measured
        betas; NaN with fewer than three images or where predicted or measured betas are constant.
        With a ceiling also ``explained`` (voxel) float32: squared correlation ÷ (ceiling ÷ 100),
        NaN where the ceiling is not above 0. Lazy if `model`, `features` or `betas` is lazy.

    Raises
    ------
    ImportError, RuntimeError
        If `device` cannot be used, see `fit_encoding`.
    ValueError
        If the arguments have no image or no voxel in common, an image occurs twice, the ceiling
        lacks voxels, or the arguments belong to different subjects.

    Notes
    -----
    ``explained`` is the share of the explainable variance that is explained, up to a scale and an
    offset: Schoppe et al. (2016), Front. Comput. Neurosci. 10:10; the ceiling as in Allen et al.
    (2022), Nat. Neurosci. 25, 116-126. Squaring hides the sign: where the correlation is negative,
    the model explains nothing although ``explained`` is positive. By chance ``explained`` can
    exceed 1, more so with a low ceiling and few images: leave out voxels with a low ceiling instead
    of clipping the values.

    For p-values, permute the images of the predictions (`predict`); see `permutation_pvalue`.

    Examples
    --------
    >>> from laion_zarr import load_stimuli, load_subject
    >>> from laion_zarr.analysis import fit_encoding, score
    >>> sub, features = load_subject("01"), load_stimuli().embeddings["CLIP"]
    >>> model = fit_encoding(features, sub.get_image_betas(roi="face", stimuli="unique"))
    >>> ceiling = sub.get_noise_ceiling(roi="face", desc="Noiseceiling12rep")
    >>> found = score(model, features, sub.get_image_betas(roi="face", stimuli="shared"), ceiling)
    >>> sorted(found)
    ['correlation', 'explained']
    """
    measured = ordered(betas, "betas", IMAGE, VOXEL)
    given = ordered(features, "features", IMAGE, FEATURE)
    of_one_subject(model.attrs, measured.attrs)
    given, measured = shared(given, measured, IMAGE)
    model, measured = shared(model, measured, VOXEL)
    # Adding the intercept would only lose float32 precision.
    predicted = _weighted(model, given, device)
    ceiling: Any = np.nan
    if noise_ceiling is not None:
        ceiling = ordered(noise_ceiling, "noise_ceiling", VOXEL)
        of_one_subject(ceiling.attrs, measured.attrs)
        ceiling = along(ceiling, measured, VOXEL, "noise_ceiling")
    # One call computes both variables: if one variable of a Dataset is computed from another, Dask
    # can lose the latter, https://github.com/pydata/xarray/issues/11329.
    correlated, explained = xr.apply_ufunc(
        _scores,
        _whole_images(predicted),
        _whole_images(measured),
        ceiling,
        input_core_dims=[[IMAGE], [IMAGE], []],
        output_core_dims=[[], []],
        join="exact",
        dask="parallelized",
        output_dtypes=[np.float32, np.float32],
    )
    description = "correlation of predicted and measured betas over images"
    scores = xr.Dataset({"correlation": correlated.assign_attrs(description=description)})
    if noise_ceiling is None:
        return scores
    description = "share of the explainable variance that is explained"
    return scores.assign(explained=explained.assign_attrs(description=description))


def _features_of(model: xr.Dataset, features: xr.DataArray) -> xr.DataArray:
    """Features in the order of the model's features; raises ValueError for other features."""
    own = model.indexes.get(FEATURE)
    if own is not None and FEATURE in features.indexes:
        places = features.indexes[FEATURE].get_indexer(own)
        if len(own) == features.sizes[FEATURE] and (places >= 0).all():
            return features.isel({FEATURE: places})
    elif features.sizes[FEATURE] == model.sizes[FEATURE]:
        return features.drop_vars(FEATURE, errors="ignore")
    raise ValueError(
        f"The model was trained on {model.sizes[FEATURE]:,} features, not on these "
        f"{features.sizes[FEATURE]:,}. Take them from the same embeddings."
    )


def _weighted(model: xr.Dataset, features: xr.DataArray, device: str | None) -> xr.DataArray:
    """Weighted sum of the features, (image, voxel): predictions without the intercept."""
    given = _features_of(model, features)
    scaled = ((given - model["feature_mean"]) / model["feature_scale"]).astype(np.float32)
    if device is None:
        return xr.dot(scaled, model["weights"], dim=FEATURE).transpose(IMAGE, VOXEL)
    check_device(device)
    return xr.apply_ufunc(
        product_on,
        scaled,
        model["weights"],
        input_core_dims=[[IMAGE, FEATURE], [FEATURE]],
        output_core_dims=[[IMAGE]],
        kwargs={"device": device},
        dask="parallelized",
        dask_gufunc_kwargs={"allow_rechunk": True},
        output_dtypes=[np.float32],
    ).transpose(IMAGE, VOXEL)


def _whole_images(values: xr.DataArray) -> xr.DataArray:
    """Rechunk to one Dask block along images; an array in memory is returned as it is."""
    return values.chunk({IMAGE: -1}) if values.chunks else values


def _scores(
    predicted: np.ndarray, measured: np.ndarray, ceiling: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Correlation along the last axis, and its square ÷ (ceiling ÷ 100), NaN where ceiling ≤ 0."""
    known = ~np.isnan(predicted) & ~np.isnan(measured)
    found = correlation(predicted.T, measured.T, known.T)
    with np.errstate(invalid="ignore"):
        explained = found**2 / np.where(ceiling > 0, ceiling / 100, np.nan)
    return found.astype(np.float32), explained.astype(np.float32)
