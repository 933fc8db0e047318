"""Stimuli by name and by trial: what h5py, csv and Pillow find in the source, and nothing else."""

from __future__ import annotations

import csv
import io
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import dask
import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image

from laion_zarr import (
    Captions,
    Segmentations,
    Stimuli,
    convert,
    load_embeddings,
    load_stimuli,
    load_subject,
)
from laion_zarr.errors import NotConvertedError, StimuliNotDownloadedError

MODELS = ["CLIP", "DINOv2", "PEcore", "SigLIP2"]
ODD_TEXTS = (
    *("", "NA", "None", "nan", "NaN", "null", "N/A", "<NA>", "True", "1", "1.0", "-", "#1"),
    *(" ", "  both ends  ", "\ttab\t", "a, b", 'say "STOP, now"', '"', '""', "'", "\\n", "a;b"),
    *("two\nlines", "two\r\nlines", "\n", "Un café — 日本 🐈", "e\u0301", "\u00a0", "\ufeffx"),
)


class Release:
    """What the files of a mirror say, read without the converter."""

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
    """As displayed, by Pillow's decoder and exact arithmetic."""
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


def keys_of(names, name):
    """All that may mean an image."""
    row = names.index(name)
    return [name, np.str_(name), row, np.int64(row), np.uint16(row)]


# -- images


def test_files_byte_for_byte(both):
    release, stim = both
    for name, data in release.pictures.items():
        for key in keys_of(release.names, name):
            assert stim.images[key] == data
            assert key in stim.images
    assert list(stim.images) == list(release.pictures.items())
    assert stim.images.names() == release.names
    assert len(stim.images) == len(stim) == len(release.names)


def test_pictures_as_displayed(both):
    release, stim = both
    modes = set()
    for name, data in release.pictures.items():
        for key in keys_of(release.names, name):
            image = stim.images.get(key)
            assert image.mode == "RGB"
            np.testing.assert_array_equal(np.asarray(image), shown(data), name)
        plain, ours = Image.open(io.BytesIO(data)), stim.images.get(name, as_displayed=False)
        assert (ours.mode, ours.size) == (plain.mode, plain.size)
        assert ours.tobytes() == plain.tobytes()
        modes.add(plain.mode)
    assert modes >= {"RGB", "RGBA", "L"}


def test_array(stim, release):
    everything = np.array([shown(data) for data in release.pictures.values()])
    pictures = stim.images.array()
    assert pictures.dims == ("image", "y", "x", "channel")
    assert pictures.dtype == np.uint8
    assert pictures.chunks is not None
    assert pictures["image"].values.tolist() == release.names
    assert "Data Use Agreement" in pictures.attrs["license"]
    np.testing.assert_array_equal(pictures, everything)
    rows = [5, 0, 5, 33, 5, 1]
    names = [release.names[row] for row in rows]
    series = pd.Series(names, index=list("abcdef"))
    ways = (rows, names, tuple(names), np.array(rows), np.array(names), pd.Index(names), series)
    for keys in (*ways, iter(names), [5, *names[1:]], xr.DataArray(names), pictures["image"][rows]):
        some = stim.images.array(keys)
        assert some["image"].values.tolist() == names
        np.testing.assert_array_equal(some, everything[rows])
    np.testing.assert_array_equal(stim.images.array([7]), everything[[7]])
    assert stim.images.array([]).shape[0] == 0
    assert stim.images.array([]).compute().shape[0] == 0


@pytest.mark.parametrize("key", [7, "name"])
def test_array_of_a_single_key_has_one_image(stim, release, key):
    key = release.names[7] if key == "name" else key
    one = stim.images.array(key)
    assert one.dims == ("image", "y", "x", "channel")
    assert one["image"].values.tolist() == [release.names[7]]
    np.testing.assert_array_equal(one[0], shown(release.pictures[release.names[7]]))


def test_array_is_indexed_like_numpy(stim, release):
    everything = np.array([shown(data) for data in release.pictures.values()])
    pictures = stim.images.array()
    for key in (3, slice(30, 2, -7), [4, 2, 4], np.arange(34) % 5 == 0):
        np.testing.assert_array_equal(pictures[key], everything[key])
    few = pictures[[4, 2]][:, 3:20:5][:, :, [20, 1], 1]
    np.testing.assert_array_equal(few, everything[[4, 2]][:, 3:20:5][:, :, [20, 1], 1])
    one = pictures.sel(channel="green")[3, 2, 1]
    assert one.compute().item() == everything[3, 2, 1, 1]
    np.testing.assert_array_equal(pictures.sel(image=release.names[9]), everything[9])


def test_array_resized(both):
    """By Pillow's best filter, once composited."""
    release, stim = both
    pictures = stim.images.array(size=(10, 13))
    assert pictures.shape == (len(release.names), 10, 13, 3)
    for values, data in zip(pictures.values, release.pictures.values(), strict=True):
        image = Image.fromarray(shown(data).astype("u1"))
        np.testing.assert_array_equal(values, image.resize((13, 10), Image.Resampling.LANCZOS))


def test_pictures_of_differing_size_are_named(odd_root, odd_store):
    stim, names = load_stimuli(odd_store), Release(odd_root).names
    with pytest.raises(ValueError, match=r"3 of 12 .*every opacity\.png \(256 × 256\).*size="):
        stim.images.array()
    with pytest.raises(ValueError, match=r"30 × 20"):
        stim.images.array([names[-2], names[-3], names[-4]])
    assert stim.images.array(names[1:-2]).shape == (9, 20, 30, 3)
    assert stim.images.array([0]).shape == (1, 256, 256, 3)


@pytest.mark.parametrize("size", [(0, 3), (3,), 5, "ab", (-1, 2), (1, 2, 3), (None, 4)])
def test_sizes_that_are_none(stim, size):
    with pytest.raises(ValueError, match=r"size takes \(height, width\)"):
        stim.images.array([0], size=size)


# -- embeddings


def same_bits(values, expected):
    """To the bit, but for the kind of NaN."""
    values = np.asarray(values)
    assert values.dtype == expected.dtype == np.float16
    np.testing.assert_array_equal(np.isnan(values), np.isnan(expected))
    there = ~np.isnan(expected)
    np.testing.assert_array_equal(values.view("u2")[there], expected.view("u2")[there])


def test_embeddings(both):
    release, stim = both
    names = release.names
    models = stim.embeddings.models
    assert models == (MODELS if "CLIP" in models else ["A1", "b2"])
    for model in models:
        expected = release.embedding(model, names)
        assert np.isnan(expected).all(axis=1).any()
        every = stim.embeddings[model]
        assert every.dims == ("image", "feature")
        assert every.chunks is not None
        assert every["image"].values.tolist() == names
        same_bits(every, expected)
        same_bits(every[::-3, [2, 0]], expected[::-3, [2, 0]])
        for name in names:
            for key in keys_of(names, name):
                one = stim.embeddings.get(model, key)
                assert one.dims == ("feature",)
                assert one["image"].item() == name
                same_bits(one, expected[names.index(name)])


def test_embeddings_of_several(stim, release):
    names = release.names
    expected = release.embedding("PEcore", names)
    rows = [8, 3, 8, 0]
    wanted = [names[row] for row in rows]
    ways = (wanted, tuple(wanted), np.array(wanted), pd.Series(wanted), rows, np.array(rows))
    further = (xr.DataArray(wanted), iter(wanted), (name for name in wanted), [8, *wanted[1:]])
    for keys in (*ways, *further):
        some = stim.embeddings.get("PEcore", keys)
        assert some.dims == ("image", "feature"), type(keys)
        assert some["image"].values.tolist() == wanted
        same_bits(some, expected[rows])
    assert stim.embeddings.get("PEcore", dict.fromkeys(wanted).keys()).shape[0] == 3
    assert stim.embeddings.get("PEcore", ["x"][:0]).shape == (0, 16)
    assert stim.embeddings.get("PEcore", [names[4]]).shape == (1, 16)


@pytest.mark.parametrize("models", ["all", "DINOv2", ["SigLIP2", "CLIP"], ("CLIP",)])
def test_load_embeddings(store, release, models):
    found = load_embeddings(models, store=store)
    wanted = MODELS if models == "all" else [models] if isinstance(models, str) else [*models]
    assert found.models == wanted
    for model in wanted:
        same_bits(found[model], release.embedding(model, release.names))
    with pytest.raises(KeyError, match=wanted[0]):
        found["other"]


# -- segmentations


def once_each(values):
    return list(dict.fromkeys(values))


@pytest.fixture(params=["namespace", "standalone"])
def seg(both, request):
    release, stim = both
    if request.param == "namespace":
        return release, stim.segmentations
    return release, Segmentations(stim._handle.recipe[0])


def test_segmentations(seg):
    release, segmentations = seg
    covered = 0
    for name in release.names:
        rows = release.of(release.segments, name)
        covered += bool(rows)
        located = [row["noun"] for row in rows if row["localized"] == "1"]
        for key in keys_of(release.names, name):
            assert segmentations.nouns(key) == once_each(located)
            assert segmentations.nouns(key, localized_only=False) == once_each(
                row["noun"] for row in rows
            )
            assert segmentations.has_image(key) is bool(located)
            table = segmentations.for_image(key)
            assert table.index.equals(pd.RangeIndex(len(rows)))
            assert table["mask_row"].tolist() == [int(row["mask_row"]) for row in rows]
            assert table.columns.tolist() == list(release.segments[0])
        for row in rows:
            mask = segmentations.get(name, row["noun"], int(row["instance_id"]))
            assert (mask.dims, mask.dtype) == (("y", "x"), np.uint8)
            np.testing.assert_array_equal(mask, release.masks[int(row["mask_row"])])
            assert mask["mask_row"].item() == int(row["mask_row"])
            if row["instance_id"] == "0":
                np.testing.assert_array_equal(segmentations.get(name, row["noun"]), mask)
    assert 0 < covered < len(release.names)
    assert segmentations.images() == once_each(row["image_name"] for row in release.segments)
    for row, mask in enumerate(release.masks):
        np.testing.assert_array_equal(segmentations[row], mask)
        np.testing.assert_array_equal(segmentations[np.int32(row)], mask)
    every = segmentations.masks
    assert every.chunks is not None
    np.testing.assert_array_equal(every, release.masks)
    np.testing.assert_array_equal(every[[3, 1, 3], ::-2, 4], release.masks[[3, 1, 3], ::-2, 4])


def test_segmentation_table(seg):
    release, segmentations = seg
    table = segmentations.metadata
    assert len(table) == len(segmentations) == len(release.segments)
    for row, expected in zip(table.to_dict("records"), release.segments, strict=True):
        for name, text in expected.items():
            value = row[name]
            if name in ("image_name", "noun", "mask_file"):
                assert value == text
            elif text:
                assert value == float(text)
            else:
                assert value == "" or np.isnan(value)


# -- captions


@pytest.fixture(params=["namespace", "standalone"])
def cap(both, request):
    release, stim = both
    if request.param == "namespace":
        return release, stim.captions
    return release, Captions(stim._handle.recipe[0])


def texts(rows, *sources):
    chosen = [row for row in rows if row["source"] in sources]
    return [row["caption"] for row in sorted(chosen, key=lambda row: int(row["caption_idx"]))]


def test_captions(cap):
    release, captions = cap
    for name in release.names:
        rows = release.of(release.captions, name)
        people, models = texts(rows, "human"), texts(rows, "ai")
        for key in keys_of(release.names, name):
            assert captions.human(key) == captions.list(key, source="human") == people
            assert captions.human(key, limit=2) == people[:2]
            assert captions.human(key, limit=0) == []
            assert captions.human(key, limit=99) == people
            assert captions.ai(key) == (models[0] if models else None)
            assert captions.list(key, source="ai") == models
            assert captions.list(key) == texts(rows, "human", "ai")
            assert (key in captions) is bool(rows)
            table = captions.get(key)
            assert table.columns.tolist() == list(release.captions[0])
            assert table["caption"].tolist() == texts(rows, "human", "ai")
            assert table.index.equals(pd.RangeIndex(len(rows)))
            assert set(table["image_name"]) <= {name}
    assert captions.images() == once_each(row["image_name"] for row in release.captions)


def test_caption_table_is_literal(cap):
    release, captions = cap
    table = captions.metadata
    assert len(table) == len(captions) == len(release.captions)
    for name in release.captions[0]:
        values = [row[name] for row in release.captions]
        numbers = name in ("caption_idx", "row")
        assert table[name].tolist() == ([int(text) for text in values] if numbers else values)


def test_the_odd_texts_are_there(odd_root, odd_store, release):
    assert set(ODD_TEXTS) == {row["caption"] for row in Release(odd_root).captions}
    assert {"", "NA", "None", "nan"} <= {row["caption"] for row in release.captions}
    assert load_stimuli(odd_store).captions.ai(0) == ""  # a caption, if an empty one


# -- metadata, and everything as one dataset


def typed(text):
    try:
        return float(text)
    except ValueError:
        return text


def test_metadata(both):
    release, stim = both
    table = stim.metadata
    assert table.columns.tolist() == list(release.metadata[0])
    assert table.index.equals(pd.RangeIndex(len(release.names)))
    for name in table:
        assert table[name].tolist() == [typed(row[name]) for row in release.metadata], name
    assert table["image_name"].map(type).eq(str).all()


# Where a column's name is taken, or none for an array.
COORDINATE_OF = {name: f"csv_{name}" for name in ("image", "x", "y", "mask", "row", "height")}
COORDINATE_OF |= {"über die": "csv_über_die", "1": "csv_1"}


def test_dataset(both):
    release, stim = both
    dataset, names = stim.dataset, release.names
    assert dataset.indexes["image"].tolist() == names
    assert all(type(name) is str for name in dataset["image"].values)
    assert set(dataset.data_vars) == {f"embedding_{model}" for model in stim.embeddings.models}
    for name in release.metadata[0]:
        if name != "image_name":
            coord = dataset.coords[COORDINATE_OF.get(name, name)]
            assert coord.dims == ("image",)
            assert coord.values.tolist() == [typed(row[name]) for row in release.metadata]
            assert coord.dtype == stim.metadata[name].to_numpy().dtype
    sizes = [Image.open(io.BytesIO(data)).size for data in release.pictures.values()]
    assert list(zip(dataset["width"].values, dataset["height"].values, strict=True)) == sizes
    for source in ("human", "ai"):
        counts = [len(texts(release.of(release.captions, name), source)) for name in names]
        assert dataset[f"n_{source}_captions"].values.tolist() == counts
    for model in stim.embeddings.models:
        variable = dataset[f"embedding_{model}"]
        assert variable.dims == ("image", f"feature_{model}")
        assert variable.chunks is not None
        same_bits(variable, release.embedding(model, names))
    assert "Data Use Agreement" in dataset.attrs["license"]


def test_selected_before_or_after_loading(stim, release):
    lazy, loaded = stim.dataset, stim.dataset.load()
    names = release.names
    for select in (
        lambda ds: ds.sel(image=names[5]),
        lambda ds: ds.sel(image=[names[9], names[2], names[9]]),
        lambda ds: ds.isel(image=slice(20, 3, -4), feature_CLIP=[3, 1]),
        lambda ds: ds.where(ds["unique_or_shared"] == "shared", drop=True),
        lambda ds: ds.sortby("aesthetic_score"),
    ):
        xr.testing.assert_identical(select(lazy).compute(), select(loaded))
    one = lazy.sel(image=names[5])
    same_bits(one["embedding_CLIP"], release.embedding("CLIP", [names[5]])[0])


def test_selections_computed_together_do_not_mix(odd_store, stim, release):
    """Each has a Dask token of its own: by rows, by model, by store, by picture size."""
    lazy, eager = [], []
    for keys in ([3, 4, 5], [5, 4, 3], [3, 4, 6]):
        names = [release.names[key] for key in keys]
        lazy += [stim.images.array(keys), stim.images.array(keys, size=(24, 25))]
        lazy += [stim.dataset.isel(image=keys)[f"embedding_{model}"] for model in MODELS]
        eager += [[shown(release.pictures[name]) for name in names], None]
        eager += [release.embedding(model, names) for model in MODELS]
    other = load_stimuli(odd_store)
    lazy += [other.images.array(range(1, 10)), other.segmentations.masks, stim.segmentations.masks]
    eager += [None, None, release.masks]
    compare(lazy, eager)


def compare(lazy, eager):
    """Computed at once, alone, and as expected."""
    found = dask.compute(*lazy)
    for values, alone, expected in zip(found, lazy, eager, strict=True):
        np.testing.assert_array_equal(values, alone.compute())
        if expected is not None:
            np.testing.assert_array_equal(values, expected)
    assert len({array.data.name for array in lazy}) == len(lazy)


def test_trials_computed_together_do_not_mix(bids_root, store, release, tmp_path):
    """Of sessions, of subjects, and of stores with the same stimuli and other sessions."""
    convert(bids_root, tmp_path / "s.zarr", "03", "ses-02", progress=False)
    lazy, eager = [], []
    asked = [("01", store, ses) for ses in (None, "ses-01", "ses-02")]
    asked += [("03", store, None), ("03", store, "ses-01"), ("03", tmp_path / "s.zarr", None)]
    for subject, place, session in asked:
        sub = load_subject(subject, place)
        names = sub.get_betas(session)["image_name"].values.tolist()
        lazy += [sub.embeddings.all("CLIP", session), sub.images.array(session)]
        eager += [release.embedding("CLIP", names), [shown(release.pictures[n]) for n in names]]
    compare(lazy, eager)


def test_the_same_selection_has_the_same_token(store):
    tokens = {
        load_stimuli(store).images.array([1, 2]).data.name,
        Stimuli(str(store)).images.array([1, 2]).data.name,
    }
    assert len(tokens) == 1
    assert len({load_stimuli(store).embeddings["CLIP"].data.name for _ in range(2)}) == 1


def test_what_is_handed_out_is_the_callers_own(store, release):
    stim, sub = load_stimuli(store), load_subject("01", store)

    def handed_out():
        return {
            "metadata": stim.metadata,
            "table": stim.segmentations.for_image(release.segments[0]["image_name"]),
            "masks": stim.segmentations.metadata,
            "captions": stim.captions.metadata,
            "caption": stim.captions.get(release.captions[0]["image_name"]),
            "of subjects": sub.get_stimulus_metadata(),
            "dataset": stim.dataset.load(),
            "array": stim.images.array().load(),
            "embedding": stim.embeddings["CLIP"].load(),
            "one": stim.embeddings.get("CLIP", [1, 2]),
            "mask": stim.segmentations[0],
            "trials": sub.images.array().load(),
            "rows": sub.embeddings.all("CLIP").load(),
        }

    before = handed_out()
    first = {name: thing.copy(deep=True) for name, thing in before.items()}
    for thing in before.values():
        if isinstance(thing, pd.DataFrame):
            for name in thing:
                thing[name] = thing[name].iloc[0]
            continue
        everything = thing.to_dataset(name="values") if isinstance(thing, xr.DataArray) else thing
        for variable in everything.variables.values():
            if variable.ndim and variable.values.flags.writeable:
                variable.values[:] = variable.values[0]
    for name, thing in handed_out().items():
        if isinstance(thing, pd.DataFrame):
            pd.testing.assert_frame_equal(thing, first[name])
        else:
            xr.testing.assert_identical(thing, first[name])
    stim.images.names().clear()
    assert stim.images.names() == release.names


# -- by trial


def test_namespaces_by_trial(sub, release, labels):
    features = release.embedding("CLIP", labels)
    assert sub.images.names() == labels
    assert len(sub.images) == len(labels)
    assert list(sub.images) == [(name, release.pictures[name]) for name in labels]
    for trial, name in enumerate(labels):
        for key in (trial, np.int32(trial)):
            assert key in sub.images
            assert sub.images[key] == release.pictures[name]
            np.testing.assert_array_equal(sub.images.get(key), shown(release.pictures[name]))
            same_bits(sub.embeddings.get("CLIP", key), features[trial])
            rows = release.of(release.segments, name)
            assert sub.segmentations.nouns(key, False) == once_each(row["noun"] for row in rows)
            assert len(sub.segmentations.for_image(key)) == len(rows)
            for row in rows:
                mask = sub.segmentations.get(key, row["noun"], int(row["instance_id"]))
                np.testing.assert_array_equal(mask, release.masks[int(row["mask_row"])])
            said = release.of(release.captions, name)
            assert sub.captions.list(key) == texts(said, "human", "ai")
            assert sub.captions.human(key, limit=1) == texts(said, "human")[:1]
            assert (key in sub.captions) is bool(said)


@pytest.mark.parametrize("session", [None, "ses-01", "ses-02", "02"])
def test_bulk_by_trial(sub, release, session):
    betas = sub.get_betas(session=session)
    table = sub.metadata
    mine = table if session is None else table[table["session"] == f"ses-{session[-2:]}"]
    names = mine["label"].tolist()
    pictures, features = sub.images.array(session), sub.embeddings.all("SigLIP2", session)
    assert pictures.dims == ("trial", "y", "x", "channel")
    assert features.dims == ("trial", "feature")
    assert pictures.chunks is not None
    assert features.chunks is not None
    assert pictures["trial"].values.tolist() == mine.index.tolist()
    np.testing.assert_array_equal(pictures, [shown(release.pictures[name]) for name in names])
    same_bits(features, release.embedding("SigLIP2", names))
    listed = [np.asarray(image) for image in sub.images.all(session)]
    np.testing.assert_array_equal(listed, pictures)
    resized = sub.images.array(session, size=(7, 9))
    assert resized.shape == (len(names), 7, 9, 3)
    of_trials = {name for name, coord in betas.coords.items() if coord.dims == ("trial",)}
    for array in (pictures, features, resized):
        assert {n for n, c in array.coords.items() if c.dims == ("trial",)} == of_trials
        for name in of_trials:
            xr.testing.assert_identical(
                array[name].variable.to_base_variable(), betas[name].variable.to_base_variable()
            )
        aligned = xr.align(betas, array, join="exact")
        assert aligned[1].sizes["trial"] == len(names)


def test_arithmetic_with_betas(sub, release, labels):
    betas, features = sub.get_betas(roi="face"), sub.embeddings.all("DINOv2")
    there = features.notnull().all("feature").compute()
    product = xr.dot(betas[there], features[there].astype("f8"), dim="trial")
    expected = release.embedding("DINOv2", labels).astype("f8")
    valid = ~np.isnan(expected).any(axis=1)
    np.testing.assert_allclose(
        product.transpose("voxel", "feature"),
        betas.values[valid].T.astype("f8") @ expected[valid],
        rtol=1e-6,
    )
    mixed = (betas * features.isel(feature=2)).compute()
    np.testing.assert_array_equal(mixed, betas.values * expected[:, [2]].astype("f4"), strict=False)
    backwards = (betas + features[::-1, 0]).compute()  # by label, whatever the order
    order = [labels[trial] for trial in backwards["trial"].values]
    assert backwards["image_name"].values.tolist() == order
    whole = sub.dataset.assign(CLIP=sub.embeddings.all("CLIP"), pictures=sub.images.array())
    assert whole.sizes["trial"] == len(labels)
    means = whole["CLIP"].groupby("image_name").first().compute()
    same_bits(means, release.embedding("CLIP", means["image_name"].values.tolist()))


def test_subjects_differ(store, release):
    other = load_subject("03", store)
    names = other.metadata["label"].tolist()
    assert other.images.names() == names
    same_bits(other.embeddings.all("CLIP"), release.embedding("CLIP", names))
    assert other.has_stimuli()


# -- what is not there

KEYS = {
    "unknown name": ("nobody.jpg", KeyError, "'nobody.jpg'.*34 images, such as 'u"),
    "empty name": ("", KeyError, "34 images"),
    "row too large": (34, IndexError, "34.*out of range"),
    "negative row": (-1, IndexError, "out of range"),
    "numpy row": (np.int64(99), IndexError, "99 is out of range"),
    "float": (1.0, TypeError, "image name or row.*1.0"),
    "bool": (True, TypeError, "image name or row"),
    "none": (None, TypeError, "image name or row"),
    "bytes": (b"x", TypeError, "image name or row"),
}
ASK = {
    "[]": lambda stim, key: stim.images[key],
    "get": lambda stim, key: stim.images.get(key),
    "array": lambda stim, key: stim.images.array([0, key]),
    "embedding": lambda stim, key: stim.embeddings.get("CLIP", key),
    "embeddings": lambda stim, key: stim.embeddings.get("CLIP", [0, key]),
    "nouns": lambda stim, key: stim.segmentations.nouns(key),
    "mask": lambda stim, key: stim.segmentations.get(key, "dog"),
    "for_image": lambda stim, key: stim.segmentations.for_image(key),
    "has_image": lambda stim, key: stim.segmentations.has_image(key),
    "captions": lambda stim, key: stim.captions.list(key),
    "caption": lambda stim, key: stim.captions.ai(key),
    "human": lambda stim, key: stim.captions.human(key),
    "get captions": lambda stim, key: stim.captions.get(key),
}


@pytest.mark.parametrize("ask", ASK.values(), ids=list(ASK))
@pytest.mark.parametrize(("key", "error", "text"), KEYS.values(), ids=list(KEYS))
def test_keys_that_mean_no_image(stim, ask, key, error, text):
    with pytest.raises(error, match=text):
        ask(stim, key)
    assert key not in stim.images
    assert key not in stim.captions


@pytest.mark.parametrize("ask", [ask for name, ask in ASK.items() if name != "array"])
@pytest.mark.parametrize(
    ("key", "error", "text"),
    [
        (51, IndexError, "51 is out of range"),
        (-1, IndexError, "out of range"),
        ("shared_1.jpg", TypeError, "global trial index"),
        (2.0, TypeError, "global trial index"),
    ],
)
def test_keys_that_mean_no_trial(sub, ask, key, error, text):
    with pytest.raises(error, match=text):
        ask(sub, key)
    assert key not in sub.images


def test_unknown_model(stim, sub, store):
    for ask in (
        lambda: stim.embeddings["clip"],
        lambda: stim.embeddings.get("clip", 0),
        lambda: sub.embeddings.all("clip"),
        lambda: sub.embeddings.get("clip", 0),
    ):
        with pytest.raises(KeyError, match=r"'clip'.*CLIP, DINOv2, PEcore, SigLIP2"):
            ask()
    with pytest.raises(StimuliNotDownloadedError, match=r"'clip'.*CLIP.*download-embeddings"):
        load_embeddings(["CLIP", "clip"], store=store)
    assert "CLIP" in stim.embeddings
    assert "clip" not in stim.embeddings


@pytest.mark.parametrize("session", ["ses-09", "xx"])
def test_unknown_session(sub, session):
    bulk = (
        sub.images.array,
        lambda ses: list(sub.images.all(ses)),
        lambda ses: sub.embeddings.all("CLIP", ses),
    )
    for ask in bulk:
        with pytest.raises(NotConvertedError, match="there are ses-01, ses-02"):
            ask(session)


def test_unknown_masks(stim, release):
    row = release.segments[0]
    name = row["image_name"]
    for noun, instance in ((row["noun"], 99), ("unicorn", 0), (row["noun"], -1), ("", 0)):
        with pytest.raises(KeyError, match=f"{noun!r}.*{instance}.*Masks of it: .*{row['noun']}"):
            stim.segmentations.get(name, noun, instance)
    bare = next(n for n in release.names if not release.of(release.segments, n))
    with pytest.raises(KeyError, match="none"):
        stim.segmentations.get(bare, "dog")
    for number in (-1, len(release.masks)):
        with pytest.raises(IndexError, match=f"{number} is out of range.*{len(release.masks)}"):
            stim.segmentations[number]


@pytest.mark.parametrize("source", ["humans", "", "AI", 1])
def test_unknown_source(stim, source):
    with pytest.raises(ValueError, match=r"'human'.*'ai'"):
        stim.captions.list(0, source=source)


def test_an_image_without_anything(both):
    release, stim = both
    bare = [n for n in release.names if not release.of(release.segments, n)]
    assert bare
    for name in bare:
        assert stim.segmentations.nouns(name) == []
        assert stim.segmentations.nouns(name, localized_only=False) == []
        assert stim.segmentations.has_image(name) is False
        assert stim.segmentations.for_image(name).empty
        assert "noun" in stim.segmentations.for_image(name)
    silent = [n for n in release.names if not release.of(release.captions, n)]
    for name in silent:
        assert stim.captions.list(name) == stim.captions.human(name, limit=1) == []
        assert stim.captions.ai(name) is None
        assert stim.captions.get(name).columns.tolist() == list(release.captions[0])
    assert silent or "CLIP" in stim.embeddings


def test_repr(stim, store, release):
    for text in (repr(stim), stim._repr_html_()):
        for word in (str(store), str(len(release.names)), *MODELS, str(len(release.captions))):
            assert word in text


def test_the_default_store(store, monkeypatch, release):
    monkeypatch.setenv("LAION_ZARR_STORE", str(store))
    assert load_stimuli().images.names() == release.names
    assert len(Segmentations()) == len(release.segments)
    assert len(Captions()) == len(release.captions)
    assert load_embeddings().models == MODELS
