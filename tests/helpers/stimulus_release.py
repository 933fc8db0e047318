"""The stimulus files of a mirror, read by h5py, csv and Pillow; and a mirror of unusual stimuli.

A test file imports fixtures as ``name as name``, which tells the linter that they are used.
"""

from __future__ import annotations

import csv
import io
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from laion_zarr import convert, load_stimuli

ODD_TEXTS = (
    *("", "NA", "None", "nan", "NaN", "null", "N/A", "<NA>", "True", "1", "1.0", "-", "#1"),
    *(" ", "  both ends  ", "\ttab\t", "a, b", 'say "STOP, now"', '"', '""', "'", "\\n", "a;b"),
    *("two\nlines", "two\r\nlines", "\n", "Un café — 日本 🐈", "e\u0301", "\u00a0", "\ufeffx"),
)


class Release:
    """Contents of the stimulus files of a mirror, read without the converter."""

    def __init__(self, root):
        self.folder = Path(root) / "stimuli"

    def table(self, name):
        path = self.folder / f"task-images_{name}.csv"
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def h5(self, name):
        return h5py.File(self.folder / f"task-images_{name}.h5")

    @cached_property
    def metadata(self):
        return self.table("metadata")

    @cached_property
    def names(self):
        return [row["image_name"] for row in self.metadata]

    @cached_property
    def pictures(self):
        with self.h5("stimuli") as file:
            return dict(zip(self.names, (row.tobytes() for row in file["images"]), strict=True))

    def embedding(self, model, names):
        """Row by row for these names, NaN where there is none."""
        with self.h5(f"desc-{model}_embeddings") as file:
            rows = dict(zip(file["image_ids"].asstr(), file["embedding"], strict=True))
            valid = dict(zip(file["image_ids"].asstr(), file["valid"], strict=True))
            length = file["embedding"].shape[1]
        none = np.full(length, np.nan, np.float16)
        return np.array([rows[name] if valid.get(name) else none for name in names])

    @cached_property
    def masks(self):
        with self.h5("desc-segmentations") as file:
            return file["masks"][:]

    @cached_property
    def segments(self):
        return self.table("desc-segmentations_metadata")

    @cached_property
    def captions(self):
        return self.table("desc-captions")

    def of(self, rows, name):
        return [row for row in rows if row["image_name"] == name]


# Each colour behind each opacity, over 128: the exact value, to the nearest (there are no ties).
MIXED = np.array(
    [[round(Fraction(c * a + 128 * (255 - a), 255)) for a in range(256)] for c in range(256)]
)


def shown(data):
    """Pixels of a picture as displayed, by Pillow's decoder and exact arithmetic."""
    rgba = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    return MIXED[rgba[..., :3], rgba[..., 3:]]


@pytest.fixture(scope="module")
def release(bids_root):
    return Release(bids_root)


@pytest.fixture(scope="module")
def stim(store):
    return load_stimuli(store)


@pytest.fixture(scope="module")
def labels(sub):
    return sub.metadata["label"].tolist()


# -- a mirror of odd things: all kinds of pictures, all kinds of texts, columns of any name


def encoded(array, kind="PNG", mode=None, **options):
    image, data = Image.fromarray(array), io.BytesIO()
    (image.convert(mode) if mode else image).save(data, kind, **options)
    return data.getvalue()


def odd_pictures():
    rng = np.random.default_rng(0)
    colour, opacity = np.meshgrid(np.arange(256, dtype="u1"), np.arange(256, dtype="u1"))
    rgba = np.stack([colour, colour[::-1], 255 - colour, opacity], axis=-1)
    rgb = rng.integers(0, 256, (20, 30, 3), "u1")
    grey = rgb[..., 0]
    return {
        "shared_4rep_OOD_every opacity.png": encoded(rgba),
        "shared_4rep_OOD_grey with opacity.png": encoded(np.dstack([grey, grey.T[:20, :1] * grey])),
        "shared_4rep_OOD_palette.png": encoded(rgb, mode="P", transparency=3),
        "shared_4rep_OOD_one colour clear.png": encoded(
            rgb, transparency=tuple(map(int, rgb[0, 0]))
        ),
        "shared_4rep_OOD_grey clear.png": encoded(grey, transparency=int(grey[0, 0])),
        "shared_4rep_OOD_bits.png": encoded(grey, mode="1"),
        "shared_4rep_OOD_plain.png": encoded(rgb),
        "shared_12rep_LAION_grey.jpg": encoded(grey, "JPEG"),
        "shared_12rep_LAION_print.jpg": encoded(rgb, "JPEG", mode="CMYK"),
        "unique_LAION_a, b_p01.jpg": encoded(rgb, "JPEG"),
        "unique_LAION_ü_日本_p01.jpg": encoded(rng.integers(0, 256, (30, 20, 3), "u1"), "JPEG"),
        "unique_LAION_one pixel_p02.png": encoded(rgb[:1, :1]),
    }


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_embedding(path, rows, valid):
    with h5py.File(path, "w") as file:
        file["embedding"] = np.array(list(rows.values()), np.float16)
        file.create_dataset("image_ids", data=list(rows), dtype=h5py.string_dtype())
        file["valid"] = np.array(valid)


TAKEN = ("feature", "channel", "x", "y", "trial", "image", "mask", "row", "height", "valid", "band")


@pytest.fixture(scope="module")
def odd_root(bids_root, tmp_path_factory):
    """Stimuli alone."""
    folder = tmp_path_factory.mktemp("odd") / "stimuli"
    folder.mkdir()
    pictures = odd_pictures()
    names = list(pictures)
    with h5py.File(folder / "task-images_stimuli.h5", "w") as file:
        images = file.create_dataset("images", len(names), h5py.vlen_dtype(np.uint8))
        for row, data in enumerate(pictures.values()):
            images[row] = np.frombuffer(data, np.uint8)
    further = {name: 3 * n for n, name in enumerate(TAKEN)} | {"über die": "ja", "1": "NA"}
    rows = [{"image_name": name, "rank": n / 8, **further} for n, name in enumerate(names)]
    write_csv(folder / "task-images_metadata.csv", rows)
    values = np.arange(len(names) * 4, dtype="f2").reshape(-1, 4)
    values[0] = [np.inf, -np.inf, -0.0, 6e-8]
    values[1, 1] = np.nan  # of one number alone
    rows = dict(zip(names[:-1], values, strict=False))
    write_embedding(folder / "task-images_desc-A1_embeddings.h5", rows, [True] * len(rows))
    rows = dict(zip(["nobody.jpg", *names[::-2]], values, strict=False))
    valid = [n % 3 != 1 for n in range(len(rows))]
    write_embedding(folder / "task-images_desc-b2_embeddings.h5", rows, valid)
    masks = np.random.default_rng(1).integers(0, 2, (6, 7, 5), "u1")
    with h5py.File(folder / "task-images_desc-segmentations.h5", "w") as file:
        file.create_dataset("masks", data=masks, compression="gzip", shuffle=True)
    blank = dict.fromkeys(("score", "box_x0", "box_y0", "box_x1", "box_y1"), "")
    found = [("dog", 1, 1), ("a cup, red", 0, 0), ("dog", 0, 1), ("NA", 0, 1), ("ü", 0, 0)]
    rows = [
        {"mask_row": 5 - n, "image_name": names[0], "noun": noun, "instance_id": instance}
        | blank
        | {"localized": there, "mask_file": "m.png", **dict.fromkeys(TAKEN, n)}
        for n, (noun, instance, there) in enumerate(found)
    ]
    rows.append(rows[1] | {"mask_row": 0, "image_name": names[1], "score": "0.5"})
    write_csv(folder / "task-images_desc-segmentations_metadata.csv", rows)
    rows = [
        {"image_name": names[n % 3], "caption_idx": 1 + n // 3, "source": "human", "caption": text}
        | {"origin_collection": text, "participant_id": "007", "ai_model": "", "row": n}
        for n, text in enumerate(ODD_TEXTS)
    ]
    rows.append(rows[0] | {"caption_idx": 0, "source": "ai", "caption": ""})
    rows.append(rows[0] | {"image_name": names[4], "caption_idx": 0, "source": "ai"})
    write_csv(folder / "task-images_desc-captions.csv", rows[::-1])
    return folder.parent


@pytest.fixture(scope="module")
def odd_store(odd_root, tmp_path_factory):
    path = tmp_path_factory.mktemp("odd") / "s.zarr"
    assert not convert(odd_root, path, progress=False).failed
    return path


@pytest.fixture(scope="module", params=["tiny", "odd"])
def both(request):
    """A mirror and its open stimuli."""
    if request.param == "tiny":
        return request.getfixturevalue("release"), request.getfixturevalue("stim")
    odd = Release(request.getfixturevalue("odd_root"))
    return odd, load_stimuli(request.getfixturevalue("odd_store"))


# -- embeddings


def same_bits(values, expected):
    """To the bit, but for the kind of NaN."""
    values = np.asarray(values)
    assert values.dtype == expected.dtype == np.float16
    np.testing.assert_array_equal(np.isnan(values), np.isnan(expected))
    there = ~np.isnan(expected)
    np.testing.assert_array_equal(values.view("u2")[there], expected.view("u2")[there])


# -- segmentations


def once_each(values):
    return list(dict.fromkeys(values))


# -- captions


def texts(rows, *sources):
    chosen = [row for row in rows if row["source"] in sources]
    return [row["caption"] for row in sorted(chosen, key=lambda row: int(row["caption_idx"]))]
