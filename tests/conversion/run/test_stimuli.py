"""Stimuli into the store: part by part, in any order, the same bytes."""

from __future__ import annotations

import csv
import io
import itertools
import re
import shutil
import warnings

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from converting import quiet
from PIL import Image
from stimulus_parts import GLOBS, MODELS, rows_of
from stimulus_parts import files as files
from stimulus_parts import names as names
from trees import tree_bytes

from laion_zarr import Captions, Segmentations, load_embeddings, load_stimuli, load_subject, verify
from laion_zarr.errors import (
    DataNotDownloadedError,
    LaionZarrError,
    StimuliNotDownloadedError,
    StoreError,
)

PARTS = ("metadata", "images", "embeddings", "segmentations", "captions")
COMMANDS = {
    "metadata": "download-stimuli",
    "images": "download-stimuli",
    "embeddings": "download-embeddings",
    "segmentations": "download-segmentations",
    "captions": "download-captions",
}


def write_rows(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def stimuli_of(bids_root, tmp_path):
    """A mirror with the files of some parts, and no subject."""
    made = itertools.count()

    def make(*parts):
        folder = tmp_path / f"mirror {next(made)}" / "stimuli"
        folder.mkdir(parents=True)
        for part in parts:
            for path in (bids_root / "stimuli").glob(GLOBS[part]):
                shutil.copy(path, folder)
        return folder.parent

    return make


@pytest.fixture(scope="module")
def whole(bids_root, tmp_path_factory):
    """The store of all stimuli and no subject."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copytree(bids_root / "stimuli", folder / "mirror" / "stimuli")
    quiet(folder / "mirror", folder / "s.zarr")
    return folder / "s.zarr"


# -- part by part


@pytest.mark.parametrize("part", PARTS)
def test_each_part_alone(bids_root, tmp_path, part, names, files):
    """One part is asked for; the mirror has all."""
    target = tmp_path / "s.zarr"
    report = quiet(bids_root, target, subjects="01", parts=part)
    found = [name for name in report.converted if name.startswith("stimuli")]
    wanted = [f"embeddings/{model}" for model in MODELS] if part == "embeddings" else [part]
    assert found == [f"stimuli {name}" for name in wanted]
    stim = load_stimuli(target)
    check_part(part, stim, target, names, files)
    for other in set(PARTS) - {part}:
        ask = {"metadata": lambda: stim.metadata}.get(other, lambda o=other: getattr(stim, o))
        with pytest.raises(StimuliNotDownloadedError, match=COMMANDS[other]) as caught:
            ask()
        assert f"--parts {other}" in str(caught.value)
    assert not verify(target, bids_root, deep=True, progress=False).notes


@pytest.mark.parametrize("part", PARTS[2:])
def test_each_part_alone_in_the_mirror(stimuli_of, tmp_path, part, names):
    """No metadata anywhere: the images are those that the part is about."""
    mirror, target = stimuli_of(part), tmp_path / "s.zarr"
    report = quiet(mirror, target)
    assert len(report.missing) >= 3
    stim = load_stimuli(target)
    assert len(stim) > 0
    assert not verify(target, mirror, deep=True, progress=False).notes
    if part == "embeddings":
        with h5py.File(next(mirror.rglob("*CLIP*.h5"))) as file:
            values, own = file["embedding"][:], file["image_ids"].asstr()[:].tolist()
            values[~file["valid"][:]] = np.nan
        assert sorted(stim.dataset["image"].values) == sorted(own) == sorted(names)
        found = stim.embeddings["CLIP"].sel(image=own)
        np.testing.assert_array_equal(found, values)
    else:
        (table,) = mirror.rglob("*.csv")
        listed = dict.fromkeys(row["image_name"] for row in rows_of(table))
        assert stim.dataset["image"].values.tolist() == list(listed)
        assert getattr(stim, part).images() == list(listed)


def check_part(part, stim, target, names, files):
    match part:
        case "metadata":
            assert stim.metadata["image_name"].tolist() == names
        case "images":
            assert list(stim.images) == list(files.items())
        case "embeddings":
            assert load_embeddings(store=target).models == list(MODELS)
            assert stim.embeddings["CLIP"].sizes["image"] == len(names)
        case "segmentations":
            assert Segmentations(target).masks.any(("y", "x")).values.sum() > 3
        case "captions":
            assert len(Captions(target)) == len(stim.captions) > 100


def test_images_alone_need_the_names(stimuli_of, tmp_path):
    mirror, needed = stimuli_of("images"), r"metadata\.csv.*download-stimuli"
    with pytest.raises(DataNotDownloadedError, match=needed):
        quiet(mirror, tmp_path / "s.zarr", parts="images")
    report = quiet(mirror, tmp_path / "s.zarr")
    assert any(re.search(needed, message) for message in report.missing)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_asked_for_that_the_mirror_lacks(stimuli_of, tmp_path, part):
    mirror = stimuli_of(*(set(PARTS) - {part, "images"}))
    with pytest.raises(DataNotDownloadedError, match=COMMANDS[part]):
        quiet(mirror, tmp_path / "s.zarr", parts=part)
    report = quiet(mirror, tmp_path / "s.zarr")
    assert any(part in message for message in report.missing)


ORDERS = (
    PARTS,
    PARTS[::-1],
    ("captions", "embeddings", "metadata", "segmentations", "images"),
    (("images", "captions"), ("embeddings", "metadata", "segmentations")),
)


@pytest.mark.parametrize("order", ORDERS)
def test_any_order_gives_the_same_store(stimuli_of, whole, tmp_path, order):
    target, mirror = tmp_path / "s.zarr", stimuli_of(*PARTS)
    for parts in order:
        quiet(mirror, target, parts=parts)
    assert tree_bytes(target) == tree_bytes(whole)


@pytest.mark.parametrize("first", ["embeddings", "captions", "segmentations"])
def test_files_that_come_one_after_the_other(stimuli_of, whole, tmp_path, first):
    """Files are added one by one; embeddings may be stored before the metadata give their order."""
    target = tmp_path / "s.zarr"
    quiet(stimuli_of(first), target)
    quiet(stimuli_of("metadata"), target)
    quiet(stimuli_of(*PARTS), target)
    assert tree_bytes(target) == tree_bytes(whole)


@pytest.mark.parametrize("order", [("betas", PARTS), (PARTS[:2], "betas", PARTS)])
def test_stimuli_after_betas_and_before(bids_root, store, tmp_path, order):
    target = tmp_path / "s.zarr"
    for parts in (*order, None):
        quiet(bids_root, target, parts=parts, n_workers=1)
    assert tree_bytes(target) == tree_bytes(store)


def test_a_second_run_writes_nothing(stimuli_of, whole, copy_of):
    again = copy_of(whole)
    before = {path: path.stat().st_mtime_ns for path in again.rglob("c/*")}
    assert before
    mirror = stimuli_of(*PARTS)
    for options in ({}, {"parts": PARTS}, {"parts": "images"}):
        report = quiet(mirror, again, **options)
        assert not report.converted
        assert report.unchanged
        assert tree_bytes(again) == tree_bytes(whole)
    assert {path: path.stat().st_mtime_ns for path in again.rglob("c/*")} == before


def test_overwriting_gives_the_same_store(stimuli_of, whole, copy_of):
    again = copy_of(whole)
    report = quiet(stimuli_of(*PARTS), again, overwrite=True)
    assert len(report.converted) == 8
    assert tree_bytes(again) == tree_bytes(whole)


def test_files_that_are_gone_stay_in_the_store(stimuli_of, whole, copy_of):
    again = copy_of(whole)
    report = quiet(stimuli_of("metadata"), again)
    assert [line[:10] for line in report.missing] == ["no subject"]
    assert tree_bytes(again) == tree_bytes(whole)


def test_a_changed_file_is_converted_again_alone(stimuli_of, whole, copy_of, names):
    again, mirror = copy_of(whole), stimuli_of(*PARTS)
    (path,) = mirror.rglob(GLOBS["captions"])
    rows = rows_of(path)
    rows[0]["caption"] = "other words"
    write_rows(path, rows)
    assert quiet(mirror, again).converted == ["stimuli captions"]
    assert "other words" in Captions(again).list(rows[0]["image_name"])


# -- which picture is which


def test_images_follow_the_csv_of_the_mirror(stimuli_of, whole, copy_of, names, files):
    """Names go with pictures row by row, also if a new CSV comes with the same pictures."""
    again, mirror = copy_of(whole), stimuli_of(*PARTS)
    (path,) = mirror.rglob(GLOBS["metadata"])
    rows = rows_of(path)
    write_rows(path, rows[::-1])
    report = quiet(mirror, again)
    assert {"stimuli metadata", "stimuli images"} <= set(report.converted)
    stim = load_stimuli(again)
    assert stim.images.names() == names[::-1]
    assert list(stim.images) == list(zip(names[::-1], files.values(), strict=True))
    np.testing.assert_array_equal(
        stim.embeddings["CLIP"].sel(image=names),
        load_stimuli(whole).embeddings["CLIP"],
    )
    assert not verify(again, mirror, deep=True, progress=False).notes


def test_metadata_in_another_order_than_the_stored_pictures(
    stimuli_of, whole, copy_of, names, files
):
    """Pictures keep the names they had: the new metadata came without them."""
    again, mirror = copy_of(whole), stimuli_of("metadata")
    (path,) = mirror.rglob(GLOBS["metadata"])
    write_rows(path, rows_of(path)[::-1])
    quiet(mirror, again)
    stim = load_stimuli(again)
    assert stim.images.names() == names[::-1]
    assert dict(stim.images) == files
    assert stim.images[0] == files[names[-1]]
    shown = stim.images.array([names[3], 0])
    for values, name in zip(shown.values, (names[3], names[-1]), strict=True):
        picture = Image.open(io.BytesIO(files[name])).convert("RGB")
        np.testing.assert_array_equal(values, np.asarray(picture))
    assert dict(zip(stim.dataset["image"].values, stim.dataset["height"].values, strict=True))


def test_embeddings_of_other_images(stimuli_of, tmp_path, names):
    """A model lacks some images and has one that is not in the metadata: NaN, no shifted rows."""
    mirror = stimuli_of(*PARTS)
    (path,) = mirror.rglob("*CLIP*.h5")
    with h5py.File(path) as file:
        values, own = file["embedding"][:], file["image_ids"].asstr()[:].tolist()
        valid = file["valid"][:]
    gone = own[:5]
    with h5py.File(path, "w") as file:
        file["embedding"] = np.concatenate([np.ones_like(values[:1]), values[5:]])
        file.create_dataset("image_ids", data=["nobody.jpg", *own[5:]], dtype=h5py.string_dtype())
        file["valid"] = np.append(True, valid[5:])
    report = quiet(mirror, tmp_path / "s.zarr")
    said = [message for message in report.missing if "CLIP" in message]
    assert any("nobody.jpg" in message for message in said)
    assert any("5 images of the metadata" in message for message in said)
    stim = load_stimuli(tmp_path / "s.zarr")
    values[~valid] = np.nan
    expected = dict(zip(own, values, strict=True)) | dict.fromkeys(gone, values[0] * np.nan)
    found = stim.embeddings["CLIP"]
    assert found["image"].values.tolist() == names
    np.testing.assert_array_equal(found, [expected[name] for name in names])
    several = stim.embeddings.get("CLIP", [gone[2], own[9], gone[0]])
    np.testing.assert_array_equal(several, [expected[n] for n in (gone[2], own[9], gone[0])])
    for name in gone:
        assert np.isnan(stim.embeddings.get("CLIP", name)).all()
        assert np.isnan(found.sel(image=name)).all()
    assert np.isnan(stim.embeddings.get("CLIP", gone)).all()


COLUMNS = (
    "feature",
    "channel",
    "x",
    "y",
    "mask",
    "image",
    "trial",
    "voxel",
    "height",
    "row",
    "valid",
)


def test_further_columns_of_any_name(bids_root, copy_of, tmp_path, names):
    """Further columns stay in tables and along trials, also if named like a dim of an array."""
    mirror = copy_of(bids_root)
    for part in ("metadata", "segmentations", "captions"):
        (path,) = (p for p in (mirror / "stimuli").glob(GLOBS[part]) if p.suffix == ".csv")
        rows = rows_of(path)
        write_rows(path, [row | dict.fromkeys(COLUMNS, n) for n, row in enumerate(rows)])
    target = tmp_path / "s.zarr"
    quiet(mirror, target, subjects="01", parts=["betas", *PARTS])
    stim, sub = load_stimuli(target), load_subject("01", target)
    for table in (stim.metadata, stim.segmentations.metadata, stim.captions.metadata):
        for name in COLUMNS:
            assert table[name].tolist() == list(range(len(table)))
    assert stim.dataset.sizes["image"] == len(names)
    rows = stim.segmentations.metadata
    mask = stim.segmentations.get(rows["image_name"][0], rows["noun"][0], rows["instance_id"][0])
    assert mask.dims == ("y", "x")
    betas = sub.get_betas()
    of_image = [names.index(label) for label in sub.metadata["label"]]
    for array in (sub.images.array(), sub.embeddings.all("CLIP")):
        xr.align(betas, array.compute(), join="exact")
        assert array["stim_idx"].values.tolist() == of_image
    assert sub.images.array()["channel"].dims == ("channel",)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for group in ("metadata", "segmentations", "captions"):
            xr.open_zarr(f"{target}/stimuli/{group}", consolidated=False).load()


def test_a_reader_never_sees_stimuli_rewritten_under_it(stimuli_of, whole, copy_of, names):
    """Opened before other files came: the old answer or an error, never the new as the old."""
    again, mirror = copy_of(whole), stimuli_of(*PARTS)
    stim, fresh = load_stimuli(again), load_stimuli(again)
    lazy = [stim.images.array(), stim.embeddings["CLIP"], stim.segmentations.masks]
    expected = [array.compute() for array in lazy]
    with h5py.File(mirror / "stimuli" / GLOBS["images"], "r+") as file:
        file["images"][0], file["images"][1] = file["images"][1], file["images"][0]
    for path in mirror.rglob("*CLIP*.h5"):
        with h5py.File(path, "r+") as file:
            file["embedding"][:] = file["embedding"][:][::-1]
    (path,) = mirror.rglob("*segmentations.h5")
    with h5py.File(path, "r+") as file:
        file["masks"][:] = 1 - file["masks"][:]
    quiet(mirror, again)
    late = [fresh.images.array, lambda: fresh.embeddings["CLIP"], lambda: fresh.segmentations.masks]
    refused = []
    for ask, old in zip([*(a.load for a in lazy), *late], expected * 2, strict=True):
        try:
            xr.testing.assert_identical(ask().compute(), old)
        except StoreError as error:
            refused.append(str(error))
    assert all("open it again" in message for message in refused)
    swapped = load_stimuli(again)
    assert swapped.images[0] == load_stimuli(whole).images[1]
    np.testing.assert_array_equal(swapped.segmentations.masks, 1 - expected[2])


# -- without pictures


@pytest.fixture(scope="module")
def shared_store(bids_root, tmp_path_factory):
    """A store meant to be shared: all but the pictures."""
    target = tmp_path_factory.mktemp("shared") / "s.zarr"
    quiet(
        bids_root, target, parts=["betas", "events", *(part for part in PARTS if part != "images")]
    )
    return target


def test_without_pictures_all_else_works(shared_store, store, names, sub):
    ours, full = load_stimuli(shared_store), load_stimuli(store)
    mine = load_subject("01", shared_store)
    assert not mine.has_stimuli()
    assert sub.has_stimuli()
    xr.testing.assert_equal(mine.embeddings.all("CLIP"), sub.embeddings.all("CLIP"))
    assert mine.captions.list(3) == sub.captions.list(3)
    np.testing.assert_array_equal(ours.segmentations.masks, full.segmentations.masks)
    assert ours.metadata.equals(full.metadata)
    assert "license" not in ours.dataset.attrs
    xr.testing.assert_equal(ours.dataset, full.dataset.drop_vars(["height", "width"]))
    assert "not in the store" in repr(ours)
    assert not (shared_store / "stimuli" / "images").exists()
    for ask in (
        lambda: ours.images,
        lambda: mine.images,
        lambda: load_stimuli(shared_store).images,
    ):
        with pytest.raises(StimuliNotDownloadedError, match=r"download-stimuli.*--parts images"):
            ask()


def test_without_any_stimuli(bids_root, tmp_path):
    target = tmp_path / "s.zarr"
    quiet(bids_root, target, subjects="01", parts="betas")
    sub = load_subject("01", target)
    assert not sub.has_stimuli()
    for ask in (
        lambda: load_stimuli(target),
        lambda: Segmentations(target),
        lambda: Captions(target),
        lambda: load_embeddings(store=target),
        lambda: sub.images,
        lambda: sub.embeddings,
        lambda: sub.segmentations,
        lambda: sub.captions,
        sub.get_stimulus_metadata,
    ):
        with pytest.raises(StimuliNotDownloadedError, match=r"laion-zarr convert") as caught:
            ask()
        assert isinstance(caught.value, FileNotFoundError | LaionZarrError)


def test_the_licence_is_said_where_pictures_are(store, shared_store):
    (images,) = (zarr.open_group(store / "stimuli" / name, mode="r") for name in ["images"])
    texts = [images.attrs["license"], load_stimuli(store).dataset.attrs["license"]]
    texts.append(xr.open_zarr(f"{store}/stimuli/images", consolidated=False).attrs["license"])
    for text in texts:
        assert "Data Use Agreement" in text
        assert "https://laion-fmri.hebartlab.com" in text
        assert "convert --parts" in text
    for path in (shared_store / "stimuli").rglob("zarr.json"):
        assert b"Data Use Agreement" not in path.read_bytes()


# -- a store in memory


def test_a_store_elsewhere(bids_root, store, names, files):
    """In memory, behind a URL."""
    url = "memory://stimuli-elsewhere.zarr"
    quiet(bids_root, url, subjects="01", parts=PARTS)
    stim = load_stimuli(url)
    assert list(stim.images) == list(files.items())
    xr.testing.assert_equal(stim.dataset, load_stimuli(store).dataset)
    assert len(Captions(url)) == len(Captions(store))
