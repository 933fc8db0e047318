"""What `Subject` hands out: its form, that it is lazy, and where the store may be."""

from __future__ import annotations

import doctest
import html.parser
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import dask
import fsspec
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from zarr.storage import LocalStore

import laion_zarr
import laion_zarr.config
import laion_zarr.subject
from laion_zarr import convert, load_subject
from laion_zarr.conversion.synthetic import Size, write_dataset
from laion_zarr.errors import (
    DataDirNotSetError,
    DataNotDownloadedError,
    LaionZarrError,
    NotConvertedError,
    SubjectNotFoundError,
)

SUB = "sub-01"
GLM = f"derivatives/glmsingle-tedana/{SUB}"
ANAT = f"derivatives/anatomical/{SUB}/ses-PrismaAnat/anat/{SUB}_ses-PrismaAnat_space-T1w"
SESSIONS = ["ses-01", "ses-02"]
CHUNK, SLAB, CHUNKS_PER_SHARD = 128, 17_280, 135  # as docs/store.md has them


class CountingStore(LocalStore):
    """Remembers each read: its key, and how many bytes it gave."""

    def __init__(self, root, read_only=True):
        super().__init__(root, read_only=read_only)
        self.reads = []

    async def get(self, key, *args, **options):
        value = await super().get(key, *args, **options)
        self.reads.append((key, 0 if value is None else len(value)))
        return value

    def of_betas(self):
        return [(key, size) for key, size in self.reads if "/betas/" in key]


@pytest.fixture
def counting(store):
    return CountingStore(store)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A store of one subject whose ~38,000 voxels fill two slabs and a bit."""
    folder = tmp_path_factory.mktemp("large")
    size = Size((44, 53, 42), 4.5, (6, 7), 2, (17, 21, 19), 10.5, (4, 5))
    root = write_dataset(folder / "mirror", size, [SUB])
    convert(root, folder / "laion-fmri.zarr", progress=False)
    return folder / "laion-fmri.zarr"


# -- what the files say


def flat(path):
    """A 3-D map in C order of the grid."""
    return np.ascontiguousarray(np.asarray(nib.load(path).dataobj)).ravel()


def betas_of(root, session):
    """(trial, grid), from the source."""
    stem = f"{SUB}_{session}_task-images_space-T1w_stat-effect_desc-SingletrialBetas_statmap"
    volumes = np.asarray(nib.load(root / GLM / session / "func" / f"{stem}.nii.gz").dataobj)
    return np.moveaxis(volumes, -1, 0).reshape(volumes.shape[-1], -1)


@pytest.fixture(scope="module")
def masks(bids_root):
    r2mean = f"{SUB}_task-images_space-T1w_stat-rsquare_desc-R2mean_statmap.nii.gz"
    return {
        "anatomical": flat(bids_root / f"{ANAT}_res-1pt8_desc-brain_mask.nii.gz") != 0,
        "rsquare": flat(bids_root / GLM / r2mean) != 0,
    }


@pytest.fixture(scope="module")
def rois(bids_root):
    """Category and mask by name."""
    found = {}
    for path in sorted(bids_root.glob(f"derivatives/rois/{SUB}/*/*_res-1pt8_label-*.nii.gz")):
        name = path.name.split("label-")[1].split("_")[0]
        found[name] = (path.parent.name, flat(path) != 0)
    return dict(sorted(found.items()))


@pytest.fixture(scope="module")
def source(bids_root):
    """All betas, (trial, grid)."""
    return np.concatenate([betas_of(bids_root, session) for session in SESSIONS])


@pytest.fixture(scope="module")
def labels(bids_root):
    """Stimulus of each trial of both sessions."""
    found = []
    for session in SESSIONS:
        name = f"{SUB}_{session}_task-images_desc-SingletrialBetas_trials.tsv"
        table = pd.read_csv(bids_root / GLM / session / "func" / name, sep="\t")
        found += table.sort_values("beta_index")["label"].tolist()
    return found


# -- how a subject shows itself


class _Balanced(html.parser.HTMLParser):
    """Fails where a tag is not closed; keeps the text."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += f"{data} "


def text_of(markup):
    parser = _Balanced()
    parser.feed(markup)
    parser.close()
    assert parser.open == []
    return parser.text


def test_repr_says_what_is_there(sub, store, rois, masks, labels):
    for text in (repr(sub), text_of(sub._repr_html_())):
        words = set(re.findall(r"[\w-]+", text))
        assert {SUB, *SESSIONS} <= words
        assert {*rois, *(category for category, _ in rois.values())} <= words
        assert {"Noiseceiling4rep", "Noiseceiling12rep", "NoiseceilingAllrep"} <= words
        assert str(store) in text
        assert f"{masks['anatomical'].sum():,} anatomical" in text
        assert f"{masks['rsquare'].sum():,} rsquare" in text
        assert {str(len(labels)), str(len(set(labels)))} <= words
    assert repr(sub).startswith(f"<laion_zarr.Subject {SUB}>")


def test_html_is_escaped(store, tmp_path):
    odd = tmp_path / "<b>bold<i> & co"
    odd.symlink_to(store, target_is_directory=True)
    markup = load_subject(SUB, odd)._repr_html_()
    assert "&lt;b&gt;bold&lt;i&gt; &amp; co" in markup
    assert "<b>bold" not in markup
    assert str(odd) in text_of(markup)


def test_arrays_show_themselves_without_reading(counting):
    sub = load_subject(SUB, counting)
    for array in (sub.get_betas(roi="FFA1"), sub.dataset, sub.dataset["betas"]):
        assert "dask.array" in repr(array)
        assert "dask.array" in array._repr_html_()
    assert counting.of_betas() == []


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
    }
    assert set(dataset.data_vars) == {"betas", "roi_mask", "noise_ceiling", *MAPS}
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
    np.testing.assert_array_equal(dataset.attrs["affine"], image.affine)
    assert f"{ANAT}_res-1pt8_desc-brain_mask.nii.gz" in dataset.attrs["sources"]
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
    np.testing.assert_array_equal(mask.attrs["affine"], image.affine)
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
        (lambda sub: sub.get_betas(session=1), ValueError, "1 is no session id|session"),
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
    """What another array or table is labelled with selects here, as in xarray."""
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


# -- nothing is read before it is asked for


def test_nothing_is_read_but_labels(counting):
    sub = load_subject(SUB, counting)
    lazy = [
        sub.dataset,
        sub.sel(roi="face", session="ses-01"),
        sub.sel(voxel=sub.dataset["voxel"].values[:3], nc_threshold=10),
        sub.get_betas(),
        sub.get_betas(roi="face", nc_threshold=10),
        *sub.get_betas(session=SESSIONS, stimuli="shared", chunks={"voxel": 5}).values(),
    ]
    lazy += [array.mean("trial") for array in lazy]
    _ = sub.metadata, sub.get_trial_info("ses-01"), repr(sub), sub._repr_html_()
    _ = sub.get_noise_ceiling(session="ses-01"), sub.get_roi_data("all"), sub.get_brain_mask()
    _ = pickle.dumps(lazy[1:])
    assert counting.of_betas() == []
    # And labels, masks and ROIs are in memory from then on.
    before = len(counting.reads)
    for name in ("roi_mask", "noise_ceiling", "image_name", "in_rsquare", "x"):
        assert sub.dataset[name].values.size
    sub.get_roi_mask("all").values.sum()
    assert len(counting.reads) == before
    lazy[1]["betas"].compute()
    assert counting.of_betas()


def test_sessions_cost_no_labels(counting):
    assert load_subject(SUB, counting).get_sessions() == SESSIONS
    assert not [key for key, _ in counting.reads if "/voxels/" in key]


def test_maps_are_read_once(counting, bids_root, masks):
    sub = load_subject(SUB, counting)
    for _ in range(2):
        found = sub.dataset["r2"].sel(session_id="ses-02").values
    reads = [key for key, _ in counting.reads if re.search("maps/ses-02/r2/c", key)]
    assert len(reads) == 1
    name = f"{SUB}_ses-02_task-images_space-T1w_stat-rsquare_desc-R2_statmap.nii.gz"
    expected = flat(bids_root / GLM / "ses-02" / "func" / name)
    np.testing.assert_array_equal(found, expected[masks["anatomical"] | masks["rsquare"]])


def shard_index(store, session, shard):
    """Offset and size of each chunk, from the end of the shard, as Zarr defines it."""
    tail = (store / SUB / session / "betas" / "c" / str(shard) / "0").read_bytes()
    tail = tail[-(CHUNKS_PER_SHARD * 16 + 4) : -4]
    return np.frombuffer(tail, "<u8").reshape(CHUNKS_PER_SHARD, 2)


def needed_bytes(store, session, voxels):
    """Bytes of the chunks that hold these voxels, by object; and into how many runs they fall."""
    stored = zarr.open_group(store / SUB / session, mode="r")["voxel"][:]
    chunks = np.unique(np.flatnonzero(np.isin(stored, voxels)) // CHUNK)
    found, runs = {}, 0
    for shard in np.unique(chunks // CHUNKS_PER_SHARD).tolist():
        own = chunks[chunks // CHUNKS_PER_SHARD == shard]
        sizes = shard_index(store, session, shard)[own % CHUNKS_PER_SHARD, 1]
        found[f"{SUB}/{session}/betas/c/{shard}/0"] = int(sizes.sum())
        runs += 1 + int((np.diff(own) > 1).sum())
    return found, runs


def by_key(reads):
    found = {}
    for key, size in reads:
        found[key] = found.get(key, 0) + size
    return found


@pytest.fixture(scope="module")
def small_roi(large):
    """A region that few chunks hold: its name and voxels."""
    group = zarr.open_group(large / SUB / "voxels", mode="r")
    members = group["roi_mask"][:] & group["in_anatomical"][:]
    sizes = np.where(members.any(axis=1), members.sum(axis=1), 10**9)
    row = int(sizes.argmin())
    return str(group["roi"][row]), np.sort(group["voxel"][:][members[row]])


@pytest.mark.parametrize("session", [*SESSIONS, None])
def test_roi_reads_only_its_chunks(large, small_roi, session):
    counting, (roi, voxels) = CountingStore(large), small_roi
    betas = load_subject(SUB, counting).get_betas(session=session, roi=roi)
    assert counting.of_betas() == []
    assert betas["voxel"].values.tolist() == voxels.tolist()
    betas.compute()
    needed, runs = {}, 0
    for each in SESSIONS if session is None else [session]:
        own, n = needed_bytes(large, each, voxels)
        needed, runs = needed | own, runs + n
    assert by_key(counting.of_betas()) == needed
    assert len(counting.of_betas()) <= runs
    on_disk = sum(path.stat().st_size for path in large.glob(f"{SUB}/*/betas/c/*/*"))
    assert sum(needed.values()) < on_disk / 10


def test_all_of_a_session_reads_each_shard_once(large):
    counting = CountingStore(large)
    load_subject(SUB, counting).sel(session="ses-02", chunks={"voxel": -1})["betas"].compute()
    shards = sorted(large.glob(f"{SUB}/ses-02/betas/c/*/0"))
    assert len(shards) == 3
    index_size = CHUNKS_PER_SHARD * 16 + 4
    expected = {
        path.relative_to(large).as_posix(): path.stat().st_size - index_size for path in shards
    }
    assert by_key(counting.of_betas()) == expected


@pytest.mark.parametrize(
    "voxel",
    [slice(100, 120), np.array([SLAB + 9, 5, SLAB - 1]), slice(SLAB - 4, SLAB + 4), 77],
    ids=["run", "scattered", "border", "one"],
)
@pytest.mark.parametrize("trial", [slice(6, 9), 0, [12, 1]], ids=["second", "one", "both"])
def test_engine_reads_only_what_is_selected(large, trial, voxel):
    counting = CountingStore(large)
    dataset = xr.open_dataset(counting, engine="laion_zarr", group=SUB)
    assert counting.of_betas() == []
    picked = dataset.isel(trial=trial).isel(voxel=voxel)["betas"]
    assert counting.of_betas() == []
    assert picked.chunks is None
    picked.load()
    needed = {}
    for session in np.unique(picked["session"]):
        needed |= needed_bytes(large, session, picked["voxel"].values)[0]
    assert by_key(counting.of_betas()) == needed
    # Loaded means loaded.
    before = len(counting.reads)
    picked.values.sum()
    assert len(counting.reads) == before


def test_sel_by_label_reads_only_what_is_selected(large):
    counting = CountingStore(large)
    sub = load_subject(SUB, counting)
    voxels = sub.dataset["voxel"].values[[3, SLAB + 50, 20_000]]
    picked = sub.sel(trial=[2, 1], voxel=voxels)["betas"]
    assert picked["trial"].values.tolist() == [2, 1]
    picked.compute()
    assert by_key(counting.of_betas()) == needed_bytes(large, "ses-01", voxels)[0]


def test_a_dask_block_reads_only_itself(large):
    counting = CountingStore(large)
    block = load_subject(SUB, counting).dataset["betas"][:6, SLAB : 2 * SLAB]
    block.compute()
    needed, _ = needed_bytes(large, "ses-01", block["voxel"].values)
    assert by_key(counting.of_betas()) == needed
    # Its own slab, and what lies in it of the regions, which are stored first.
    on_disk = sum(path.stat().st_size for path in large.glob(f"{SUB}/ses-01/betas/c/*/*"))
    assert sum(needed.values()) < 0.7 * on_disk


# -- Dask


def test_blocks(sub, large, source, masks):
    n_first, n_voxels = int((sub.metadata["session"] == "ses-01").sum()), masks["anatomical"].sum()
    betas = sub.get_betas()
    assert betas.chunks == ((n_first, len(source) - n_first), (n_voxels,))
    assert sub.get_betas(session="ses-02").chunks == ((len(source) - n_first,), (n_voxels,))
    betas = sub.get_betas(chunks={"trial": -1, "voxel": 7})
    assert betas.chunks[0] == (len(source),)
    assert betas.chunks[1][:-1] == (7,) * (len(betas.chunks[1]) - 1)
    assert sum(betas.chunks[1]) == n_voxels
    np.testing.assert_array_equal(betas, source[:, masks["anatomical"]])
    dataset = load_subject(SUB, large).dataset
    assert dataset["betas"].chunks == ((6, 7), (SLAB, SLAB, dataset.sizes["voxel"] - 2 * SLAB))
    selected = load_subject(SUB, large).sel(roi="all", chunks={"voxel": 100})
    assert set(selected["betas"].chunks[1][:-1]) == {100}


def test_stimuli_keep_one_block_a_session(sub, labels):
    betas = sub.get_betas(stimuli="shared")
    shared = [label for label in labels if label.startswith("shared_")]
    assert betas["image_name"].values.tolist() == shared
    assert len(betas.chunks[0]) == 2


def test_answers_do_not_mix(sub, source, masks, rois):
    """Computed together in one graph, each array keeps its own values."""
    asked = [
        {"roi": roi, "session": session, "chunks": chunks, "mask_source": mask}
        for roi in ("FFA1", "OFA", "laionventral")
        for session in (None, *SESSIONS)
        for chunks in (None, {"voxel": 3})
        for mask in ("anatomical", "rsquare")
    ]
    arrays = [sub.get_betas(**options) for options in asked]
    n_first = int((sub.metadata["session"] == "ses-01").sum())
    rows = {None: slice(None), "ses-01": slice(n_first), "ses-02": slice(n_first, None)}
    for options, found in zip(asked, dask.compute(*arrays), strict=True):
        kept = rois[options["roi"]][1] & masks[options["mask_source"]]
        np.testing.assert_array_equal(found, source[rows[options["session"]]][:, kept])
    again = [sub.get_betas(**options) for options in asked]
    assert [array.data.name for array in again] == [array.data.name for array in arrays]


# -- other processes

LOAD_AND_SAVE = """
import pickle, sys
import numpy as np
from pathlib import Path
found = pickle.loads(Path(sys.argv[1]).read_bytes())
if hasattr(found, "get_betas"):
    found = found.get_betas(session="ses-02", roi="face")
np.save(sys.argv[2], found.values)
"""


def in_another_process(thing, folder):
    """The values of a pickled array, computed elsewhere."""
    (folder / "pickle").write_bytes(pickle.dumps(thing))
    command = [sys.executable, "-W", "error", "-c", LOAD_AND_SAVE, "pickle", "values.npy"]
    subprocess.run(command, cwd=folder, check=True)
    return np.load(folder / "values.npy")


@pytest.fixture(scope="module")
def face_betas(bids_root, masks, rois):
    faces = np.logical_or.reduce([mask for its, mask in rois.values() if its == "face"])
    return betas_of(bids_root, "ses-02")[:, faces & masks["anatomical"]]


@pytest.mark.parametrize(
    "make",
    [
        lambda sub: sub,
        lambda sub: sub.get_betas(session="ses-02", roi="face"),
        lambda sub: sub.get_betas(session="ses-02", roi="face", chunks={"voxel": 2}),
    ],
    ids=["subject", "betas", "many blocks"],
)
def test_pickles_work_elsewhere(store, tmp_path, face_betas, make):
    thing = make(load_subject(SUB, store))
    np.testing.assert_array_equal(in_another_process(thing, tmp_path), face_betas)


def test_pickles_are_copies_of_what_they_were(sub):
    copy = pickle.loads(pickle.dumps(sub))
    assert repr(copy) == repr(sub)
    xr.testing.assert_identical(copy.dataset.compute(), sub.dataset.compute())
    dataset = pickle.loads(pickle.dumps(sub.sel(roi="face")))
    xr.testing.assert_identical(dataset.load(), sub.sel(roi="face").load())


@pytest.mark.parametrize("used", [False, True])
def test_pickles_are_small(large, used):
    sub = load_subject(SUB, large)
    betas = sub.get_betas(roi="FFA1")
    if used:  # what was read for one answer does not travel with the next
        sub.dataset["r2"].load()
        sub.get_betas(roi="laiongeneral").compute()
        betas.compute()
    assert len(pickle.dumps(betas)) < 300_000
    assert len(pickle.dumps(sub.get_betas(roi="FFA1", chunks={"voxel": 10}))) < 300_000
    assert len(pickle.dumps(load_subject(SUB, large))) < 10_000


# -- imports and documentation


def run_python(code, **environment):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


@pytest.mark.parametrize("module", ["laion_zarr", "laion_zarr.config", "laion_zarr.errors"])
def test_import_is_light(module):
    heavy = ["xarray", "zarr", "dask", "pandas", "numpy", "nibabel", "fsspec"]
    code = f"import sys, {module}; print(*[name for name in {heavy} if name in sys.modules])"
    assert run_python(code) == ""


def test_top_level_names():
    code = "from laion_zarr import *; print(load_subject.__module__, convert.__module__)"
    assert run_python(code) == "laion_zarr.subject.subject laion_zarr.conversion.run.pipeline"
    for name in laion_zarr.__all__:
        assert callable(getattr(laion_zarr, name))
        assert name in dir(laion_zarr)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = laion_zarr.nonsense


@pytest.mark.parametrize("module", [laion_zarr.subject.subject, laion_zarr.config])
def test_examples_of_the_docs(module, store, monkeypatch):
    monkeypatch.setenv("LAION_ZARR_STORE", str(store))
    result = doctest.testmod(module)
    assert result.failed == 0
    assert result.attempted


# -- where the store is


@pytest.fixture
def memory_url(store):
    """The store, copied into fsspec's memory."""
    files = fsspec.filesystem("memory")
    for path in sorted(store.rglob("*")):
        if path.is_file():
            files.pipe(f"/accessors/{path.relative_to(store).as_posix()}", path.read_bytes())
    yield "memory://accessors"
    files.rm("/accessors", recursive=True)


FORMS = {
    "str": str,
    "Path": Path,
    "file URL": lambda store: store.as_uri(),
    "LocalStore": lambda store: LocalStore(store, read_only=True),
    "writable LocalStore": LocalStore,
    "relative": lambda store: os.path.relpath(store),
    "slash": lambda store: f"{store}/",
}


@pytest.mark.parametrize("form", [*FORMS, "memory"])
def test_forms_of_a_store(form, store, sub, memory_url):
    where = memory_url if form == "memory" else FORMS[form](store)
    found = load_subject("01", where)
    assert found.get_sessions() == SESSIONS
    expected = sub.get_betas(roi="face", nc_threshold=5).load()
    assert expected.size
    xr.testing.assert_identical(found.get_betas(roi="face", nc_threshold=5).load(), expected)
    xr.testing.assert_identical(found.dataset.compute(), sub.dataset.compute())
    pd.testing.assert_frame_equal(found.metadata, sub.metadata)
    assert SUB in repr(found)
    with xr.open_dataset(where, engine="laion_zarr", group="sub-01") as dataset:
        xr.testing.assert_identical(dataset.compute(), sub.dataset.compute())


def test_a_path_with_blanks_as_url(store, tmp_path):
    odd = tmp_path / "a store, mine"
    odd.symlink_to(store, target_is_directory=True)
    assert load_subject(SUB, odd).get_sessions() == SESSIONS
    assert load_subject(SUB, f"file://{odd}").get_sessions() == SESSIONS


def test_home_is_expanded(store, tmp_path):
    (tmp_path / "mine.zarr").symlink_to(store, target_is_directory=True)  # HOME is tmp_path
    assert load_subject(SUB, "~/mine.zarr").get_sessions() == SESSIONS


@pytest.mark.parametrize("store_like", ["nowhere.zarr", "file:///nowhere.zarr", "memory://nowhere"])
def test_no_store(store_like, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotConvertedError, match="laion-zarr convert"):
        load_subject(SUB, store_like)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("subject", "error"),
    [
        ("sub-07", NotConvertedError),
        ("07", NotConvertedError),
        ("", SubjectNotFoundError),
        ("sub-", SubjectNotFoundError),
        ("sub-0/1", SubjectNotFoundError),
        (1, SubjectNotFoundError),
        (None, SubjectNotFoundError),
    ],
)
def test_no_subject(store, subject, error):
    with pytest.raises(error) as caught:
        load_subject(subject, store)
    assert isinstance(caught.value, LaionZarrError)
    with pytest.raises((error, ValueError)):
        xr.open_dataset(store, engine="laion_zarr", group=subject)


# -- settings


def test_settings_are_needed():
    with pytest.raises(DataDirNotSetError, match="LAION_ZARR_STORE"):
        laion_zarr.config.get_store()
    with pytest.raises(DataDirNotSetError, match="LAION_ZARR_DATA_DIR"):
        laion_zarr.get_data_dir()
    with pytest.raises(DataDirNotSetError):
        load_subject(SUB)


def test_settings_by_precedence(tmp_path, monkeypatch):
    """Environment before file, and a store before the data directory's own."""
    config = laion_zarr.config
    folders = {name: tmp_path / name for name in ("kept", "environment")}
    for folder in folders.values():
        folder.mkdir()
    laion_zarr.dataset_initialize(folders["kept"])
    assert config.get_data_dir() == folders["kept"]
    assert config.get_store() == str(folders["kept"] / "laion-fmri.zarr")
    config.store_initialize("s3://kept/store.zarr")
    assert config.get_store() == "s3://kept/store.zarr"
    assert config.get_data_dir() == folders["kept"]
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(folders["environment"]))
    assert config.get_data_dir() == folders["environment"]
    assert config.get_store() == str(folders["environment"] / "laion-fmri.zarr")
    monkeypatch.setenv("LAION_ZARR_STORE", "memory://wins")
    assert config.get_store() == "memory://wins"
    assert config.get_data_dir() == folders["environment"]
    monkeypatch.delenv("LAION_ZARR_DATA_DIR")
    assert config.get_store() == "memory://wins"
    monkeypatch.delenv("LAION_ZARR_STORE")
    assert config.get_store() == "s3://kept/store.zarr"


def test_empty_settings_are_no_settings(monkeypatch):
    monkeypatch.setenv("LAION_ZARR_STORE", "")
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", "")
    with pytest.raises(DataDirNotSetError):
        laion_zarr.config.get_store()


def test_the_default_store_is_opened(store, tmp_path, monkeypatch):
    other = tmp_path / "empty"
    other.mkdir()
    (tmp_path / "laion-fmri.zarr").symlink_to(store, target_is_directory=True)
    laion_zarr.dataset_initialize(tmp_path)
    assert load_subject(SUB).get_sessions() == SESSIONS
    monkeypatch.setenv("LAION_ZARR_STORE", str(other))
    with pytest.raises(NotConvertedError, match=str(other)):
        load_subject(SUB)
    assert load_subject(SUB, store).get_sessions() == SESSIONS  # an argument wins over all


def test_settings_outlive_the_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mirror").mkdir()
    laion_zarr.dataset_initialize("mirror")  # relative: kept as absolute
    code = "import laion_zarr; print(laion_zarr.get_data_dir())"
    assert run_python(code) == str(tmp_path / "mirror")


def test_dataset_initialize_wants_a_folder(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(FileNotFoundError, match=str(path)):
            laion_zarr.dataset_initialize(path)
    with pytest.raises(DataDirNotSetError):
        laion_zarr.get_data_dir()


# -- files of the mirror


def test_anatomy_is_in_the_mirror(sub, bids_root, monkeypatch):
    assert not sub.has_anatomical()  # no mirror is known
    with pytest.raises(DataDirNotSetError):
        sub.get_t1w()
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(bids_root))
    assert sub.has_anatomical()
    assert sub.get_anatomical_dir() == (bids_root / ANAT).parent
    assert sub.get_t1w() == bids_root / f"{ANAT}_T1w.nii.gz"
    assert sub.get_t1w("1pt8") == bids_root / f"{ANAT}_res-1pt8_T1w.nii.gz"
    assert sub.get_t2w() == bids_root / f"{ANAT}_T2w.nii.gz"
    assert sub.get_anatomical_brain_mask() == bids_root / f"{ANAT}_desc-brain_mask.nii.gz"
    assert sub.get_t1w().is_file()


def test_freesurfer_is_in_the_mirror(sub, tmp_path, monkeypatch):
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(tmp_path))
    assert not sub.has_freesurfer()
    with pytest.raises(DataNotDownloadedError, match="freesurfer"):
        sub.get_freesurfer_dir()
    (tmp_path / "derivatives/freesurfer" / SUB).mkdir(parents=True)
    assert sub.has_freesurfer()
    assert sub.get_freesurfer_dir() == tmp_path / "derivatives/freesurfer" / SUB
    assert not sub.has_anatomical()
