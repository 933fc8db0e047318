"""Several subjects on the same images, against the release's files read with nibabel and pandas."""

from __future__ import annotations

import shutil

import dask
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from laion_zarr import _release as release
from laion_zarr import convert, load_stimuli, load_subject, load_subjects
from laion_zarr.analysis import average_repeats, fit_encoding, noise_ceiling, score
from laion_zarr.conversion.synthetic import write_dataset
from laion_zarr.errors import NotConvertedError, SubjectNotFoundError

IDS = ["sub-01", "sub-03"]


@pytest.fixture(scope="module")
def group(store):
    return load_subjects("all", store)


def table_of(root, subject, sessions):
    """Betas of a subject by nibabel: a row per trial, labels as index, voxels in C order."""
    frames = []
    for session in sessions:
        trials = pd.read_csv(root / release.trials(subject, session), sep="\t")
        volumes = nib.load(root / release.betas(subject, session)).get_fdata(dtype=np.float32)
        mask = nib.load(root / release.anatomy(subject, "brain_mask", "1pt8")).get_fdata() != 0
        labels = trials.sort_values("beta_index")["label"].to_numpy()
        frames.append(pd.DataFrame(volumes[mask].T, index=labels))
    return pd.concat(frames)


def test_the_group(group, store):
    assert len(group) == 2
    assert [one for one, _ in group] == IDS
    assert [sub.subject_id for _, sub in group] == IDS
    assert group[0].subject_id == group["01"].subject_id == group["sub-01"].subject_id == "sub-01"
    assert group[-1].subject_id == "sub-03"
    with pytest.raises(KeyError, match="'sub-05' is not in the group of sub-01, sub-03"):
        group["sub-05"]
    with pytest.raises(IndexError):
        group[2]
    assert [one for one, _ in load_subjects(["03", "sub-01", "01"], store)] == IDS
    assert [one for one, _ in load_subjects("03", store)] == ["sub-03"]
    assert "sub-03" in repr(group)
    assert "sub-03" in group._repr_html_()


@pytest.mark.parametrize("session", [None, "ses-02"])
def test_shared_betas_by_trial(group, bids_root, session):
    found = group.get_shared_betas(session)
    assert list(found) == IDS
    for subject, betas in found.items():
        assert dask.is_dask_collection(betas.data)
        sessions = ["ses-01", "ses-02"] if session is None else [session]
        expected = table_of(bids_root, subject, sessions)
        shared = expected[expected.index.str.startswith("shared_")]
        assert betas["image_name"].values.tolist() == shared.index.tolist()
        np.testing.assert_array_equal(betas, shared)


@pytest.fixture(scope="module")
def uneven(bids_root, tmp_path_factory):
    """A mirror in which one subject saw an image less, and another one more often."""
    root = tmp_path_factory.mktemp("uneven")
    for subject in IDS:
        for tree in (release.GLM, release.ANATOMY):
            shutil.copytree(bids_root / tree / subject, root / tree / subject)
    for session in ("ses-01", "ses-02"):
        path = root / release.trials("sub-03", session)
        table = pd.read_csv(path, sep="\t")
        often, rare, gone, _ = sorted({x for x in table["label"] if x.startswith("shared_")})
        table.loc[table.index[table["label"] == often][:2], "label"] = rare
        table.loc[table["label"] == gone, "label"] = "shared_12rep_LAION_cluster_1_i1.jpg"
        table.to_csv(path, sep="\t", index=False)
    convert(root, root / "s.zarr", parts=["betas"], progress=False)
    return root


@pytest.mark.parametrize("session", [None, "ses-01"])
def test_averages_are_of_the_same_images_in_the_same_order(uneven, session):
    bids_root, group = uneven, load_subjects("all", uneven / "s.zarr")
    sessions = ["ses-01", "ses-02"] if session is None else [session]
    tables = {one: table_of(bids_root, one, sessions) for one in IDS}
    seen = [set(table.index) for table in tables.values()]
    common = sorted(label for label in seen[0] & seen[1] if label.startswith("shared_"))
    assert len(common) == 3
    orders = [table.index[table.index.isin(common)].tolist() for table in tables.values()]
    assert orders[0] != orders[1]  # each saw them in another order, and another number of times
    counts = [
        table.index[table.index.isin(common)].value_counts()[common] for table in tables.values()
    ]
    assert counts[0].tolist() != counts[1].tolist()
    found = group.get_shared_betas(session, average=True)
    for (one, betas), count in zip(found.items(), counts, strict=True):
        assert dask.is_dask_collection(betas.data)
        assert betas.dims == ("image", "voxel")
        assert betas["image"].values.tolist() == common
        assert betas["n_trials"].values.tolist() == count.tolist()
        table = tables[one]
        means = table[table.index.isin(common)].astype(np.float64).groupby(level=0).mean()
        assert betas.dtype == np.float32
        # Sums in float32 of a few betas of some percent.
        np.testing.assert_allclose(betas, means.loc[common], rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(np.isnan(betas), means.loc[common].isna())
    first, second = found.values()
    together = xr.align(first["image"], second["image"], join="exact")
    assert len(together[0]) == len(common)


def test_pictures_and_metadata_are_row_by_row(group, store):
    rows = group.get_shared_betas(roi="face", average=True)["sub-01"]["image"].values.tolist()
    assert group.get_shared_stimulus_metadata()["image_name"].tolist() == rows
    pictures = group.get_shared_images()
    assert dask.is_dask_collection(pictures.data)
    assert pictures["image"].values.tolist() == rows
    images = load_stimuli(store).images
    np.testing.assert_array_equal(pictures[3], np.asarray(images.get(rows[3])))


def test_selections(group):
    roi = group.get_shared_betas(roi=["FFA1", "V1v"], nc_threshold=10, average=True)
    for one, subject in group:
        expected = subject.get_betas(roi=["FFA1", "V1v"], nc_threshold=10)
        assert roi[one]["voxel"].equals(expected["voxel"])
    masks = {one: subject.get_roi_mask("FFA1") for one, subject in group}
    for one, betas in group.get_shared_betas("ses-01", mask=masks).items():
        assert betas["voxel"].values.tolist() == masks[one]["voxel"].values[masks[one]].tolist()
    union = group.get_shared_betas("ses-01", mask_source="rsquare")["sub-03"]
    assert union.sizes["voxel"] == group["03"].get_n_voxels("rsquare")


def test_wrong_arguments(group, store):
    with pytest.raises(ValueError, match="No subject is named"):
        load_subjects([], store)
    assert len(load_subjects(np.array(IDS), store)) == 2
    assert group[np.int64(1)].subject_id == "sub-03"
    with pytest.raises(ValueError, match="session names one session"):
        group.get_shared_betas(["ses-01"], average=True)
    mask = group[0].get_roi_mask("FFA1")
    with pytest.raises(ValueError, match="mask has none for sub-03"):
        group.get_shared_betas(mask={"01": mask})


def test_what_cannot_be_had(group, store, bids_root, tmp_path):
    with pytest.raises(ValueError, match="sub-01: Unknown ROI or category 'nowhere'"):
        group.get_shared_betas(roi="nowhere")
    with pytest.raises(NotConvertedError, match="ses-07"):
        group.get_shared_betas("ses-07", average=True)
    with pytest.raises(NotConvertedError, match="sub-05"):
        load_subjects(["01", "05"], store)
    with pytest.raises(SubjectNotFoundError):
        load_subjects(["01", 3.0], store)
    convert(bids_root, tmp_path / "s.zarr", parts="metadata", progress=False)
    with pytest.raises(NotConvertedError, match="holds no subject yet"):
        load_subjects("all", tmp_path / "s.zarr")


def test_nothing_in_common(bids_root, tmp_path):
    for subject in IDS:  # of one, the shared trials alone are renamed
        path = tmp_path / release.trials(subject, "ses-01")
        shutil.copytree((bids_root / release.trials(subject, "ses-01")).parent, path.parent)
        table = pd.read_csv(path, sep="\t")
        if subject == "sub-03":
            table["label"] = table["label"].str.replace("shared_", "shared_other_")
            table.to_csv(path, sep="\t", index=False)
        for tree in ("anatomical", "rois"):
            name = f"derivatives/{tree}/{subject}"
            shutil.copytree(bids_root / name, tmp_path / name)
    convert(tmp_path, tmp_path / "s.zarr", parts=["betas"], progress=False)
    group = load_subjects("all", tmp_path / "s.zarr")
    with pytest.raises(ValueError, match="sub-01, sub-03 have no image in common"):
        group.get_shared_betas(average=True)


# -- averages of anything by trial


def brute(values, labels):
    names = sorted(set(labels))
    means = np.full((len(names), *values.shape[1:]), np.nan)
    for row, name in enumerate(names):
        mine = values[[label == name for label in labels]].astype(np.float64)
        for where in np.ndindex(mine.shape[1:]):
            known = [x for x in mine[(slice(None), *where)] if not np.isnan(x)]
            if known:
                means[(row, *where)] = sum(known) / len(known)
    return names, means


@pytest.mark.parametrize("lazy", [False, True])
def test_average_repeats(lazy):
    rng = np.random.default_rng(3)
    labels = rng.choice(["b.jpg", "a10.jpg", "a9.jpg", "Z.png", "é.jpg"], 37)
    values = rng.standard_normal((7, 37)).astype(np.float32)
    values[rng.random(values.shape) < 0.3] = np.nan
    values[2, labels == "b.jpg"] = np.nan
    sessions = np.repeat(["ses-01", "ses-02"], [20, 17])
    coords = {
        "image_name": ("trial", labels.astype(object)),
        "session": ("trial", sessions.astype(object)),
        "score": ("trial", np.where(labels == "b.jpg", np.nan, labels == "Z.png")),
        "trial": np.arange(37),
        "x": ("voxel", rng.random(7)),
        "subject": "sub-01",
    }
    betas = xr.DataArray(values, coords, ("voxel", "trial"), "betas", {"units": "percent"})
    given = betas.chunk({"trial": 5, "voxel": 3}) if lazy else betas
    found = average_repeats(given)
    assert dask.is_dask_collection(found.data) == lazy
    names, means = brute(values.T, labels.tolist())
    assert found.dims == ("image", "voxel")
    assert found["image"].values.tolist() == names
    np.testing.assert_allclose(found, means, rtol=1e-6)
    assert found["n_trials"].values.tolist() == [list(labels).count(name) for name in names]
    assert found["score"].dims == ("image",)  # says something of the image, as NaN does
    assert "session" not in found.coords
    assert found["x"].equals(betas["x"])
    assert found.attrs == betas.attrs
    assert found.name == "betas"
    assert str(found["subject"].item()) == "sub-01"
    assert np.isnan(given.values).sum() == np.isnan(values).sum()  # the input is as it was


def test_average_repeats_of_embeddings(sub):
    features = sub.embeddings.all("CLIP")
    found = average_repeats(features)
    names, means = brute(features.values.astype(np.float32), features["image_name"].values.tolist())
    assert found["image"].values.tolist() == names
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, means, rtol=1e-3)  # of half floats
    assert found["unique_or_shared"].dims == ("image",)


def test_average_repeats_needs_names(sub):
    with pytest.raises(ValueError, match="'image_name' must be a coordinate"):
        average_repeats(sub.get_noise_ceiling(desc="NoiseceilingAllrep"))


def test_a_thousand_subjects_are_not_needed(tmp_path):
    """A group of a single subject works."""
    root = write_dataset(tmp_path / "one", "tiny", ["sub-07"], ["ses-01"])
    convert(root, tmp_path / "s.zarr", parts=["betas"], progress=False)
    group = load_subjects("all", tmp_path / "s.zarr")
    betas = group.get_shared_betas(average=True)["sub-07"]
    own = load_subject("07", tmp_path / "s.zarr").metadata["label"]
    assert betas["image"].values.tolist() == sorted({x for x in own if x.startswith("shared_")})


def test_voxels_of_two_people_are_never_joined(store):
    one, other = (load_subject(who, store) for who in ("01", "03"))
    ceiling = one.get_noise_ceiling(desc="NoiseceilingAllrep")
    theirs = other.get_noise_ceiling(desc="NoiseceilingAllrep")
    apart = "Voxels of sub-0[13] and of sub-0[13] cannot be joined"
    high = (ceiling > 20).assign_attrs(ceiling.attrs)
    for values in (ceiling, high, noise_ceiling(one.get_betas())):
        assert values.attrs["subject"] == "sub-01"
        with pytest.raises(ValueError, match=apart):
            other.unmask(values)
    with pytest.raises(ValueError, match=apart):
        other.get_betas(mask=high)
    betas, others = (sub.get_image_betas(stimuli="shared")[:, :9] for sub in (one, other))
    features = xr.DataArray(
        np.random.default_rng(0).normal(size=(len(betas), 3)),
        {"image": betas["image"].values},
        ("image", "feature"),
    )
    model = fit_encoding(features, betas)
    assert model.attrs["subject"] == "sub-01"
    with pytest.raises(ValueError, match=apart):
        score(model, features, others)
    with pytest.raises(ValueError, match=apart):
        score(model, features, betas, theirs)
    assert score(model, features, betas, ceiling)["explained"].notnull().any()
    # What lost its attributes is joined by voxel, as before.
    assert other.unmask(theirs.drop_attrs()).notnull().any()
