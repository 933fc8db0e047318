"""Responses to some images: from the store's averages, or from its betas; the same either way."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pytest
import xarray as xr
from counting_store import CountingStore

from laion_zarr import convert, load_subject
from laion_zarr.analysis import averages
from laion_zarr.arrays.dask_blocks import source_of
from laion_zarr.conversion.averages.making import AveragesMaker
from laion_zarr.errors import StoreError

SUB, PART = "sub-01", "sub-01/averages"


@pytest.fixture(scope="module")
def by_betas(bare):
    """All averages, of a store without the part."""
    return load_subject(SUB, bare).get_image_betas().load()


@pytest.fixture(scope="module")
def names(by_betas):
    return by_betas["image"].values.tolist()


def objects_read(store, work):
    """What `work` gives, and the keys of the chunks of averages, and of betas, that it read."""
    before = len(store.reads)
    result = work()
    keys = [key for key, _, _ in store.reads[before:]]
    means = [k for k in keys if "/mean/c/" in k or "/mean_by_voxel/c/" in k]
    return result, means, [k for k in keys if "/betas/c/" in k]


def is_read(found):
    """Whether an array is read from the averages."""
    return any(name.startswith("averages-") for name in found.data.dask.layers)


def same(found, expected):
    """Values are equal, and all labels that `expected` has; of few images, more may be alike."""
    own = found.drop_vars(set(found.coords) - set(expected.coords)).compute()
    xr.testing.assert_identical(own, expected.compute())


def test_values_labels_and_order(averaged, bare, by_betas, names):
    sub, other = load_subject(SUB, averaged), load_subject(SUB, bare)
    for images in (names[3], [names[5], names[0], names[7]], names[:4], [names[2]] * 2):
        found = sub.get_image_betas(images=images)
        assert is_read(found)
        wanted = [images] if isinstance(images, str) else images
        same(found, by_betas.sel(image=wanted))
        assert found.coords.equals(other.get_image_betas(images=images).coords)


@pytest.mark.parametrize("mask", ["anatomical", "rsquare"])
def test_any_voxels_in_ascending_order(in_blocks, bare, names, mask):
    one, other = (load_subject(SUB, path) for path in (in_blocks, bare))
    whole = other.get_image_betas(mask_source=mask).load()
    every = np.ones(whole.sizes["voxel"], dtype=bool)
    some = np.random.default_rng(0).random(len(every)) < 0.1
    none = np.zeros(len(every), dtype=bool)
    for given in ({}, {"roi": "laiongeneral"}, {"mask": every}, {"mask": some}, {"mask": none}):
        options = {"mask_source": mask, "images": names[1:3], **given}
        found = one.get_image_betas(**options)
        assert is_read(found) == bool(found.size)
        assert (np.diff(found["voxel"]) > 0).all()
        voxels = other.get_betas(**{key: options[key] for key in ("mask_source", *given)})["voxel"]
        same(found, whole.sel(image=names[1:3], voxel=voxels))


def test_one_image_reads_its_own_chunks(in_blocks, names):
    counting = CountingStore(in_blocks)
    ask = partial(load_subject(SUB, counting).get_image_betas, mask_source="rsquare")
    found, means, betas = objects_read(counting, lambda: ask(images=names[:3]))
    assert (means, betas) == ([], [])
    first, means, betas = objects_read(counting, found[0].compute)
    assert sorted(means) == [f"{PART}/mean/c/0/{block}" for block in range(3)]
    assert betas == []
    assert sum(size for key, _, size in counting.reads if "/mean/c/" in key) < 3 * 256 * 4 + 200
    region = ask("FFA1", images=names[0])
    _, means, betas = objects_read(counting, region.compute)
    assert len(means) == 1
    assert betas == []
    np.testing.assert_array_equal(region[0], first.sel(voxel=region["voxel"]))


def test_a_region_reads_its_own_chunks(averaged, by_betas):
    counting = CountingStore(averaged)
    sub = load_subject(SUB, counting)
    for options in ({"roi": "FFA1"}, {}, {"roi": "FFA1", "stimuli": "unique"}):
        found, means, betas = objects_read(counting, partial(sub.get_image_betas, **options))
        assert (means, betas) == ([], [])
        assert is_read(found)
        assert found.data.numblocks == (1, 1)
        first = len(counting.reads)
        _, means, betas = objects_read(counting, found.compute)
        assert set(means) == {f"{PART}/mean_by_voxel/c/0/0"}
        assert betas == []
        nbytes = sum(size for key, _, size in counting.reads[first:] if "_by_voxel/c/" in key)
        source = source_of(sub.get_betas(roi=options.get("roi")).data)
        chunks = np.unique(source.betas.handle.storage_order()[source.voxels] // 16)
        assert nbytes <= len(chunks) * (16 * 10 * 4 + 40)
        same(found, by_betas.sel(image=found["image"], voxel=found["voxel"]))


def test_what_is_least_to_read_is_read(averaged, by_betas, names):
    """Averages image by image or voxel by voxel; of other scores, the betas."""
    sub = load_subject(SUB, averaged)
    for by in ("run", None):
        assert not is_read(sub.get_image_betas(images=names[0], zscore=by))
    for roi, n_images in (("FFA1", 1), ("FFA1", 10), ("face", 1), (None, 2), (None, 9)):
        found = sub.get_image_betas(roi=roi, images=names[:n_images])
        source = source_of(sub.get_betas(roi=roi).data)
        chunks = np.unique(source.betas.handle.storage_order()[source.voxels] // 16)
        by_image = n_images * 717 <= len(chunks) * 16 * len(names)
        assert is_read(found)
        assert any("averages-by-voxel" in name for name in found.data.dask.layers) != by_image
        same(found, by_betas.sel(image=names[:n_images], voxel=found["voxel"]))


def test_few_trials_are_read_from_betas(averaged, by_betas, monkeypatch):
    """Where these are less to read: of chunks that averages share with too many other voxels."""
    monkeypatch.setattr(averages, "_CHUNK", 1 << 20)
    sub = load_subject(SUB, averaged)
    found = sub.get_image_betas(roi="FFA1", images=by_betas["image"].values.tolist())
    assert not is_read(found)
    same(found, by_betas.sel(voxel=found["voxel"]))


def test_stimuli_leave_images_out(averaged, by_betas, names):
    sub = load_subject(SUB, averaged)
    asked = names[::-1]
    found = sub.get_image_betas(images=asked, stimuli="unique")
    assert found["image"].values.tolist() == [n for n in asked if n.startswith("unique")]
    np.testing.assert_array_equal(found, by_betas.sel(image=found["image"]))
    nothing = sub.get_image_betas(images=[n for n in names if n[0] == "s"][:1], stimuli="unique")
    assert nothing.compute().shape == (0, by_betas.sizes["voxel"])


def test_images_that_were_not_shown_are_named(averaged):
    with pytest.raises(ValueError, match=r"Image 'cat\.jpg' is not among the 10 of sub-01"):
        load_subject(SUB, averaged).get_image_betas(images="cat.jpg")


def test_lazy_arrays_of_averages_go_to_other_processes(averaged, by_betas, names):
    found = load_subject(SUB, averaged).get_image_betas(images=names[:2])
    again = pickle.loads(pickle.dumps(found))
    assert again.data.name == found.data.name
    np.testing.assert_array_equal(again, by_betas[:2])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda names: names[::-1], "has names that do not ascend"),
        (lambda names: names[:-1], r"has the shape \(10, 717\), expected \(9, 717\)"),
        (lambda names: np.sort([*names[1:], "zebra.jpg"]), "does not name 'shared_12rep"),
    ],
)
def test_averages_of_a_stranger(bare, copy_of, names, monkeypatch, change, words):
    own, write = copy_of(bare), AveragesMaker.write

    def wrong(self, *arguments):
        self._images = change(self._images)
        return write(self, *arguments)

    monkeypatch.setattr(AveragesMaker, "write", wrong)
    convert(None, own, SUB, parts="averages", progress=False)
    with pytest.raises(StoreError, match=words):
        load_subject(SUB, own).get_image_betas(images=names[0])


def flipped(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 8
    path.write_bytes(data)


def test_damage_is_an_error_that_names_the_object(averaged, copy_of, names):
    own = copy_of(averaged)
    sub = load_subject(SUB, own)
    flipped(own / PART / "mean" / "c" / "0" / "0", 40)
    with pytest.raises(StoreError, match=rf"{PART}/mean/c/0/0 cannot be decoded: checksum differs"):
        sub.get_image_betas(images=names[0]).compute()
    (own / PART / "mean" / "c" / "0" / "0").unlink()
    with pytest.raises(StoreError, match=rf"{PART}/mean/c/0/0 is missing"):
        sub.get_image_betas(images=names[0]).compute()
    flipped(own / PART / "image_name" / "c" / "0", 12)
    with pytest.raises(StoreError, match=rf"{PART}/image_name/c/0 does not match"):
        sub.get_image_betas(images=names[0])
