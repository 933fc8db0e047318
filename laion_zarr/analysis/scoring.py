"""What encoding models predict, and how well."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from laion_zarr.analysis.reliability import correlation
from laion_zarr.arrays.labels import along, of_one_subject, ordered, shared
from laion_zarr.store.schema import FEATURE, IMAGE, VOXEL


def predict(model: xr.Dataset, features: xr.DataArray) -> xr.DataArray:
    """Betas that a model predicts from features.

    Parameters
    ----------
    model : xarray.Dataset
        Of `fit_encoding`.
    features : xarray.DataArray, (image, feature)
        Of any images. By the labels of its features if both have some; otherwise in their order.

    Returns
    -------
    xarray.DataArray, (image, voxel) float32
        In units of the betas; NaN for images without features. Features are standardized by the
        mean and scale of the images trained on. Lazy if either is.

    Raises
    ------
    ValueError
        If these are not the model's features.

    Examples
    --------
    >>> from laion_zarr import load_stimuli, load_subject
    >>> from laion_zarr.analysis import fit_encoding, predict
    >>> features = load_stimuli().embeddings["CLIP"]
    >>> model = fit_encoding(features, load_subject("01").get_image_betas(roi="face"))
    >>> predict(model, features).dims
    ('image', 'voxel')
    """
    predicted = _weighted(model, ordered(features, "features", IMAGE, FEATURE))
    attrs = model["intercept"].attrs | {"description": "predicted betas"}
    return (predicted + model["intercept"]).rename("predicted").assign_attrs(attrs)


def score(
    model: xr.Dataset,
    features: xr.DataArray,
    betas: xr.DataArray,
    noise_ceiling: xr.DataArray | None = None,
) -> xr.Dataset:
    """How well a model predicts the betas of images.

    Parameters
    ----------
    model : xarray.Dataset
        Of `fit_encoding`.
    features : xarray.DataArray, (image, feature)
        Of the images to test on, or of more.
    betas : xarray.DataArray, (image, voxel)
        Of the images to test on: none that the model was trained on. Joined by image and voxel.
    noise_ceiling : xarray.DataArray, (voxel,), percent, optional
        Of betas averaged over as many repeats as those of the images tested on.

    Returns
    -------
    xarray.Dataset
        ``correlation`` (voxel) float32: Pearson's, over images, between predicted and measured
        betas; NaN with fewer than three images or where nothing varies. With a ceiling
        ``explained`` (voxel) float32: its square ÷ (ceiling ÷ 100), NaN where the ceiling is 0 or
        NaN. Lazy if the model, `features` or `betas` are.

    Raises
    ------
    ValueError
        If nothing is shared, an image comes twice, the ceiling lacks voxels, or not all is of one
        subject.

    Notes
    -----
    ``explained`` is the share of the explainable variance that is explained, up to a scale and an
    offset: Schoppe et al. (2016), Front. Comput. Neurosci. 10:10; the ceiling as in Allen et al.
    (2022), Nat. Neurosci. 25, 116-126. The square hides the sign: a correlation below 0 explains
    nothing. It is above 1 where chance has it so, the more the smaller the ceiling and the fewer
    the images: leave out voxels of a low ceiling rather than clip.

    For p-values permute images of `predict`; see `permutation_pvalue`.

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
    predicted = _weighted(model, given)  # without the intercept, which costs digits
    ceiling: Any = np.nan
    if noise_ceiling is not None:
        ceiling = ordered(noise_ceiling, "noise_ceiling", VOXEL)
        of_one_subject(ceiling.attrs, measured.attrs)
        ceiling = along(ceiling, measured, VOXEL, "noise_ceiling")
    # Both from one call: Dask can lose a variable of which another of the same Dataset is made,
    # https://github.com/pydata/xarray/issues/11329.
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
    """Features in the order of the model's."""
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


def _weighted(model: xr.Dataset, features: xr.DataArray) -> xr.DataArray:
    """Sum of weighted features, (image, voxel): predictions but for the intercept."""
    given = _features_of(model, features)
    scaled = ((given - model["feature_mean"]) / model["feature_scale"]).astype(np.float32)
    return xr.dot(scaled, model["weights"], dim=FEATURE).transpose(IMAGE, VOXEL)


def _whole_images(values: xr.DataArray) -> xr.DataArray:
    """The same with all images in one block, if there are blocks."""
    return values.chunk({IMAGE: -1}) if values.chunks else values


def _scores(
    predicted: np.ndarray, measured: np.ndarray, ceiling: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Correlation along the last axis, and what it explains of the ceiling in percent."""
    known = ~np.isnan(predicted) & ~np.isnan(measured)
    found = correlation(predicted.T, measured.T, known.T)
    with np.errstate(invalid="ignore"):
        explained = found**2 / np.where(ceiling > 0, ceiling / 100, np.nan)
    return found.astype(np.float32), explained.astype(np.float32)
