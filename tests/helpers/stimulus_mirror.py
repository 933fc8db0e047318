"""A mirror of six images made by hand, its conversion, and checks of a store against its files.

The expected values come from h5py, pandas and Pillow. A test file imports fixtures as
``name as name``, which tells the linter that they are used.
"""

from __future__ import annotations

import io
import re
import zlib

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_mirror import kept as kept
from small_mirror import mirror as mirror
from small_mirror import new as new

from laion_zarr import Captions, Segmentations, load_embeddings, load_stimuli, load_subject
from laion_zarr.conversion.cli import main
from laion_zarr.conversion.options import check_options
from laion_zarr.conversion.run.pipeline import run_conversion
from laion_zarr.conversion.source.files import open_source
from laion_zarr.errors import SourceError, StimuliNotDownloadedError

SIDES = (10, 12)  # height, width of a picture
NAMES = [
    "unique_LAION_initial_cluster_7_i3_p01.jpg",
    "shared_12rep_LAION_cluster_2_i0.jpg",
    "shared_4rep_OOD_shape_bell-490.png",
    "unique_LAION_initial_cluster_1_i3_p01.jpg",
    "shared_12rep_LAION_cluster_1_i0.jpg",
    "unique_LAION_initial_cluster_5_i0_p03.jpg",
]
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
    """The conversion of `whole`; no test may change it."""
    path = tmp_path_factory.mktemp("whole-store") / "s.zarr"
    report = report_of(whole, path)
    assert not report.failed
    assert not [line for line in report.missing if "stimul" in line]
    return path


# -- conversions, and checks of a store against the files


def report_of(root, store, **options):
    """Report of a conversion, failures included, without raising."""
    keys = ("subjects", "sessions", "parts", "mask", "n_workers", "memory", "overwrite")
    given = {"mask": "both", "overwrite": False, "n_workers": 1, **options}
    checked = check_options(*(given.get(key) for key in keys))
    return run_conversion(open_source(root), store, None, checked, False, False)


def command(root, store, *options):
    where = ["--source", str(root), "--store", str(store), "--n-workers", "1", "--quiet"]
    return main(["convert", *where, *options])


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


# -- damages of a file


def half(root, path):
    data = (root / path).read_bytes()
    put(root, path, data[: len(data) // 2])


def embeddings_with(change):
    def write(root, path):
        arrays = embedding_arrays("CLIP")
        write_embeddings(root, "CLIP", **change(arrays))

    return write


def renamed(old, name):
    return embeddings_with(
        lambda a: {"image_ids": [name if n == old else n for n in a["image_ids"]]}
    )
