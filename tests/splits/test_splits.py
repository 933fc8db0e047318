"""Splits: published ones as they are, derived ones exactly, masks by set membership."""

from __future__ import annotations

import hashlib
import pickle
from collections import Counter

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from places import PUBLISHED_SPLITS
from split_contents import contents

from laion_zarr import _release as release
from laion_zarr import convert, load_stimuli, load_subject, splits, verify
from laion_zarr.conversion import add_splits
from laion_zarr.conversion.parts import splits as split_files
from laion_zarr.errors import NotConvertedError

needs_published = pytest.mark.skipif(not PUBLISHED_SPLITS.is_dir(), reason="the published files")
PAIRS = [(pool, name) for pool in splits.list_pools() for name in splits.list_splits()]


def same(split, content):
    (variant,) = split.variants
    (published,) = content["variants"]
    assert variant.train_ids == published["train_ids"]
    assert variant.test_ids == published["test_ids"]
    assert variant.variant_id == published["variant_id"]
    assert variant.all_ids() == published["train_ids"] + published["test_ids"]
    for key in ("name", "splitter", "params", "n_train", "n_test"):
        assert getattr(split, key) == content[key]


@pytest.fixture(scope="session")
def every_image(tmp_path_factory):
    """A store of nothing but the metadata of all images of the release, in an order of its own."""
    found = contents(PUBLISHED_SPLITS)
    names = {}
    for pool in splits.list_pools():
        (variant,) = found[pool, "ood"]["variants"]
        for name in [*variant["train_ids"], *variant["test_ids"]]:
            names.setdefault(name, pool if name.startswith("unique") else "all")
    root = tmp_path_factory.mktemp("all")
    (root / "stimuli").mkdir()
    table = pd.DataFrame({"image_name": names.keys(), "participant": names.values()})
    table = table.assign(dataset="x", n_reps="4rep").sample(frac=1, random_state=7)
    table["unique_or_shared"] = table["image_name"].str.split("_").str[0]
    table.to_csv(root / release.STIMULUS_METADATA, index=False)
    convert(root, root / "all.zarr", parts="metadata", progress=False)
    return root / "all.zarr"


# -- the published files


@needs_published
def test_published_files_come_back_id_for_id(store, copy_of):
    path = copy_of(store)
    report = add_splits(PUBLISHED_SPLITS, path)
    assert len(report.added) == len(report.published) == len(report.stored) == 72
    expected = contents(PUBLISHED_SPLITS)
    assert set(expected) == set(PAIRS)
    for pool in splits.list_pools():
        found = splits.load_all_splits(pool, path)
        assert list(found) == splits.list_splits()
        for name, split in found.items():
            assert split.pool == pool
            same(split, expected[pool, name])
    size = sum(file.stat().st_size for file in (path / "splits").rglob("*") if file.is_file())
    assert size <= 200_000
    assert verify(path, progress=False).problems == []


@needs_published
@pytest.mark.parametrize("pool", splits.list_pools())
def test_random_and_ood_are_derived_exactly(every_image, pool):
    expected = contents(PUBLISHED_SPLITS)
    for name in ["ood", *(f"random_{k}" for k in range(5))]:
        same(splits.load_split(name, pool, every_image), expected[pool, name])
    for name in ("tau", "cluster_k5_0"):
        with pytest.raises(NotConvertedError, match="splits add"):
            splits.load_split(name, pool, every_image)


@needs_published
def test_checksums_are_those_of_the_published_files():
    found = {
        path.relative_to(PUBLISHED_SPLITS).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in PUBLISHED_SPLITS.glob("*/*.json")
    }
    assert split_files.published_checksums() == found


@needs_published
@pytest.mark.parametrize("pool", ["shared", "sub-05"])
def test_ood_types(every_image, pool):
    counts = Counter()
    everyone = splits.get_train_test_ids("ood", pool, store=every_image)[1]
    for kind in splits.list_ood_types():
        train, test = splits.get_train_test_ids("ood", pool, ood_types=kind, store=every_image)
        assert test == [name for name in everyone if f"_OOD_{kind}_" in name]
        assert len(train) == (1121 if pool == "shared" else 5833)
        counts[kind] = len(test)
    released = (60, 10, 24, 21, 8, 72, 30, 82, 64)
    assert counts == dict(zip(splits.list_ood_types(), released, strict=True))
    both = splits.get_train_test_ids("ood", pool, ood_types=["shape", "gabor"], store=every_image)
    assert len(both[1]) == counts["shape"] + counts["gabor"]


@needs_published
def test_one_image_less_is_no_wrong_split(every_image, tmp_path):
    stim = load_stimuli(every_image)
    (tmp_path / "stimuli").mkdir()
    for table in (stim.metadata.iloc[1:], stim.metadata.assign(participant="sub-01")):
        table.to_csv(tmp_path / release.STIMULUS_METADATA, index=False)
        convert(tmp_path, tmp_path / "s.zarr", parts="metadata", progress=False)
        for name in ("random_0", "ood"):
            with pytest.raises(NotConvertedError, match="splits add"):
                splits.load_split(name, "shared", tmp_path / "s.zarr")


# -- a store with splits of its own images


def test_own_splits_come_back(with_splits, own_splits):
    found = contents(own_splits)
    for pool in splits.list_pools():
        for name, split in splits.load_all_splits(pool, with_splits).items():
            same(split, found[pool, name])


def test_own_splits_divide_what_was_seen(with_splits):
    sub = load_subject("01", with_splits)
    seen = set(sub.metadata["label"])
    for name in splits.list_splits():
        train, test = splits.get_train_test_ids(name, "sub-01", store=with_splits)
        assert train == sorted(train)
        assert test == sorted(test)
        assert not set(train) & set(test)
        assert seen & set(train), name
        assert test, name
        assert set(train) | set(test) >= {label for label in seen if "_OOD_" not in label}
    train, test = splits.get_train_test_ids("random_3", "sub-03", store=with_splits)
    pool = sorted(train + test)
    drawn = np.random.default_rng(3).choice(len(pool), len(test), replace=False)
    assert test == sorted(pool[n] for n in drawn)


@pytest.mark.parametrize("name", ["random_1", "cluster_k5_2", "tau", "ood"])
def test_masks_are_set_membership(with_splits, own_splits, name):
    sub = load_subject("sub-03", with_splits)
    (variant,) = contents(own_splits)["shared", name]["variants"]
    labels = sub.metadata["label"].tolist()
    expected = [
        np.array([label in set(variant[side]) for label in labels])
        for side in ("train_ids", "test_ids")
    ]
    betas = sub.get_betas(roi="face")
    forms = {
        "table": sub.metadata,
        "table without label": sub.metadata.drop(columns="label"),
        "series": sub.metadata["label"],
        "list": labels,
        "array": np.array(labels),
        "betas": betas,
        "dataset": sub.dataset,
        "coordinate": betas["image_name"],
        "images": sub.embeddings.all("CLIP"),
    }
    for what, trials in forms.items():
        found = splits.get_split_masks(trials, name, "shared", store=with_splits)
        for mask, wanted in zip(found, expected, strict=True):
            assert isinstance(mask, np.ndarray), what
            assert mask.dtype == bool
            np.testing.assert_array_equal(mask, wanted, err_msg=what)
    by_image = load_stimuli(with_splits).embeddings["CLIP"]
    train, _ = splits.get_split_masks(by_image, name, "shared", store=with_splits)
    assert set(by_image["image"].values[train]) <= set(variant["train_ids"])


def test_a_label_of_ones_own_is_not_the_images_name(with_splits):
    betas = load_subject("01", with_splits).get_betas(roi="face")
    expected = splits.get_split_masks(betas, "tau", "shared", store=with_splits)
    kinds = np.where(np.arange(len(betas)) % 2, "face", "other").astype(object)
    own = betas.assign_coords(label=("trial", kinds))
    np.testing.assert_array_equal(
        splits.get_split_masks(own, "tau", "shared", store=with_splits), expected
    )


def test_the_sides_of_what_is_in_no_pool(with_splits):
    names = ["nobody.jpg", None, np.nan, "shared_12rep_nothing.jpg", ""]
    train, test = splits.get_split_masks(names, "tau", "shared", store=with_splits)
    assert not train.any()
    assert not test.any()
    assert len(train) == len(test) == 5
    nothing = splits.get_split_masks([], "tau", "shared", store=with_splits)
    assert [mask.shape for mask in nothing] == [(0,), (0,)]


def test_assign_split(with_splits):
    sub = load_subject("01", with_splits)
    betas = sub.get_betas(roi="face", session="ses-02")
    found = splits.assign_split(betas, "cluster_k5_1", "01", store=with_splits)
    assert dask.is_dask_collection(found.data)
    train, test = splits.get_split_masks(betas, "cluster_k5_1", "sub-01", store=with_splits)
    assert found["split"].dims == ("trial",)
    np.testing.assert_array_equal(found["split"] == "train", train)
    np.testing.assert_array_equal(found["split"] == "test", test)
    assert set(found["split"].values) == {"train", "test", ""}
    assert "split" not in betas.coords
    xr.testing.assert_identical(found.drop_vars("split"), betas)
    assert splits.assign_split(sub.dataset, "tau", "shared", store=with_splits)["split"].size
    per_image = betas.load().groupby("image_name").mean()
    assert splits.assign_split(per_image, "tau", "sub-01", store=with_splits)["split"].dims == (
        "image_name",
    )
    with pytest.raises(ValueError, match="get_split_masks"):
        splits.assign_split(sub.metadata, "tau", "shared", store=with_splits)


def test_splits_are_plain_objects(with_splits):
    split = splits.load_split("tau", "sub-07", with_splits)
    assert pickle.loads(pickle.dumps(split)) == split
    assert split.split_family == "tau"
    families = {splits.load_split(n, "shared", with_splits).split_family for n in ("random_4",)}
    assert families == {"random"}


# -- what cannot be had


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tau", "everyone"), "Pools: shared, sub-01"),
        (("tau", "sub-02"), "Pools: shared, sub-01"),
        (("tau", 3), "Pools: shared, sub-01"),
        (("random_5", "shared"), "Splits: random_0"),
        (("tau", "shared", 1), "has no variant 1; it has 0"),
        (("tau", "shared", 0, "shape"), "for the split 'ood' alone"),
        (("ood", "shared", 0, ["shape", "round"]), "Unknown OOD type 'round'. Types: cropped"),
    ],
)
def test_wrong_arguments(with_splits, arguments, message):
    with pytest.raises(ValueError, match=message):
        splits.get_train_test_ids(*arguments, store=with_splits)


def test_trials_without_labels(with_splits, sub):
    unlabelled = [
        pd.DataFrame({"session": ["ses-01"], "run": [1]}),
        sub.get_noise_ceiling(desc="NoiseceilingAllrep"),
        sub.dataset.drop_vars("image_name"),
        np.arange(3),
        np.array([["a.jpg", "b.jpg"]]),
        xr.DataArray([1.0, 2.0], dims="trial"),
    ]
    for trials in unlabelled:
        with pytest.raises(ValueError, match="Splits go by image name: expected 'image_name'"):
            splits.get_split_masks(trials, "tau", "shared", store=with_splits)


def test_a_store_without_splits_says_which_command(store, tmp_path):
    for name in splits.list_splits():
        with pytest.raises(NotConvertedError, match="'laion-zarr splits add'"):
            splits.load_split(name, "shared", store)
    with pytest.raises(NotConvertedError, match="no laion_zarr store"):
        splits.load_split("tau", "shared", tmp_path / "nothing.zarr")
    with pytest.raises(NotConvertedError, match="no laion_zarr store"):
        add_splits(tmp_path, tmp_path / "nothing.zarr")
    assert not (tmp_path / "nothing.zarr").exists()
