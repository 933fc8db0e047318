"""Distances between images against `numpy.corrcoef`, p-values against loops."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from laion_zarr.analysis import dissimilarity, permutation_pvalue, rdm

# float32 results of sums in float64: half a unit in the last place of numbers up to 2.
CLOSE = {"rtol": 0, "atol": 2.5e-7}


def distances(values):
    """1 − Pearson over voxels without NaN, pair by pair."""
    values = values[:, [not np.isnan(column).any() for column in values.T]].astype(np.float64)
    found = np.full((len(values),) * 2, np.nan)
    for i, first in enumerate(values):
        for j, second in enumerate(values):
            if len(first) > 2 and np.ptp(first) > 0 and np.ptp(second) > 0:
                found[i, j] = 0 if i == j else 1 - np.corrcoef(first, second)[0, 1]
    return found


def some_betas(n_images=7, n_voxels=23, seed=0):
    rng = np.random.default_rng(seed)
    values = (rng.standard_normal((n_images, n_voxels)) + 3).astype(np.float32)
    labels = {"image": [f"i{n}" for n in range(n_images)], "voxel": 5 + 2 * np.arange(n_voxels)}
    return xr.DataArray(values, labels, ("image", "voxel"))


def forms(betas):
    return {
        "in memory": betas,
        "in blocks": betas.chunk({"image": 3, "voxel": 4}),
        "the other way round": betas.chunk({"voxel": 5}).transpose("voxel", "image"),
    }


@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
def test_rdm_of_all_voxels(block_bytes, monkeypatch):
    monkeypatch.setattr(dissimilarity, "_BLOCK_BYTES", block_bytes)
    betas = some_betas()
    betas[2, 4] = betas[:, 9] = np.nan
    for what, given_betas in forms(betas).items():
        found = rdm(given_betas)
        assert dask.is_dask_collection(found.data) == dask.is_dask_collection(given_betas.data)
        assert found.dims == ("image", "image_other")
        assert found["image_other"].values.tolist() == betas["image"].values.tolist()
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, distances(betas.values), **CLOSE, err_msg=what)
        assert (np.diag(found) == 0).all()
        assert (found.values == found.values.T).all()


def test_rdm_by_roi_joins_by_voxel_label():
    betas = some_betas()
    betas[1, 3] = np.nan
    rng = np.random.default_rng(1)
    masks = np.array([rng.random(23) < 0.5, np.ones(23, bool), np.zeros(23, bool)])
    labels = {
        "roi": ["A", "all", "none"],
        "voxel": betas["voxel"],
        "category": ("roi", list("xyz")),
    }
    roi_mask = xr.DataArray(masks, labels, ("roi", "voxel"))
    # Of more voxels than betas has, in another order.
    further = xr.DataArray(np.ones((3, 2), bool), {"voxel": [0, 99]}, ("roi", "voxel"))
    shuffled = xr.concat([roi_mask, further], "voxel").isel(voxel=rng.permutation(25))
    for what, given_betas in forms(betas).items():
        found = rdm(given_betas, shuffled)
        assert dask.is_dask_collection(found.data) == dask.is_dask_collection(given_betas.data)
        assert found.dims == ("roi", "image", "image_other")
        assert found["category"].values.tolist() == list("xyz")
        for row, mask in zip(found, masks, strict=True):
            np.testing.assert_allclose(row, distances(betas.values[:, mask]), **CLOSE, err_msg=what)


def test_rdm_of_what_cannot_be_compared():
    betas = some_betas(5, 8)
    betas[3] = 0.1  # sums of it round
    found = rdm(betas)
    assert np.isnan(found[3]).all()
    np.testing.assert_allclose(found, distances(betas.values), **CLOSE)
    assert np.isnan(rdm(betas[:, :2])).all()
    betas[0] = np.nan
    assert np.isnan(rdm(betas)).all()


def test_rdm_of_a_subject(sub):
    regions = ["V1v", "FFA1", "hV4"]
    betas = sub.get_image_betas(roi=regions)
    roi_mask = sub.dataset["roi_mask"].sel(roi=regions)
    found = rdm(betas, roi_mask)
    values = betas.to_pandas()
    for name in regions:
        inside = set(roi_mask["voxel"].values[roi_mask.sel(roi=name).values])
        own = values[[voxel for voxel in values if voxel in inside]].to_numpy()
        np.testing.assert_allclose(found.sel(roi=name), distances(own), **CLOSE)
    trials = rdm(sub.get_betas(roi="V1v"))
    assert trials.dims == ("trial", "trial_other")
    np.testing.assert_allclose(trials, distances(sub.get_betas(roi="V1v").values), **CLOSE)


numbers = st.integers(-1000, 1000).map(lambda n: n / 8)  # exact in float32, sums too


@given(
    values=arrays(np.float32, (4, 9), elements=numbers),
    scale=st.sampled_from([0.25, 2.0, 8.0]),
    offset=st.integers(-500, 500),
    order=st.permutations(range(9)),
)
def test_rdm_is_of_patterns_alone(values, scale, offset, order):
    """Neither scale and offset of an image nor the order of voxels counts."""
    betas = xr.DataArray(values, dims=("image", "voxel"))
    changed = betas.copy(data=values[:, order])
    changed[1] = changed[1] * np.float32(scale) + offset
    np.testing.assert_allclose(rdm(changed), rdm(betas), **CLOSE)
    np.testing.assert_allclose(rdm(betas), distances(values), **CLOSE)


def test_wrong_betas_and_masks():
    betas = some_betas()
    with pytest.raises(ValueError, match=r"must be \(image, voxel\) or .* got \('voxel',\)"):
        rdm(betas[0])
    mask = xr.DataArray(np.ones((1, 22), bool), {"voxel": betas["voxel"][1:]}, ("roi", "voxel"))
    with pytest.raises(ValueError, match=r"roi_mask lacks 1 of the 23 .* 22 such as 7"):
        rdm(betas, mask)
    with pytest.raises(ValueError, match="must be boolean, with one ROI or more; got int64"):
        rdm(betas, mask.astype(np.int64))


# -- p-values


def p_of(observed, permuted, two_sided):
    """One p-value, by counting the permutations."""
    if np.isnan(observed):
        return np.nan
    drawn = [value for value in permuted if not np.isnan(value)]
    if two_sided:
        observed, drawn = abs(observed), [abs(value) for value in drawn]
    return (1 + sum(value >= observed for value in drawn)) / (1 + len(drawn))


some_values = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0, np.nan])


@given(
    observed=arrays(np.float32, (3, 2), elements=some_values),
    permuted=arrays(np.float32, (3, 11, 2), elements=some_values),
    two_sided=st.booleans(),
)
def test_pvalues(observed, permuted, two_sided):
    expected = [
        [p_of(observed[i, j], permuted[i, :, j], two_sided) for j in range(2)] for i in range(3)
    ]
    labels = {"roi": list("abc"), "voxel": [4, 9]}
    statistic = xr.DataArray(observed, labels, ("roi", "voxel"))
    drawn = xr.DataArray(permuted, labels, ("roi", "permutation", "voxel"))
    found = permutation_pvalue(statistic, drawn, two_sided=two_sided)
    assert found.dims == statistic.dims
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected)
    # In any order, lazily.
    again = permutation_pvalue(
        statistic.chunk({"roi": 2}), drawn[:, ::-1].chunk({"permutation": 4}), two_sided=two_sided
    )
    assert dask.is_dask_collection(again.data)
    np.testing.assert_array_equal(again, expected)


def test_pvalues_join_by_label():
    statistic = xr.DataArray([1.0, 2], {"voxel": [1, 2]}, ("voxel",))
    drawn = xr.DataArray(np.zeros((5, 2)), {"voxel": [1, 3]}, ("draw", "voxel"))
    with pytest.raises(ValueError, match="cannot align"):
        permutation_pvalue(statistic, drawn, "draw")
    with pytest.raises(ValueError, match=r"the dims of observed, .* and 'permutation'; got"):
        permutation_pvalue(statistic, drawn)
