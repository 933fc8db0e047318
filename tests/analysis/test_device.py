"""Encoding models by scikit-learn on PyTorch tensors, against those of the CPU by numpy."""

from __future__ import annotations

import os

import numpy as np
import pytest
import xarray as xr
from encoding_by_hand import ALPHAS, CLOSE, forms, made_up

from laion_zarr.analysis import device, fit_encoding, predict, score

torch = pytest.importorskip("torch")
if os.environ.get("SCIPY_ARRAY_API") != "1":
    pytest.skip("SCIPY_ARRAY_API=1 was not set before Python started", allow_module_level=True)


@pytest.mark.parametrize("shape", [(19, 5, 7), (4, 5, 3), (11, 5, 1), (9, 5, 0)])
@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
def test_fit(shape, block_bytes, monkeypatch):
    monkeypatch.setattr("laion_zarr.analysis.encoding.BLOCK_BYTES", block_bytes)
    features, betas = made_up(*shape)
    if shape[2] > 2:
        betas[3, 1] = np.nan
    expected = fit_encoding(features, betas, ALPHAS)
    for what, given in forms(features, betas).items():
        found = fit_encoding(*given, alphas=ALPHAS, device="cpu")
        lazy = given[1].chunks is not None
        assert (found["weights"].chunks is not None) == lazy, what
        np.testing.assert_array_equal(found["alpha"], expected["alpha"], err_msg=what)
        xr.testing.assert_allclose(found, expected, **CLOSE)
        assert found.attrs == expected.attrs


@pytest.mark.parametrize("chunks", [None, {"voxel": 2}])
def test_predict_and_score(chunks):
    features, betas = made_up()
    if chunks:
        betas = betas.chunk(chunks)
    features[2] = np.nan
    model = fit_encoding(features[:9], betas[:9], ALPHAS)
    for given in (features, features.chunk({"image": 4, "feature": 2})):
        expected, found = predict(model, given), predict(model, given, device="cpu")
        xr.testing.assert_allclose(found, expected, **CLOSE)
        assert found.dims == expected.dims
        assert found.dtype == expected.dtype == np.float32
    scores = score(model, features[9:], betas[9:], device="cpu")
    xr.testing.assert_allclose(scores, score(model, features[9:], betas[9:]), **CLOSE)


def test_a_device_that_is_not_there():
    features, betas = made_up()
    missing = "xpu" if torch.cuda.is_available() else "cuda"
    with pytest.raises(RuntimeError, match=f"cannot use device='{missing}': Torch not compiled"):
        fit_encoding(features, betas, device=missing)
    model = fit_encoding(features, betas)
    for ask in (
        lambda: predict(model, features, device="tpu"),
        lambda: score(model, features, betas, device="tpu"),
    ):
        with pytest.raises(RuntimeError, match=r"cannot use device='tpu'.*leave out device"):
            ask()


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.delenv("SCIPY_ARRAY_API")
    with pytest.raises(RuntimeError, match="export SCIPY_ARRAY_API=1"):
        device.check_device("cpu")
    monkeypatch.setattr("sklearn.linear_model.RidgeCV", object)
    with pytest.raises(ImportError, match=r"scikit-learn .* CPU only.*scikit-learn>=1\.9"):
        device.check_device("cpu")
