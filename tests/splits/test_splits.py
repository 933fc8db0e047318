"""Splits: published ones as they are, derived ones exactly, masks by set membership."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import threading
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from laion_zarr import _release as release
from laion_zarr import convert, load_stimuli, load_subject, splits, verify
from laion_zarr.conversion import add_splits
from laion_zarr.conversion.cli import main
from laion_zarr.conversion.parts import splits as split_files
from laion_zarr.errors import DataNotDownloadedError, NotConvertedError, SourceError, StoreError

PUBLISHED = Path(__file__).parents[2] / "shared" / "data" / "splits"
needs_published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published files")
PAIRS = [(pool, name) for pool in splits.list_pools() for name in splits.list_splits()]


def contents(folder):
    """Split files of a folder, by pool and name."""
    return {
        (path.parent.name, path.stem): json.loads(path.read_text())
        for path in Path(folder).glob("*/*.json")
    }


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
    found = contents(PUBLISHED)
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
    report = add_splits(PUBLISHED, path)
    assert len(report.added) == len(report.published) == len(report.stored) == 72
    expected = contents(PUBLISHED)
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
    expected = contents(PUBLISHED)
    for name in ["ood", *(f"random_{k}" for k in range(5))]:
        same(splits.load_split(name, pool, every_image), expected[pool, name])
    for name in ("tau", "cluster_k5_0"):
        with pytest.raises(NotConvertedError, match="splits add"):
            splits.load_split(name, pool, every_image)


@needs_published
def test_checksums_are_those_of_the_published_files():
    found = {
        path.relative_to(PUBLISHED).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in PUBLISHED.glob("*/*.json")
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


# -- adding


def snapshot(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(Path(root).rglob("*"))
        if path.is_file()
    }


def one(own_splits, folder, **changes):
    """A folder with one split file, changed."""
    content = contents(own_splits)["shared", "tau"]
    variant = content["variants"][0]
    changed = {key: value for key, value in changes.items() if key in variant}
    content["variants"] = [variant | changed]
    content |= {key: value for key, value in changes.items() if key not in variant}
    path = Path(folder) / "shared" / "tau.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return Path(folder)


def test_adding_again_changes_nothing(with_splits, own_splits, copy_of):
    path = copy_of(with_splits)
    before = snapshot(path)
    assert len(add_splits(own_splits, path).stored) == 72
    assert snapshot(path) == before


def test_splits_one_by_one_are_splits_at_once(store, with_splits, own_splits, copy_of, tmp_path):
    path = copy_of(store)
    for pool in reversed(splits.list_pools()):
        part = tmp_path / pool
        shutil.copytree(own_splits / pool, part / pool)
        report = add_splits(part, path)
        assert len(report.added) == 12
    assert snapshot(path) == snapshot(with_splits)


def test_a_split_replaces_its_own_alone(with_splits, own_splits, copy_of, tmp_path):
    path = copy_of(with_splits)
    before = splits.load_all_splits("shared", path)
    (variant,) = before["tau"].variants
    less = variant.train_ids[1:]
    add_splits(one(own_splits, tmp_path / "new", train_ids=less, n_train=len(less)), path)
    after = splits.load_all_splits("shared", path)
    assert after["tau"].variants[0].train_ids == less
    assert {n: s for n, s in after.items() if n != "tau"} == {
        n: s for n, s in before.items() if n != "tau"
    }
    assert verify(path, progress=False).problems == []


def test_variants(with_splits, own_splits, copy_of, tmp_path):
    path = copy_of(with_splits)
    train, test = splits.get_train_test_ids("tau", "shared", store=path)
    swapped = {
        "variant_id": 4,
        "train_ids": [*train[:-1], test[0]],
        "test_ids": [*test[1:], train[-1]],
    }
    swapped["train_ids"], swapped["test_ids"] = (
        sorted(swapped["train_ids"]),
        [*sorted([*test[1:], train[-1]])],
    )
    first = {"variant_id": 2, "train_ids": train, "test_ids": test}
    add_splits(one(own_splits, tmp_path / "new", variants=[first, swapped]), path)
    split = splits.load_split("tau", "shared", path)
    assert [variant.variant_id for variant in split.variants] == [2, 4]
    assert splits.get_train_test_ids("tau", "shared", 2, store=path) == (train, test)
    found = splits.get_train_test_ids("tau", "shared", 4, store=path)
    assert found == (swapped["train_ids"], swapped["test_ids"])
    with pytest.raises(ValueError, match="no variant 0; it has 2, 4"):
        splits.get_train_test_ids("tau", "shared", store=path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "ood"}, "expected name 'tau', found name 'ood'"),
        ({"n_train": True}, "expected n_train, int, found n_train True"),
        ({"n_train": 3}, "expected 3, as n_train says, found"),
        ({"n_test": "4"}, "expected n_test, int, found n_test '4'"),
        ({"params": []}, "expected params, dict"),
        ({"splitter": None}, "expected splitter, str"),
        ({"variants": []}, "one or more variants"),
        ({"variants": [3]}, "variant_id None"),
        ({"variant_id": True}, "variant_id True"),
        ({"variant_id": 1 << 40}, "variant_id 1099511627776"),
        ({"test_ids": "abc"}, "test_ids that are no list of image names"),
        ({"test_ids": [1, 2], "n_test": 2}, "test_ids that are no list of image names"),
        ({"train_ids": ["b.jpg", "a.jpg"], "n_train": 2}, "out of order or twice"),
        ({"train_ids": ["a.jpg", "a.jpg"], "n_train": 2}, "out of order or twice"),
        (
            {"train_ids": ["a.jpg"], "n_train": 1, "test_ids": ["a.jpg"], "n_test": 1},
            "'a.jpg' on both sides",
        ),
    ],
)
def test_files_that_break_the_schema(with_splits, own_splits, tmp_path, changes, message):
    before = snapshot(with_splits)
    folder = one(own_splits, tmp_path, **changes)
    with pytest.raises(SourceError, match=message) as raised:
        add_splits(folder, with_splits)
    assert str(folder / "shared" / "tau.json") in str(raised.value)
    assert snapshot(with_splits) == before


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\udcff"])
def test_files_that_are_no_splits(with_splits, tmp_path, text):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "tau.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SourceError, match=r"shared/tau\.json"):
        add_splits(tmp_path, with_splits)


@pytest.mark.parametrize(
    "name", ["shared/mine.json", "all/tau.json", "sub-02/tau.json", "01/tau.json"]
)
def test_files_of_other_names(with_splits, own_splits, tmp_path, name):
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_bytes((own_splits / "shared" / "tau.json").read_bytes())
    with pytest.raises(SourceError, match=r"Split files are named POOL/NAME\.json"):
        add_splits(tmp_path, with_splits)


def test_a_folder_without_splits(with_splits, tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataNotDownloadedError, match="holds no split files"):
            add_splits(folder, with_splits)


def test_damage_is_named_and_mended(with_splits, own_splits, copy_of):
    path = copy_of(with_splits)
    for file in sorted((path / "splits").rglob("*")):
        if file.is_dir() or file == path / "splits" / "zarr.json":
            continue  # which the reader does not need; verify does
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        if file.parent == path / "splits" / "membership":
            assert file.name == "zarr.json"  # the group's, which verify checks
        else:
            with pytest.raises(StoreError, match="laion-zarr splits add"):
                splits.load_split("tau", "shared", path)
        with pytest.raises(StoreError, match="laion-zarr splits add"):
            verify(path, progress=False)
        file.unlink() if file.name == "0" else None
        add_splits(own_splits, path)
        assert snapshot(path) == snapshot(with_splits), file


def test_converting_again_keeps_the_splits(bids_root, with_splits, copy_of):
    path = copy_of(with_splits)
    convert(bids_root, path, subjects="01", parts=["anatomy", "metadata"], progress=False)
    assert snapshot(path) == snapshot(with_splits)
    convert(bids_root, path, subjects="01", parts=["metadata"], overwrite=True, progress=False)
    assert snapshot(path / "splits") == snapshot(with_splits / "splits")
    assert verify(path, progress=False).problems == []


def test_what_a_killed_run_left_is_removed(store, own_splits, copy_of):
    path = copy_of(store)
    stray = path / "splits" / "membership" / "side" / "c" / "0" / "0"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"half")
    with pytest.raises(NotConvertedError):
        splits.load_split("tau", "shared", path)
    add_splits(own_splits, path)
    assert splits.load_split("tau", "shared", path).n_test


# -- from the web


@pytest.fixture
def website(own_splits):
    """`own_splits` on localhost -> its URL."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(own_splits))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_from_a_url(store, with_splits, copy_of, website, monkeypatch):
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    path = copy_of(store)
    assert len(add_splits(website, path).added) == 72
    assert snapshot(path) == snapshot(with_splits)


def test_the_published_ones_are_proven(store, copy_of, own_splits, website, monkeypatch):
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    monkeypatch.setattr(split_files, "PUBLISHED", website)
    path = copy_of(store)
    with pytest.raises(SourceError, match=r"shared/cluster_k5_0\.json: expected SHA-256"):
        add_splits(store=path)
    checksums = {
        file.relative_to(own_splits).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in own_splits.glob("*/*.json")
    }
    monkeypatch.setattr(split_files, "published_checksums", lambda: checksums)
    report = add_splits(store=path)
    assert len(report.published) == 72
    monkeypatch.setattr(split_files, "PUBLISHED", f"{website}/elsewhere")
    with pytest.raises(DataNotDownloadedError, match="it is not there"):
        add_splits(store=path)


def test_without_a_network(store, copy_of, monkeypatch):
    monkeypatch.setattr(split_files, "PUBLISHED", "http://127.0.0.1:9")
    with pytest.raises(DataNotDownloadedError, match=r"cannot be read .* splits add DIR"):
        add_splits(store=copy_of(store))


def test_the_command_line(store, own_splits, copy_of, capsys, tmp_path):
    path = copy_of(store)
    assert main(["splits", "add", str(own_splits), "--store", str(path)]) == 0
    assert capsys.readouterr().out == ("72 splits read, 0 of them as published; 72 in the store\n")
    assert main(["info", "--store", str(path)]) == 0
    assert "splits: " in capsys.readouterr().out
    assert main(["splits", "add", str(tmp_path), "--store", str(path)]) == 1
    assert "holds no split files" in capsys.readouterr().err
