"""The synthetic dataset: its files, tables and values are like those of the release."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from laion_zarr import _release as release
from laion_zarr.conversion.synthetic import SIZES, Size, pictures, write_dataset
from laion_zarr.conversion.synthetic.model import experiment
from laion_zarr.errors import SubjectNotFoundError

SUBJECTS = ("sub-01", "sub-03")
SIZE = SIZES["tiny"]
MODELS = dict(zip(("CLIP", "DINOv2", "PEcore", "SigLIP2"), SIZE.embeddings, strict=True))
GREY = 128  # what the release showed transparent pictures on


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("synthetic"), SIZE, SUBJECTS)


@pytest.fixture(scope="module", params=SUBJECTS)
def files(root, request):
    return release.subject_files(request.param, digests(root))


@pytest.fixture(scope="module")
def volume(root):
    return lambda path: np.asanyarray(nib.load(root / path).dataobj)


@pytest.fixture(scope="module")
def masks(files, volume):
    """The anatomical and the rsquare brain mask."""
    anatomical = files.anatomy["brain_mask", release.FUNCTIONAL_RES]
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


def test_the_stimuli_are_those_of_the_size_alone(root, tmp_path):
    others = digests(write_dataset(tmp_path, "tiny", ["sub-07"], sessions=["ses-01"]))
    whole = {path: digest for path, digest in digests(root).items() if "stimuli" in path}
    assert len(whole) == 9
    assert whole.items() <= others.items()


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
        assert set(session.maps) == set(release.SESSION_MAPS)
    assert files.r2mean
    assert set(files.noise_ceilings) == {
        "Noiseceiling4rep",
        "Noiseceiling12rep",
        "NoiseceilingAllrep",
    }
    assert len(files.anatomy) == 2 * len(release.ANATOMY_KINDS)
    assert all(roi.volume and len(roi.surfaces) == 4 for roi in files.rois.values())


def test_every_data_file_has_a_sidecar(root):
    names = set(digests(root))
    data = {name for name in names if re.search(r"(\.nii\.gz|\.tsv|\.func\.gii)$", name)}
    data.remove("participants.tsv")
    assert {release.sidecar(name) for name in data} <= names


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
    found = release.subject_files("sub-01", digests(root))
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
        found = release.subject_files(subject, names)
        tables = [trials_of(root, found, session) for session in SIZE.sessions]
        seen[subject] = pd.concat(tables)["label"].tolist()
    shared = [[name for name in seen[subject] if release.is_shared(name)] for subject in SUBJECTS]
    assert set(shared[0]) == set(shared[1])
    assert shared[0] != shared[1]
    for subject, suffix in {"sub-01": "_p01.jpg", "sub-03": "_p04.jpg"}.items():
        unique = [name for name in seen[subject] if not release.is_shared(name)]
        assert unique
        assert all(name.endswith(suffix) for name in unique)


def test_metadata_has_every_image_once(root, files):
    metadata = pd.read_csv(root / release.STIMULUS_METADATA, keep_default_na=False)
    assert list(metadata) == [
        *("image_name", "dataset", "participant"),
        *("unique_or_shared", "n_reps", "aesthetic_score"),
    ]
    names = metadata["image_name"]
    assert names.is_unique
    assert not names.is_monotonic_increasing
    for session in SIZE.sessions:
        assert set(trials_of(root, files, session)["label"]) <= set(names)
    assert set(metadata["participant"]) == {"all", *release.SUBJECTS}
    assert (metadata["unique_or_shared"] == names.str.split("_").str[0]).all()
    assert (metadata["n_reps"] == np.where(names.str.contains("12rep"), "12rep", "4rep")).all()
    assert {"LAION", "NSD", "OOD"} <= set(metadata["dataset"])


# Pictures


@pytest.fixture(scope="module")
def names(root):
    return pd.read_csv(root / release.STIMULUS_METADATA)["image_name"].tolist()


@pytest.fixture(scope="module")
def shown(root, names):
    """Pictures as files hold them, by name."""
    with h5py.File(root / release.STIMULUS_IMAGES) as file:
        return {
            name: Image.open(io.BytesIO(data.tobytes()))
            for name, data in zip(names, file["images"][:], strict=True)
        }


def test_images_are_bytes_of_files(root, names):
    with h5py.File(root / release.STIMULUS_IMAGES) as file:
        assert list(file) == ["images"]
        assert file["images"].shape == (len(names),)
        assert h5py.check_vlen_dtype(file["images"].dtype) == np.uint8
        assert file["images"].chunks is None


def test_pictures_open_and_are_square(shown):
    assert {image.size for image in shown.values()} == {(SIZE.picture, SIZE.picture)}
    for name, image in shown.items():
        assert image.format == ("PNG" if name.endswith(".png") else "JPEG")
        image.load()
    assert {image.mode for image in shown.values()} == {"RGB", "RGBA", "L"}


def test_some_are_transparent_in_part(shown):
    alphas = [np.asarray(image)[..., 3] for image in shown.values() if image.mode == "RGBA"]
    for alpha in alphas:
        assert alpha.min() == 0
        assert alpha.max() == 255
        assert len(np.unique(alpha)) > 20


def test_pictures_differ(shown):
    assert len({image.tobytes() for image in shown.values()}) == len(shown)


@pytest.mark.parametrize("label", experiment.metadata(SIZES["demo"])["image_name"][::5])
def test_a_picture_shows_the_content_that_regions_respond_to(label):
    features = experiment.features(label)[: len(experiment.CONTENTS)]
    scene = pictures.scene(label)
    assert scene.content == experiment.CONTENTS[features.argmax()]
    kinds = {kind.noun: content for content, some in pictures.KINDS.items() for kind in some}
    assert kinds[scene.main.kind.noun] == scene.content
    for thing in scene.small:
        assert features[experiment.CONTENTS.index(kinds[thing.kind.noun])] > 0
    assert scene.main.kind.noun in pictures.describe(scene, 0)
    for side in (24, 160):
        picture = pictures.draw(scene, side)
        areas = [picture.mask(k).mean() for k in range(len(scene.things))]
        assert min(areas) > 0.003
        assert areas[0] == max(areas) > 0.05


# Embeddings


@pytest.mark.parametrize("model", MODELS)
def test_embeddings(root, names, model):
    with h5py.File(root / release.embeddings(model)) as file:
        assert set(file) == {"embedding", "image_ids", "valid"}
        assert file["embedding"].dtype == np.float16
        assert h5py.check_string_dtype(file["image_ids"].dtype).length is None
        assert file["valid"].dtype == bool
        values, valid = file["embedding"][:], file["valid"][:]
        ids = file["image_ids"].asstr()[:].tolist()
    assert values.shape == (len(names), MODELS[model])
    assert np.isfinite(values).all()
    assert sorted(ids) == sorted(names)
    assert ids != names
    assert 2 <= (~valid).sum() < len(names) / 4
    assert not values[~valid].any()
    assert values[valid].any(1).all()


def test_models_share_the_order_and_nothing_else(root):
    files = [h5py.File(root / release.embeddings(model)) for model in MODELS]
    ids, values = ([file[key][:] for file in files] for key in ("image_ids", "embedding"))
    for file in files:
        file.close()
    assert all((ids[0] == other).all() for other in ids[1:])
    for k, one in enumerate(values):
        assert not any((one[:, :16] == other[:, :16]).all() for other in values[:k])


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A dataset of many images, and the mean response of the face areas to each."""
    lengths = (64, 64, 64, 72)
    size = Size((11, 13, 12), 17.0, (480, 490), 2, (5, 6, 5), 40.0, (2, 2), 16, lengths)
    root = write_dataset(tmp_path_factory.mktemp("many"), size)
    found = release.subject_files("sub-01", digests(root))
    faces = [nib.load(root / roi.volume) for roi in found.rois.values() if roi.category == "face"]
    mask = np.any([image.get_fdata() > 0 for image in faces], axis=0)
    trials = pd.concat([trials_of(root, found, session) for session in size.sessions])
    betas = [nib.load(root / one.betas).get_fdata()[mask] for one in found.sessions.values()]
    means = pd.Series(np.nanmean(np.concatenate(betas, axis=1), axis=0), trials["label"])
    return root, means.groupby(level=0).mean()


def held_out_correlation(features, target, ridge=3.0):
    """How well the first half of the images predicts the second."""
    half = len(target) // 2
    centred = features - features[:half].mean(0)
    gram = centred[:half].T @ centred[:half] + ridge * np.eye(features.shape[1])
    weights = np.linalg.solve(gram, centred[:half].T @ (target[:half] - target[:half].mean()))
    return np.corrcoef(centred[half:] @ weights, target[half:])[0, 1]


@pytest.mark.parametrize("model", MODELS)
def test_embeddings_predict_the_face_areas(many, model):
    root, responses = many
    with h5py.File(root / release.embeddings(model)) as file:
        ids = file["image_ids"].asstr()[:]
        table = pd.DataFrame(file["embedding"][:].astype(float), index=ids)[file["valid"][:]]
    both = table.index.intersection(responses.index)
    assert held_out_correlation(table.loc[both].to_numpy(), responses[both].to_numpy()) > 0.3


def test_pictures_of_faces_drive_the_face_areas(many):
    _, responses = many
    faces = np.array([pictures.scene(name).content == "face" for name in responses.index])
    assert responses[faces].mean() > responses[~faces].mean() + responses[~faces].std()


# Segmentations


@pytest.fixture(scope="module")
def table(root):
    return pd.read_csv(root / release.SEGMENTATION_TABLE)


@pytest.fixture(scope="module")
def segments(root, table):
    """Masks by row of the table."""
    with h5py.File(root / release.SEGMENTATIONS) as file:
        masks = file["masks"]
        assert masks.shape == (len(table), SIZE.picture, SIZE.picture)
        assert masks.chunks == (1, SIZE.picture, SIZE.picture)
        assert (masks.dtype, masks.compression, masks.shuffle) == (np.uint8, "gzip", True)
        return masks[:][table["mask_row"]]


def test_segmentations(table, segments, names):
    assert list(table) == [
        *("mask_row", "image_name", "noun", "instance_id", "score"),
        *("box_x0", "box_y0", "box_x1", "box_y1", "localized", "mask_file"),
    ]
    assert sorted(table["mask_row"]) == list(range(len(table)))
    assert not table["mask_row"].is_monotonic_increasing
    assert not table["image_name"].is_monotonic_increasing
    assert set(table["image_name"]) == set(filter(release.is_shared, names))
    assert table["mask_file"].is_unique
    located = table["localized"] == 1
    assert 0 < located.sum() < len(table)
    columns = ["score", "box_x0", "box_y0", "box_x1", "box_y1"]
    assert table.loc[located, columns].notna().all(axis=None)
    assert table.loc[~located, columns].isna().all(axis=None)
    assert set(np.unique(segments[located])) == {0, 1}
    assert not segments[~located].any()


def test_boxes_hold_their_masks(table, segments):
    for row, mask in zip(table.itertuples(), segments, strict=True):
        if row.localized:
            y, x = np.nonzero(mask)
            box = (row.box_x0, row.box_y0, row.box_x1, row.box_y1)
            assert box == (x.min(), y.min(), x.max() + 1, y.max() + 1)


def test_instances_are_counted_from_the_best(table):
    assert table["instance_id"].max() >= 1
    for _, same in table.groupby(["image_name", "noun"]):
        ordered = same.sort_values("instance_id")
        assert ordered["instance_id"].tolist() == list(range(len(same)))
        assert ordered["score"].is_monotonic_decreasing or len(same) == 1


def test_masks_are_where_the_picture_differs_from_its_background(table, segments, shown):
    for name in table["image_name"].unique():
        rows = table["image_name"] == name
        masks = segments[rows].astype(int)
        assert masks.sum(0).max() == 1
        picture = pictures.draw(pictures.scene(name), SIZE.picture)
        np.testing.assert_array_equal(masks.sum(0) > 0, picture.numbers > 0)
        rgb = np.asarray(shown[name].convert("RGB")).astype(int)
        # The wall and the floor are of one colour from left to right.
        empty = masks.sum(0) == 0
        wall = rgb[0, [0, SIZE.picture // 2]].mean(0)
        distance = np.abs(rgb - wall).sum(-1)
        assert distance[~empty].mean() > 1.5 * distance[empty].mean()


# Captions


@pytest.fixture(scope="module")
def captions(root):
    return pd.read_csv(root / release.CAPTIONS, keep_default_na=False)


def test_captions(captions, names):
    assert list(captions) == [
        *("image_name", "caption_idx", "source", "caption"),
        *("origin_collection", "participant_id", "ai_model"),
    ]
    assert set(captions["image_name"]) == set(names)
    assert not captions["image_name"].is_monotonic_increasing
    assert not captions.duplicated(["image_name", "caption_idx"]).any()
    human = captions["source"] == "human"
    shared = captions["image_name"].map(release.is_shared)
    assert set(captions.loc[human & shared, "caption_idx"]) == {1, 2, 3, 4, 5}
    assert set(captions.loc[human & ~shared, "caption_idx"]) == {1, 2, 3}
    assert (human == (captions["participant_id"] != "")).all()
    assert (human == (captions["ai_model"] == "")).all()


def test_a_machine_captions_shared_images_in_distribution(captions, names):
    machine = captions[captions["source"] == "ai"]
    assert set(machine["caption_idx"]) == {0}
    expected = [name for name in names if release.is_shared(name) and "_OOD_" not in name]
    assert sorted(machine["image_name"]) == sorted(expected)


def test_captions_say_what_is_drawn(captions):
    ordinary = captions[captions["caption"].str.contains("background")]
    assert len(ordinary) > len(captions) / 4
    for row in ordinary.itertuples():
        assert pictures.scene(row.image_name).main.kind.noun in row.caption


@pytest.mark.parametrize("text", ["", "NA", "None", "nan", '""', "First line,\nsecond line"])
def test_odd_captions(captions, text):
    assert (captions["caption"] == text).any()


@pytest.mark.parametrize("pattern", ["é", "日本", ",", "'", '"', "\t", "^ .* $"])
def test_captions_with_odd_characters(captions, pattern):
    assert captions["caption"].str.contains(pattern).any()


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
    first, second = (set(release.subject_files(subject, names).rois) for subject in SUBJECTS)
    assert len(first) == 40
    assert {"AFP1", "SPL"} <= second - first
    assert "mfswords" in first - second


def test_surface_formats_agree(root, files):
    counts = {}
    for roi in files.rois.values():
        for hemi, frequency in zip(release.HEMIS, SIZE.sphere, strict=True):
            data = nib.load(root / roi.surfaces[hemi, "func.gii"]).darrays[0].data
            assert data.dtype == np.float32
            assert set(np.unique(data)) == {0, 1}
            label = nib.freesurfer.read_label(root / roi.surfaces[hemi, "label"])
            np.testing.assert_array_equal(np.flatnonzero(data), label)
            counts[hemi] = data.size
            assert data.size == 10 * frequency**2 + 2
    assert counts["L"] != counts["R"]


# The recon


def surfaces_of(root, subject, hemi):
    """Vertices (in FreeSurfer's mm) and faces, by name."""
    names = (*release.RECON_SURFACES, release.RECON_SPHERE)
    read = nib.freesurfer.read_geometry
    return {name: read(root / release.recon_surface(subject, hemi, name)) for name in names}


@pytest.mark.parametrize(("hemi", "side"), [("L", -1), ("R", 1)])
def test_recon_surfaces(root, files, hemi, side):
    surfaces = surfaces_of(root, files.subject, hemi)
    frequency = SIZE.sphere[release.HEMIS.index(hemi)]
    (white, faces), (pial, _), (sphere, _) = surfaces.values()
    assert all(len(vertices) == 10 * frequency**2 + 2 for vertices, _ in surfaces.values())
    for vertices, its_faces in surfaces.values():
        np.testing.assert_array_equal(its_faces, faces)
        # Closed, and seen from outside: a positive volume.
        edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
        assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
        assert np.linalg.det(vertices[its_faces]).sum() > 0
    np.testing.assert_allclose(np.linalg.norm(sphere, axis=1), 100, atol=1e-3)
    # One way from the brain's surface to the sphere's: no triangle is turned over.
    assert (np.linalg.det(sphere[faces]) > 0).all()
    thickness = np.linalg.norm(pial - white, axis=1)
    assert 2.8 < thickness.min() <= np.median(thickness) < 4.5  # thicker where rays slant
    c_ras = nib.load(root / release.recon_volume(files.subject)).header["Pxyz_c"]
    assert (np.sign((white + c_ras)[:, 0]) == side).all()


def test_recon_labels_are_on_its_surfaces(root, files):
    for hemi in release.HEMIS:
        (white, _), (pial, _), _ = surfaces_of(root, files.subject, hemi).values()
        text = (root / files.rois["EBA"].surfaces[hemi, "label"]).read_text().splitlines()[2:]
        for vertex, x, y, z, _ in (line.split() for line in text):
            label = np.array([x, y, z], float)
            between = np.stack([white[int(vertex)], pial[int(vertex)]])
            assert (label > between.min(0) - 0.01).all()
            assert (label < between.max(0) + 0.01).all()


def test_recon_volume_shows_the_same_head(root, files):
    orig = nib.load(root / release.recon_volume(files.subject))
    t1w = nib.load(root / files.anatomy["t1w", None])
    assert nib.aff2axcodes(orig.affine) == ("L", "I", "A")
    assert (np.abs(orig.header["Pxyz_c"]) > 0.1).all()
    # Each voxel of the one that the other covers, and none is off by half a voxel or more.
    index = np.argwhere(np.ones(orig.shape))
    there = nib.affines.apply_affine(np.linalg.inv(t1w.affine) @ orig.affine, index).round()
    inside = ((there >= 0) & (there < t1w.shape)).all(1)
    assert inside.mean() > 0.5
    values, source = np.asarray(orig.dataobj).ravel(), np.asarray(t1w.dataobj)
    taken = source[tuple(there[inside].astype(int).T)]
    np.testing.assert_allclose(values[inside], taken / source.max() * 255, atol=1)
    assert not values[~inside].any()


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
