"""Encoding models against ridge regressions solved voxel by voxel, fold by fold, in numpy."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr
from encoding_by_hand import ALPHAS, CLOSE, forms, made_up, model_of, standardized

from laion_zarr import load_stimuli
from laion_zarr.analysis import encoding, fit_encoding, permutation_pvalue, predict, score

EMPTY = np.empty((0, 0), dtype=np.float32)


@pytest.mark.parametrize("shape", [(19, 5, 7), (4, 5, 3), (11, 5, 1)])
@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
def test_fit(shape, block_bytes, monkeypatch):
    monkeypatch.setattr(encoding, "_BLOCK_BYTES", block_bytes)
    features, betas = made_up(*shape)
    expected = model_of(features.values, betas.values, ALPHAS)
    for what, given in forms(features, betas).items():
        model = fit_encoding(*given, alphas=ALPHAS)
        for name, values in zip(("weights", "intercept", "alpha"), expected, strict=True):
            assert dask.is_dask_collection(model[name].data) == dask.is_dask_collection(
                given[1].data
            )
            np.testing.assert_allclose(model[name], values, **CLOSE, err_msg=f"{what}: {name}")
        assert model["weights"].dims == ("feature", "voxel")
        assert model["weights"].dtype == model["intercept"].dtype == np.float32
        assert model["voxel"].equals(betas["voxel"])
        assert model["x"].dims == ("voxel",)
        assert model.attrs == {"n_images": shape[0], "n_images_left_out": 0}
    if shape == (19, 5, 7):  # voxels choose for themselves
        assert len(set(expected[2])) > 1


def test_joined_by_image():
    features, betas = made_up()
    expected = fit_encoding(features[2:12], betas[2:12], ALPHAS)
    rng = np.random.default_rng(1)
    for order in (rng.permutation(17), np.arange(17)):
        found = fit_encoding(features[2:].isel(image=order), betas[:12], ALPHAS)
        xr.testing.assert_allclose(found.drop_attrs(), expected.drop_attrs(), **CLOSE)
        assert found.attrs == {"n_images": 10, "n_images_left_out": 2}


@pytest.mark.parametrize("lazy", [False, True])
def test_images_without_features_are_left_out(lazy):
    features, betas = made_up()
    expected = fit_encoding(features[3:], betas[3:], ALPHAS)
    features[0] = np.nan
    features[1:3, 2] = np.nan
    if lazy:
        features, betas = features.chunk({"image": 4}), betas.chunk({"voxel": 4})
    found = fit_encoding(features, betas, ALPHAS)
    xr.testing.assert_allclose(found.drop_attrs(), expected.drop_attrs(), **CLOSE)
    assert found.attrs == {"n_images": 16, "n_images_left_out": 3}
    predicted = predict(found, features)
    assert np.isnan(predicted[:3]).all()
    assert not np.isnan(predicted[3:]).any()


@pytest.mark.parametrize("lazy", [False, True])
def test_voxels_with_nan_have_no_model(lazy):
    features, betas = made_up()
    expected = fit_encoding(features, betas, ALPHAS)
    betas[4, 1] = betas[:, 6] = np.nan
    found = fit_encoding(features, betas.chunk({"voxel": 3}) if lazy else betas, ALPHAS)
    for name in ("weights", "intercept", "alpha"):
        assert np.isnan(found[name].isel(voxel=[1, 6])).all()
        others = {"voxel": [0, 2, 3, 4, 5]}
        np.testing.assert_allclose(found[name].isel(others), expected[name].isel(others), **CLOSE)
    scores = score(found, features, betas, xr.full_like(betas[0], 50))
    assert np.isnan(scores["correlation"]).values.tolist() == [False, True, *[False] * 4, True]
    betas[:] = np.nan
    assert np.isnan(fit_encoding(features, betas)["weights"]).all()


def test_a_feature_that_does_not_vary_counts_for_nothing():
    features, betas = made_up()
    features[:, 3] = np.float16(0.1)
    model = fit_encoding(features, betas, ALPHAS)
    weights, _, _ = model_of(features.values, betas.values, ALPHAS)
    np.testing.assert_allclose(model["weights"], weights, **CLOSE)
    np.testing.assert_allclose(model["weights"][3], 0, atol=1e-12)
    later = features.copy()
    later[0, 3] = 100
    np.testing.assert_allclose(predict(model, later), predict(model, features), atol=1e-5)


def test_prediction():
    features, betas = made_up()
    train, test = slice(0, 12), slice(12, None)
    weights, intercept, _ = model_of(features.values[train], betas.values[train], ALPHAS)
    # Standardized by the images trained on: whatever else is predicted changes nothing.
    scaled = standardized(features.values[test], features.values[train])
    expected = scaled @ weights + intercept
    for what, given in forms(features, betas).items():
        model = fit_encoding(given[0], given[1].isel(image=train), ALPHAS)
        found = predict(model, given[0].isel(image=test))
        assert found.dims == ("image", "voxel")
        assert found.dtype == np.float32
        assert found.attrs["units"] == "standard deviations"
        lazy = any(dask.is_dask_collection(part.data) for part in given)
        assert dask.is_dask_collection(found.data) == lazy
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=what)
        alone = predict(model, given[0].isel(image=[14]))
        np.testing.assert_allclose(alone[0], expected[2], rtol=1e-5, atol=1e-5)


def test_features_by_name():
    features, betas = made_up()
    named = features.assign_coords(feature=list("abcde"))
    model = fit_encoding(named, betas, ALPHAS)
    expected = predict(model, features)
    # Sums of float32 in another order.
    np.testing.assert_allclose(predict(model, named[:, [3, 1, 0, 2, 4]]), expected, rtol=1e-5)
    unnamed = fit_encoding(features, betas, ALPHAS)
    np.testing.assert_array_equal(predict(unnamed, named), expected)
    with pytest.raises(ValueError, match="trained on 5 features, not on these 4"):
        predict(model, features[:, 1:])
    with pytest.raises(ValueError, match="trained on 5 features, not on these 5"):
        predict(model, named.assign_coords(feature=list("abcdf")))


def test_nothing_of_the_test_images_is_in_a_score():
    features, betas = made_up()
    model = fit_encoding(features[:12], betas[:12], ALPHAS)
    expected = score(model, features[12:], betas[12:])
    changed, other = features.copy(), betas.copy()
    changed[12:], other[12:] = 7 * features[12:], -betas[12:]
    again = fit_encoding(changed, other[:12], ALPHAS)
    xr.testing.assert_identical(again, model.assign_attrs(again.attrs))
    np.testing.assert_allclose(
        score(again, features, other[12:])["correlation"], -expected["correlation"], rtol=1e-6
    )


def test_scores():
    features, betas = made_up()
    train, test = slice(0, 9), slice(9, None)
    ceiling = xr.DataArray(
        [80, 50, 0, np.nan, 20, 10, 100, 30.0], {"voxel": [0, 3, 6, 9, 12, 15, 18, 99]}, ("voxel",)
    )
    betas[10, 4] = np.nan
    for what, given in forms(features, betas).items():
        model = fit_encoding(given[0], given[1].isel(image=train), ALPHAS)
        found = score(model, given[0], given[1].isel(image=test), ceiling[::-1])
        lazy = dask.is_dask_collection(given[1].data)
        assert dask.is_dask_collection(found["explained"].data) >= lazy
        predicted = predict(model, features[test]).values
        for n, (own, measured) in enumerate(zip(predicted.T, betas.values[test].T, strict=True)):
            known = ~np.isnan(measured)
            r = np.corrcoef(own[known], measured[known])[0, 1]
            np.testing.assert_allclose(found["correlation"][n], r, rtol=1e-5, err_msg=what)
            explained = np.nan if n in (2, 3) else r**2 / (ceiling.values[n] / 100)
            np.testing.assert_allclose(found["explained"][n], explained, rtol=1e-5, err_msg=what)
    # By voxel label, in the order of the betas.
    some = score(model, features, betas[test, [5, 1, 0]])
    xr.testing.assert_allclose(some, found[["correlation"]].isel(voxel=[5, 1, 0]))
    with pytest.raises(ValueError, match="noise_ceiling lacks 1 of the 7 voxel labels"):
        score(model, features, betas, ceiling[1:])
    with pytest.raises(ValueError, match=r"noise_ceiling must be .* got \('nc', 'voxel'"):
        score(model, features, betas, ceiling.expand_dims("nc"))


def test_pvalues_of_a_score():
    """The recipe of `permutation_pvalue`: predictions against images in another order."""
    features, betas = made_up(60, 5, 7)
    betas -= betas.mean("image")
    model = fit_encoding(features[:30], betas[:30], ALPHAS)
    predicted, measured = predict(model, features[30:]), betas[30:]
    rng = np.random.default_rng(0)
    orders = [rng.permutation(30) for _ in range(199)]
    z, b = ((v - v.mean("image")) / v.std("image") for v in (predicted, measured))
    permuted = [(z * b.values[order]).mean("image") for order in orders]
    direct = score(model, features, measured.copy(data=measured.values[orders[4]]))
    np.testing.assert_allclose(permuted[4], direct["correlation"], atol=1e-5)
    found = permutation_pvalue(
        score(model, features, measured)["correlation"], xr.concat(permuted, "permutation")
    )
    assert found["voxel"].equals(betas["voxel"])
    assert found[0] == 1 / 200  # that with the least noise


def test_a_subject_of_the_store(sub, store, with_counted_fits):
    """Lazy from store to score; each block of voxels is fitted once, however it is used."""
    features = load_stimuli(store=store).embeddings["CLIP"]
    betas = sub.get_image_betas(roi="retinotopy")
    train, test = np.arange(len(betas)) % 3 > 0, np.arange(len(betas)) % 3 == 0
    model = fit_encoding(features, betas[train], ALPHAS)
    ceiling = sub.get_noise_ceiling(desc="NoiseceilingAllrep")
    found = score(model, features, betas[test], ceiling)
    assert dask.is_dask_collection(found["correlation"].data)
    assert with_counted_fits == []
    found = dask.compute(found, model)[0]
    assert len(with_counted_fits) == model["alpha"].data.numblocks[0] > 1
    rows = features.to_pandas().loc[betas["image"].values].to_numpy()
    keep = train & ~np.isnan(rows).any(axis=1)
    weights, intercept, _ = model_of(rows[keep], betas.values[keep], ALPHAS)
    predicted = standardized(rows, rows[keep]) @ weights + intercept
    tested = test & ~np.isnan(rows).any(axis=1)
    assert tested.sum() > 2
    for n, (own, measured) in enumerate(zip(predicted.T, betas.values.T, strict=True)):
        r = np.corrcoef(own[tested], measured[tested])[0, 1]
        np.testing.assert_allclose(found["correlation"][n], r, rtol=1e-3, atol=1e-4)


def test_betas_are_left_alone_until_asked_for():
    features, betas = made_up()

    def refuse(block):
        raise AssertionError("betas were computed")

    lazy = betas.copy(
        data=betas.chunk({"voxel": 2}).data.map_blocks(refuse, dtype="f4", meta=EMPTY)
    )
    model = fit_encoding(features, lazy[:12], ALPHAS)
    assert model["feature_mean"].dtype == np.float64
    found = score(model, features, lazy[12:], xr.full_like(betas[0], 50))
    with pytest.raises(AssertionError, match="betas were computed"):
        found.compute()


@pytest.fixture
def with_counted_fits(monkeypatch):
    """Shapes of the blocks that are fitted, three voxels each."""
    fitted, fit = [], encoding._fit
    monkeypatch.setattr(encoding, "_BLOCK_BYTES", 200)
    monkeypatch.setattr(
        encoding, "_fit", lambda betas, *others: fitted.append(betas.shape) or fit(betas, *others)
    )
    return fitted


@pytest.mark.parametrize("shape", [(60, 20), (40, 200), (30, 30), (31, 30), (32, 30), (300, 290)])
def test_penalties_are_those_of_exact_leave_one_out_errors(shape):
    """Against scikit-learn, in float64: features fewer than images, more, and as many."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(3)
    features = rng.standard_normal(shape) * np.logspace(0, -3, shape[1])
    features[:, 1] = features[:, 0] + 1e-6 * features[:, 1]  # nearly the same twice
    signal = features @ rng.standard_normal((shape[1], 50))
    betas = (signal + rng.standard_normal((shape[0], 50)) * np.logspace(-3, 2, 50)).astype("f4")
    alphas = np.logspace(-3, 6, 19)
    scaled = (features - features.mean(0)) / features.std(0)
    exact = linear_model.RidgeCV(alphas, alpha_per_target=True).fit(scaled, betas)
    images = {"image": np.arange(shape[0])}
    model = fit_encoding(
        xr.DataArray(features, images, ("image", "feature")),
        xr.DataArray(betas, images, ("image", "voxel")).chunk({"voxel": 20}),
        alphas,
    ).compute()
    np.testing.assert_array_equal(model["alpha"], exact.alpha_)
    assert len(set(exact.alpha_)) > 4
    largest = np.abs(exact.coef_).max()
    np.testing.assert_allclose(model["weights"].T, exact.coef_, rtol=2e-7, atol=1e-6 * largest)


def test_features_are_decomposed_once(monkeypatch, with_counted_fits):
    decomposed, decompose = [], encoding._decomposed
    monkeypatch.setattr(
        encoding, "_decomposed", lambda *given: decomposed.append(1) or decompose(*given)
    )
    features, betas = made_up()
    model = fit_encoding(features, betas.chunk({"voxel": 2}), ALPHAS)
    assert not decomposed
    model.compute()
    assert decomposed == [1]
    assert len(with_counted_fits) > 1


def test_wrong_arguments():
    features, betas = made_up()
    with pytest.raises(ValueError, match=r"features must be \('image', 'feature'\), got"):
        fit_encoding(features.rename(feature="unit"), betas)
    with pytest.raises(ValueError, match=r"betas must be \('image', 'voxel'\), got \('voxel',\)"):
        fit_encoding(features, betas[0])
    with pytest.raises(ValueError, match="alphas must be positive numbers, one or more; got"):
        fit_encoding(features, betas, alphas=[1, 0])
    with pytest.raises(ValueError, match="alphas must be positive numbers, one or more; got"):
        fit_encoding(features, betas, alphas=[])
    with pytest.raises(ValueError, match=r"'image' there must be labels, .* got labels that come"):
        fit_encoding(features, betas.isel(image=[0, 1, 1]))
    with pytest.raises(ValueError, match=r"'image' there must be labels, .* got none"):
        fit_encoding(features.drop_vars("image"), betas)
    elsewhere = features.assign_coords(image=[f"other_{n}" for n in range(19)])
    with pytest.raises(ValueError, match="No image is in both: 19 such as 'other_0' on one side"):
        fit_encoding(elsewhere, betas)
    with pytest.raises(ValueError, match="No voxel is in both"):
        score(fit_encoding(features, betas), features, betas.assign_coords(voxel=betas.voxel + 1))
    features[2:] = np.nan
    features[0] = np.nan
    with pytest.raises(ValueError, match="1 of the 19 images of betas have features"):
        fit_encoding(features, betas)
