"""Measures `fit_encoding` on a GPU beside scikit-learn's RidgeCV there by itself.

Run ``SCIPY_ARRAY_API=1 python benchmarks/gpu.py [--size full|tiny] [--json FILE]``. Betas and
features are made up in memory, as in ``encoding.py``; the betas of the whole brain (275,000 voxels)
are those of 27,500 voxels ten times. *RidgeCV by itself* is fitted to blocks of as many voxels from
memory, and nothing but its weights is kept. Where there is no GPU, the CPU is measured in its
place, and the table says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import torch
import xarray as xr
from encoding import ALPHAS, Size, differences, make
from measure import Figure, measure_in_folder, side_by_side
from sklearn import config_context
from sklearn.linear_model import RidgeCV

from laion_zarr.analysis import fit_encoding, predict
from laion_zarr.analysis.device import BLOCK_BYTES

COPIES = 10
SIZES = {"full": Size(5833, 1024, 27500, 2048, 512, 3), "tiny": Size(60, 8, 40, 16, 40, 1)}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAME = torch.cuda.get_device_name() if DEVICE == "cuda" else "CPU, there is no GPU here"


def by_itself(features: np.ndarray, betas: np.ndarray) -> np.ndarray:
    """Weights of the betas `COPIES` times, by RidgeCV on tensors, (voxel, feature)."""
    scaled = (features - features.mean(0)) / features.std(0)
    width, found = max(1, BLOCK_BYTES // (8 * len(betas))), []
    with config_context(array_api_dispatch=True):
        for _ in range(COPIES):
            for lo in range(0, betas.shape[1], width):
                x = torch.tensor(scaled, device=DEVICE)
                y = torch.tensor(betas[:, lo : lo + width], device=DEVICE)
                found.append(RidgeCV(ALPHAS, alpha_per_target=True).fit(x, y).coef_.cpu().numpy())
    return np.concatenate(found)


def figures(root: Path, size: Size) -> Iterator[Figure]:
    """All figures of the table, in order."""
    made = np.load(root / "made.npz")
    features, betas = made["features"], made["betas"]
    given = xr.DataArray(features, {"image": np.arange(len(features))}, ("image", "feature"))

    def lazily(copies: int) -> xr.DataArray:
        blocks = [da.from_array(betas, chunks=(-1, size.block))] * copies
        return xr.DataArray(da.concatenate(blocks, 1), given.coords, ("image", "voxel"))

    def fit(copies: int, device: str | None = DEVICE) -> Any:
        return fit_encoding(given, lazily(copies), device=device)["weights"].compute()

    times = side_by_side(
        {
            "whole": lambda: fit(COPIES),
            "itself": lambda: by_itself(features, betas),
            "part": lambda: fit(1),
            "cpu": lambda: fit(1, None),
        },
        size.runs,
        min,
    )
    n_voxels, what = betas.shape[1], f"{size.images:,} images × {size.features:,} features"
    yield Figure(f"fit, {what}, {n_voxels:,} voxels on {NAME}", times["part"], "s")
    yield Figure(f"fit, {COPIES * n_voxels:,} voxels on {NAME}", times["whole"], "s")
    yield Figure("the same", times["whole"] / times["itself"], "× RidgeCV by itself", 2)
    growth = times["whole"] / times["part"] / COPIES
    yield Figure(f"{COPIES} × the voxels", growth, f"× {COPIES} × the time", 1.2)
    yield Figure(f"{n_voxels:,} voxels without device", times["cpu"] / times["part"], "× with")
    model = fit_encoding(given, lazily(1), device=DEVICE).compute()
    predictions = side_by_side(
        {"device": lambda: predict(model, given, DEVICE), "numpy": lambda: predict(model, given)},
        size.runs,
        min,
    )
    ratio = predictions["numpy"] / predictions["device"]
    yield Figure("predict without device", ratio, "× with")
    every = slice(None, None, max(1, size.voxels // size.compared))
    yield from differences(model.isel(voxel=every), features, betas[:, every])


if __name__ == "__main__":
    measure_in_folder(__doc__, SIZES, "made.npz", make, figures)
