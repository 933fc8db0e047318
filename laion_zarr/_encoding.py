"""Encoding models: the betas of each voxel as a weighted sum of features of the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from laion_zarr._optional import needs
from laion_zarr._reliability import correlation
from laion_zarr._schema import FEATURE, IMAGE, VOXEL

ALPHAS = tuple(np.logspace(0, 7, 15).tolist())
# Of betas in float64, of which a fit holds some six: as many voxels as that allows, because each
# block decomposes the features anew, which takes as long as fitting some hundred voxels.
_BLOCK_BYTES = 96 << 20
_FITTED = ("weights", "intercept", "alpha")


def fit_encoding(
    features: xr.DataArray, betas: xr.DataArray, alphas: Sequence[float] = ALPHAS
) -> xr.Dataset:
    """Fit a ridge regression of each voxel's betas on features of the images.

    Parameters
    ----------
    features : xarray.DataArray, (image, feature)
        Of the images to train on, or of more: ``load_stimuli().embeddings["CLIP"]``. Images with
        NaN are left out. They are read at once.
    betas : xarray.DataArray, (image, voxel)
        Of the images to train on, one row each: `Subject.get_image_betas`. Joined with `features`
        by image.
    alphas : sequence of float
        Penalties to choose from, for features in standard deviations.

    Returns
    -------
    xarray.Dataset
        ``weights`` (feature, voxel) float32, in units of the betas per standard deviation of the
        feature; ``intercept`` (voxel) float32; ``alpha`` (voxel) float64, the penalty chosen;
        ``feature_mean``, ``feature_scale`` (feature), of the images trained on. All NaN where a
        voxel is NaN in any of them. The attributes ``n_images`` and ``n_images_left_out`` say how
        many of `betas` had features, and how many had none. What is by voxel is lazy if `betas`
        is.

    Raises
    ------
    ImportError
        Without scikit-learn, the extra ``analysis``.
    ValueError
        If no image has both, an image comes twice, or a penalty is not positive.

    Notes
    -----
    Features are z-scored over the images trained on (one that does not vary counts for nothing);
    the intercept, which is not penalized, takes up the mean of the betas. The penalty is chosen by
    each voxel for itself: the least mean squared error of leaving out one image at a time, exact
    and from one decomposition of the features, by `sklearn.linear_model.RidgeCV`: Rifkin & Lippert
    (2007), MIT-CSAIL-TR-2007-025. Folds would need as many decompositions, and depend on how
    images are dealt out to them.

    Examples
    --------
    >>> from laion_zarr import load_stimuli, load_subject
    >>> from laion_zarr.analysis import fit_encoding, score
    >>> from laion_zarr.splits import get_split_masks
    >>> betas = load_subject("01").get_image_betas(roi="face")
    >>> features = load_stimuli().embeddings["CLIP"]
    >>> train, test = get_split_masks(betas["image"].values, "tau", pool="sub-01")
    >>> model = fit_encoding(features, betas[train])
    >>> score(model, features, betas[test])["correlation"].dims
    ('voxel',)
    """
    needs("analysis", "sklearn")
    penalties = np.asarray(alphas, dtype=np.float64)
    if (
        penalties.ndim != 1
        or not penalties.size
        or not ((penalties > 0) & (penalties < np.inf)).all()
    ):
        raise ValueError(f"alphas must be positive numbers, one or more; got {alphas!r}.")
    given = _ordered(features, "features", IMAGE, FEATURE)
    wanted = _ordered(betas, "betas", IMAGE, VOXEL)
    given, wanted = _shared(given, wanted, IMAGE)
    values = given.values
    known = ~np.isnan(values).any(axis=1)
    if not known.all():
        values, given, wanted = values[known], given[known], wanted[known]
    if len(values) < 2:
        raise ValueError(
            f"{len(values)} of the {len(known):,} images of betas have features that are not NaN; "
            "a model needs two or more."
        )
    scaler = _scaler_of(values)
    fitted: Any
    if isinstance(wanted.data, da.Array):
        fitted = _fit_blocks(wanted.data, given.data, scaler, penalties)
    else:
        fitted = _fit(wanted.values, scaler(values), penalties)
    left_out = betas.sizes[IMAGE] - len(values)
    attrs = {"n_images": len(values), "n_images_left_out": left_out}
    return _labelled(fitted, scaler, given, wanted).assign_attrs(attrs)


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
    predicted = _weighted(model, _ordered(features, "features", IMAGE, FEATURE))
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
        NaN. Lazy if the model or `betas` is.

    Raises
    ------
    ValueError
        If nothing is shared, an image comes twice, or the ceiling lacks voxels.

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
    measured = _ordered(betas, "betas", IMAGE, VOXEL)
    given = _ordered(features, "features", IMAGE, FEATURE)
    given, measured = _shared(given, measured, IMAGE)
    model, measured = _shared(model, measured, VOXEL)
    predicted = _weighted(model, given)  # without the intercept, which costs digits
    ceiling: Any = np.nan if noise_ceiling is None else _ceiling_of(noise_ceiling, measured)
    # Both from one call: Dask 2026.8 loses variables of which another of a Dataset is made.
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


# -- labels


def _ordered(values: xr.DataArray, what: str, *dims: str) -> xr.DataArray:
    if set(values.dims) != set(dims):
        raise ValueError(f"{what} must be {dims}, got {tuple(map(str, values.dims))}.")
    return values.transpose(*dims)


def _shared(first: Any, second: xr.DataArray, dim: str) -> tuple[Any, xr.DataArray]:
    """Both along the labels that both have, in the order of the second."""
    for values in (first, second):
        if dim not in values.indexes or not values.indexes[dim].is_unique:
            raise ValueError(
                f"Along {dim!r} there must be labels, each once, to join by; got "
                f"{'labels that come twice' if dim in values.indexes else 'none'}."
            )
    places = first.indexes[dim].get_indexer(second.indexes[dim])
    there = places >= 0
    if not there.any():
        raise ValueError(
            f"No {dim} is in both: {_some(first, dim)} on one side, {_some(second, dim)} on the "
            "other."
        )
    if not np.array_equal(places, np.arange(first.sizes[dim])):
        first = first.isel({dim: places[there]})
    return first, second if there.all() else second.isel({dim: there})


def _some(values: Any, dim: str) -> str:
    labels = values.indexes[dim]
    return f"{len(labels):,} such as {labels[0]!r}" if len(labels) else "none"


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


def _ceiling_of(ceiling: xr.DataArray, betas: xr.DataArray) -> xr.DataArray:
    """The ceiling along the voxels of betas."""
    places = ceiling.indexes[VOXEL].get_indexer(betas.indexes[VOXEL])
    if (places < 0).any():
        raise ValueError(
            f"noise_ceiling lacks {(places < 0).sum():,} of the {len(places):,} voxels. Take it "
            "from the same subject and the same voxels."
        )
    return ceiling.isel({VOXEL: places})


def _labelled(
    fitted: Any, scaler: _Scaler, features: xr.DataArray, betas: xr.DataArray
) -> xr.Dataset:
    """The model, from what was fitted by voxel."""
    coords = {key: c for key, c in betas.coords.items() if IMAGE not in c.dims}
    coords |= {key: c for key, c in features.coords.items() if c.dims == (FEATURE,)}
    units = betas.attrs.get("units", "units of the betas")
    return xr.Dataset(
        {
            "weights": (
                (FEATURE, VOXEL),
                fitted["weights"].T,
                {"units": f"{units} per standard deviation of the feature"},
            ),
            "intercept": ((VOXEL,), fitted["intercept"], {"units": units}),
            "alpha": ((VOXEL,), fitted["alpha"], {"description": "penalty"}),
            "feature_mean": ((FEATURE,), scaler.mean),
            "feature_scale": ((FEATURE,), scaler.scale),
        },
        coords,
    )


# -- blocks


@dataclass(frozen=True)
class _Scaler:
    """Mean and standard deviation of each feature over the images trained on.

    Attributes
    ----------
    mean, scale : numpy.ndarray, (feature,) float64
        `scale` is 1 where a feature does not vary.
    """

    mean: np.ndarray
    scale: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Standardized features, float64."""
        return (values - self.mean) / self.scale


def _scaler_of(values: np.ndarray) -> _Scaler:
    from sklearn.preprocessing import StandardScaler

    fitted = StandardScaler().fit(values.astype(np.result_type(values, np.float32), copy=False))
    return _Scaler(fitted.mean_, fitted.scale_)


def _fit_blocks(betas: da.Array, features: Any, scaler: _Scaler, alphas: np.ndarray) -> da.Array:
    """Fit block by block; features are standardized once for all."""
    n_images = max(1, betas.shape[0])
    betas = betas.rechunk((-1, min(betas.shape[1], max(1, _BLOCK_BYTES // (8 * n_images)))))
    features = da.asarray(features).rechunk(-1)
    token = tokenize(betas.name, features.name, scaler, alphas)
    # As tasks of their own: Dask would merge blockwise layers, and fit anew for each use.
    shared, name = f"standardized-{token}", f"encoding-{token}"
    tasks: dict[Any, Any] = {shared: (_call, scaler, (features.name, 0, 0))}
    for n in range(betas.numblocks[1]):
        tasks[name, n] = (_fit, (betas.name, 0, n), shared, alphas)
    beneath: Any = [betas, features]  # Dask's type hints say that an Array is no collection
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=beneath)
    return da.Array(graph, name, (betas.chunks[1],), dtype=_fields(features.shape[1]))


def _call(scaler: _Scaler, features: np.ndarray) -> np.ndarray:
    return scaler(features)


def _whole_images(values: xr.DataArray) -> xr.DataArray:
    """The same with all images in one block, if there are blocks."""
    return values.chunk({IMAGE: -1}) if values.chunks else values


# -- numbers


def _fields(n_features: int) -> np.dtype:
    """What is fitted to a voxel."""
    return np.dtype(
        [("weights", np.float32, (n_features,)), ("intercept", np.float32), ("alpha", np.float64)],
        align=True,
    )


def _fit(betas: np.ndarray, features: np.ndarray, alphas: np.ndarray) -> np.ndarray:
    """Fit each voxel of a block that has no NaN, (voxel,)."""
    from sklearn.linear_model import RidgeCV

    found = np.empty(betas.shape[1], dtype=_fields(features.shape[1]))
    for name in _FITTED:
        found[name] = np.nan
    known = ~np.isnan(betas).any(axis=0)
    if known.any():
        model = RidgeCV(alphas, alpha_per_target=True).fit(features, betas[:, known])
        found["weights"][known] = model.coef_
        found["intercept"][known] = model.intercept_
        found["alpha"][known] = model.alpha_
    return found


def _scores(
    predicted: np.ndarray, measured: np.ndarray, ceiling: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Correlation along the last axis, and what it explains of the ceiling in percent."""
    known = ~np.isnan(predicted) & ~np.isnan(measured)
    found = correlation(predicted.T, measured.T, known.T)
    with np.errstate(invalid="ignore"):
        explained = found**2 / np.where(ceiling > 0, ceiling / 100, np.nan)
    return found.astype(np.float32), explained.astype(np.float32)
