"""What `Subject` returns: types, dims, coordinates, values, and errors."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from source_answers import ANAT, GLM, SESSIONS, SUB, flat
from source_answers import labels as labels
from source_answers import masks as masks
from source_answers import rois as rois
from source_answers import source as source

from laion_zarr import convert, load_subject
from laion_zarr.errors import LaionZarrError, NotConvertedError, SubjectNotFoundError

# -- types, dims and coordinates

TRIAL_LABELS = {
    "trial": int,
    "session": str,
    "run": int,
    "beta_index": int,
    "session_trial": int,
    "image_name": str,
    "stim_idx": int,
    "unique_or_shared": str,
    "dataset": str,
    "repetition": int,
}
VOXEL_LABELS = {
    "voxel": int,
    **dict.fromkeys("ijk", int),
    **dict.fromkeys("xyz", float),
    "in_anatomical": bool,
    "in_rsquare": bool,
}
MAPS = ("session_noise_ceiling", "r2", "hrf_index", "fracridge")


def check_labels(array, names, dim):
    for name, kind in names.items():
        coord = array[name]
        assert name in array.coords
        assert coord.dims == (dim,)
        if kind is str:
            assert coord.dtype == object
            assert all(type(value) is str for value in coord.values)
        else:
            assert np.issubdtype(coord.dtype, {int: np.integer, float: np.float64}.get(kind, kind))


def test_dataset(sub, masks, rois, source, labels, bids_root):
    dataset = sub.dataset
    union = np.flatnonzero(masks["anatomical"] | masks["rsquare"])
    assert dict(dataset.sizes) == {
        "trial": len(source),
        "voxel": len(union),
        "roi": len(rois),
        "nc": 3,
        "session_id": 2,
        "localizer": 10,
    }
    maps = {"noise_ceiling", "localizer_z", *MAPS}
    assert set(dataset.data_vars) == {"betas", "roi_mask", *maps}
    check_labels(dataset, TRIAL_LABELS, "trial")
    check_labels(dataset, VOXEL_LABELS, "voxel")
    for name in ("roi", "nc", "session_id"):
        check_labels(dataset, {name: str}, name)
    check_labels(dataset, {"category": str}, "roi")
    for name in ("trial", "voxel", "roi", "nc", "session_id"):
        assert name in dataset.indexes
    assert dataset["betas"].dims == ("trial", "voxel")
    assert dataset["betas"].dtype == np.float32
    assert dataset["roi_mask"].dims == ("roi", "voxel")
    assert dataset["roi_mask"].dtype == bool
    assert dataset["noise_ceiling"].dims == ("nc", "voxel")
    for name in MAPS:
        assert dataset[name].dims == ("session_id", "voxel")
    assert dataset["voxel"].values.tolist() == union.tolist()
    assert dataset["image_name"].values.tolist() == labels
    assert dataset["roi"].values.tolist() == list(rois)
    assert dataset["category"].values.tolist() == [category for category, _ in rois.values()]
    assert dataset["noise_ceiling"].attrs["units"] == "percent"
    assert dataset["betas"].attrs["units"] == "percent signal change"
    assert dataset["x"].attrs["units"] == "mm"
    np.testing.assert_array_equal(dataset["betas"].values, source[:, union])
    image = nib.load(bids_root / f"{ANAT}_res-1pt8_desc-brain_mask.nii.gz")
    assert dataset.attrs["subject"] == SUB
    assert tuple(dataset.attrs["shape"]) == image.shape
    np.testing.assert_array_equal(dataset.attrs["affine"], np.ravel(image.affine))
    assert dataset.attrs["schema_version"] == 1


@pytest.mark.parametrize("mask_source", ["anatomical", "rsquare"])
def test_forms_of_the_accessors(sub, masks, rois, mask_source):
    n_voxels, options = masks[mask_source].sum(), {"mask_source": mask_source}
    per_voxel = {
        "betas": (sub.get_betas(**options), np.float32),
        "noise ceiling": (sub.get_noise_ceiling(desc="Noiseceiling12rep", **options), np.float32),
        "session's": (sub.get_noise_ceiling(session="ses-02", **options), np.float32),
        "roi mask": (sub.get_roi_mask("face", **options), bool),
        "volume": (sub.get_roi_data("OFA", "volume", **options)["OFA"]["volume"], bool),
        "coordinates": (sub.get_voxel_coordinates(**options), np.float64),
    }
    for what, (array, dtype) in per_voxel.items():
        assert isinstance(array, xr.DataArray), what
        assert array.dtype == dtype, what
        assert array.sizes["voxel"] == n_voxels, what
        expected = {"betas": ("trial", "voxel"), "coordinates": ("voxel", "axis")}
        assert array.dims == expected.get(what, ("voxel",)), what
        own = {k: v for k, v in VOXEL_LABELS.items() if what != "coordinates" or k not in "xyz"}
        check_labels(array, own, "voxel")
        np.testing.assert_array_equal(array["voxel"], np.flatnonzero(masks[mask_source]))
    check_labels(per_voxel["betas"][0], TRIAL_LABELS, "trial")
    brain = sub.get_brain_mask(mask_source)
    assert (brain.dims, brain.dtype) == (("grid",), np.dtype(bool))
    assert list(sub.get_roi_masks(["FFA1", "face"], **options)) == ["FFA1", "face"]
    volume = np.zeros(brain.size, bool)
    volume[brain.values] = sub.get_roi_mask("face", **options).values  # as the docs promise
    faces = np.logical_or.reduce([mask for its, mask in rois.values() if its == "face"])
    np.testing.assert_array_equal(volume, faces & masks[mask_source])


def test_lists_and_ids(sub, rois):
    assert sub.subject_id == SUB
    assert sub.get_sessions() == SESSIONS
    assert sub.get_available_rois() == sorted(rois)
    assert sub.get_available_rois("face") == ["FFA1", "FFA2", "OFA", "pSTSfaces"]
    assert sub.get_available_categories() == sorted({category for category, _ in rois.values()})
    assert type(sub.get_n_voxels()) is int


def test_full_resolution_mask(sub, bids_root):
    image = nib.load(bids_root / f"{ANAT}_desc-brain_mask.nii.gz")
    mask = sub.get_brain_mask(res=None)
    assert mask.dims == ("grid",)
    np.testing.assert_array_equal(mask, np.asarray(image.dataobj).ravel() != 0)
    assert tuple(mask.attrs["shape"]) == image.shape
    np.testing.assert_array_equal(mask.attrs["affine"], np.ravel(image.affine))
    assert sub.get_n_voxels(res=None) == np.count_nonzero(image.dataobj)
    # Of the rsquare mask there is one resolution.
    assert sub.get_n_voxels("rsquare", res=None) == sub.get_n_voxels("rsquare")


def test_metadata(sub, labels):
    table = sub.metadata
    assert isinstance(table, pd.DataFrame)
    assert table.index.equals(pd.RangeIndex(len(labels)))
    assert set(TRIAL_LABELS) - {"trial"} | {"label"} <= set(table.columns)
    assert table["label"].tolist() == labels == table["image_name"].tolist()
    table.loc[0, "run"] = 99  # the caller's own
    assert sub.metadata.loc[0, "run"] != 99


# -- betas: one session, a list, all


def test_betas_of_sessions(sub, source, masks):
    inside = masks["anatomical"]
    n_first = int((sub.metadata["session"] == "ses-01").sum())
    rows = {"ses-01": slice(0, n_first), "ses-02": slice(n_first, None)}
    by_session = sub.get_betas(session=["ses-02", "01"])
    assert list(by_session) == ["ses-02", "ses-01"]
    for session, betas in by_session.items():
        assert set(betas["session"].values) == {session}
        np.testing.assert_array_equal(betas, source[rows[session]][:, inside])
        xr.testing.assert_identical(betas.load(), sub.get_betas(session=session).load())
    np.testing.assert_array_equal(sub.get_betas(), source[:, inside])
    assert sub.get_betas(session=[]) == {}
    assert list(sub.get_betas(session=("ses-01",))) == ["ses-01"]


@pytest.mark.parametrize("streaming", [True, False])
def test_streaming_has_no_effect(sub, streaming):
    options = {"session": "ses-01", "roi": "OFA"}
    betas = sub.get_betas(**options, streaming=streaming)
    xr.testing.assert_identical(betas.load(), sub.get_betas(**options).load())


def test_mask_is_aligned_by_label(sub, masks, source):
    axis = np.flatnonzero(masks["anatomical"])
    marked = np.random.default_rng(0).random(len(axis)) < 0.3
    mask = xr.DataArray(marked, {"voxel": axis}, dims="voxel")[::-1]
    for form in (marked, marked.tolist(), mask, mask.chunk({"voxel": 50})):
        betas = sub.get_betas(session="ses-01", mask=form)
        np.testing.assert_array_equal(betas["voxel"], axis[marked])
        np.testing.assert_array_equal(betas, source[: len(betas), axis[marked]])
    outside = np.flatnonzero(masks["rsquare"] & ~masks["anatomical"])[:1]
    mask = xr.DataArray([True], {"voxel": outside}, dims="voxel")
    with pytest.raises(ValueError, match=str(outside[0])):
        sub.get_betas(mask=mask)


def test_thresholds(sub, bids_root, masks):
    """By the session's own map for one session, by that of all sessions for all."""
    stem = "task-images_space-T1w_desc-Noiseceiling"
    own = flat(bids_root / GLM / "ses-02" / "func" / f"{SUB}_ses-02_{stem}_statmap.nii.gz")
    every = flat(bids_root / GLM / f"{SUB}_{stem}Allrep_statmap.nii.gz")
    inside = masks["anatomical"]
    limit = float(np.nanquantile(own[inside], 0.8))
    kept = {"own": (own >= limit)[inside], "every": (every >= limit)[inside]}
    assert 0 < kept["own"].sum() < inside.sum()
    assert (kept["own"] != kept["every"]).any()
    for session, ceiling in {"ses-02": own, None: every}.items():
        for found in (
            sub.get_betas(session=session, nc_threshold=limit),
            sub.sel(session=session, nc_threshold=limit, mask_source="anatomical"),
        ):
            kept = np.flatnonzero(masks["anatomical"] & (ceiling >= limit))
            np.testing.assert_array_equal(found["voxel"], kept)
    with pytest.warns(UserWarning, match="percent"):
        betas = sub.get_betas(nc_threshold=0.5)
    np.testing.assert_array_equal(
        betas["voxel"], np.flatnonzero(masks["anatomical"] & (every >= 0.5))
    )


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda sub: sub.get_betas(roi="FFA9"), ValueError, "FFA1"),
        (lambda sub: sub.get_betas(roi=["OFA", "faces"]), ValueError, "'faces'.*'face'"),
        (lambda sub: sub.get_betas(roi="OFA", mask=[True]), ValueError, "roi and mask"),
        (lambda sub: sub.get_betas(mask=np.ones(3, bool)), ValueError, r"\(3,\)"),
        (lambda sub: sub.get_betas(mask=np.arange(316)), ValueError, "boolean"),
        (lambda sub: sub.get_betas(mask=np.ones(316)), ValueError, "boolean"),
        (lambda sub: sub.get_betas(session="ses-29"), NotConvertedError, "ses-01, ses-02"),
        (lambda sub: sub.get_betas(session=["ses-01", "29"]), NotConvertedError, "ses-29"),
        (lambda sub: sub.get_betas(session=0), ValueError, "0 is no session id"),
        (lambda sub: sub.get_betas(session=True), ValueError, "True is no session id"),
        (lambda sub: sub.get_betas(stimuli="both"), ValueError, "'shared', 'unique'"),
        (lambda sub: sub.get_betas(mask_source="brain"), ValueError, "anatomical.*rsquare"),
        (lambda sub: sub.get_betas(chunks={"time": 1}), ValueError, "chunks"),
        (lambda sub: sub.sel(image_name="no.jpg"), ValueError, "no.jpg"),
        (lambda sub: sub.sel(trial=51), ValueError, "51"),
        (lambda sub: sub.sel(trial=-1), ValueError, "-1"),
        (lambda sub: sub.sel(voxel=[0, 10**6]), ValueError, "voxel"),
        (lambda sub: sub.get_noise_ceiling(), ValueError, "exactly one"),
        (lambda sub: sub.get_noise_ceiling("ses-01", "Noiseceiling4rep"), ValueError, "exactly"),
        (lambda sub: sub.get_noise_ceiling(desc="nope"), NotConvertedError, "Noiseceiling12rep"),
        (lambda sub: sub.get_roi_data("OFA", format="png"), ValueError, "func.gii"),
        (lambda sub: sub.get_roi_data("OFA", hemi="left"), ValueError, "'L'"),
        (lambda sub: sub.get_brain_mask("r2"), ValueError, "rsquare"),
        (lambda sub: sub.get_brain_mask(res="0pt8"), ValueError, "1pt8"),
        (lambda sub: sub.get_available_rois("faces"), ValueError, "face"),
        (lambda sub: sub.get_n_stimuli("ood"), ValueError, "shared"),
        (lambda sub: sub.to_nifti(np.zeros(5), "x.nii"), ValueError, "316"),
        (lambda sub: sub.to_nifti(np.zeros(316), "x.txt"), ValueError, ".nii.gz"),
    ],
)
def test_wrong_questions(sub, tmp_path, monkeypatch, call, error, match):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=match):
        call(sub)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "mask",
    [
        np.linspace(0, 1, 316),
        np.where(np.arange(316) % 2, np.nan, 1.0),
        np.ones((2, 316), bool),
    ],
    ids=["numbers", "NaN", "two dims"],
)
def test_labelled_mask_is_refused_like_any_other(sub, masks, mask):
    """Numbers and other shapes, with labels as without: a NaN, of all things, would count as in."""
    dims = ("trial", "voxel")[-mask.ndim :]
    labelled = xr.DataArray(mask, {"voxel": np.flatnonzero(masks["anatomical"])}, dims=dims)
    for form in (mask, labelled):
        with pytest.raises(ValueError, match="mask"):
            sub.get_betas(mask=form)


@pytest.mark.parametrize("form", ["DataArray", "Series", "array", "list"])
@pytest.mark.parametrize("what", ["trial", "voxel", "image_name", "session"])
def test_labels_in_any_form(sub, form, what):
    """Labels taken from another array or table select trials and voxels, as in xarray."""
    picked = sub.sel(trial=[30, 2], roi="laiongeneral", mask_source="anatomical")[what]
    labels = {
        "DataArray": picked,
        "Series": pd.Series(picked.values),
        "array": picked.values,
        "list": picked.values.tolist(),
    }[form]
    assert picked.size > 1
    found = sub.sel(**{what: labels}, mask_source="anatomical")
    table = sub.metadata
    if what in ("trial", "voxel"):
        assert found[what].values.tolist() == picked.values.tolist()
    else:
        rows = table.index[table[what].isin(picked.values.tolist())]
        assert found["trial"].values.tolist() == rows.tolist()


@pytest.fixture(scope="module")
def one_mask(bids_root, tmp_path_factory):
    """A store whose only voxel axis is the stored one: selections of it are views."""
    path = tmp_path_factory.mktemp("one") / "laion-fmri.zarr"
    convert(bids_root, path, subjects=SUB, mask="anatomical", progress=False)
    return path


ANSWERS = {
    "ceiling": lambda sub: sub.get_noise_ceiling(desc="NoiseceilingAllrep"),
    "session's ceiling": lambda sub: sub.get_noise_ceiling(session="ses-01"),
    "roi mask": lambda sub: sub.get_roi_mask("all"),
    "regions": lambda sub: sub.get_roi_mask(["EBA", "laiongeneral"]),
    "brain mask": lambda sub: sub.get_brain_mask(),
    "coordinates": lambda sub: sub.get_voxel_coordinates(),
    "x": lambda sub: sub.get_betas()["x"],
    "run": lambda sub: sub.get_betas()["run"],
    "selected ceiling": lambda sub: sub.sel()["noise_ceiling"],
    "selected regions": lambda sub: sub.sel()["roi_mask"],
    "regions of all": lambda sub: sub.dataset["roi_mask"],
    "map of all": lambda sub: sub.dataset["r2"],
    "betas": lambda sub: sub.get_betas(roi="laiongeneral"),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_answers_are_the_callers_own(one_mask, what):
    """Who writes into an answer (``nc.values[nc < 0] = 0``) does not change the next ones."""
    untouched, sub = (load_subject(SUB, one_mask) for _ in range(2))
    answer = ANSWERS[what](sub)
    try:
        answer.values[...] = 0
    except ValueError as error:  # as good: it cannot be written into
        assert "read-only" in str(error)  # noqa: PT017
    for name, ask in ANSWERS.items():
        np.testing.assert_array_equal(ask(sub), ask(untouched), err_msg=name)
    assert (ANSWERS[what](untouched).values != 0).any()


# -- subjects that do not exist


@pytest.mark.parametrize(
    ("subject", "error"),
    [
        ("sub-07", NotConvertedError),
        ("07", NotConvertedError),
        ("", SubjectNotFoundError),
        ("sub-", SubjectNotFoundError),
        ("sub-0/1", SubjectNotFoundError),
        (0, SubjectNotFoundError),
        (1.0, SubjectNotFoundError),
        (True, SubjectNotFoundError),
        (None, SubjectNotFoundError),
    ],
)
def test_no_subject(store, subject, error):
    with pytest.raises(error) as caught:
        load_subject(subject, store)
    assert isinstance(caught.value, LaionZarrError)
    with pytest.raises((error, ValueError)):
        xr.open_dataset(store, engine="laion_zarr", group=subject)
