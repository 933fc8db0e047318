"""Bad, partial and hostile stimulus files: a clear error, and all else right.

The mirror is made by hand; answers come from h5py, pandas and Pillow on its files.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import EpsImagePlugin, Image, ImageFile

import laion_zarr.conversion.source.hdf5 as hdf5_reader
from laion_zarr import Captions, Segmentations, convert, load_embeddings, load_stimuli, load_subject
from laion_zarr import verify as verify_store
from laion_zarr.conversion.cli import main
from laion_zarr.conversion.options import check_options
from laion_zarr.conversion.run.pipeline import run_conversion
from laion_zarr.conversion.source.files import Source, open_source
from laion_zarr.conversion.source.hdf5 import Hdf5
from laion_zarr.errors import (
    LaionZarrError,
    SourceError,
    StimuliNotDownloadedError,
    StoreError,
)
from laion_zarr.store.manifest import dump_manifest

SIDES = (10, 12)  # height, width of a picture
NAMES = [
    "unique_LAION_initial_cluster_7_i3_p01.jpg",
    "shared_12rep_LAION_cluster_2_i0.jpg",
    "shared_4rep_OOD_shape_bell-490.png",
    "unique_LAION_initial_cluster_1_i3_p01.jpg",
    "shared_12rep_LAION_cluster_1_i0.jpg",
    "unique_LAION_initial_cluster_5_i0_p03.jpg",
]
UNSEEN = NAMES[5]  # no trial of sub-01 shows it
TRANSPARENT = NAMES[2]
SHOWN = [NAMES[1], NAMES[0], NAMES[2], NAMES[1], NAMES[3], NAMES[4]]
MODELS = {"CLIP": 6, "SigLIP2": 7}
CAPTIONS = [
    (NAMES[1], 2, "human", "NA"),
    (NAMES[0], 1, "human", 'a "red" house,\nand a tree'),
    (NAMES[1], 0, "ai", "None"),
    (NAMES[1], 1, "human", ""),
    (NAMES[1], 3, "human", "nan"),
    (NAMES[2], 1, "human", "ein Café — 日本 🐈"),
    (NAMES[0], 2, "human", " n/a "),
]
SEGMENTS = [  # mask_row, image_name, noun, instance_id, score, localized
    (2, NAMES[1], "house", 0, "0.91", 1),
    (0, NAMES[2], "cat", 0, "0.75", 1),
    (3, NAMES[1], "tree", 0, "", 0),
    (1, NAMES[1], "house", 1, "0.5", 1),
]
IMAGES = "stimuli/task-images_stimuli.h5"
METADATA = "stimuli/task-images_metadata.csv"
MASKS = "stimuli/task-images_desc-segmentations.h5"
SEGMENTATION_TABLE = "stimuli/task-images_desc-segmentations_metadata.csv"
CAPTION_TABLE = "stimuli/task-images_desc-captions.csv"
GLM = "derivatives/glmsingle-tedana/sub-01"
TRIALS = f"{GLM}/ses-01/func/sub-01_ses-01_task-images_desc-SingletrialBetas_trials.tsv"
HTML = b"<!DOCTYPE html><html><head><title>403</title></head><body>Access denied</body></html>"
# What mends it: a command, an option, or an act.
MENDS = re.compile(r"laion-zarr [a-z]|[Dd]ownload|Delete it|Name |Pass |Mend |--[a-z]+|run '")
PARTS = {"metadata", "images", "segmentations", "captions", "embeddings/CLIP", "embeddings/SigLIP2"}


def embeddings_file(model):
    return f"stimuli/task-images_desc-{model}_embeddings.h5"


FILE_OF = {
    "metadata": METADATA,
    "images": IMAGES,
    "segmentations": MASKS,
    "captions": CAPTION_TABLE,
    **{f"embeddings/{model}": embeddings_file(model) for model in MODELS},
}


# -- the mirror


def encoded(pixels, form):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def picture(name, sides=SIDES):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name == TRANSPARENT:
        return encoded(rng.integers(256, size=(*sides, 4), dtype=np.uint8), "PNG")
    if name == NAMES[3]:  # greyscale
        return encoded(rng.integers(256, size=sides, dtype=np.uint8), "JPEG")
    return encoded(rng.integers(256, size=(*sides, 3), dtype=np.uint8), "JPEG")


def put(root, path, data):
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data.encode() if isinstance(data, str) else data)


def write_pictures(root, pictures):
    with h5py.File(root / IMAGES, "w") as file:
        images = file.create_dataset("images", len(pictures), h5py.vlen_dtype(np.uint8))
        for row, data in enumerate(pictures):
            images[row] = np.frombuffer(data, np.uint8)


def embedding_arrays(model):
    rng = np.random.default_rng(MODELS[model])
    values = rng.normal(size=(len(NAMES), MODELS[model])).astype(np.float16)
    names = np.random.default_rng(1).permutation(NAMES).tolist()
    valid = np.ones(len(NAMES), bool)
    valid[names.index(NAMES[4])] = model == "CLIP"
    return {"embedding": values, "image_ids": names, "valid": valid}


def write_embeddings(root, model, **changed):
    """Write a model's file; `changed` replaces arrays, None leaves one out."""
    with h5py.File(root / embeddings_file(model), "w") as file:
        for name, values in (embedding_arrays(model) | changed).items():
            if values is not None:
                text = isinstance(values, list) and isinstance(values[0], str)
                file.create_dataset(name, data=values, dtype=h5py.string_dtype() if text else None)


def mask_array():
    return np.random.default_rng(3).integers(2, size=(len(SEGMENTS), *SIDES), dtype=np.uint8)


def write_masks(root, masks, name="masks"):
    with h5py.File(root / MASKS, "w") as file:
        file.create_dataset(name, data=masks, compression="gzip" if masks.ndim else None)


def write_csv(root, path, table):
    put(root, path, table.to_csv(index=False))


def metadata_table():
    shared = [name.startswith("shared") for name in NAMES]
    return pd.DataFrame(
        {
            "image_name": NAMES,
            "dataset": "LAION",
            "unique_or_shared": np.where(shared, "shared", "unique"),
            "n_reps": "4rep",
            "score": [0.5, 1.25, -3.0, 4.0, 5.0, 1e-7],
        }
    )


def segmentation_table():
    columns = ["mask_row", "image_name", "noun", "instance_id", "score", "localized"]
    return pd.DataFrame(SEGMENTS, columns=columns)


def caption_table():
    table = pd.DataFrame(CAPTIONS, columns=["image_name", "caption_idx", "source", "caption"])
    return table.assign(participant_id=["c1", "NA", "", "c1", "c2", "c0", "c0"])


def volume(root, path, values):
    image = nib.Nifti1Image(values, np.eye(4))
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, root / path)


def write_mirror(root):
    (root / "stimuli").mkdir(parents=True)
    write_pictures(root, [picture(name) for name in NAMES])
    for model in MODELS:
        write_embeddings(root, model)
    write_masks(root, mask_array())
    write_csv(root, METADATA, metadata_table())
    write_csv(root, SEGMENTATION_TABLE, segmentation_table())
    write_csv(root, CAPTION_TABLE, caption_table())
    rng = np.random.default_rng(0)
    stem = f"{GLM}/sub-01_task-images_space-T1w_stat-rsquare_desc-R2mean_statmap.nii.gz"
    volume(root, stem, np.ones((2, 2, 2), np.float32))
    betas = rng.normal(size=(2, 2, 2, len(SHOWN))).astype(np.float32)
    name = "sub-01_ses-01_task-images_space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz"
    volume(root, f"{GLM}/ses-01/func/{name}", betas)
    write_trials(root, SHOWN)
    return root


def write_trials(root, labels):
    table = pd.DataFrame({"session": "ses-01", "run": 1, "beta_index": range(len(labels))})
    put(root, TRIALS, table.assign(label=labels).to_csv(sep="\t", index=False))


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The undamaged mirror; nothing may change it."""
    return write_mirror(tmp_path_factory.mktemp("whole") / "mirror")


@pytest.fixture(scope="session")
def whole_store(whole, tmp_path_factory):
    """Its conversion; nothing may change it."""
    path = tmp_path_factory.mktemp("whole-store") / "s.zarr"
    report = report_of(whole, path)
    assert not report.failed
    assert not [line for line in report.missing if "stimul" in line]
    return path


@pytest.fixture
def mirror(whole, tmp_path):
    """A copy of the mirror, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "mirror"))


@pytest.fixture
def kept(whole_store, tmp_path):
    """A copy of the store, to be damaged or written to."""
    return Path(shutil.copytree(whole_store, tmp_path / "kept.zarr"))


@pytest.fixture
def new(tmp_path):
    return tmp_path / "new.zarr"


# -- what is done, and what it should answer


def report_of(root, store, **options):
    """What a conversion did, without raising."""
    keys = ("subjects", "sessions", "parts", "mask", "n_workers", "memory", "overwrite")
    given = {"mask": "both", "overwrite": False, "n_workers": 1, **options}
    checked = check_options(*(given.get(key) for key in keys))
    return run_conversion(open_source(root), store, None, checked, False, False)


def command(root, store, *options):
    where = ["--source", str(root), "--store", str(store), "--n-workers", "1", "--quiet"]
    return main(["convert", *where, *options])


def contents(folder, pattern="**/*"):
    files = [path for path in sorted(folder.glob(pattern)) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def names_and_mends(text, *words):
    for word in words:
        assert str(word) in text, text
    assert MENDS.search(text), text


def teaches(error, *words):
    """A source error names the file, what was expected, what was found, and what mends it."""
    assert isinstance(error, SourceError), repr(error)
    names_and_mends(str(error), "expected", "found", *words)


def as_shown(data):
    """A picture as displayed, in floating-point numbers."""
    with Image.open(io.BytesIO(data)) as image:
        if image.mode != "RGBA":
            return np.asarray(image.convert("RGB"))
        rgba = np.asarray(image).astype(np.float64)
    alpha = rgba[..., 3:] / 255
    return np.floor(rgba[..., :3] * alpha + 128 * (1 - alpha) + 0.5).astype(np.uint8)


def text_table(root, path):
    return pd.read_csv(root / path, dtype=str, keep_default_na=False, index_col=False)


def same_text(found, expected):
    """A table is that of the file, all compared as text or as numbers."""
    assert list(found.columns) == list(expected.columns)
    for name, column in found.items():
        if not pd.api.types.is_numeric_dtype(column):
            assert column.tolist() == expected[name].tolist()
        else:
            numbers = pd.to_numeric(expected[name]).to_numpy()
            np.testing.assert_array_equal(column.to_numpy().astype(float), numbers.astype(float))


def check_pictures(root, stim, bad=()):
    with h5py.File(root / IMAGES) as file:
        expected = dict(zip(NAMES, (row.tobytes() for row in file["images"][:]), strict=True))
    assert stim.images.names() == NAMES
    assert dict(stim.images) == expected
    for name in NAMES:
        assert stim.images[name] == expected[name]
        if name in bad:
            with pytest.raises(SourceError) as caught:
                stim.images.get(name)
            names_and_mends(str(caught.value), repr(name), "expected", "found", "laion-zarr")
        else:
            np.testing.assert_array_equal(
                np.asarray(stim.images.get(name)), as_shown(expected[name])
            )
    good = [name for name in NAMES if name not in bad]
    found = stim.images.array(good[::-1]).values
    np.testing.assert_array_equal(found, [as_shown(expected[name]) for name in good[::-1]])


def check_embeddings(root, stim, model):
    with h5py.File(root / embeddings_file(model)) as file:
        values, valid = file["embedding"][:], file["valid"][:].astype(bool)
        row_of = {name: row for row, name in enumerate(file["image_ids"].asstr()[:])}
    expected = np.full((len(NAMES), values.shape[1]), np.nan, np.float16)
    for row, name in enumerate(NAMES):
        if name in row_of and valid[row_of[name]]:
            expected[row] = values[row_of[name]]
    found = stim.embeddings[model]
    assert found["image"].values.tolist() == NAMES
    np.testing.assert_array_equal(found.values, expected)
    np.testing.assert_array_equal(stim.embeddings.get(model, NAMES[2:4]).values, expected[2:4])


def check_masks(root, seg):
    table = text_table(root, SEGMENTATION_TABLE)
    same_text(seg.metadata, table)
    with h5py.File(root / MASKS) as file:
        masks = file["masks"][:]
    np.testing.assert_array_equal(seg.masks.values, masks)
    for row in table.itertuples():
        found = seg.get(row.image_name, row.noun, int(row.instance_id)).values
        np.testing.assert_array_equal(found, masks[int(row.mask_row)])


def check_captions(root, captions):
    table = text_table(root, CAPTION_TABLE)
    same_text(captions.metadata, table)
    for name in NAMES:
        rows = table[table["image_name"] == name]
        rows = rows.iloc[np.argsort(rows["caption_idx"].astype(int), kind="stable")]
        assert captions.list(name) == rows["caption"].tolist()
        assert captions.human(name) == rows["caption"][rows["source"] == "human"].tolist()


def check(root, store, lacks=(), bad=()):
    """The stimuli answer as the files of `root` do, in all but what they lack."""
    lacks = set(lacks)
    if lacks >= PARTS:
        with pytest.raises(StimuliNotDownloadedError):
            load_stimuli(store)
        return
    stim = load_stimuli(store)
    assert len(stim) == len(NAMES)
    present = PARTS - lacks
    for part in lacks:
        lacking(store, part)
    if "metadata" in present:
        same_text(stim.metadata, text_table(root, METADATA))
    if "images" in present:
        check_pictures(root, stim, bad)
    for model in MODELS:
        if f"embeddings/{model}" in present and "metadata" in present:
            check_embeddings(root, stim, model)
    if "segmentations" in present:
        check_masks(root, stim.segmentations)
        check_masks(root, Segmentations(store))
    if "captions" in present:
        check_captions(root, stim.captions)
        check_captions(root, Captions(store))
    dataset = stim.dataset.load()
    assert ("height" in dataset.coords) == ("images" in present)
    sub = load_subject("01", store)
    assert sub.get_betas(mask_source="rsquare").values.shape == (len(SHOWN), 8)
    assert sub.metadata["label"].tolist() == SHOWN


def lacking(store, part):
    """Asking for a part that is not there says how to get it."""
    stim = load_stimuli(store)
    ask = {
        "metadata": lambda: stim.metadata,
        "images": lambda: stim.images,
        "segmentations": lambda: stim.segmentations,
        "captions": lambda: stim.captions,
    }
    model = part.rpartition("/")[2]
    with pytest.raises(StimuliNotDownloadedError) as caught:
        ask.get(part, lambda: load_embeddings(model, store))()
    names_and_mends(str(caught.value), "laion-zarr convert")


# -- damaged files


def cut(share):
    return lambda root, path: put(root, path, (root / path).read_bytes()[: int(share * 1000)])


def content(data):
    return lambda root, path: put(root, path, data)


def half(root, path):
    data = (root / path).read_bytes()
    put(root, path, data[: len(data) // 2])


def last_byte_missing(root, path):
    put(root, path, (root / path).read_bytes()[:-1])


def hdf5(**datasets):
    """An HDF5 file with other datasets."""

    def write(root, path):
        with h5py.File(root / path, "w") as file:
            for name, values in datasets.items():
                file[name] = values

    return write


def group_instead(name):
    def write(root, path):
        with h5py.File(root / path, "w") as file:
            file.create_group(name)

    return write


ANY_HDF5 = {
    "empty": (content(b""), []),
    "one byte": (content(b"\x89"), []),
    "not HDF5": (content(b"x" * 3000), ["HDF5"]),
    "web page": (content(HTML), ["HDF5"]),
    "signature only": (content(b"\x89HDF\r\n\x1a\n"), ["HDF5"]),
    "cut in half": (half, ["HDF5"]),
    "cut in the header": (cut(0.05), ["HDF5"]),
    "last byte missing": (last_byte_missing, ["HDF5"]),
    "without datasets": (hdf5(), []),
    "other datasets": (hdf5(values=np.zeros(3)), ["values"]),
}


def pictures_as(make):
    def write(root, path):
        make(root, [picture(name) for name in NAMES])

    return write


def vlen_integers(root, pictures):
    with h5py.File(root / IMAGES, "w") as file:
        images = file.create_dataset("images", len(pictures), h5py.vlen_dtype(np.int32))
        for row, data in enumerate(pictures):
            images[row] = np.frombuffer(data, np.uint8).astype(np.int32)


def two_dims(root, pictures):
    with h5py.File(root / IMAGES, "w") as file:
        file.create_dataset("images", (len(pictures), 2), h5py.vlen_dtype(np.uint8))


BAD_PICTURES = {
    "a group": (group_instead("images"), ["images"]),
    "fixed uint8": (hdf5(images=np.zeros(6, np.uint8)), ["uint8"]),
    "strings": (hdf5(images=["a"] * 6), ["variable-length uint8"]),
    "integers": (pictures_as(vlen_integers), ["variable-length uint8"]),
    "decoded": (hdf5(images=np.zeros((6, 4, 4, 3), np.uint8)), ["(6, 4, 4, 3)"]),
    "2-D": (pictures_as(two_dims), ["(6, 2)"]),
    "scalar": (hdf5(images=np.uint8(3)), ["()"]),
    "one fewer": (pictures_as(lambda root, p: write_pictures(root, p[:-1])), ["5", "6"]),
    "one more": (pictures_as(lambda root, p: write_pictures(root, [*p, p[0]])), ["7", "6"]),
    "none": (pictures_as(lambda root, p: write_pictures(root, [])), ["0 pictures", "6"]),
}


def embeddings_with(change):
    def write(root, path):
        arrays = embedding_arrays("CLIP")
        write_embeddings(root, "CLIP", **change(arrays))

    return write


def renamed(old, name):
    return embeddings_with(
        lambda a: {"image_ids": [name if n == old else n for n in a["image_ids"]]}
    )


BAD_EMBEDDINGS = {
    "without image_ids": (embeddings_with(lambda a: {"image_ids": None}), ["image_ids"]),
    "without valid": (embeddings_with(lambda a: {"valid": None}), ["valid"]),
    "float32": (
        embeddings_with(lambda a: {"embedding": a["embedding"].astype("f4")}),
        ["float32", "float16"],
    ),
    "integers": (
        embeddings_with(lambda a: {"embedding": a["embedding"].astype("i2")}),
        ["int16", "float16"],
    ),
    "1-D": (embeddings_with(lambda a: {"embedding": a["embedding"][0]}), ["2-D"]),
    "3-D": (embeddings_with(lambda a: {"embedding": a["embedding"][None]}), ["2-D"]),
    "2-D valid": (embeddings_with(lambda a: {"valid": a["valid"][None]}), ["valid", "1-D"]),
    "numbers as image_ids": (
        embeddings_with(lambda a: {"image_ids": np.arange(6)}),
        ["image_ids", "strings"],
    ),
    "fewer embeddings": (
        embeddings_with(lambda a: {"embedding": a["embedding"][:5]}),
        ["5 embeddings", "6 image_ids"],
    ),
    "fewer names": (
        embeddings_with(lambda a: {"image_ids": a["image_ids"][:5]}),
        ["6 embeddings", "5 image_ids"],
    ),
    "fewer valid": (embeddings_with(lambda a: {"valid": a["valid"][:5]}), ["6 image_ids", "5 "]),
    "valid of text": (embeddings_with(lambda a: {"valid": ["True"] * 6}), ["valid"]),
    "twice": (renamed(NAMES[1], NAMES[0]), [NAMES[0], "twice", "once"]),
    "not UTF-8": (
        embeddings_with(
            lambda a: {"image_ids": np.array([b"\xff\xfe%d.jpg" % n for n in range(6)])}
        ),
        ["image_ids", "UTF-8"],
    ),
}
BAD_MASKS = {
    "floats": (lambda root, _: write_masks(root, mask_array().astype("f4")), ["float32", "uint8"]),
    "booleans": (lambda root, _: write_masks(root, mask_array() > 0), ["uint8"]),
    "2-D": (lambda root, _: write_masks(root, mask_array()[0]), ["3-D"]),
    "4-D": (lambda root, _: write_masks(root, mask_array()[None]), ["3-D"]),
    "one fewer": (lambda root, _: write_masks(root, mask_array()[:3]), ["mask_row 3", "3 masks"]),
}


def table_with(path, make, **columns):
    return lambda root, _: write_csv(root, path, make().assign(**columns))


def table_without(path, make, column):
    return lambda root, _: write_csv(root, path, make().drop(columns=column))


def segments_with(**columns):
    return table_with(SEGMENTATION_TABLE, segmentation_table, **columns)


def header_lacks_its_last(root, path):
    """One name fewer than there are values: pandas would take the first column for an index."""
    head, _, rows = (root / path).read_bytes().partition(b"\n")
    put(root, path, head.rpartition(b",")[0] + b"\n" + rows)


def cut_in_the_last_row(root, path):
    """As by a broken download: the last row ends after its first value."""
    data = (root / path).read_bytes().rstrip(b"\n")
    head, newline, last = data.rpartition(b"\n")
    put(root, path, head + newline + last.partition(b",")[0])


ANY_TABLE = {
    "empty": (content(b""), []),
    "line breaks only": (content(b"\n\n"), []),
    "web page": (content(HTML), []),
    "not UTF-8": (lambda root, p: put(root, p, (root / p).read_bytes() + b"\xff\xfe,\xff\n"), []),
    "a gzip": (content(b"\x1f\x8b\x08rubbish"), []),
    "header lacks a name": (header_lacks_its_last, []),
    "last row cut": (cut_in_the_last_row, []),
    "an open quote": (lambda root, p: put(root, p, (root / p).read_bytes() + b'"a,'), []),
}
BAD_SEGMENTATION_TABLES = {
    "past the end": (segments_with(mask_row=[0, 1, 2, 4]), ["mask_row 4", "4 masks"]),
    "far past the end": (segments_with(mask_row=["99999999999999999999", 1, 2, 3]), ["mask_row"]),
    "negative": (segments_with(mask_row=[0, -1, 2, 3]), ["mask_row -1"]),
    "no number": (segments_with(mask_row=["0", "one", "2", "3"]), ["mask_row", "whole numbers"]),
    "half": (segments_with(mask_row=[0.5, 1, 2, 3]), ["mask_row", "whole numbers"]),
    "no mask_row": (segments_with(mask_row=[0, "", 2, 3]), ["mask_row", "whole numbers"]),
    "no instance": (segments_with(instance_id=["a", 0, 0, 1]), ["instance_id", "whole numbers"]),
    "localized in words": (segments_with(localized="yes"), ["localized", "whole numbers"]),
    **{
        f"without {name}": (table_without(SEGMENTATION_TABLE, segmentation_table, name), [name])
        for name in ("mask_row", "image_name", "noun", "instance_id", "localized")
    },
}
BAD_CAPTIONS = {
    **{
        f"without {name}": (table_without(CAPTION_TABLE, caption_table, name), [name])
        for name in ("image_name", "caption_idx", "source", "caption")
    },
    "rank in words": (
        table_with(CAPTION_TABLE, caption_table, caption_idx="first"),
        ["caption_idx", "whole numbers"],
    ),
    "no rank": (
        table_with(CAPTION_TABLE, caption_table, caption_idx=[1, "", 2, 3, 4, 5, 6]),
        ["caption_idx", "whole numbers"],
    ),
}
BAD_METADATA = {
    "twice": (
        table_with(METADATA, metadata_table, image_name=[*NAMES[:5], NAMES[0]]),
        [NAMES[0], "twice", "once"],
    ),
    "without image_name": (table_without(METADATA, metadata_table, "image_name"), ["image_name"]),
}

SOME_HDF5 = {
    name: ANY_HDF5[name] for name in ("empty", "web page", "cut in half", "other datasets")
}
CASES = {
    f"{what}, {case}": (part, path, damage, words)
    for what, part, path, cases in [
        ("images", "images", IMAGES, ANY_HDF5 | BAD_PICTURES),
        ("CLIP", "embeddings/CLIP", embeddings_file("CLIP"), SOME_HDF5 | BAD_EMBEDDINGS),
        ("masks", "segmentations", MASKS, SOME_HDF5 | BAD_MASKS),
        (
            "segmentation table",
            "segmentations",
            SEGMENTATION_TABLE,
            ANY_TABLE | BAD_SEGMENTATION_TABLES,
        ),
        ("captions", "captions", CAPTION_TABLE, ANY_TABLE | BAD_CAPTIONS),
        ("metadata", "metadata", METADATA, ANY_TABLE | BAD_METADATA),
    ]
    for case, (damage, words) in cases.items()
}


@pytest.mark.parametrize("case", CASES)
def test_damaged_file_fails_alone(mirror, whole, whole_store, kept, new, capsys, case, tally):
    """All else is converted; what was stored stays; mended, the same command completes it."""
    part, path, damage, words = CASES[case]
    damage(mirror, path)
    report = report_of(mirror, new)
    assert f"stimuli {part}" in report.failed
    # Which picture is which, the rows of the metadata say.
    fail = {part, "images"} if part == "metadata" else {part}
    if "one fewer" in case and path == MASKS:
        path = SEGMENTATION_TABLE  # it points past the end
    for error in report.failed.values():
        teaches(error, mirror / path, *words)
    assert set(report.failed) == {f"stimuli {name}" for name in fail}
    check(whole, new, lacks=fail)
    before = contents(kept)
    assert command(mirror, kept) == 1
    said = capsys.readouterr().err
    names_and_mends(said, mirror / path)
    assert "Traceback" not in said
    assert contents(kept) == before
    shutil.copyfile(whole / path, mirror / path)
    if path == SEGMENTATION_TABLE:
        shutil.copyfile(whole / MASKS, mirror / MASKS)
    assert command(mirror, new) == 0
    assert contents(new) == contents(whole_store)
    tally("bad stimulus files refused by name")


OVERWRITTEN = [
    *("images, cut in half", "images, one fewer", "CLIP, twice", "metadata, twice"),
    *("masks, floats", "segmentation table, past the end", "captions, without caption"),
]


@pytest.mark.parametrize("case", OVERWRITTEN)
def test_overwrite_with_a_damaged_file(mirror, whole, whole_store, kept, case):
    part, path, damage, words = CASES[case]
    damage(mirror, path)
    report = report_of(mirror, kept, overwrite=True)
    assert f"stimuli {part}" in report.failed
    for error in report.failed.values():
        teaches(error, mirror / path, *words)
    check(whole, kept)
    assert contents(kept) == contents(whole_store)
    shutil.copyfile(whole / path, mirror / path)
    assert command(mirror, kept, "--overwrite") == 0
    assert contents(kept) == contents(whole_store)


def test_all_damages_are_said_at_once(mirror, new, capsys):
    paths = [IMAGES, embeddings_file("CLIP"), MASKS, CAPTION_TABLE]
    for path in paths:
        put(mirror, path, HTML)
    assert command(mirror, new) == 1
    names_and_mends(capsys.readouterr().err, *[mirror / path for path in paths])
    check(mirror, new, lacks={"images", "embeddings/CLIP", "segmentations", "captions"})


def test_dangling_links_and_folders(mirror, whole, whole_store, new):
    (mirror / IMAGES).unlink()
    (mirror / IMAGES).symlink_to(mirror / "nowhere")
    (mirror / CAPTION_TABLE).unlink()
    (mirror / CAPTION_TABLE).mkdir()
    report = report_of(mirror, new)
    assert "stimuli images" in report.failed
    assert str(mirror / IMAGES) in str(report.failed["stimuli images"])
    check(whole, new, lacks={"images", "captions"})
    (mirror / IMAGES).unlink()
    (mirror / CAPTION_TABLE).rmdir()
    for path in (IMAGES, CAPTION_TABLE):
        shutil.copyfile(whole / path, mirror / path)
    assert command(mirror, new) == 0
    assert contents(new) == contents(whole_store)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
@pytest.mark.parametrize("path", sorted({*FILE_OF.values(), SEGMENTATION_TABLE}))
def test_unreadable_file(mirror, whole, new, path):
    (mirror / path).chmod(0)
    report = report_of(mirror, new)
    assert report.failed
    for error in report.failed.values():
        names_and_mends(str(error), mirror / path, "Mend its permissions")
    (mirror / path).chmod(0o644)
    assert command(mirror, new) == 0
    check(whole, new)


def spoil(data, rng, blank=False):
    """Somewhere, a bit is flipped or 200 bytes are blank, as where a download has a hole."""
    changed = bytearray(data)
    at = int(rng.integers(len(data)))
    if blank:
        changed[at : at + 200] = bytes(len(changed[at : at + 200]))
    else:
        changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


@pytest.mark.parametrize("path", sorted({*FILE_OF.values(), SEGMENTATION_TABLE} - {IMAGES}))
def test_flipped_and_blanked_bytes(mirror, whole, new, rounds, tally, path):
    """Anywhere in a file: an error that names it, or what other readers say it holds."""
    rng = np.random.default_rng(zlib.crc32(path.encode()))
    for number in range(rounds(3, 200)):
        put(mirror, path, spoil((whole / path).read_bytes(), rng, number % 2))
        shutil.rmtree(new, ignore_errors=True)
        for error in report_of(mirror, new).failed.values():
            assert isinstance(error, SourceError), error
            assert path in str(error) or IMAGES in str(error), error
        assert not verify_store(new, mirror, deep=True, progress=False).problems
        tally("stimulus files with random damage")


def test_spoilt_pictures_hang_no_converter(mirror, whole, new, rounds, tally):
    """An error that names the file, or what h5py says it holds."""
    rng = np.random.default_rng(0)
    where = ["--source", str(mirror), "--store", str(new), "--n-workers", "1", "--quiet"]
    for _ in range(rounds(1, 50)):
        put(mirror, IMAGES, spoil((whole / IMAGES).read_bytes(), rng))
        shutil.rmtree(new, ignore_errors=True)
        run = [sys.executable, "-P", "-m", "laion_zarr.conversion.cli", "convert", *where]
        try:
            done = subprocess.run(run, capture_output=True, text=True, timeout=15, check=False)
        except subprocess.TimeoutExpired:
            pytest.fail("the converter hangs")
        assert done.returncode in (0, 1), done.stderr
        assert "Traceback" not in done.stderr
        if done.returncode:
            assert str(mirror / IMAGES) in done.stderr
        else:
            assert not verify_store(new, mirror, deep=True, progress=False).problems
        tally("stimulus files with random damage")


# -- odd, and right


def test_unknown_and_missing_images_of_a_model(mirror, new):
    """Named in a warning, no failure; NaN where there is none."""
    gone, stranger = NAMES[1], "shared_12rep_LAION_cluster_9_i9.jpg"
    renamed(gone, stranger)(mirror, None)
    report = report_of(mirror, new)
    assert not report.failed
    said = [line for line in report.missing if "embeddings/CLIP" in line]
    assert any(stranger in line for line in said)
    assert any(gone in line for line in said)
    check(mirror, new)
    stim = load_stimuli(new)
    assert np.isnan(stim.embeddings.get("CLIP", gone).values).all()
    assert not np.isnan(stim.embeddings.get("SigLIP2", gone).values).any()
    with pytest.raises(KeyError, match=re.escape(stranger)):
        stim.embeddings.get("CLIP", stranger)
    assert stranger not in stim.dataset["image"].values
    found = load_subject("01", new).embeddings.all("CLIP").values
    missing = np.array(SHOWN) == gone
    assert np.isnan(found[missing]).all()
    assert not np.isnan(found[~missing]).any()
    assert command(mirror, new) == 0
    assert not verify_store(new, mirror, deep=True, progress=False).notes


def test_fewer_images_in_a_model(mirror, new):
    arrays = embedding_arrays("CLIP")
    write_embeddings(mirror, "CLIP", **{name: list(a)[:4] for name, a in arrays.items()})
    with h5py.File(mirror / embeddings_file("CLIP"), "r+") as file:
        del file["embedding"], file["valid"]
        file["embedding"], file["valid"] = arrays["embedding"][:4], arrays["valid"][:4]
    assert command(mirror, new) == 0
    check(mirror, new)


NOT_PICTURES = {
    "empty": b"",
    "garbage": b"garbage" * 30,
    "web page": HTML,
    "truncated JPEG": picture(NAMES[1])[:-120],
    "JPEG header": picture(NAMES[1])[:30],
    "truncated PNG": picture(TRANSPARENT)[:-60],
    "flipped PNG": (lambda d: d[:80] + bytes([d[80] ^ 1]) + d[81:])(picture(TRANSPARENT)),
}


@pytest.mark.parametrize("case", NOT_PICTURES)
def test_undecodable_picture(mirror, new, case):
    """It is stored byte for byte; decoding says which it is; all else is read."""
    bad = NAMES[1]
    data = {name: picture(name) for name in NAMES} | {bad: NOT_PICTURES[case]}
    write_pictures(mirror, list(data.values()))
    assert command(mirror, new) == 0
    check(mirror, new, bad={bad})
    stim, sub = load_stimuli(new), load_subject("01", new)
    everything = stim.images.array()
    with pytest.raises(SourceError, match=re.escape(bad)):
        everything.compute()
    with pytest.raises(SourceError, match=re.escape(bad)):
        sub.images.array().compute()
    with pytest.raises(SourceError, match=re.escape(bad)):
        list(sub.images.all())
    for trial, name in enumerate(SHOWN):
        assert sub.images[trial] == data[name]
        if name != bad:
            np.testing.assert_array_equal(np.asarray(sub.images.get(trial)), as_shown(data[name]))
    assert not verify_store(new, mirror, deep=True, progress=False).problems
    write_pictures(mirror, [picture(name) for name in NAMES])
    assert command(mirror, new) == 0
    check(mirror, new)


def test_all_pictures_undecodable(mirror, new):
    write_pictures(mirror, [b""] * len(NAMES))
    assert command(mirror, new) == 0
    stim = load_stimuli(new)
    assert dict(stim.images) == dict.fromkeys(NAMES, b"")
    for ask in (lambda: stim.images.get(0), lambda: stim.images.array().compute()):
        with pytest.raises(SourceError, match="cannot be decoded"):
            ask()


def png(width, height, data=b""):
    """A PNG whose header claims a size."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


BOMBS = {
    "claims 50,000 x 50,000": (50_000, png(50_000, 50_000)),
    # One bit a pixel: 12 MB of zeros, packed to nothing.
    "is 10,000 x 10,000": (10_000, png(10_000, 10_000, zlib.compress(bytes(10_000 * 1251)))),
}
NO_LIMIT, LOW_LIMIT = None, 50  # pixels, of Pillow


@pytest.mark.parametrize("limit", ["as it comes", NO_LIMIT, LOW_LIMIT])
@pytest.mark.parametrize("case", BOMBS)
def test_decompression_bomb(mirror, new, monkeypatch, case, limit):
    """Refused by name, without a warning or memory, whatever the user's settings of Pillow."""
    side, bomb = BOMBS[case]
    bad = NAMES[1]
    write_pictures(mirror, [bomb if name == bad else picture(name) for name in NAMES])
    loaded = []
    load = ImageFile.ImageFile.load

    def watched(image):
        loaded.append(image.size)
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", watched)
    default = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert command(mirror, new) == 0  # the store as it comes, the reader with the settings
        if limit != "as it comes":
            monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        stim = load_stimuli(new)
        for ask in (
            lambda: stim.images.get(bad),
            lambda: stim.images.get(bad, as_displayed=False),
            lambda: stim.images.array([bad], size=SIDES).compute(),
            lambda: next(load_subject("01", new).images.all()),
        ):
            with pytest.raises(SourceError) as caught:
                ask()
            names_and_mends(str(caught.value), repr(bad), "expected", "found", "pixels")
        assert (side, side) not in loaded
        other = np.asarray(stim.images.get(NAMES[0]))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", default)
    np.testing.assert_array_equal(other, as_shown(picture(NAMES[0])))
    assert stim.images[bad] == bomb


@pytest.mark.parametrize("limit", [NO_LIMIT, LOW_LIMIT])
def test_store_does_not_depend_on_the_settings_of_pillow(mirror, tmp_path, monkeypatch, limit):
    bombs = [bomb for _, bomb in BOMBS.values()]
    write_pictures(mirror, [*bombs, *map(picture, NAMES[2:])])
    assert command(mirror, tmp_path / "a.zarr") == 0
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert command(mirror, tmp_path / "b.zarr") == 0
    assert contents(tmp_path / "a.zarr") == contents(tmp_path / "b.zarr")


def test_nothing_is_run_to_decode_a_picture(mirror, new, monkeypatch):
    """Only JPEG and PNG are decoded: of a PostScript file, Pillow would have the program run."""
    bad = NAMES[1]
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 12 10\n%%EndComments\nshowpage\n%%EOF\n"
    write_pictures(mirror, [eps if name == bad else picture(name) for name in NAMES])
    ran = []

    def ghostscript(*args, **options):
        ran.append(args)
        return Image.new("RGB", SIDES[::-1]).im

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    assert command(mirror, new) == 0
    with pytest.raises(SourceError, match=re.escape(bad)):
        load_stimuli(new).images.get(bad)
    assert not ran


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF"])
def test_other_formats_are_no_pictures(mirror, new, form):
    bad = NAMES[1]
    data = encoded(np.zeros((*SIDES, 3), np.uint8), form)
    write_pictures(mirror, [data if name == bad else picture(name) for name in NAMES])
    assert command(mirror, new) == 0
    with pytest.raises(SourceError, match=re.escape(bad)) as caught:
        load_stimuli(new).images.get(bad)
    assert "JPEG or PNG" in str(caught.value)


def test_pictures_of_different_size(mirror, new):
    odd = {NAMES[1]: (7, 9), NAMES[4]: (20, 4)}
    data = {name: picture(name, odd.get(name, SIDES)) for name in NAMES}
    write_pictures(mirror, list(data.values()))
    assert command(mirror, new) == 0
    stim, sub = load_stimuli(new), load_subject("01", new)
    for ask in (stim.images.array, sub.images.array, lambda: stim.images.array(NAMES[:2])):
        with pytest.raises(ValueError, match="size=") as caught:
            ask()
        assert NAMES[1] in str(caught.value) or NAMES[0] in str(caught.value)
        assert "7 × 9" in str(caught.value) or "10 × 12" in str(caught.value)
    with pytest.raises(ValueError, match="size=") as caught:
        stim.images.array()
    for name, sides in odd.items():
        assert f"{name} ({sides[0]} × {sides[1]})" in str(caught.value)
    alike = [name for name in NAMES if name not in odd]
    found = stim.images.array(alike).values
    np.testing.assert_array_equal(found, [as_shown(data[name]) for name in alike])
    for name in NAMES:
        assert stim.images.get(name).size == odd.get(name, SIDES)[::-1]
    resized = stim.images.array(size=(5, 6))
    assert resized.shape == (6, 5, 6, 3)
    expected = [
        np.asarray(Image.fromarray(as_shown(d)).resize((6, 5), Image.Resampling.LANCZOS))
        for d in data.values()
    ]
    np.testing.assert_array_equal(resized.values, expected)
    seen = [NAMES.index(name) for name in SHOWN]
    np.testing.assert_array_equal(sub.images.array(size=(5, 6)).values, np.array(expected)[seen])
    assert stim.dataset["height"].values.tolist() == [odd.get(n, SIDES)[0] for n in NAMES]


def test_captions_are_literal(whole_store):
    stim, sub = load_stimuli(whole_store), load_subject("01", whole_store)
    assert stim.captions.list(NAMES[1]) == ["None", "", "NA", "nan"]
    assert stim.captions.human(NAMES[1]) == ["", "NA", "nan"]
    assert stim.captions.ai(NAMES[1]) == "None"
    assert stim.captions.ai(NAMES[0]) is None
    assert sub.captions.list(0) == stim.captions.list(SHOWN[0])
    assert stim.captions.get(NAMES[0])["participant_id"].tolist() == ["NA", "c0"]
    assert stim.captions.list(NAMES[2], "human") == ["ein Café — 日本 🐈"]


@pytest.mark.parametrize("part", ["captions", "segmentations"])
def test_table_without_rows(mirror, new, part):
    """A header and nothing below it: nothing is covered, and that is no error."""
    if part == "captions":
        write_csv(mirror, CAPTION_TABLE, caption_table().iloc[:0])
    else:
        write_csv(mirror, SEGMENTATION_TABLE, segmentation_table().iloc[:0])
    assert command(mirror, new) == 0
    check(mirror, new)
    stim = load_stimuli(new)
    assert stim.captions.list(NAMES[0]) == [] or part != "captions"
    assert stim.segmentations.nouns(NAMES[1]) == [] or part != "segmentations"
    assert not verify_store(new, mirror, deep=True, progress=False).problems


def test_odd_spellings_of_a_table(mirror, whole, new):
    """A byte order mark and Windows line ends change nothing of what is said."""
    for path in (METADATA, SEGMENTATION_TABLE):
        data = (mirror / path).read_bytes()
        put(mirror, path, b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"))
    assert command(mirror, new) == 0
    stim = load_stimuli(new)
    same_text(stim.metadata, text_table(whole, METADATA))
    same_text(stim.segmentations.metadata, text_table(whole, SEGMENTATION_TABLE))
    assert not verify_store(new, mirror, deep=True, progress=False).problems


def test_image_that_no_subject_saw(whole_store):
    stim, sub = load_stimuli(whole_store), load_subject("01", whole_store)
    assert UNSEEN not in sub.metadata["label"].tolist()
    assert stim.images[UNSEEN] == picture(UNSEEN)
    assert UNSEEN in stim.images
    assert stim.captions.list(UNSEEN) == []
    assert stim.captions.ai(UNSEEN) is None
    assert stim.captions.get(UNSEEN).empty
    assert stim.segmentations.nouns(UNSEEN) == []
    assert stim.segmentations.for_image(UNSEEN).empty
    assert not stim.segmentations.has_image(UNSEEN)
    with pytest.raises(KeyError, match=re.escape(UNSEEN)):
        stim.segmentations.get(UNSEEN, "house")
    assert stim.dataset.sel(image=UNSEEN)["n_human_captions"] == 0


def test_trial_whose_label_is_not_in_the_metadata(mirror, new):
    stranger = "shared_12rep_LAION_cluster_77_i0.jpg"
    shown = [*SHOWN[:2], stranger, *SHOWN[3:]]
    write_trials(mirror, shown)
    assert command(mirror, new) == 0
    sub = load_subject("01", new)
    assert sub.metadata["stim_idx"].tolist()[2] == -1
    for ask in (
        lambda: sub.images[2],
        lambda: sub.images.get(2),
        lambda: sub.segmentations.get(2, "house"),
        lambda: list(sub.images.all()),
        lambda: sub.images.array().compute(),
    ):
        with pytest.raises(KeyError, match=re.escape(stranger)):
            ask()
    assert 2 not in sub.images
    assert sub.captions.list(2) == []
    assert sub.segmentations.nouns(2) == []
    found = sub.embeddings.all("CLIP")
    assert found["image_name"].values.tolist() == shown
    stim = load_stimuli(new)
    others = [n for n in range(len(shown)) if n != 2]
    assert np.isnan(found.values[2]).all()
    expected = stim.embeddings.get("CLIP", [shown[n] for n in others]).values
    np.testing.assert_array_equal(found.values[others], expected)
    for n in others:
        assert sub.images[n] == picture(shown[n])
        assert sub.captions.list(n) == stim.captions.list(shown[n])
    assert sub.get_betas(mask_source="rsquare").shape == (6, 8)


@pytest.mark.parametrize("key", ["nope.jpg", "", "shared_", NAMES[0].upper()])
def test_unknown_image(whole_store, key):
    stim = load_stimuli(whole_store)
    for ask in (
        lambda: stim.images[key],
        lambda: stim.images.get(key),
        lambda: stim.images.array([NAMES[0], key]),
        lambda: stim.embeddings.get("CLIP", key),
        lambda: stim.embeddings.get("CLIP", [NAMES[0], key]),
        lambda: stim.segmentations.get(key, "house"),
        lambda: stim.segmentations.nouns(key),
        lambda: stim.captions.list(key),
    ):
        with pytest.raises(KeyError) as caught:
            ask()
        assert repr(key) in str(caught.value)
    assert key not in stim.images


@pytest.mark.parametrize("key", [-1, 6, 10**20])
def test_row_out_of_range(whole_store, key):
    stim = load_stimuli(whole_store)
    for ask in (stim.images.get, stim.captions.list, lambda k: stim.embeddings.get("CLIP", k)):
        with pytest.raises(IndexError, match=str(key)):
            ask(key)
    with pytest.raises(IndexError, match=str(key)):
        load_subject("01", whole_store).images.get(key)


@pytest.mark.parametrize("key", [None, True, 1.5, b"a.jpg", (1, 2)])
def test_key_of_another_kind(whole_store, key):
    with pytest.raises(TypeError):
        load_stimuli(whole_store).images.get(key)


# -- partial mirrors


def test_metadata_missing_while_pictures_are_there(mirror, whole, whole_store, new, capsys):
    """A mirror merely lacks it: said, no failure unless asked for; then the rest."""
    (mirror / METADATA).unlink()
    code = command(mirror, new)
    names_and_mends(capsys.readouterr().err, METADATA, "download")
    check(whole, new, lacks={"metadata", "images"})
    assert command(mirror, new, "--parts", "images") == 1
    names_and_mends(capsys.readouterr().err, METADATA, "laion-zarr download-stimuli")
    shutil.copyfile(whole / METADATA, mirror / METADATA)
    assert command(mirror, new) == 0
    assert contents(new) == contents(whole_store)
    assert code == 0


def test_metadata_gone_from_the_mirror_serve_from_the_store(mirror, whole, whole_store, kept):
    (mirror / METADATA).unlink()
    for options in ([], ["--overwrite"]):
        assert command(mirror, kept, *options) == 0
        check(whole, kept)
        assert contents(kept) == contents(whole_store)


@pytest.mark.parametrize("part", sorted(PARTS))
def test_partial_mirror_then_the_rest(mirror, whole, whole_store, new, part):
    """Any part may be missing, and come later; what vanishes from the mirror stays stored."""
    path = FILE_OF[part]
    (mirror / path).unlink()
    report = report_of(mirror, new)
    lacks = {part, "images"} if part == "metadata" else {part}
    check(whole, new, lacks=lacks)
    if not part.startswith("embeddings"):
        said = [*report.missing, *map(str, report.failed.values())]
        assert any(path in line for line in said)
    shutil.copyfile(whole / path, mirror / path)
    assert command(mirror, new) == 0
    assert contents(new) == contents(whole_store)
    (mirror / path).unlink()
    assert command(mirror, new, "--overwrite") == 0
    assert contents(new) == contents(whole_store)


@pytest.mark.parametrize("path", [MASKS, SEGMENTATION_TABLE])
def test_one_of_two_files(mirror, whole, whole_store, new, capsys, path):
    (mirror / path).unlink()
    assert command(mirror, new) == 0
    assert path in capsys.readouterr().err
    check(whole, new, lacks={"segmentations"})
    shutil.copyfile(whole / path, mirror / path)
    assert command(mirror, new) == 0
    assert contents(new) == contents(whole_store)


@pytest.mark.parametrize("part", ["images", "segmentations", "captions", "metadata", "embeddings"])
def test_asked_for_and_missing_is_a_failure(mirror, new, capsys, part):
    for path in (mirror / "stimuli").iterdir():
        path.unlink()
    assert command(mirror, new, "--parts", part) == 1
    names_and_mends(capsys.readouterr().err, "laion-zarr download-")


def test_store_without_pictures_to_be_shared(mirror, new):
    parts = ["--parts", "metadata", "embeddings", "segmentations", "captions", "betas"]
    assert command(mirror, new, *parts) in (0, 2)  # or one option for each
    if not new.exists():
        assert command(mirror, new, *(f"--parts={name}" for name in parts[1:])) == 0
    check(mirror, new, lacks={"images"})
    pictures = [picture(name) for name in NAMES]
    assert not any(data in stored for stored in contents(new).values() for data in pictures)


# -- files that change while they are read


def changes_while_read(monkeypatch, path, change):
    """Change a file when its content is being read, after it was looked at."""
    left = [1]

    def strike(where):
        if path in str(where) and left[0]:
            left[0] -= 1
            change()

    rows, embeddings, read = Hdf5.rows, Hdf5.embeddings, Source.read

    def struck_rows(self, dataset):
        for number, some in enumerate(rows(self, dataset)):
            if number == 1:
                strike(self.path)
            yield some

    def struck_embeddings(self):
        strike(self.path)
        return embeddings(self)

    def struck_read(self, name):
        data = read(self, name)
        strike(name)
        return data

    monkeypatch.setattr(hdf5_reader, "_ROWS_AT_ONCE", 2)
    monkeypatch.setattr(Hdf5, "rows", struck_rows)
    monkeypatch.setattr(Hdf5, "embeddings", struck_embeddings)
    monkeypatch.setattr(Source, "read", struck_read)
    return left


@pytest.mark.parametrize(
    ("part", "how"),
    [
        *(("images", how) for how in ("cut", "other", "vanishes")),
        ("embeddings/CLIP", "cut"),
        ("segmentations", "vanishes"),
        ("segmentations", "other"),
        ("captions", "other"),
    ],
)
def test_source_that_changes_while_it_is_read(
    mirror, whole, whole_store, kept, new, monkeypatch, part, how
):
    path = FILE_OF[part]
    other = (whole / path).read_bytes()

    def change():
        if how == "vanishes":
            (mirror / path).unlink()
        elif how == "cut":
            os.truncate(mirror / path, len(other) // 2)
        else:
            (mirror / path).unlink()
            put(mirror, path, other[:-3] + bytes([other[-3] ^ 1]) + other[-2:])

    for store, options in ((new, {}), (kept, {"overwrite": True})):
        with monkeypatch.context() as patch:
            left = changes_while_read(patch, path, change)
            report = report_of(mirror, store, **options)
            assert left == [0]
        assert set(report.failed) == {f"stimuli {part}"}
        teaches(report.failed[f"stimuli {part}"], mirror / path)
        check(whole, store, lacks={part} if store == new else ())
        (mirror / path).unlink(missing_ok=True)
        put(mirror, path, other)
        assert command(mirror, store) == 0
        assert contents(store) == contents(whole_store)


# -- a manifest that is lost


@pytest.mark.parametrize(
    ("gone", "manifest"),
    [
        *((IMAGES, manifest) for manifest in ("missing", "cut", "both missing")),
        (METADATA, "missing"),
        (embeddings_file("CLIP"), "cut"),
        (CAPTION_TABLE, "both missing"),
    ],
)
def test_lost_manifest_loses_no_pictures(mirror, whole, whole_store, kept, capsys, manifest, gone):
    """What the mirror cannot give again is left where it lies, whatever is asked for."""
    path = kept / "stimuli" / "manifest.json"
    if manifest == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.unlink()
    if manifest == "both missing":  # the consolidated metadata still lists them
        (kept / "manifest.json").unlink()
    (mirror / gone).unlink()
    before = contents(kept, "stimuli/*/**/*")
    for options in ([], ["--overwrite"], ["--overwrite", "--parts=metadata"], ["--parts=images"]):
        code = command(mirror, kept, *options)
        said = capsys.readouterr().err
        assert contents(kept, "stimuli/*/**/*") == before, options
        assert code == 1
        names_and_mends(said, "stimuli")
    shutil.copyfile(whole / gone, mirror / gone)
    assert command(mirror, kept, "--overwrite") == 0
    assert contents(kept) == contents(whole_store)


@pytest.mark.parametrize("damaged", [IMAGES, MASKS, CAPTION_TABLE])
def test_lost_manifest_and_a_damaged_file(mirror, whole, whole_store, kept, damaged):
    """A file that cannot be converted is no reason to write over what is stored of it."""
    (kept / "stimuli" / "manifest.json").unlink()
    part = {path: name for name, path in FILE_OF.items()}[damaged]
    before = contents(kept, f"stimuli/{part}/**/*")
    half(mirror, damaged)
    assert command(mirror, kept, "--overwrite") == 1
    assert contents(kept, f"stimuli/{part}/**/*") == before
    assert command(mirror, kept) == 1
    assert contents(kept, f"stimuli/{part}/**/*") == before
    shutil.copyfile(whole / damaged, mirror / damaged)
    assert command(mirror, kept, "--overwrite") == 0
    assert contents(kept) == contents(whole_store)


# -- verify


def change_picture(root):
    write_pictures(root, [picture(name) for name in [NAMES[1], NAMES[0], *NAMES[2:]]])


def change_caption(root):
    table = caption_table()
    table.loc[0, "caption"] = ""
    write_csv(root, CAPTION_TABLE, table)


def change_mask(root):
    masks = mask_array()
    masks[2, 3, 4] ^= 1
    write_masks(root, masks)


def change_segment(root):
    write_csv(root, SEGMENTATION_TABLE, segmentation_table().assign(instance_id=[1, 0, 0, 0]))


def change_embedding(root):
    values = embedding_arrays("CLIP")["embedding"].copy()
    values[2, 3] = -values[2, 3]
    write_embeddings(root, "CLIP", embedding=values)


def change_valid(root):
    valid = embedding_arrays("CLIP")["valid"].copy()
    valid[3] = False
    write_embeddings(root, "CLIP", valid=valid)


def change_metadata(root):
    write_csv(root, METADATA, metadata_table().assign(score=[0.5, 1.25, -3.0, 4.0, 5.0, 1.1e-7]))


CHANGES = {
    "picture": ("images", IMAGES, change_picture),
    "caption": ("captions", CAPTION_TABLE, change_caption),
    "mask": ("segmentations", MASKS, change_mask),
    "segment": ("segmentations", SEGMENTATION_TABLE, change_segment),
    "embedding": ("embeddings/CLIP", embeddings_file("CLIP"), change_embedding),
    "valid": ("embeddings/CLIP", embeddings_file("CLIP"), change_valid),
    "metadata": ("metadata", METADATA, change_metadata),
}


@pytest.mark.parametrize("case", CHANGES)
def test_verify_finds_a_changed_source(mirror, whole, whole_store, kept, capsys, case):
    _, path, change = CHANGES[case]
    before = contents(kept)
    assert not verify_store(kept, mirror, deep=True, progress=False).notes
    change(mirror)
    for deep in (False, True):
        with pytest.raises(StoreError) as caught:
            verify_store(kept, mirror, deep=deep, progress=False)
        names_and_mends(str(caught.value), mirror / path, "laion-zarr convert")
    options = ["--store", str(kept), "--source", str(mirror), "--quiet"]
    assert main(["verify", *options]) == 1
    assert str(mirror / path) in capsys.readouterr().err
    assert contents(kept) == before
    assert command(mirror, kept) == 0
    assert main(["verify", "--deep", *options]) == 0
    assert contents(kept) != before


@pytest.mark.parametrize("case", CHANGES)
def test_deep_verify_compares_values(mirror, whole, whole_store, kept, capsys, case):
    """A store that says it was made from a file, and holds other values."""
    part, _, change = CHANGES[case]
    change(mirror)
    assert command(mirror, kept) == 0
    manifests = [
        json.loads((s / "stimuli/manifest.json").read_bytes()) for s in (kept, whole_store)
    ]
    changed, original = manifests
    assert changed["parts"][part]["sources"] != original["parts"][part]["sources"]
    for name, entry in changed["parts"].items():
        entry["sources"] = original["parts"][name]["sources"]
    (kept / "stimuli/manifest.json").write_bytes(dump_manifest(changed))
    assert not verify_store(kept, whole, progress=False).problems
    with pytest.raises(StoreError) as caught:
        verify_store(kept, whole, deep=True, progress=False)
    names_and_mends(str(caught.value), f"stimuli/{part}", "convert --overwrite")
    options = ["--store", str(kept), "--source", str(whole), "--quiet"]
    assert main(["verify", "--deep", *options]) == 1
    said = capsys.readouterr().err
    assert f"stimuli/{part}" in said
    assert "'laion-zarr convert --overwrite'" in said
    assert main(["convert", "--overwrite", *options, "--n-workers", "1"]) == 0
    assert main(["verify", "--deep", *options]) == 0
    assert contents(kept) == contents(whole_store)


def test_verify_without_the_source_files(mirror, kept):
    """What the mirror no longer has is said and not compared."""
    for path in (mirror / "stimuli").iterdir():
        path.unlink()
    report = verify_store(kept, mirror, deep=True, progress=False)
    assert not report.problems
    for path in (*FILE_OF.values(), SEGMENTATION_TABLE):
        assert any(path in note for note in report.notes)


@pytest.mark.parametrize("path", sorted({*FILE_OF.values(), SEGMENTATION_TABLE}))
def test_deep_verify_of_a_damaged_source(mirror, kept, path):
    """Said as any other change; nothing of h5py or pandas comes out."""
    put(mirror, path, HTML)
    with pytest.raises(StoreError) as caught:
        verify_store(kept, mirror, deep=True, progress=False)
    names_and_mends(str(caught.value), mirror / path)


def test_convert_raises_what_the_report_holds(mirror, new):
    put(mirror, IMAGES, b"")
    with pytest.raises(SourceError) as caught:
        convert(mirror, new, n_workers=1, progress=False)
    teaches(caught.value, mirror / IMAGES)
    put(mirror, CAPTION_TABLE, b"")
    with pytest.raises(LaionZarrError, match="2 parts could not be converted"):
        convert(mirror, new, n_workers=1, progress=False)


def test_dataset_without_pytorch(whole_store):
    """Its module is imported without PyTorch; making a dataset says what is missing."""
    code = (
        "import sys; sys.modules['torch'] = None; import laion_zarr.torch_data, laion_zarr; "
        f"laion_zarr.load_subject('01', {str(whole_store)!r}).to_torch_dataset()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: to_torch_dataset needs PyTorch")
    assert "'pip install torch'" in last
