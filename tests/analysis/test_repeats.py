"""Z-scores, averages and noise ceilings against plain numpy, however the betas are read."""

from __future__ import annotations

import gc
import pickle
import shutil

import dask
import numpy as np
import pytest
import xarray as xr
from places import EXPECTED, SAMPLE
from statistics_by_hand import ceiling_of, means_of, reliability_of, scores

from laion_zarr import _whole, convert, load_subject
from laion_zarr.analysis import (
    average_repeats,
    noise_ceiling,
    repeats,
    split_half_reliability,
    zscore,
)
from laion_zarr.analysis.streams import stream
from laion_zarr.arrays.dask_blocks import source_of

# Sums of float32 betas of some 60 trials; z-scores divide by a deviation of the same size.
CLOSE = {"rtol": 2e-5, "atol": 2e-5}


@pytest.fixture
def betas(sub):
    """All trials of some hundred voxels, NaN among them, and whatever else the release has."""
    whole = sub.get_betas()
    some = np.random.default_rng(0).permutation(whole.sizes["voxel"])[:90]
    lost = np.flatnonzero(np.isnan(whole.values).any(axis=0))[:10]
    mask = np.zeros(whole.sizes["voxel"], dtype=bool)
    mask[[*some, *lost]] = True
    return sub.get_betas(mask=mask)


def forms(betas):
    """Betas in every form that a user may pass: in memory, lazy, with other blocks."""
    return {
        "as read": betas,
        "in other blocks": betas.chunk({"trial": 7, "voxel": 13}),
        "computed": betas + np.float32(0),
        "in memory": betas.compute(),
        "the other way round": betas.transpose("voxel", "trial"),
    }


@pytest.mark.parametrize("by", ["session", "run"])
def test_zscore(betas, by):
    names = ["session", "run"][: 1 + (by == "run")]
    groups = list(zip(*(betas[name].values for name in names), strict=True))
    expected = scores(betas.values, groups)
    for what, given in forms(betas).items():
        found = zscore(given, by)
        assert dask.is_dask_collection(found.data) == dask.is_dask_collection(given.data)
        assert found.dims == given.dims
        assert found.dtype == np.float32
        assert set(found.coords) == set(given.coords)
        values = found.transpose("trial", "voxel").values
        np.testing.assert_allclose(values, expected, **CLOSE, err_msg=what)
    assert betas.attrs["units"] == "percent signal change"


def test_zscore_keeps_blocks_that_hold_sessions(betas):
    assert zscore(betas).chunks == betas.chunks
    assert zscore(betas.chunk({"trial": 7})).chunks[0] == (betas.sizes["trial"],)


def test_what_does_not_vary_has_no_score():
    coords = {"session": ("trial", ["a", "a", "b", "b"]), "image_name": ("trial", list("xyxy"))}
    betas = xr.DataArray([[1.0, 2], [1, 4], [5, 2], [7, 2]], coords, ("trial", "voxel"))
    expected = [[np.nan, -1], [np.nan, 1], [-1, np.nan], [1, np.nan]]
    np.testing.assert_array_equal(zscore(betas), expected)


def test_averages(betas):
    names, expected = means_of(betas.values, betas["image_name"].values.tolist())
    for what, given in forms(betas).items():
        found = average_repeats(given)
        assert found["image"].values.tolist() == names
        np.testing.assert_allclose(
            found.transpose("image", "voxel"), expected, **CLOSE, err_msg=what
        )
        assert found["n_trials"].sum() == betas.sizes["trial"]
        assert found["unique_or_shared"].dims == ("image",)


def test_a_trial_named_twice_counts_twice(sub):
    trials = [7, 3, 3, 40, 41, 7, 7]
    betas = sub.sel(trial=trials, roi="V1v")["betas"]
    assert betas["trial"].values.tolist() == trials
    found = average_repeats(betas)
    assert found["n_trials"].sum() == len(trials)
    _, expected = means_of(betas.values, betas["image_name"].values.tolist())
    np.testing.assert_allclose(found, expected, **CLOSE)
    np.testing.assert_allclose(
        noise_ceiling(betas, None), noise_ceiling(betas.compute(), None), **CLOSE
    )


@pytest.mark.parametrize("stimuli", [None, "shared", "unique"])
@pytest.mark.parametrize("by", ["session", "run", None])
def test_image_betas(sub, by, stimuli):
    betas = sub.get_betas(roi=["V1v", "FFA1"], nc_threshold=5)
    labels = betas["image_name"].values
    values = betas.values
    if by is not None:
        names = ["session", "run"][: 1 + (by == "run")]
        values = scores(values, list(zip(*(betas[name].values for name in names), strict=True)))
    keep = np.array([stimuli is None or label.startswith(stimuli) for label in labels])
    names, expected = means_of(values[keep], labels[keep].tolist())
    found = sub.get_image_betas(["V1v", "FFA1"], None, 5, stimuli, by)
    assert dask.is_dask_collection(found.data)
    assert found["image"].values.tolist() == names
    assert found["voxel"].equals(betas["voxel"])
    assert found.attrs["units"] == (
        "percent signal change" if by is None else "standard deviations"
    )
    counts = [labels.tolist().count(name) for name in names]
    assert found["n_trials"].values.tolist() == counts
    np.testing.assert_allclose(found, expected, **CLOSE)
    # A part of it is what it is in the whole.
    some = found.isel(image=[3, 1, 2], voxel=slice(2, 9))
    np.testing.assert_allclose(some, expected[[3, 1, 2], 2:9], **CLOSE)


def test_image_betas_kept_in_a_store(sub, tmp_path):
    betas = sub.get_image_betas(roi="face")
    betas.to_zarr(tmp_path / "face.zarr", consolidated=False)
    again = xr.open_dataarray(tmp_path / "face.zarr", engine="zarr", consolidated=False)
    np.testing.assert_array_equal(again, betas)
    assert again["image"].values.tolist() == betas["image"].values.tolist()


@pytest.mark.parametrize("read_bytes", [1, 5_000, 10**9])
def test_image_betas_of_many_voxels_are_kept_in_even_blocks(sub, tmp_path, monkeypatch, read_bytes):
    """Whatever was read together, and of how many regions."""
    whole = sub.get_image_betas(mask_source="rsquare")
    expected = whole.compute()
    monkeypatch.setattr(stream, "READ_BYTES", read_bytes)
    monkeypatch.setattr(repeats, "_BLOCK_BYTES", 4 * len(whole["image"]) * 23)
    betas = sub.get_image_betas(mask_source="rsquare")
    assert set(betas.chunks[1][:-1]) == {20}  # of which slabs are made
    xr.testing.assert_identical(betas.compute(), expected)
    xr.testing.assert_identical(betas[3:9, 20:120].compute(), expected[3:9, 20:120])
    betas.to_zarr(tmp_path / "all.zarr", consolidated=False)
    again = xr.open_dataarray(tmp_path / "all.zarr", engine="zarr", consolidated=False)
    np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize("by", ["session", "run", None])
@pytest.mark.parametrize("subset", [False, True])
def test_noise_ceiling(betas, by, subset):
    labels = betas["image_name"].values
    trials = np.array(["_12rep_" in label for label in labels]) if subset else None
    values = betas.values
    if by is not None:
        names = ["session", "run"][: 1 + (by == "run")]
        values = scores(values, list(zip(*(betas[name].values for name in names), strict=True)))
    keep = slice(None) if trials is None else trials
    expected = ceiling_of(values[keep], labels[keep].tolist())
    assert np.isfinite(expected).sum() > 50
    for what, given in forms(betas).items():
        found = noise_ceiling(given, by, trials)
        assert dask.is_dask_collection(found.data) == dask.is_dask_collection(given.data)
        assert found.dims == ("voxel",)
        assert found["voxel"].equals(betas["voxel"])
        assert "session" not in found.coords
        # In percent, of differences of float32 z-scores.
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3, err_msg=what)


def test_what_does_not_vary_has_no_reliability():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5000, 3)).astype("f4")
    values[:, 1] = 0.1
    labels = np.repeat([f"{n}.jpg" for n in range(2500)], 2)
    betas = xr.DataArray(values, {"image_name": ("trial", labels)}, ("trial", "voxel"))
    found = split_half_reliability(betas, zscore=None)
    np.testing.assert_array_equal(np.isnan(found), [False, True, False])


def test_split_half_reliability(betas):
    values = scores(betas.values, betas["session"].values.tolist())
    expected = reliability_of(values, betas["image_name"].values.tolist())
    assert np.isfinite(expected).sum() > 50
    for what, given in forms(betas).items():
        found = split_half_reliability(given)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4, err_msg=what)


@pytest.mark.parametrize("subject", ["sub-01", "sub-03"])
def test_ceilings_of_the_sample(subject, sample_store):
    sub = load_subject(subject, sample_store)
    for source in ("anatomical", "rsquare"):
        betas = sub.get_betas(mask_source=source)
        labels = betas["image_name"].to_series().reset_index(drop=True)
        often = labels.str.contains("_12rep_").to_numpy()
        for which, trials in {"4rep": ~often, "12rep": often, "Allrep": None}.items():
            agrees(
                noise_ceiling(betas, trials=trials),
                sub.get_noise_ceiling(desc=f"Noiseceiling{which}", mask_source=source),
            )
        for session in sub.get_sessions():
            agrees(
                noise_ceiling(sub.get_betas(session, mask_source=source)),
                sub.get_noise_ceiling(session, mask_source=source),
            )


def agrees(found, released):
    """Ceilings are the release's; what cannot be told is NaN, and 0 there."""
    told = ~np.isnan(found.values)
    assert told.sum() > 4000
    np.testing.assert_allclose(found.values[told], released.values[told], rtol=1e-5, atol=1e-3)
    assert not np.nan_to_num(released.values[~told]).any()


@pytest.fixture(scope="module")
def sample_store(tmp_path_factory):
    if not EXPECTED.is_dir():
        pytest.skip("the sample is absent")
    path = tmp_path_factory.mktemp("sample") / "s.zarr"
    convert(SAMPLE / "data", path, parts=["betas", "anatomy"], progress=False)
    return path


def test_relabelled_sessions_are_scored_as_labelled(betas):
    """The labels decide, not the stored sessions, in whichever order trials are read."""
    for labels in (["all"] * betas.sizes["trial"], betas["run"].values.astype(str)):
        relabelled = betas.assign_coords(session=("trial", np.array(labels, dtype=object)))
        for statistic in (noise_ceiling, split_half_reliability):
            np.testing.assert_allclose(
                statistic(relabelled), statistic(relabelled.compute()), rtol=1e-4, atol=1e-3
            )


def test_the_source_is_known_as_long_as_the_array_is(sub):
    betas = sub.get_betas(roi="V1v")
    source = source_of(betas.data)
    assert source is not None
    del source
    sub.get_betas(roi="V1v")
    gc.collect()
    assert source_of(betas.data) is not None
    sent = pickle.loads(pickle.dumps(betas))
    assert source_of(sent.data) is not None
    for other in (
        betas + 1,
        betas[::-1],
        betas.chunk({"trial": 5}),
        zscore(betas),
        betas.persist(),
    ):
        assert source_of(other.data) is None
    assert source_of(sub.get_image_betas(roi="V1v").data) is None
    assert source_of(betas.values) is None


def test_a_copy_of_the_store_is_not_the_store(store, copy_of):
    first = load_subject("01", store).get_betas(roi="V1v")
    path = copy_of(store)
    second = load_subject("01", path).get_betas(roi="V1v")
    expected = noise_ceiling(second).values
    shutil.rmtree(path)
    np.testing.assert_array_equal(noise_ceiling(first), expected)


def test_trials_are_joined_by_label(sub, betas):
    wanted = sub.metadata["n_reps"] == "12rep"
    expected = noise_ceiling(betas, trials=wanted.to_numpy())
    shuffled = wanted.sample(frac=1, random_state=1)
    labelled = xr.DataArray(shuffled.to_numpy(), {"trial": shuffled.index}, ("trial",))
    for trials in (
        wanted,
        shuffled,
        labelled,
        labelled.drop_vars("trial")[np.argsort(shuffled.index)],
    ):
        np.testing.assert_array_equal(noise_ceiling(betas, trials=trials), expected)
    with pytest.raises(ValueError, match="trials must say one thing of each trial"):
        noise_ceiling(betas, trials=wanted.iloc[1:])


def test_trials_without_labels(betas):
    labels = betas["image_name"].values.copy()
    labels[[3, 9]] = ["", "n/a"]
    unlabelled = betas.assign_coords(image_name=("trial", labels))
    for statistic in (average_repeats, noise_ceiling, split_half_reliability):
        with pytest.raises(ValueError, match="2 trials have no label"):
            statistic(unlabelled)
        statistic(unlabelled[~unlabelled["image_name"].isin(["", "n/a"])])
    sessions = betas["session"].values.copy()
    sessions[4] = None
    with pytest.raises(ValueError, match="Some trials have no session"):
        zscore(betas.assign_coords(session=("trial", sessions)))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("scale", [1e-4, 0.1, 1, 300])
def test_scores_of_any_type_and_scale(dtype, scale):
    values = (np.random.default_rng(2).standard_normal((60, 3)) * scale).astype(dtype)
    values[:, 1] = scale * 0.7  # does not vary
    coords = {
        "session": ("trial", ["a"] * 60),
        "image_name": ("trial", [f"{n % 20}" for n in range(60)]),
    }
    betas = xr.DataArray(values, coords, ("trial", "voxel"))
    found = zscore(betas)
    assert found.dtype == dtype
    expected = scores(values, ["a"] * 60)
    expected[:, 1] = np.nan
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)  # of float16
    assert np.isnan(noise_ceiling(betas).values).tolist() == [False, True, False]


def test_whole_numbers_are_averaged(betas):
    whole = (betas.fillna(0) * 100).astype(int)
    found = average_repeats(whole)
    assert found.dtype == np.float64
    names, expected = means_of(whole.values, betas["image_name"].values.tolist())
    assert found["image"].values.tolist() == names
    np.testing.assert_allclose(found, expected)


def test_wrong_arguments(betas):
    with pytest.raises(ValueError, match="by one of session, run, got 'day'"):
        zscore(betas, "day")
    with pytest.raises(ValueError, match="'run' must be a coordinate"):
        zscore(betas.drop_vars("run"), "run")
    with pytest.raises(ValueError, match="'image_name' must be a coordinate"):
        noise_ceiling(betas.drop_vars("image_name"))
    with pytest.raises(ValueError, match="trials must be boolean, one value for each of the 51"):
        noise_ceiling(betas, trials=[0, 1])


def test_what_was_done_is_said(sub):
    betas = sub.get_betas(roi="V1v")
    said = betas.attrs["description"]
    averaged = "averaged over the repeats of each image"
    assert zscore(betas, "run").attrs["description"] == f"{said}, z-scored by run"
    assert average_repeats(betas).attrs["description"] == f"{said}, {averaged}"
    found = sub.get_image_betas(roi="V1v")
    assert found.attrs["description"] == f"{said}, z-scored by session, {averaged}"
    assert {noise_ceiling(betas).attrs["subject"], found.attrs["subject"]} == {"sub-01"}


def test_what_has_no_trials_or_labels_is_refused(sub):
    betas = sub.get_betas(roi="V1v")
    for statistic in (noise_ceiling, split_half_reliability):
        with pytest.raises(ValueError, match=r"must be \('trial', 'voxel'\), got \('image'"):
            statistic(average_repeats(betas))
    for statistic in (noise_ceiling, split_half_reliability, zscore, average_repeats):
        with pytest.raises(TypeError, match=r"xarray\.DataArray.*got (dict|ndarray)"):
            statistic({"ses-01": betas})
        with pytest.raises(TypeError, match=r"xarray\.DataArray.*got (dict|ndarray)"):
            statistic(betas.values)
    with pytest.raises(ValueError, match="marks none of the"):
        noise_ceiling(betas, trials=np.zeros(len(betas), dtype=bool))


def test_zscores_of_whole_numbers(betas):
    whole = (100 * betas).fillna(0).astype("i2")
    expected = zscore(whole.astype(np.float64))
    for given in (whole.compute(), whole.chunk({"voxel": 50})):
        xr.testing.assert_identical(zscore(given).compute(), expected.compute())
    with pytest.raises(ValueError, match=r"must be \(trial, voxel\), got \('trial',\)"):
        zscore(betas.isel(voxel=0))


def test_a_trial_dim_of_another_name(sub):
    betas = sub.get_betas(roi="V1v")
    expected = average_repeats(betas)
    found = average_repeats(betas.rename(trial="presentation"))
    np.testing.assert_allclose(found, expected, **CLOSE)
    assert found["image"].equals(expected["image"])


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_averages_are_written_to_their_place(sub, monkeypatch, scheduler):
    """Blocks are windows of the result; in other processes, and of large results, they are not."""
    betas = sub.get_betas(mask_source="rsquare").compute()
    expected = means_of(scores(betas.values, betas["session"].values), betas["image_name"].values)
    monkeypatch.setattr(repeats, "_BLOCK_BYTES", 4 * len(expected[0]) * 23)
    lazy = sub.get_image_betas(mask_source="rsquare")
    assert lazy.data.numblocks[1] > 3
    found = lazy.compute(scheduler=scheduler)
    np.testing.assert_allclose(found, expected[1], **CLOSE)
    assert found.values.flags.c_contiguous
    assert not np.shares_memory(found, lazy.compute(scheduler=scheduler))
    monkeypatch.setattr(_whole, "_WHOLE_BYTES", 0)
    large = sub.get_image_betas(mask_source="rsquare")
    np.testing.assert_array_equal(large.compute(scheduler=scheduler), found)


def test_a_selection_of_averages_takes_no_memory_for_all(sub, monkeypatch):
    """Nor shares any with them."""
    monkeypatch.setattr(repeats, "_BLOCK_BYTES", 4 * 200 * 23)
    taken, values = [], _whole.WholeMemory.values
    monkeypatch.setattr(_whole.WholeMemory, "values", lambda own: taken.append(1) or values(own))
    averages = sub.get_image_betas(mask_source="rsquare")
    expected = averages.compute().values
    assert taken
    for index in (np.s_[:, 3], np.s_[:, :4], np.s_[2:5], np.s_[[4, 1], 7]):
        taken.clear()
        found = averages[index].compute()
        np.testing.assert_array_equal(found, expected[index])
        assert not taken
    whole, few = dask.compute(averages.data, averages.data[:, :4])
    assert not np.shares_memory(whole, few)
    assert averages.data[:, :] is averages.data
    changed = averages.data.copy()
    changed[0] = -1
    np.testing.assert_array_equal(changed[:, 3], np.append(-1, expected[1:, 3]))
