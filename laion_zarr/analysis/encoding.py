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

from laion_zarr._progress import Bar
from laion_zarr.analysis.device import BLOCK_BYTES, check_device, fit_on
from laion_zarr.arrays.labels import ordered, shared, whose
from laion_zarr.errors import needs
from laion_zarr.store.schema import FEATURE, IMAGE, VOXEL

ALPHAS = tuple(np.logspace(0, 7, 15).tolist())
# Bytes of a block of betas in float64; a fit holds about four arrays of this size.
_BLOCK_BYTES = 64 << 20
_FITTED = ("weights", "intercept", "alpha")


def fit_encoding(
    features: xr.DataArray,
    betas: xr.DataArray,
    alphas: Sequence[float] = ALPHAS,
    device: str | None = None,
) -> xr.Dataset:
    """Fit a ridge regression of each voxel's betas on features of the images.

    Parameters
    ----------
    features : xarray.DataArray, (image, feature)
        Features of the images to train on, such as ``load_stimuli().embeddings["CLIP"]``; may
        have further images. Images with NaN are left out. Features are read immediately.
    betas : xarray.DataArray, (image, voxel)
        Betas of the images to train on, one row per image, such as `Subject.get_image_betas`
        returns. Joined with `features` by image.
    alphas : sequence of float
        Penalties to choose from, for features in units of their standard deviations.
    device : str, optional
        Device to compute on, as PyTorch names it: ``"cuda"``, ``"cuda:1"``, ``"mps"``, ``"cpu"``.
        If not provided, the CPU, by numpy.

    Returns
    -------
    xarray.Dataset
        ``weights`` (feature, voxel) float32, in units of the betas per standard deviation of the
        feature; ``intercept`` (voxel) float32; ``alpha`` (voxel) float64, the penalty chosen;
        ``feature_mean``, ``feature_scale`` (feature), over the images trained on. Weights,
        intercept and penalty are NaN for a voxel that is NaN in any image trained on, and lazy if
        `betas` is lazy. Attributes: ``n_images`` and ``n_images_left_out``, the number of images of
        `betas` with and without features; ``subject``, the subject that the voxels belong to.

    Raises
    ------
    ImportError
        If scikit-learn (the extra ``analysis``) is not installed; with `device`, if PyTorch is not,
        or scikit-learn is older than 1.9.
    RuntimeError
        If `device` is not there, or SciPy was imported without ``SCIPY_ARRAY_API=1``.
    ValueError
        If fewer than two images have both features and betas, an image occurs twice, or a penalty
        is not positive.

    Notes
    -----
    Features are z-scored over the images trained on (a constant feature has no effect); the
    intercept is not penalized and absorbs the mean of the betas. The penalty is chosen for each
    voxel separately, by the least mean squared error of leave-one-image-out cross-validation. It is
    exact, and follows from one decomposition of the features, as in `sklearn.linear_model.RidgeCV`:
    Rifkin & Lippert (2007), MIT-CSAIL-TR-2007-025. Cross-validation with k folds would need k
    decompositions, and its result would depend on which images are in which fold. The features are
    decomposed once for all voxels, and weights are computed in float64; only the errors that are
    compared to choose a penalty are float32, which matters where two penalties are equally good to
    one part in a million. A block of voxels is a task that takes a quarter of a gigabyte of memory
    and uses several cores: one thread per Dask worker is enough.

    With `device`, each block of up to a gigabyte of betas (20,000 voxels of 6,000 images) is fitted
    there by scikit-learn's `RidgeCV`, on PyTorch tensors, one block at a time while other threads
    read the next ones. It needs memory of six times a block, decomposes the features once per
    block, and computes in float64 where the device has it; weights then differ from those of the
    CPU by rounding to float32.

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
    if device is not None:
        check_device(device)
    penalties = np.asarray(alphas, dtype=np.float64)
    if (
        penalties.ndim != 1
        or not penalties.size
        or not ((penalties > 0) & (penalties < np.inf)).all()
    ):
        raise ValueError(f"alphas must be positive numbers, one or more; got {alphas!r}.")
    given = ordered(features, "features", IMAGE, FEATURE)
    wanted = ordered(betas, "betas", IMAGE, VOXEL)
    given, wanted = shared(given, wanted, IMAGE)
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
        fitted = _fit_blocks(wanted.data, given.data, scaler, penalties, device)
    else:
        fitted = _fit(wanted.values, _prepared(values, scaler, device), penalties)
    left_out = betas.sizes[IMAGE] - len(values)
    attrs = {"n_images": len(values), "n_images_left_out": left_out, **whose(betas)}
    return _labelled(fitted, scaler, given, wanted).assign_attrs(attrs)


def _labelled(
    fitted: Any, scaler: _Scaler, features: xr.DataArray, betas: xr.DataArray
) -> xr.Dataset:
    """Labelled dataset of the model, from the fitted values of each voxel."""
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


# -- Dask blocks


@dataclass(frozen=True)
class _Scaler:
    """Mean and standard deviation of each feature over the images trained on.

    Attributes
    ----------
    mean, scale : numpy.ndarray, (feature,) float64
        `scale` is 1 for a constant feature.
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


def _fit_blocks(
    betas: da.Array, features: Any, scaler: _Scaler, alphas: np.ndarray, device: str | None
) -> da.Array:
    """Fit block by block; features are decomposed once for all blocks."""
    fit = (_BLOCK_BYTES if device is None else BLOCK_BYTES) // (8 * max(1, betas.shape[0]))
    betas = betas.rechunk((-1, min(betas.shape[1], max(1, fit))))
    features = da.asarray(features).rechunk(-1)
    token = tokenize(betas.name, features.name, scaler, alphas, device)
    # Explicit tasks: Dask would fuse blockwise layers with the layers that use them, and repeat the
    # fit for each use.
    shared, name = f"decomposed-{token}", f"encoding-{token}"
    bar = Bar("fit", betas.numblocks[1])
    tasks: dict[Any, Any] = {shared: (_prepared, (features.name, 0, 0), scaler, device)}
    for n in range(betas.numblocks[1]):
        tasks[name, n] = (_fit_block, (betas.name, 0, n), shared, alphas, bar)
    beneath: Any = [betas, features]  # Dask's type hints do not list Array as a collection
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=beneath)
    return da.Array(graph, name, (betas.chunks[1],), dtype=_fields(features.shape[1]))


# -- computations on numpy arrays


def _fields(n_features: int) -> np.dtype:
    """Structured dtype of the fitted values of a voxel."""
    return np.dtype(
        [("weights", np.float32, (n_features,)), ("intercept", np.float32), ("alpha", np.float64)],
        align=True,
    )


@dataclass(frozen=True)
class _Decomposition:
    """Eigendecomposition of the products of standardized features, of all pairs or of all images.

    Pairs of features where these are fewer than images, as `RidgeCV` chooses: an eigenvalue is
    never divided by, so that small ones need not be exact.

    Attributes
    ----------
    left : numpy.ndarray, (image, component) float64
        Of pairs of images: the eigenvectors; those of eigenvalue 0, the mean of the images among
        them, are left out. Of pairs of features: the features times the eigenvectors.
    values : numpy.ndarray, (component,) float64
        Eigenvalues.
    right : numpy.ndarray, (component, feature) float64
        Weights of the features in each component.
    by_image : bool
        Whether the pairs are of images.
    """

    left: np.ndarray
    values: np.ndarray
    right: np.ndarray
    by_image: bool

    @property
    def n_features(self) -> int:
        return self.right.shape[1]

    def fit(self, betas: np.ndarray, alphas: np.ndarray) -> tuple[np.ndarray, ...]:
        """Weights (voxel, feature), intercept and penalty (voxel,) of betas (voxel, image)."""
        centred = np.ascontiguousarray(betas, np.float64)
        means = centred.mean(axis=1)
        centred -= means[:, None]
        scores = centred @ self.left
        chosen = _least_error(centred, scores, self, alphas)
        scores /= self.values + chosen[:, None]
        return scores @ self.right, means, chosen


def _decomposed(features: np.ndarray, scaler: _Scaler) -> _Decomposition:
    scaled = scaler(features)
    by_image = scaled.shape[0] - 1 <= scaled.shape[1]
    values, vectors = np.linalg.eigh(scaled @ scaled.T if by_image else scaled.T @ scaled)
    if not by_image:
        return _Decomposition(scaled @ vectors, np.maximum(values, 0), vectors.T, by_image)
    kept = values > len(values) * np.finfo(np.float64).eps * values.max()
    vectors = vectors[:, kept]
    return _Decomposition(vectors, values[kept], vectors.T @ scaled, by_image)


@dataclass(frozen=True)
class _OnDevice:
    """Standardized features (image, feature) float32, and the device that decomposes them."""

    features: np.ndarray
    device: str

    @property
    def n_features(self) -> int:
        return self.features.shape[1]

    def fit(self, betas: np.ndarray, alphas: np.ndarray) -> tuple[np.ndarray, ...]:
        return fit_on(self.features, betas.T, alphas, self.device)


def _prepared(
    features: np.ndarray, scaler: _Scaler, device: str | None
) -> _Decomposition | _OnDevice:
    if device is None:
        return _decomposed(features, scaler)
    return _OnDevice(scaler(features).astype(np.float32), device)


def _fit(betas: np.ndarray, features: _Decomposition | _OnDevice, alphas: np.ndarray) -> np.ndarray:
    """Fit each voxel of a block, (voxel,); a voxel with NaN gets NaN."""
    found = np.empty(betas.shape[1], dtype=_fields(features.n_features))
    for name in _FITTED:
        found[name] = np.nan
    known = ~np.isnan(betas).any(axis=0)
    if known.any():
        fitted = features.fit(betas.T[known], alphas)
        for name, values in zip(_FITTED, fitted, strict=True):
            found[name][known] = values
    return found


def _fit_block(
    betas: np.ndarray, features: _Decomposition | _OnDevice, alphas: np.ndarray, bar: Bar
) -> np.ndarray:
    found = _fit(betas, features, alphas)
    bar.step()
    return found


def _least_error(
    betas: np.ndarray, scores: np.ndarray, features: _Decomposition, alphas: np.ndarray
) -> np.ndarray:
    """Penalty with the least leave-one-out error, (voxel,); overwrites `betas` (voxel, image).

    The error of an image that is left out is its residual ÷ (1 − its leverage). By pairs of images,
    both are what no component spans, plus a share of what the components do: nothing cancels where
    features outnumber images, and float32 will do.
    """
    leverage, beyond = features.left**2, np.full(betas.shape[1], 1 - 1 / betas.shape[1])
    if features.by_image:
        betas -= scores @ features.left.T
        beyond = np.maximum(beyond - leverage.sum(axis=1), 0)
    outside, inside = betas.astype(np.float32), scores.astype(np.float32)
    components = np.ascontiguousarray(features.left.T, np.float32)
    least, chosen = np.full(len(betas), np.inf, np.float32), np.full(len(betas), alphas[0])
    for alpha in alphas:
        share = (alpha if features.by_image else -1) / (features.values + alpha)
        residuals = (inside * share.astype(np.float32)) @ components
        residuals += outside
        residuals *= (1 / (beyond + leverage @ share)).astype(np.float32)
        error = np.vecdot(residuals, residuals)
        better = error < least
        least[better], chosen[better] = error[better], alpha
    return chosen
