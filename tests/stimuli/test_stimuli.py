"""Stimuli by name: what h5py, csv and Pillow find in the source, and nothing else."""

from __future__ import annotations

import io

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image
from stimulus_release import ODD_TEXTS, Release, once_each, same_bits, shown, texts
from stimulus_release import both as both
from stimulus_release import odd_root as odd_root
from stimulus_release import odd_store as odd_store
from stimulus_release import release as release
from stimulus_release import stim as stim

from laion_zarr import (
    Captions,
    Segmentations,
    Stimuli,
    convert,
    load_embeddings,
    load_stimuli,
    load_subject,
)

MODELS = ["CLIP", "DINOv2", "PEcore", "SigLIP2"]


def keys_of(names, name):
    """Every key that means an image: names and rows of several types."""
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
        # Labels of an index are nobody's to change; before pandas 3 nothing keeps one from it.
        for variable in everything.drop_vars(everything.indexes).variables.values():
            if variable.ndim and variable.values.flags.writeable:
                variable.values[:] = variable.values[0]
    for name, thing in handed_out().items():
        if isinstance(thing, pd.DataFrame):
            pd.testing.assert_frame_equal(thing, first[name])
        else:
            xr.testing.assert_identical(thing, first[name])
    stim.images.names().clear()
    assert stim.images.names() == release.names


# -- repr, and the default store


def test_repr(stim, store, release):
    for text in (repr(stim), stim._repr_html_()):
        for word in (str(store), str(len(release.names)), *MODELS, str(len(release.captions))):
            assert word in text


def test_reprs_of_what_the_stimuli_hold(stim, release):
    """Each says how much there is, without an address of Python's, and in HTML the same."""
    said = {
        stim.images: [f"{len(release.names)} images", "data use agreement"],
        stim.embeddings: [*MODELS, f"{len(release.names)} images"],
        stim.segmentations: [f"{len(release.segments)} masks"],
        stim.captions: [f"{len(release.captions)} captions"],
    }
    for part, words in said.items():
        for text in (repr(part), part._repr_html_()):
            assert type(part).__name__ in text
            assert " at 0x" not in text
            assert [word for word in words if word not in text] == []
    for line in repr(stim.images).splitlines():
        assert len(line) <= 100


def test_the_default_store(store, monkeypatch, release):
    monkeypatch.setenv("LAION_ZARR_STORE", str(store))
    assert load_stimuli().images.names() == release.names
    assert len(Segmentations()) == len(release.segments)
    assert len(Captions()) == len(release.captions)
    assert load_embeddings().models == MODELS
