"""The sample dataset's expected answers, reproduced in every way that a user can ask.

The sample is not part of the project; where it is absent these tests are skipped.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from nilearn.datasets import fetch_surf_fsaverage
from nilearn.surface import load_surf_mesh
from places import EXPECTED, SAMPLE

from laion_zarr import convert, load_subject, verify
from laion_zarr.subject import Subject

pytestmark = pytest.mark.skipif(not EXPECTED.is_dir(), reason="the sample dataset is not here")

QUERIES = json.loads((EXPECTED / "betas.json").read_text()) if EXPECTED.is_dir() else []


@pytest.fixture(scope="session")
def sample_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("sample") / "store.zarr"
    report = convert(SAMPLE / "data", store, progress=False)
    assert not report.missing
    assert not report.failed
    return store


@pytest.fixture(scope="session")
def subjects(sample_store: Path) -> dict[str, Subject]:
    return {name: load_subject(name, sample_store) for name in ("sub-01", "sub-03")}


@pytest.fixture(scope="session")
def summary() -> dict:
    return json.loads((EXPECTED / "summary.json").read_text())["subjects"]


def digest(values: np.ndarray) -> str:
    filled = np.where(np.isnan(values), np.float32(0), values)
    return hashlib.sha256(np.ascontiguousarray(filled, "<f4").tobytes()).hexdigest()


def check_answer(betas: xr.DataArray, answer: dict) -> None:
    values = betas.values
    assert values.dtype == np.float32
    assert list(values.shape) == answer["shape"]
    assert int(np.isnan(values).sum()) == answer["n_nan"]
    assert np.nansum(values, dtype=np.float64) == pytest.approx(answer["sum"], rel=1e-9)
    assert digest(values) == answer["sha256"]


def query_id(answer: dict) -> str:
    return "-".join(str(value) for value in answer["query"].values())


def plain(query: dict) -> bool:
    return "nc" not in query and query.get("stimuli") != "ood"


def threshold_mask(sub: Subject, query: dict) -> np.ndarray | None:
    """The mask array that the sample's README asks for where a ceiling is named."""
    if "nc" not in query:
        return None
    source = query.get("mask", "anatomical")
    ceiling = sub.get_noise_ceiling(desc=f"Noiseceiling{query['nc']}", mask_source=source)
    keep = ceiling.values >= query["nc_threshold"]
    if "roi" in query:
        keep &= sub.get_roi_mask(query["roi"], mask_source=source).values
    return keep


@pytest.mark.parametrize("answer", QUERIES, ids=query_id)
def test_get_betas(subjects, answer):
    query = answer["query"]
    sub = subjects[query["subject"]]
    mask = threshold_mask(sub, query)
    ood = query.get("stimuli") == "ood"
    betas = sub.get_betas(
        session=query["session"],
        roi=query.get("roi") if mask is None else None,
        mask=mask,
        nc_threshold=query.get("nc_threshold") if mask is None else None,
        stimuli=None if ood else query.get("stimuli"),
        mask_source=query.get("mask", "anatomical"),
    )
    if ood:
        betas = betas[["_OOD_" in name for name in betas["image_name"].values]]
    check_answer(betas, answer)
    first, last = betas.values[0, :5], betas.values[-1, -5:]
    np.testing.assert_array_equal(first, np.float32(answer["first"]))
    np.testing.assert_array_equal(last, np.float32(answer["last"]))


@pytest.mark.parametrize("answer", [a for a in QUERIES if plain(a["query"])], ids=query_id)
def test_sel(subjects, answer):
    query = answer["query"]
    selected = subjects[query["subject"]].sel(
        session=query["session"],
        roi=query.get("roi"),
        nc_threshold=query.get("nc_threshold"),
        stimuli=query.get("stimuli"),
        mask_source=query.get("mask", "anatomical"),
    )
    check_answer(selected["betas"], answer)


def by_labels(dataset: xr.Dataset, query: dict, resolve) -> xr.DataArray:
    """A query of betas, put to a plain Dataset by its labels alone."""
    keep = dataset[f"in_{query.get('mask', 'anatomical')}"].values.copy()
    if "roi" in query:
        keep &= dataset["roi_mask"].sel(roi=resolve(query["roi"])).values.any(axis=0)
    if "nc_threshold" in query:
        ceiling = (
            dataset["noise_ceiling"].sel(nc=f"Noiseceiling{query['nc']}")
            if "nc" in query
            else dataset["session_noise_ceiling"].sel(session_id=query["session"])
        )
        keep &= ceiling.values >= query["nc_threshold"]
    trials = dataset["session"].values == query["session"]
    if query.get("stimuli") == "ood":
        trials &= np.array(["_OOD_" in name for name in dataset["image_name"].values])
    elif "stimuli" in query:
        trials &= dataset["unique_or_shared"].values == query["stimuli"]
    return dataset["betas"].isel(trial=trials, voxel=keep)


def roi_resolver(dataset: xr.Dataset):
    table = dict(zip(dataset["roi"].values, dataset["category"].values, strict=True))

    def resolve(query):
        wanted = [query] if isinstance(query, str) else query
        return [roi for roi, category in table.items() if roi in wanted or category in wanted]

    return resolve


@pytest.mark.parametrize("answer", QUERIES, ids=query_id)
def test_dataset_by_label(subjects, answer):
    dataset = subjects[answer["query"]["subject"]].dataset
    check_answer(by_labels(dataset, answer["query"], roi_resolver(dataset)), answer)


@pytest.mark.parametrize("answer", QUERIES, ids=query_id)
def test_engine(sample_store, answer):
    query = answer["query"]
    with xr.open_dataset(sample_store, engine="laion_zarr", group=query["subject"]) as dataset:
        check_answer(by_labels(dataset, query, roi_resolver(dataset)), answer)


@pytest.mark.parametrize("answer", [a for a in QUERIES if plain(a["query"])], ids=query_id)
def test_plain_xarray(sample_store, answer):
    """No laion_zarr in the reading: the store says itself how to undo the storage order."""
    query = answer["query"]
    group = f"{sample_store}/{query['subject']}"
    betas = xr.open_zarr(f"{group}/{query['session']}", consolidated=False)
    voxels = xr.open_zarr(f"{group}/voxels", consolidated=False)
    ceilings = xr.open_zarr(f"{group}/maps/{query['session']}", consolidated=False)
    trials = xr.open_zarr(f"{group}/trials", consolidated=False)
    keep = voxels[f"in_{query.get('mask', 'anatomical')}"].values
    if "roi" in query:
        names = roi_resolver(voxels)(query["roi"])
        keep = keep & voxels["roi_mask"].sel(roi=names).values.any(axis=0)
    if "nc_threshold" in query:
        keep = keep & (ceilings["session_noise_ceiling"].values >= query["nc_threshold"])
    betas = betas["betas"].isel(voxel=keep)
    if "stimuli" in query:
        mine = trials["session"].values == query["session"]
        betas = betas.isel(trial=trials["unique_or_shared"].values[mine] == query["stimuli"])
    check_answer(betas.sortby("voxel").transpose("trial", "voxel"), answer)


@pytest.mark.parametrize("subject", ["sub-01", "sub-03"])
@pytest.mark.parametrize("mask", ["anatomical", "rsquare"])
def test_voxels(subjects, summary, subject, mask):
    sub, expected = subjects[subject], np.load(EXPECTED / f"voxels_{subject}.npz")
    betas = sub.get_betas(mask_source=mask)
    ijk = np.stack([betas[name].values for name in "ijk"], axis=1)
    np.testing.assert_array_equal(ijk, expected[f"{mask}_ijk"])
    np.testing.assert_array_equal(
        sub.get_voxel_coordinates(mask_source=mask).values, expected[f"{mask}_xyz"]
    )
    names = expected["roi_names"].tolist()
    assert sub.get_available_rois() == sorted(names)
    for row, roi in enumerate(names):
        np.testing.assert_array_equal(
            sub.get_roi_mask(roi, mask_source=mask).values, expected[f"{mask}_rois"][row]
        )
    for session in sub.get_sessions():
        ceiling = sub.get_noise_ceiling(session=session, mask_source=mask)
        np.testing.assert_array_equal(ceiling.values, expected[f"{mask}_nc_{session}"])
    for desc in ("4rep", "12rep", "Allrep"):
        ceiling = sub.get_noise_ceiling(desc=f"Noiseceiling{desc}", mask_source=mask)
        np.testing.assert_array_equal(ceiling.values, expected[f"{mask}_nc_{desc}"])
    assert sub.get_n_voxels(mask) == summary[subject]["n_voxels"][mask]


@pytest.mark.parametrize("subject", ["sub-01", "sub-03"])
def test_summary(subjects, summary, subject):
    sub, expected = subjects[subject], summary[subject]
    dataset = sub.dataset
    assert list(dataset.attrs["shape"]) == expected["shape"]
    np.testing.assert_array_equal(dataset.attrs["affine"], np.ravel(expected["affine"]))
    both = dataset["in_anatomical"].values & dataset["in_rsquare"].values
    assert both.sum() == expected["both_masks"]
    counts = sub.metadata["session"].value_counts()
    assert counts.to_dict() == expected["n_trials"]
    for session, has_map in expected["has_HRFindex"].items():
        values = dataset["hrf_index"].sel(session_id=session).values
        assert bool(np.isfinite(values).all()) == has_map
    for roi, facts in expected["rois"].items():
        (data,) = sub.get_roi_data(roi).values()
        assert dataset["category"].sel(roi=roi).item() == facts["category"]
        assert data["volume"].sum() == facts["anatomical"]
        for hemi in "LR":
            assert data["gii"][f"hemi-{hemi}"]["func.gii"].sum() == facts[hemi]
            assert len(data["gii"][f"hemi-{hemi}"]["label"]) == facts[hemi]


def test_first_labels(subjects):
    expected = json.loads((EXPECTED / "stimuli.json").read_text())["first_labels"]
    for name, labels in expected.items():
        subject, session = name.split()
        found = subjects[subject].get_trial_info(session)["label"].tolist()
        assert found[: len(labels)] == labels


@pytest.mark.parametrize("subject", ["sub-01", "sub-03"])
def test_events_and_behaviour(subjects, subject):
    extras = json.loads((EXPECTED / "extras.json").read_text())[subject]
    counts = subjects[subject].get_events().groupby("session").size()
    assert counts.to_dict() == extras["events"]
    expected = pd.DataFrame(**extras["behaviour"])
    found = subjects[subject].metadata[expected.columns]
    pd.testing.assert_frame_equal(found, expected)


def test_verify_deep(sample_store):
    report = verify(sample_store, SAMPLE / "data", deep=True, progress=False)
    assert not report.notes
    assert report.n_values > 1e7 / 4


@pytest.mark.parametrize("subject", ["sub-01", "sub-03"])
@pytest.mark.parametrize("hemi", ["L", "R"])
def test_surfaces(subjects, subject, hemi):
    """A map of the localizers has a value for each vertex, and reaches fsaverage."""
    sub, recon = subjects[subject], SAMPLE / "data/derivatives/freesurfer" / subject
    for name in ("white", "pial", "inflated"):
        found = sub.get_surface(name, hemi)
        vertices, faces = nib.freesurfer.read_geometry(recon / f"surf/{hemi.lower()}h.{name}")
        mm = vertices + nib.load(recon / "mri/orig.mgz").header["Pxyz_c"]
        np.testing.assert_allclose(found["coordinates"], mm, atol=1e-4)
        np.testing.assert_array_equal(found["faces"], faces)
        assert "curvature" not in found
    localizers = np.load(EXPECTED / f"localizers_{subject}.npz")
    values = localizers[f"floc:faceVsOthers:z:0:hemi-{hemi}"]
    assert values.shape == (found.sizes["vertex"],)
    carried = sub.surface_to_template(values, hemi=hemi)
    assert carried.sizes["vertex"] == 10242
    assert np.nanmin(values) <= carried.min() <= carried.max() <= np.nanmax(values)


@pytest.mark.parametrize("subject", ["sub-01", "sub-03"])
@pytest.mark.parametrize("hemi", ["L", "R"])
def test_a_point_lands_at_its_vertex(subjects, subject, hemi):
    """A vertex's mm by hand, a point there: largest at the nearest vertex of fsaverage5."""
    sub, recon = subjects[subject], SAMPLE / "data/derivatives/freesurfer" / subject
    white, _ = nib.freesurfer.read_geometry(recon / f"surf/{hemi.lower()}h.white")
    sphere, _ = nib.freesurfer.read_geometry(recon / f"surf/{hemi.lower()}h.sphere.reg")
    mm = white + nib.load(recon / "mri/orig.mgz").header["Pxyz_c"]
    positions = sub.get_voxel_coordinates()
    name = {"L": "left", "R": "right"}[hemi]
    target = load_surf_mesh(fetch_surf_fsaverage()[f"sphere_{name}"]).coordinates
    lateral = np.flatnonzero(np.abs(white[:, 0]) > np.abs(white[:, 0]).max() / 2)
    for vertex in np.random.default_rng(0).choice(lateral, 5, replace=False):
        distances = np.linalg.norm(positions.values - mm[vertex], axis=1)
        point = xr.zeros_like(positions.sel(axis="x"))
        # A blob, since a single voxel may lie between vertices.
        point[:] = np.exp(-((distances / 4) ** 2))
        both = sub.to_template(point, "fsaverage")
        nearest = np.linalg.norm(target - sphere[vertex], axis=1).argmin()
        found = both.sel(hemi=hemi).values
        assert found[nearest] > 0.9 * np.nanmax(found)
        peak = np.linalg.norm(target - target[np.nanargmax(found)], axis=1)[nearest]
        assert peak < 15  # mm on a sphere of radius 100: a vertex of the subject's or so
        assert np.nanmax(both.drop_sel(hemi=hemi)) < 0.2 * np.nanmax(found)
