"""Measures `fit_encoding` beside one decomposition of the features in float32 for all voxels.

Run ``python benchmarks/encoding.py [--size full|tiny] [--json FILE]``. Betas and features are made
up in memory: 5,833 images, 1,024 features, 4,096 voxels. *One float32 decomposition* is ridge
regression with the same penalties and leave-one-out errors in plain numpy, on arrays in memory, and
all of it in float32. himalaya's cross-validation (5 folds) is measured where it is installed. How
far penalties and weights differ from those of scikit-learn's ``RidgeCV``, which is float64, is of
some hundred voxels.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import xarray as xr
from measure import Figure, measure_in_folder, side_by_side, timed
from sklearn.linear_model import RidgeCV

from laion_zarr.analysis import fit_encoding
from laion_zarr.analysis.encoding import ALPHAS


class Size(NamedTuple):
    """Images, features, voxels, voxels of a Dask block, voxels compared with RidgeCV, and runs."""

    images: int
    features: int
    voxels: int
    block: int
    compared: int
    runs: int


SIZES = {"full": Size(5833, 1024, 4096, 1024, 512, 3), "tiny": Size(60, 8, 40, 16, 40, 1)}


def make(root: Path, size: Size) -> None:
    """Make betas that depend on features, more or less by voxel."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((size.images, size.features), np.float32)
    features *= 1 / np.sqrt(1 + np.arange(size.features, dtype=np.float32))  # as embeddings vary
    weights = rng.standard_normal((size.features, size.voxels), np.float32)
    signal = features @ weights
    noise = rng.standard_normal((size.images, size.voxels), np.float32)
    strength = np.linspace(0, 1, size.voxels, dtype=np.float32) / signal.std()
    np.savez(root / "made.npz", features=features, betas=strength * signal + noise)


def one_decomposition(features: np.ndarray, betas: np.ndarray) -> np.ndarray:
    """Weights of all voxels by one float32 decomposition, (feature, voxel)."""
    x = (features - features.mean(0)) / features.std(0)
    y = betas - betas.mean(0)
    left, values, right = np.linalg.svd(x, full_matrices=False)
    scores, leverage = left.T @ y, left**2
    least, chosen = np.full(y.shape[1], np.inf, np.float32), np.zeros(y.shape[1], np.float32)
    for alpha in np.float32(ALPHAS):
        share = values**2 / (values**2 + alpha)
        residuals = y - left @ (share[:, None] * scores)
        residuals /= (1 - 1 / np.float32(len(y)) - leverage @ share)[:, None]
        error = np.einsum("iv,iv->v", residuals, residuals)
        chosen[error < least] = alpha
        least = np.minimum(error, least)
    return right.T @ (values[:, None] / (values[:, None] ** 2 + chosen) * scores)


def himalaya(features: np.ndarray, betas: np.ndarray) -> None:
    """Fit himalaya's RidgeCV, whose folds are each decomposed once for all voxels."""
    from himalaya.ridge import RidgeCV as ByFolds

    x = (features - features.mean(0)) / features.std(0)
    ByFolds(alphas=ALPHAS, cv=5).fit(x, betas)


def differences(model: xr.Dataset, features: np.ndarray, betas: np.ndarray) -> Iterator[Figure]:
    """How far a model is from scikit-learn's."""
    x = (features.astype(np.float64) - features.mean(0, np.float64)) / features.std(0, np.float64)
    exact = RidgeCV(ALPHAS, alpha_per_target=True).fit(x, betas.astype(np.float64))
    other = int((model["alpha"].values != exact.alpha_).sum())
    yield Figure(f"penalties that RidgeCV does not choose, of {betas.shape[1]:,} voxels", other, "")
    off = np.abs(model["weights"].values - exact.coef_.T).max() / np.abs(exact.coef_).max()
    yield Figure("largest difference of weights from RidgeCV's", off, "× largest weight")


def figures(root: Path, size: Size) -> Iterator[Figure]:
    """All figures of the table, in order."""
    made = np.load(root / "made.npz")
    features, betas = made["features"], made["betas"]
    given = xr.DataArray(features, {"image": np.arange(len(features))}, ("image", "feature"))
    lazy = da.from_array(betas, chunks=(-1, size.block))
    wanted = xr.DataArray(lazy, {"image": np.arange(len(betas))}, ("image", "voxel"))

    def fit() -> Any:
        return fit_encoding(given, wanted)["weights"].compute(scheduler="single-threaded")

    works = {"fit": fit, "one": lambda: one_decomposition(features, betas)}
    if find_spec("himalaya"):
        works["folds"] = lambda: himalaya(features, betas)
    times = side_by_side(works, size.runs, min)
    what = f"{size.images:,} images × {size.features:,} features"
    for n_voxels in (size.voxels // 4, size.voxels):
        part = fit_encoding(given, wanted[:, :n_voxels])["weights"]
        seconds = times["fit"] if n_voxels == size.voxels else timed(part.compute)
        yield Figure(f"fit_encoding, {what}, {n_voxels:,} voxels: time", seconds, "s")
    yield Figure(f"one float32 decomposition, {size.voxels:,} voxels: time", times["one"], "s")
    yield Figure("fit_encoding", times["fit"] / times["one"], "× one float32 decomposition", 1.5)
    if "folds" in times:
        yield Figure("himalaya, cv=5", times["folds"] / times["one"], "× one float32 decomposition")
    every = slice(None, None, max(1, size.voxels // size.compared))
    yield from differences(
        fit_encoding(given, wanted[:, every]).compute(), features, betas[:, every]
    )


if __name__ == "__main__":
    measure_in_folder(__doc__, SIZES, "made.npz", make, figures)
