"""Ridge regressions and predictions on another device than the CPU, such as a GPU.

scikit-learn computes, on PyTorch tensors (https://scikit-learn.org/stable/modules/array_api.html).
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

from laion_zarr.errors import needs

# Betas of a block in float64. A fit holds about six arrays of this size on the device, and
# decomposes the features again for each block.
BLOCK_BYTES = 1 << 30
# One block at a time is on the device, while other threads read the next ones.
_TURN = threading.Lock()


def check_device(device: str) -> None:
    """Raise an error that says what to do, unless scikit-learn can compute on a device.

    Raises
    ------
    ImportError
        If PyTorch or scikit-learn is missing, or too old.
    RuntimeError
        If the device is not there, or SciPy was not told to take its arrays.
    """
    needs("torch", "torch")
    needs("analysis", "sklearn")
    import scipy
    import sklearn
    import torch
    from sklearn.linear_model import RidgeCV

    tags = RidgeCV().__sklearn_tags__() if hasattr(RidgeCV, "__sklearn_tags__") else None
    if tags is None or not tags.array_api_support:
        raise ImportError(
            f"scikit-learn {sklearn.__version__} fits ridge regressions on the CPU only. "
            'For device=, install a newer one: pip install "scikit-learn>=1.9".'
        )
    if os.environ.get("SCIPY_ARRAY_API") != "1":
        raise RuntimeError(
            f"SciPy {scipy.__version__} was imported without support for arrays on a device. Set "
            "SCIPY_ARRAY_API=1 before Python starts (export SCIPY_ARRAY_API=1; in a notebook, "
            "before the kernel starts), also on Dask's workers."
        )
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise RuntimeError(
            f"PyTorch {torch.__version__} cannot use device={device!r}: {reason} Install the "
            "PyTorch that fits the GPU and its driver (https://pytorch.org/get-started), or leave "
            "out device to compute on the CPU."
        ) from error


def fit_on(
    features: np.ndarray, betas: np.ndarray, alphas: np.ndarray, device: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit a ridge regression of each voxel, its penalty chosen by leave-one-image-out errors.

    Parameters
    ----------
    features : numpy.ndarray, (image, feature)
        Standardized features.
    betas : numpy.ndarray, (image, voxel)
        Betas, none of them NaN.
    alphas : numpy.ndarray, (penalty,) float64
        Penalties to choose from.
    device : str
        The device, as PyTorch names it.

    Returns
    -------
    weights, intercept, alpha : numpy.ndarray
        (voxel, feature) float32, (voxel,) float32, (voxel,) float64; computed in float64 where the
        device has it.
    """
    import torch
    from sklearn import config_context
    from sklearn.linear_model import RidgeCV

    check_device(device)  # in the process that computes, which may be a worker's
    model = RidgeCV(alphas, alpha_per_target=betas.shape[1] > 1)
    with _TURN, config_context(array_api_dispatch=True):
        x, y = (torch.tensor(_float32(values), device=device) for values in (features, betas))
        model.fit(x, y)
        weights, intercept = _on_cpu(model.coef_), _on_cpu(model.intercept_)
    shape = (betas.shape[1], features.shape[1])
    # scikit-learn gives one voxel without an axis, and keeps the penalty in the device's float.
    chosen = np.broadcast_to(_on_cpu(model.alpha_), shape[0])
    nearest = np.abs(alphas[:, None] - chosen).argmin(axis=0)
    return weights.reshape(shape), np.reshape(intercept, shape[0]), alphas[nearest]


def product_on(features: np.ndarray, weights: np.ndarray, device: str) -> np.ndarray:
    """Product of features (image, feature) and weights (voxel, feature): (voxel, image) float32."""
    import torch

    check_device(device)
    with _TURN:
        x, w = (torch.tensor(_float32(values), device=device) for values in (features, weights))
        return _on_cpu(w @ x.T)


def _float32(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32)


def _on_cpu(values: Any) -> np.ndarray:
    """A tensor, or a number, as a numpy array."""
    return np.asarray(values.cpu() if hasattr(values, "cpu") else values)
