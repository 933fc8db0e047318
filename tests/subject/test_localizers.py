"""Localizer maps of a subject: on the voxel axis, on surfaces, as volumes, in the dataset."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from counting_store import CountingStore

from laion_zarr import convert, load_subject
from laion_zarr.errors import NotConvertedError

SUB = "sub-01"
FACES = ("floc", "faceVsOthers")


def files_of(root: Path, subject: str = SUB) -> dict[tuple, Path]:
    """Every localizer map of a mirror: (task, contrast, stat, run, place) -> file."""
    found = {}
    for path in sorted((root / "derivatives/localizers" / subject).rglob("*_statmap.*")):
        if path.suffix != ".json":
            its = dict(word.split("-", 1) for word in path.name.split("_")[:-1])
            place = its.get("hemi") or its["res"]
            run = int(its.get("run", 0)) or None
            found[its["task"], its["contrast"], its["stat"], run, place] = path
    return found


def values_of(path: Path) -> np.ndarray:
    image = nib.load(path)
    return image.darrays[0].data if path.suffix == ".gii" else np.asarray(image.dataobj)


@pytest.fixture(scope="module")
def files(bids_root):
    return files_of(bids_root)


@pytest.fixture(scope="module")
def grid_masks(bids_root):
    """The two brain masks, (x, y, z), from the mirror's files."""
    folders = bids_root / "derivatives"
    (brain,) = (folders / "anatomical" / SUB).rglob("*res-1pt8_desc-brain_mask.nii.gz")
    (r2mean,) = (folders / "glmsingle-tedana" / SUB).glob("*R2mean_statmap.nii.gz")
    return {"anatomical": values_of(brain) != 0, "rsquare": values_of(r2mean) != 0}


def same_bits(found: xr.DataArray, wanted: np.ndarray) -> None:
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.values.view("u4"), wanted.view("u4"))


@pytest.mark.parametrize("mask", ["anatomical", "rsquare"])
def test_each_map_on_the_voxel_axis(sub, files, grid_masks, mask):
    some_nan = 0
    for (task, contrast, stat, run, place), path in files.items():
        if place == "1pt8":
            found = sub.get_localizer(task, contrast, stat, run, mask_source=mask)
            same_bits(found, values_of(path)[grid_masks[mask]])
            some_nan += int(np.isnan(found.values).sum())
    assert some_nan


def test_voxels_and_labels_of_a_map(sub):
    found = sub.get_localizer(*FACES, roi="face")
    expected = sub.get_betas(session="ses-01", roi="face")
    for name in ("voxel", "i", "x", "in_rsquare"):
        np.testing.assert_array_equal(found[name].values, expected[name].values)
    assert found.name == "floc:faceVsOthers"
    assert found.attrs == {"subject": SUB}
    labels = {name: found[name].item() for name in ("task", "contrast", "localizer_session")}
    assert labels == {
        "task": "floc",
        "contrast": "faceVsOthers",
        "localizer_session": "ses-4BarScreenfLoc",
    }
    assert sub.get_localizer("floc", "face", "effect", 2).attrs["units"] == "percent signal change"


def test_a_list_of_contrasts(sub):
    names = ["placeVsOthers", "faceVsOthers"]
    found = sub.get_localizer("floc", names, roi=["FFA1", "PPA"])
    assert found.dims == ("localizer", "voxel")
    assert found["localizer"].values.tolist() == ["floc:placeVsOthers", "floc:faceVsOthers"]
    for name in names:
        one = sub.get_localizer("floc", name, roi=["FFA1", "PPA"])
        same_bits(found.sel(localizer=f"floc:{name}"), one.values)


def test_a_localizer_is_a_mask(sub, grid_masks, files):
    mask = sub.get_localizer(*FACES) > 2
    betas = sub.get_betas(session="ses-02", mask=mask)
    flat = (values_of(files[(*FACES, "z", None, "1pt8")]) > 2) & grid_masks["anatomical"]
    np.testing.assert_array_equal(betas["voxel"].values, np.flatnonzero(flat))
    np.testing.assert_array_equal(
        betas.values, sub.get_betas(session="ses-02").sel(voxel=np.flatnonzero(flat)).values
    )


def test_surfaces(sub, files):
    for (task, contrast, stat, run, place), path in files.items():
        if place in ("L", "R"):
            found = sub.get_localizer_surface(task, contrast, place, stat, run)
            same_bits(found, values_of(path))
            assert found.dims == ("vertex",)
            assert found["hemi"].item() == place
            assert found.attrs.items() >= {"space": "fsnative", "subject": SUB}.items()
    both = sub.get_localizer_surface(*FACES)
    assert list(both) == ["L", "R"]
    assert both["L"].sizes != both["R"].sizes


def test_volumes(sub, files):
    for (task, contrast, stat, run, place), path in files.items():
        if place == "1pt5":
            found = sub.get_localizer_volume(task, contrast, stat=stat, run=run)
            same_bits(found, values_of(path))
            np.testing.assert_array_equal(
                np.reshape(found.attrs["affine"], (4, 4)), nib.load(path).affine
            )


def test_volume_on_the_functional_grid(sub, files, grid_masks):
    found = sub.get_localizer_volume(*FACES, res="1pt8")
    stored = grid_masks["anatomical"] | grid_masks["rsquare"]
    wanted = np.where(stored, values_of(files[(*FACES, "z", None, "1pt8")]), np.float32("nan"))
    np.testing.assert_array_equal(found.values, wanted)
    assert found.shape == tuple(sub.dataset.attrs["shape"])


def test_places_in_mm(sub, files):
    """The label of a voxel is where nibabel says that it is."""
    found = sub.get_localizer_volume(*FACES)
    affine = nib.load(files[(*FACES, "z", None, "1pt5")]).affine
    xyz = [found[name][n].item() for n, name in zip((3, 5, 2), "xyz", strict=True)]
    np.testing.assert_allclose(xyz, nib.affines.apply_affine(affine, (3, 5, 2)))


def test_to_nifti(sub, files, tmp_path):
    volume = sub.get_localizer_volume(*FACES)
    written = nib.load(sub.to_nifti(volume, tmp_path / "own.nii.gz"))
    source = nib.load(files[(*FACES, "z", None, "1pt5")])
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(source.dataobj))
    np.testing.assert_allclose(written.affine, source.affine)
    along = nib.load(sub.to_nifti(sub.get_localizer(*FACES), tmp_path / "betas_grid.nii"))
    inside = sub.get_brain_mask().values.reshape(along.shape)
    assert not np.asarray(along.dataobj)[~inside].any()
    faces = nib.load(sub.to_nifti(sub.get_roi_volume("face", "1pt5"), tmp_path / "roi.nii"))
    assert set(np.unique(np.asarray(faces.dataobj))) == {0, 1}
    maps = sub.unmask(sub.get_betas("ses-01"))
    four = nib.load(sub.to_nifti(maps, tmp_path / "betas.nii"))
    np.testing.assert_array_equal(np.asarray(four.dataobj), maps.transpose("x", "y", "z", "trial"))


def test_volumes_that_cannot_be_written(sub, tmp_path):
    volume = sub.get_localizer_volume(*FACES)
    with pytest.raises(ValueError, match="affine"):
        sub.to_nifti(volume.drop_attrs(), tmp_path / "map.nii")
    with pytest.raises(ValueError, match="along voxel"):
        sub.to_nifti(volume, tmp_path / "map.nii", roi="face")
    with pytest.raises(ValueError, match="sub-03"):
        sub.to_nifti(volume.assign_attrs(subject="sub-03"), tmp_path / "map.nii")
    assert list(tmp_path.iterdir()) == []


# -- ROIs on the localizers' own grid


def roi_files(root: Path, res: str) -> dict[str, Path]:
    found = sorted((root / "derivatives/rois" / SUB).rglob(f"*res-{res}_label-*.nii.gz"))
    return {re.search("label-([^_]+)_", path.name)[1]: path for path in found}


def test_roi_volumes(sub, bids_root):
    masks = {roi: values_of(path) != 0 for roi, path in roi_files(bids_root, "1pt5").items()}
    for roi, mask in masks.items():
        found = sub.get_roi_volume(roi, res="1pt5")
        assert found.dtype == bool
        np.testing.assert_array_equal(found.values, mask)
    faces = sub.get_available_rois("face")
    for query in ("face", faces, ["face", "FFA1"]):
        union = np.logical_or.reduce([masks[roi] for roi in faces])
        np.testing.assert_array_equal(sub.get_roi_volume(query, "1pt5").values, union)
    assert not sub.get_roi_volume([], "1pt5").any()


def test_what_a_category_lacks_at_a_resolution_is_said(bids_root, tmp_path):
    mirror = shutil.copytree(bids_root, tmp_path / "mirror")
    rois = sorted({path for roi, path in roi_files(mirror, "1pt5").items() if roi == "FFA1"})
    for path in rois:
        path.unlink()
    convert(mirror, tmp_path / "s.zarr", SUB, progress=False)
    sub = load_subject(SUB, tmp_path / "s.zarr")
    rest = [roi for roi in sub.get_available_rois("face") if roi != "FFA1"]
    with pytest.warns(UserWarning, match=f"FFA1.* no 1pt5 mask.*{rest[0]}"):
        found = sub.get_roi_volume("face", "1pt5")
    np.testing.assert_array_equal(found, sub.get_roi_volume(rest, "1pt5"))


def test_roi_volumes_on_the_functional_grid(sub, bids_root, grid_masks):
    stored = grid_masks["anatomical"] | grid_masks["rsquare"]
    for roi, path in roi_files(bids_root, "1pt8").items():
        found = sub.get_roi_volume(roi)
        np.testing.assert_array_equal(found.values, (values_of(path) != 0) & stored)


# -- lazy


def test_dataset(sub, files, store):
    dataset = sub.dataset
    maps = dataset["localizer_z"]
    assert maps.dims == ("localizer", "voxel")
    z = sorted(key[:2] for key in files if key[2:] == ("z", None, "1pt8"))
    assert maps["localizer"].values.tolist() == [":".join(pair) for pair in z]
    assert list(zip(maps["task"].values, maps["contrast"].values, strict=True)) == z
    flat = values_of(files[(*FACES, "z", None, "1pt8")]).ravel()
    np.testing.assert_array_equal(maps.sel(localizer="floc:faceVsOthers"), flat[maps["voxel"]])
    selected = sub.sel(roi="face", session="ses-01", mask_source="anatomical")["localizer_z"]
    np.testing.assert_array_equal(
        selected.sel(localizer="floc:faceVsOthers"), sub.get_localizer(*FACES, roi="face")
    )
    opened = xr.open_dataset(store, engine="laion_zarr", group=SUB, chunks={})
    xr.testing.assert_equal(opened["localizer_z"].compute(), maps.compute())


def reads_of(counting: CountingStore) -> list[str]:
    return [key for key, _, _ in counting.reads if "/localizers/" in key and "/c/" in key]


def test_one_map_is_read_by_itself(store):
    counting = CountingStore(store)
    sub = load_subject(SUB, counting)
    lazy = sub.dataset["localizer_z"]
    sub.sel(roi="face")
    sub.get_available_localizers()
    assert reads_of(counting) == []
    sub.get_localizer(*FACES)
    shards = [read for read in counting.reads if read[0].endswith("localizers/1pt8/maps/c/0/0")]
    assert len(shards) == 1  # one range of one shard
    assert shards[0][2] < (store / SUB / "localizers/1pt8/maps/c/0/0").stat().st_size / 5
    assert [key for key in reads_of(counting) if "maps/c" not in key] == [
        f"{SUB}/localizers/1pt8/maps_chunks/c/0/0"
    ]
    counting.reads.clear()
    lazy.sel(localizer="oloc:objectVsScrambled").load()
    assert len([key for key in reads_of(counting) if "1pt8/maps/c" in key]) == 1
    counting.reads.clear()
    sub.get_localizer_surface(*FACES, hemi="R")
    assert {key.split("/")[2] for key in reads_of(counting)} == {"hemi-R"}


def test_a_mask_from_a_localizer_reads_its_voxels_alone(store):
    counting = CountingStore(store)
    sub = load_subject(SUB, counting)
    mask = sub.get_localizer(*FACES) > 3
    betas = sub.get_betas(session="ses-01", mask=mask)
    assert counting.of_betas() == []
    by_roi = CountingStore(store)
    other = load_subject(SUB, by_roi)
    other.get_betas(session="ses-01", mask=mask.values).load()
    betas.load()
    assert counting.of_betas() == by_roi.of_betas()
    assert {key for key, _ in counting.of_betas()} == {f"{SUB}/ses-01/betas/c/0/0"}


# -- what is not there


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("flok", "faceVsOthers"), ["flok", "Did you mean 'floc'", "MotionLoc"]),
        (("floc", "facevsothers"), ["Did you mean 'faceVsOthers'", "placeVsOthers"]),
        (("floc", "objectVsScrambled"), ["objectVsScrambled", "objectVsOthers"]),
        (("floc", "face"), ["stat='effect'"]),
        (("floc", "face", "effect"), ["run= 1 or 2"]),
        (("floc", "face", "effect", 3), ["run=3", "1 or 2"]),
        (("floc", "face", "effect", "two"), ["'two'"]),
        (("floc", "faceVsOthers", "z", 1), ["run=1", "None"]),
        (("floc", "faceVsOthers", "t"), ["'z', 'effect'"]),
        (("floc", ["faceVsOthers", "x"]), ["'x'"]),
    ],
    ids=str,
)
def test_wrong_questions(sub, arguments, words):
    said = "".join(f"(?=.*{re.escape(word)})" for word in words)
    with pytest.raises(ValueError, match=said):
        sub.get_localizer(*arguments)


def test_wrong_places(sub):
    with pytest.raises(ValueError, match="'all', 'L' or 'R'"):
        sub.get_localizer_surface(*FACES, hemi="left")
    for method in (sub.get_localizer_volume, lambda *_, res: sub.get_roi_volume("face", res)):
        with pytest.raises(ValueError, match="1pt5"):
            method(*FACES, res="1pt9")
    with pytest.raises(ValueError, match="Did you mean 'FFA1'"):
        sub.get_roi_volume("ffa1", "1pt5")


def test_not_converted(bids_root, tmp_path):
    convert(bids_root, tmp_path / "s", "01", parts="anatomy", progress=False)
    sub = load_subject("01", tmp_path / "s")
    asked = [
        sub.get_available_localizers,
        lambda: sub.get_localizer(*FACES),
        lambda: sub.get_localizer_surface(*FACES),
        lambda: sub.get_localizer_volume(*FACES),
    ]
    for ask in asked:
        with pytest.raises(NotConvertedError, match=r"--include-localizers.*convert.*--parts loc"):
            ask()
    with pytest.raises(NotConvertedError, match=r"convert.*--parts rois_1pt5"):
        sub.get_roi_volume("FFA1", "1pt5")
    assert "localizer_z" not in sub.dataset


def test_a_map_that_is_elsewhere_alone(bids_root, tmp_path, copy_of):
    mirror = copy_of(bids_root)
    for path in mirror.glob("derivatives/localizers/sub-01/ses-31/func/*res-1pt8*"):
        path.unlink()
    convert(mirror, tmp_path / "s", "01", parts="localizers", progress=False)
    sub = load_subject("01", tmp_path / "s")
    assert sub.get_localizer_volume("oloc", "objectVsScrambled").notnull().any()
    with pytest.raises(NotConvertedError, match=r"oloc objectVsScrambled.*1pt8"):
        sub.get_localizer("oloc", "objectVsScrambled")
