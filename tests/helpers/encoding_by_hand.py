"""Ridge regressions solved voxel by voxel, fold by fold, in numpy; and data that suit them."""

from __future__ import annotations

import numpy as np
import xarray as xr

ALPHAS = (0.5, 20.0, 300.0)
# Solved in float64 by both, kept as float32: 6e-8 of weights of the size of one.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def standardized(values, like):
    """Z-scores by the mean and deviation of others; what does not vary there is 0."""
    like = like.astype(np.float64)
    deviation = like.std(axis=0)
    deviation[np.ptp(like, axis=0) == 0] = np.inf
    return (values - like.mean(axis=0)) / deviation


def ridge(x, y, alpha):
    """Weights and intercept in closed form; x need not be centred."""
    centred = x - x.mean(axis=0)
    inverse = np.linalg.inv(centred.T @ centred + alpha * np.eye(x.shape[1]))
    weights = inverse @ centred.T @ (y - y.mean())
    return weights, y.mean() - x.mean(axis=0) @ weights


def model_of(features, betas, alphas):
    """The model of each voxel: one image left out at a time, for each penalty."""
    x = standardized(features, features)
    found = []
    for y in betas.astype(np.float64).T:
        if np.isnan(y).any():
            found.append((np.full(x.shape[1], np.nan), np.nan, np.nan))
            continue
        errors = []
        for alpha in alphas:
            squared = []
            for left in range(len(x)):
                others = np.arange(len(x)) != left
                weights, intercept = ridge(x[others], y[others], alpha)
                squared.append((x[left] @ weights + intercept - y[left]) ** 2)
            errors.append(np.mean(squared))
        best = alphas[int(np.argmin(errors))]
        found.append((*ridge(x, y, best), best))
    weights, intercept, alpha = (np.array(part) for part in zip(*found, strict=True))
    return weights.T, intercept, alpha


def made_up(n_images=19, n_features=5, n_voxels=7, seed=0):
    """Features float16 and betas float32 that go together, more or less by voxel."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((n_images, n_features)) * [1, 3, 0.5, 2, 1] + 4).astype(np.float16)
    signal = x.astype(np.float64) @ rng.standard_normal((n_features, n_voxels))
    noise = rng.standard_normal((n_images, n_voxels)) * np.linspace(0.2, 12, n_voxels)
    images = [f"image_{n:02}" for n in rng.permutation(n_images)]
    features = xr.DataArray(x, {"image": images}, ("image", "feature"))
    labels = {"image": images, "voxel": 3 * np.arange(n_voxels), "x": ("voxel", np.ones(n_voxels))}
    betas = xr.DataArray((signal + noise).astype(np.float32), labels, ("image", "voxel"))
    return features, betas.assign_attrs(units="standard deviations")


def forms(features, betas):
    return {
        "in memory": (features, betas),
        "in blocks": (features.chunk({"image": 4}), betas.chunk({"image": 5, "voxel": 3})),
        "betas lazy": (features, betas.chunk({"voxel": 2})),
        "features lazy": (features.chunk({"feature": 2}), betas),
        "the other way round": (features.T, betas.T),
    }
