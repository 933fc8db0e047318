from __future__ import annotations

import hashlib
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from laion_zarr import _layout as layout
from laion_zarr.conversion.synthetic import SIZES, Size, write_dataset
from laion_zarr.errors import SubjectNotFoundError

SUBJECTS = ("sub-01", "sub-03")
SIZE = SIZES["tiny"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("synthetic"), SIZE, SUBJECTS)


@pytest.fixture(scope="module", params=SUBJECTS)
def files(root, request):
    return layout.subject_files(request.param, digests(root))


@pytest.fixture(scope="module")
def volume(root):
    return lambda path: np.asanyarray(nib.load(root / path).dataobj)


@pytest.fixture(scope="module")
def masks(files, volume):
    """The anatomical and the rsquare brain mask."""
    anatomical = files.anatomy["brain_mask", layout.FUNCTIONAL_RES]
    return volume(anatomical) != 0, volume(files.r2mean) != 0


@pytest.fixture(scope="module")
def rois(files, volume):
    return {name: volume(roi.volume) != 0 for name, roi in files.rois.items()}


def digests(root: Path) -> dict[str, str]:
    """Content of every file, by its path."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def trials_of(root, files, session):
    table = pd.read_csv(root / files.sessions[session].trials, sep="\t")
    return table.sort_values("beta_index", ignore_index=True)


def zscored(betas, groups):
    """Z-score the last axis of (x, y, z, trial) within groups of trials."""
    scored = np.full(betas.shape, np.nan)
    for group in set(groups):
        part = betas[..., groups == group].astype(float)
        spread = part.std(-1, keepdims=True)
        np.divide(part - part.mean(-1, keepdims=True), spread, out=part, where=spread > 0)
        scored[..., groups == group] = np.where(spread > 0, part, np.nan)
    return scored


def noise_ceiling(scored, labels):
    """Allen et al. (2022), image by image."""
    repeats = {label: np.flatnonzero(labels == label) for label in set(labels)}
    repeats = {label: rows for label, rows in repeats.items() if len(rows) >= 2}
    noise = np.mean([scored[..., rows].var(-1, ddof=1) for rows in repeats.values()], axis=0)
    ncsnr2 = np.maximum(0, 1 - noise) / noise
    return 100 * ncsnr2 / (ncsnr2 + np.mean([1 / len(rows) for rows in repeats.values()]))


# The files


def test_same_arguments_same_bytes(root, tmp_path):
    assert digests(write_dataset(tmp_path, "tiny", SUBJECTS)) == digests(root)


def test_a_part_equals_the_part_of_the_whole(root, tmp_path):
    part = digests(write_dataset(tmp_path, "tiny", ["03"], sessions=["ses-02"]))
    whole = digests(root)
    assert part.items() <= whole.items()
    missing = set(whole) - set(part)
    assert missing
    assert all("sub-01" in path or "ses-01" in path for path in missing)


def test_layout_finds_everything(files):
    assert list(files.sessions) == list(SIZE.sessions)
    for session in files.sessions.values():
        assert session.betas
        assert session.trials
        assert set(session.maps) == set(layout.SESSION_MAPS)
    assert files.r2mean
    assert set(files.noise_ceilings) == {
        "Noiseceiling4rep",
        "Noiseceiling12rep",
        "NoiseceilingAllrep",
    }
    assert len(files.anatomy) == 2 * len(layout.ANATOMY_KINDS)
    assert all(roi.volume and len(roi.surfaces) == 4 for roi in files.rois.values())


def test_every_data_file_has_a_sidecar(root):
    names = set(digests(root))
    data = {name for name in names if re.search(r"(\.nii\.gz|\.tsv|\.func\.gii)$", name)}
    data.remove("participants.tsv")
    assert {layout.sidecar(name) for name in data} <= names


def test_volumes_share_grid_and_orientation(root, files):
    functional = [
        *(session.betas for session in files.sessions.values()),
        *(path for session in files.sessions.values() for path in session.maps.values()),
        *files.noise_ceilings.values(),
        *(path for (_, res), path in files.anatomy.items() if res),
        *(roi.volume for roi in files.rois.values()),
        files.r2mean,
    ]
    affine = nib.load(root / files.r2mean).affine
    assert nib.aff2axcodes(affine) == ("L", "A", "S")
    for image in (nib.load(root / path) for path in functional):
        assert image.shape[:3] == SIZE.shape
        np.testing.assert_array_equal(image.affine, affine)
    for image in (nib.load(root / path) for (_, res), path in files.anatomy.items() if not res):
        assert image.shape == SIZE.anatomy_shape
        assert nib.aff2axcodes(image.affine) == ("L", "A", "S")


@pytest.mark.parametrize("name", SIZES)
def test_sizes_tell_their_axes_apart(name):
    size = SIZES[name]
    assert name == "full" or len(set(size.shape)) == len(set(size.anatomy_shape)) == 3
    assert len(set(size.trials)) == len(size.trials)
    # All grids hold a head: the brain is of human size on each.
    assert min(size.shape) * size.voxel_mm > 180


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"size": "huge"}, ValueError),
        ({"subjects": ["sub-02"]}, SubjectNotFoundError),
        ({"sessions": ["ses-03"]}, ValueError),
    ],
)
def test_refuses_what_it_does_not_have(tmp_path, arguments, error):
    with pytest.raises(error, match="Choose from"):
        write_dataset(tmp_path / "none", **{"size": "tiny", **arguments})
    assert not (tmp_path / "none").exists()


def test_takes_a_size_of_your_own(tmp_path):
    size = Size((9, 11, 10), 20.0, (13,), 3, (10, 12, 11), 18.0, (2, 3))
    root = write_dataset(tmp_path, size)
    found = layout.subject_files("sub-01", digests(root))
    betas = nib.load(root / found.sessions["ses-01"].betas)
    assert betas.shape == (9, 11, 10, 13)
    assert trials_of(root, found, "ses-01")["run"].unique().tolist() == [1, 2, 3]


# Trials and stimuli


@pytest.mark.parametrize("session", SIZE.sessions)
def test_trials_match_volumes(root, files, session):
    rows = pd.read_csv(root / files.sessions[session].trials, sep="\t")
    assert list(rows) == ["session", "run", "beta_index", "label"]
    n_volumes = nib.load(root / files.sessions[session].betas).shape[3]
    assert n_volumes == SIZE.trials[SIZE.sessions.index(session)]
    assert sorted(rows["beta_index"]) == list(range(n_volumes))
    shuffled = session == SIZE.sessions[-1]
    assert rows["beta_index"].is_monotonic_increasing != shuffled
    ordered = rows.sort_values("beta_index")
    assert ordered["run"].is_monotonic_increasing
    assert set(ordered["run"]) == set(range(1, SIZE.runs + 1))
    assert set(rows["session"]) == {session}


def test_images_repeat(root, files):
    tables = [trials_of(root, files, session) for session in SIZE.sessions]
    times = pd.concat(tables)["label"].value_counts()
    frequent = times.index.str.contains("_12rep_")
    assert (times[frequent] == 12).all()
    assert times[~frequent].max() == 4
    assert (times >= 2).mean() >= 0.9
    assert (tables[0]["label"].value_counts() >= 2).mean() >= 0.9


def test_shared_images_are_everyones_and_unique_ones_are_not(root):
    names = digests(root)
    seen = {}
    for subject in SUBJECTS:
        found = layout.subject_files(subject, names)
        tables = [trials_of(root, found, session) for session in SIZE.sessions]
        seen[subject] = pd.concat(tables)["label"].tolist()
    shared = [[name for name in seen[subject] if layout.is_shared(name)] for subject in SUBJECTS]
    assert set(shared[0]) == set(shared[1])
    assert shared[0] != shared[1]
    for subject, suffix in {"sub-01": "_p01.jpg", "sub-03": "_p04.jpg"}.items():
        unique = [name for name in seen[subject] if not layout.is_shared(name)]
        assert unique
        assert all(name.endswith(suffix) for name in unique)


def test_metadata_has_every_image_once(root, files):
    metadata = pd.read_csv(root / layout.STIMULUS_METADATA, keep_default_na=False)
    assert list(metadata) == [
        *("image_name", "dataset", "participant"),
        *("unique_or_shared", "n_reps", "aesthetic_score"),
    ]
    names = metadata["image_name"]
    assert names.is_unique
    assert not names.is_monotonic_increasing
    for session in SIZE.sessions:
        assert set(trials_of(root, files, session)["label"]) <= set(names)
    assert set(metadata["participant"]) == {"all", *layout.SUBJECTS}
    assert (metadata["unique_or_shared"] == names.str.split("_").str[0]).all()
    assert (metadata["n_reps"] == np.where(names.str.contains("12rep"), "12rep", "4rep")).all()
    assert {"LAION", "NSD", "OOD"} <= set(metadata["dataset"])


# Voxels


def test_neither_mask_holds_the_other(masks):
    anatomical, rsquare = masks
    assert (anatomical & ~rsquare).any()
    assert rsquare.sum() > 1.5 * anatomical.sum()
    assert (anatomical & rsquare).sum() > 0.9 * anatomical.sum()


def test_r2mean_has_negative_and_nan_voxels(files, volume):
    r2mean = volume(files.r2mean)
    assert 0 < np.isnan(r2mean).sum() < 0.05 * r2mean.size
    assert 0 < (r2mean < 0).sum() < 0.05 * r2mean.size


def test_betas_are_zero_outside_and_damaged_in_places(files, masks, volume):
    brain = masks[0] | masks[1]
    nan = []
    for session in files.sessions.values():
        betas = volume(session.betas)
        assert betas.dtype == np.float32
        assert not betas[~brain].any()
        assert (betas[brain] == 0).any()
        nan.append(np.isnan(betas[brain]))
    whole = [part.all(-1) for part in nan]
    assert (whole[0] & whole[1]).any()
    assert (whole[0] & ~whole[1]).any()
    assert (whole[1] & ~whole[0]).any()
    assert all((part.sum(-1) == 1).any() for part in nan)
    assert np.mean(nan[0]) < 0.05


def test_rois(files, masks, rois):
    assert all(mask.any() for mask in rois.values())
    categories = {roi.category for roi in files.rois.values()}
    assert categories == {
        *("body", "character", "face", "laion"),
        *("motion", "object", "place", "retinotopy"),
    }
    parts = [mask for name, mask in rois.items() if name.startswith("laion")]
    union = np.any([mask for mask in parts if mask is not rois["laiongeneral"]], axis=0)
    np.testing.assert_array_equal(rois["laiongeneral"], union)
    everywhere = np.any(list(rois.values()), axis=0)
    assert (everywhere & ~masks[0] & ~masks[1]).any()
    assert sum(mask.sum() for mask in rois.values()) > everywhere.sum()
    # Bilateral: the first axis runs from right to left.
    middle = (SIZE.shape[0] - 1) // 2
    for name in ("EBA", "FFA1", "LO2", "OFA", "PPA", "IPCS"):
        assert rois[name][:middle].any()
        assert rois[name][middle + 1 :].any()


def test_subjects_have_different_rois(root):
    names = digests(root)
    first, second = (set(layout.subject_files(subject, names).rois) for subject in SUBJECTS)
    assert len(first) == 40
    assert {"AFP1", "SPL"} <= second - first
    assert "mfswords" in first - second


def test_surface_formats_agree(root, files):
    counts = {}
    for roi in files.rois.values():
        for hemi, frequency in zip(layout.HEMIS, SIZE.sphere, strict=True):
            data = nib.load(root / roi.surfaces[hemi, "func.gii"]).darrays[0].data
            assert data.dtype == np.float32
            assert set(np.unique(data)) == {0, 1}
            label = nib.freesurfer.read_label(root / roi.surfaces[hemi, "label"])
            np.testing.assert_array_equal(np.flatnonzero(data), label)
            counts[hemi] = data.size
            assert data.size == 10 * frequency**2 + 2
    assert counts["L"] != counts["R"]


# Responses


def test_repeats_are_more_alike_than_other_images(root, files, masks, rois, volume):
    patterns = volume(files.sessions["ses-01"].betas)[rois["laiongeneral"] & masks[0]]
    patterns = patterns[np.isfinite(patterns).all(1) & patterns.any(1)]
    labels = trials_of(root, files, "ses-01")["label"].to_numpy()
    alike = np.corrcoef(patterns - patterns.mean(1, keepdims=True), rowvar=False)
    same = labels[:, None] == labels
    assert alike[same & ~np.eye(len(labels), dtype=bool)].mean() > alike[~same].mean() + 0.15


@pytest.mark.parametrize("session", SIZE.sessions)
def test_session_noise_ceiling(root, files, masks, volume, session):
    found = files.sessions[session]
    trials = trials_of(root, files, session)
    scored = zscored(volume(found.betas), trials["run"].to_numpy())
    expected = noise_ceiling(scored, trials["label"].to_numpy())
    expected[~(masks[0] | masks[1])] = 0
    ceiling = volume(found.maps["session_noise_ceiling"])
    np.testing.assert_allclose(ceiling, expected, rtol=1e-5, atol=1e-4)
    assert np.nanmax(ceiling) <= 100
    assert np.isnan(ceiling).any()


@pytest.mark.parametrize("desc", ["4rep", "12rep", "Allrep"])
def test_cross_session_noise_ceilings(root, files, masks, volume, desc):
    trials = pd.concat([trials_of(root, files, session) for session in SIZE.sessions])
    betas = np.concatenate([volume(found.betas) for found in files.sessions.values()], axis=-1)
    labels = trials["label"].to_numpy()
    # Unique images say no number in their name: all are of the 4-rep kind.
    repeats = ["12rep" if "_12rep_" in name else "4rep" for name in labels]
    wanted = np.array([desc in ("Allrep", kind) for kind in repeats])
    scored = zscored(betas, trials["session"].to_numpy())[..., wanted]
    expected = noise_ceiling(scored, labels[wanted])
    expected[~(masks[0] | masks[1])] = 0
    ceiling = volume(files.noise_ceilings[f"Noiseceiling{desc}"])
    np.testing.assert_allclose(ceiling, expected, rtol=1e-5, atol=1e-4)


def test_visual_regions_respond_most(files, masks, rois, volume):
    ceiling = volume(files.noise_ceilings["NoiseceilingAllrep"])
    visual = np.nanmean(ceiling[rois["laiongeneral"] & masks[0]])
    assert visual > 1.5 * np.nanmean(ceiling[masks[1] & ~masks[0]])
    assert visual > 20
