"""Splits: published ones as they are, derived ones exactly, masks by set membership."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from counting_store import CountingStore
from places import PUBLISHED_SPLITS, SAMPLE
from split_contents import contents
from trees import tree_bytes

from laion_zarr import _release as release
from laion_zarr import convert, load_stimuli, load_subject, splits, verify
from laion_zarr.conversion import add_splits
from laion_zarr.conversion.parts import splits as split_files
from laion_zarr.errors import DataNotDownloadedError, NotConvertedError, SourceError
from laion_zarr.splits import stored

needs_published = pytest.mark.skipif(not PUBLISHED_SPLITS.is_dir(), reason="the published files")
needs_sample = pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample")
MAY_POOLS = [pool for pool in splits.list_pools() if pool != "pooled"]
PAIRS = [(pool, name) for pool in splits.list_pools() for name in splits.list_splits(pool)]


@pytest.fixture(autouse=True)
def nobody_was_warned(monkeypatch):
    monkeypatch.setattr(stored, "_warned", set())


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
    for pool in MAY_POOLS:
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


@pytest.fixture(scope="session")
def with_may(every_image, tmp_path_factory):
    """The same with the files of May 2026."""
    path = Path(shutil.copytree(every_image, tmp_path_factory.mktemp("may") / "all.zarr"))
    return path, add_splits(PUBLISHED_SPLITS, path)


@needs_published
def test_a_split_says_how_many_images(with_may):
    """And not their thousands of names."""
    split = splits.load_split("tau", "sub-01", with_may[0])
    for text in (repr(split), split._repr_html_(), repr(split.variants[0])):
        assert f"{split.n_train:,} images" in text
        assert f"{split.n_test:,} images" in text
        assert len(text) < 2000
    assert repr(split).startswith("<laion_zarr.Split tau of sub-01>")


@needs_published
def test_published_files_come_back_id_for_id(with_may):
    path, report = with_may
    assert len(report.added) == len(report.stored) == 72
    assert report.own == []
    counts = {generation: len(names) for generation, names in report.generations.items()}
    assert counts == {
        "random_* revision 0": 30,
        "cluster_k5 of May 2026": 30,
        "tau of May 2026": 6,
        "ood of every generation": 6,
    }
    expected = contents(PUBLISHED_SPLITS)
    for pool in MAY_POOLS:
        found = splits.load_all_splits(pool, path, revision=0)
        assert list(found) == splits.list_splits(pool)
        for name, split in found.items():
            assert split.pool == pool
            same(split, expected[pool, name])
    size = sum(file.stat().st_size for file in (path / "splits").rglob("*") if file.is_file())
    assert size <= 200_000
    assert verify(path, progress=False).problems == []


@needs_published
@pytest.mark.parametrize("pool", MAY_POOLS)
def test_revision_0_and_ood_are_derived_exactly(every_image, pool):
    expected = contents(PUBLISHED_SPLITS)
    for name in ["ood", *(f"random_{k}" for k in range(5))]:
        same(splits.load_split(name, pool, every_image, revision=0), expected[pool, name])
    for name in ("tau", "cluster_k5_0"):
        with pytest.raises(NotConvertedError, match="splits add"):
            splits.load_split(name, pool, every_image)
    if pool != "shared":
        with pytest.raises(NotConvertedError, match=r"revision 2.*splits add"):
            splits.load_split("random_0", pool, every_image, revision=2)


@needs_published
@pytest.mark.parametrize("pool", MAY_POOLS)
def test_revision_1_is_five_folds_of_one_permutation(every_image, pool):
    ids = sorted(splits.get_train_test_ids("ood", pool, store=every_image)[0])
    left = np.random.default_rng(42).permutation(len(ids)).tolist()
    for k in range(5):
        n_test = len(ids) // 5 + (k < len(ids) % 5)
        fold, left = left[:n_test], left[n_test:]
        split = splits.load_split(f"random_{k}", pool, every_image, revision=1)
        (variant,) = split.variants
        assert variant.test_ids == sorted(ids[n] for n in fold)
        assert variant.train_ids == sorted(set(ids) - set(variant.test_ids))
        assert (split.n_train, split.n_test) == (len(variant.train_ids), len(variant.test_ids))
        own = {} if pool == "shared" else {"revision": 1}  # as published, and what no longer is
        params = {"method": "shuffled_5fold_cv", "k": 5, "seed": 42, "fold": k}
        assert (split.splitter, split.params) == ("random_kfold", params | own)
    sizes = [splits.load_split(f"random_{k}", pool, every_image, revision=1).n_test for k in (0, 4)]
    assert sizes == ([225, 224] if pool == "shared" else [1167, 1166])


@needs_published
def test_the_newest_revision_comes_and_an_old_one_warns_once(every_image, with_may):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # shared is as published, and who names a revision means it
        assert splits.load_split("random_0", "shared", every_image).splitter == "random_kfold"
        for revision in (0, 1):
            splits.get_train_test_ids("random_0", "sub-01", store=every_image, revision=revision)
    for path in (every_image, with_may[0]):
        stored._warned.clear()
        with pytest.warns(UserWarning, match=r"revision 1, and revision 2 is published: 66 images"):
            split = splits.load_split("random_3", "sub-01", path)
        assert split.params["revision"] == 1
        same_ids = splits.load_split("random_3", "sub-01", path, revision=1)
        assert split == same_ids
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            splits.load_split("random_4", "sub-03", path)


@needs_published
def test_checksums_are_those_of_the_files_of_may():
    found = {
        path.relative_to(PUBLISHED_SPLITS).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in PUBLISHED_SPLITS.glob("*/*.json")
    }
    assert split_files.may_checksums() == found


# -- the sample: the form of today's files, and of revision 1


@pytest.fixture(scope="session")
def sample_store(tmp_path_factory):
    """The sample's metadata with today's splits, and those of revision 1 beside them."""
    path = tmp_path_factory.mktemp("sample") / "s.zarr"
    convert(SAMPLE / "data", path, parts="metadata", progress=False)
    return path, [add_splits(SAMPLE / "splits" / name, path) for name in ("today", "revision1")]


@needs_sample
def test_generations_side_by_side(sample_store):
    path, (today, before) = sample_store
    assert set(today.generations) == {
        *("random_* revision 1", "random_* revision 2"),
        *("cluster_k5 of September 2026", "tau of September 2026"),
    }
    assert today.own == before.own == []
    assert set(before.generations) == {"random_* revision 1"}
    assert len(before.stored) == len(today.added) + len(before.added)
    for folder, revision in (("today", None), ("revision1", 1)):
        for (pool, name), content in contents(SAMPLE / "splits" / folder).items():
            found = splits.load_split(name, pool, path, revision=revision)
            assert found.pool == pool
            same(found, content)
    assert splits.list_pools(path) == splits.list_pools()
    assert splits.list_splits("pooled", path) == [*(f"cluster_k5_{k}" for k in range(5)), "tau"]
    assert splits.list_splits("sub-01", path) == [f"random_{k}" for k in range(5)]
    assert verify(path, progress=False).problems == []


@needs_sample
def test_a_zip_is_a_folder(sample_store, tmp_path):
    path, _ = sample_store
    zipped = Path(
        shutil.make_archive(tmp_path / "random-v1", "zip", SAMPLE / "splits", "revision1")
    )
    with zipfile.ZipFile(zipped, "a") as file:  # as made on a Mac, with a note
        file.writestr("__MACOSX/revision1/sub-01/._random_0.json", b"\0")
        file.writestr("revision1/notes/read_me.json", "{}")
    for name in ("again.zip", "AGAIN.ZIP"):
        again = Path(shutil.copytree(path, tmp_path / f"{name}.zarr"))
        assert len(add_splits(zipped.rename(tmp_path / name), again).added) == 25
        assert tree_bytes(again) == tree_bytes(path)
        zipped = tmp_path / name
    (tmp_path / "broken.zip").write_bytes(zipped.read_bytes()[:-100])
    shutil.make_archive(tmp_path / "two", "zip", SAMPLE / "splits")  # today and revision1
    for name, message in {
        "broken.zip": "expected a plain zip file",
        "two.zip": r"expected each split once, found sub-\d\d/random_\d\.json in two folders",
    }.items():
        with pytest.raises(SourceError, match=rf"{name}: {message}"):
            add_splits(tmp_path / name, again)
    with pytest.raises(DataNotDownloadedError, match=r"none\.zip is not there"):
        add_splits(tmp_path / "none.zip", again)


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


def test_an_imported_split_needs_no_metadata(with_splits):
    counting = CountingStore(with_splits)
    splits.load_split("ood", "shared", store=counting)
    splits.load_split("random_0", "shared", store=counting)
    assert [key for key, _, _ in counting.reads if key.startswith("splits/")]
    assert not [key for key, _, _ in counting.reads if key.startswith("stimuli/")]


def test_a_split_without_revisions_comes_whatever_revision_is_asked_for(with_splits, store):
    newest = splits.load_split("tau", "shared", with_splits)
    assert splits.load_split("tau", "shared", with_splits, revision=0) == newest
    with pytest.raises(NotConvertedError) as caught:
        splits.load_split("tau", "shared", store, revision=2)
    assert "revision" not in str(caught.value)


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
    folds = [
        set(splits.get_train_test_ids(f"random_{k}", "sub-03", store=with_splits)[1])
        for k in range(5)
    ]
    train, test = splits.get_train_test_ids("random_3", "sub-03", store=with_splits)
    assert sum(map(len, folds)) == len(set.union(*folds)) == len(train) + len(test)


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
        (("tau", 2), "Pools: shared, sub-01"),
        (("random_5", "shared"), "Splits: random_0"),
        (("random_0", "pooled"), "of the pool 'pooled'. Splits: cluster_k5_0"),
        (("tau", "shared", 1), "has no variant 1; it has 0"),
        (("tau", "shared", 0, "shape"), "for the split 'ood' alone"),
        (("ood", "shared", 0, ["shape", "round"]), "Unknown OOD type 'round'. Types: cropped"),
    ],
)
def test_wrong_arguments(with_splits, arguments, message):
    with pytest.raises(ValueError, match=message):
        splits.get_train_test_ids(*arguments, store=with_splits)


@pytest.mark.parametrize(
    ("name", "pool", "revision", "there"),
    [
        ("random_0", "shared", 2, "0, 1"),
        ("random_1", "sub-01", 3, "0, 1, 2"),
        ("tau", "01", 7, "0"),
    ],
)
def test_wrong_revisions(with_splits, name, pool, revision, there):
    with pytest.raises(ValueError, match=f"Unknown revision {revision} of {name}.*: {there}"):
        splits.load_split(name, pool, with_splits, revision=revision)
    with pytest.raises(ValueError, match="Unknown revision"):
        splits.load_all_splits(pool, with_splits, revision=revision)


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


def test_misspelt_split_gets_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'tau'"):
        splits.get_train_test_ids("tao", "shared")


def test_a_store_without_splits_says_which_command(store, tmp_path):
    assert splits.list_pools(store) == splits.list_splits(store=store) == []
    for name in splits.list_splits():
        with pytest.raises(NotConvertedError, match=f"'laion-zarr splits add --store {store}'"):
            splits.load_split(name, "shared", store)
    with pytest.raises(NotConvertedError, match="no laion_zarr store"):
        splits.load_split("tau", "shared", tmp_path / "nothing.zarr")
    with pytest.raises(NotConvertedError, match="no laion_zarr store"):
        add_splits(tmp_path, tmp_path / "nothing.zarr")
    assert not (tmp_path / "nothing.zarr").exists()
