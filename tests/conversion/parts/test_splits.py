"""Adding splits to a store: from a folder, from the web, damaged, replaced."""

from __future__ import annotations

import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from split_contents import contents
from trees import tree_bytes

from laion_zarr import convert, splits, verify
from laion_zarr.conversion import add_splits
from laion_zarr.conversion.cli import main
from laion_zarr.conversion.parts import splits as split_files
from laion_zarr.conversion.source import splits as published
from laion_zarr.errors import DataNotDownloadedError, NotConvertedError, SourceError, StoreError
from laion_zarr.splits import rules

N_FILES = sum(len(splits.list_splits(pool)) for pool in splits.list_pools())  # 78

# -- adding


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
    before = tree_bytes(path)
    assert len(add_splits(own_splits, path).stored) == N_FILES
    assert tree_bytes(path) == before


def test_splits_one_by_one_are_splits_at_once(
    with_bold, with_splits, own_splits, copy_of, tmp_path
):
    path = copy_of(with_bold)
    for pool in reversed(splits.list_pools()):
        part = tmp_path / pool
        shutil.copytree(own_splits / pool, part / pool)
        report = add_splits(part, path)
        assert len(report.added) == len(splits.list_splits(pool))
    assert tree_bytes(path) == tree_bytes(with_splits)


def test_a_split_replaces_its_own_alone(with_splits, own_splits, copy_of, tmp_path):
    path = copy_of(with_splits)
    before = splits.load_all_splits("shared", path)
    (variant,) = before["tau"].variants
    train, test = variant.train_ids[1:], sorted([*variant.test_ids, variant.train_ids[0]])
    sides = {"train_ids": train, "test_ids": test, "n_train": len(train), "n_test": len(test)}
    report = add_splits(one(own_splits, tmp_path / "new", **sides), path)
    assert report.own == ["shared/tau.json"]
    after = splits.load_all_splits("shared", path)
    assert after["tau"].variants[0].train_ids == train
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
    before = tree_bytes(with_splits)
    folder = one(own_splits, tmp_path, **changes)
    with pytest.raises(SourceError, match=message) as raised:
        add_splits(folder, with_splits)
    assert str(folder / "shared" / "tau.json") in str(raised.value)
    assert tree_bytes(with_splits) == before


@pytest.fixture(scope="module")
def bare(bids_root, tmp_path_factory):
    """A store without stimulus metadata."""
    path = tmp_path_factory.mktemp("bare") / "laion-fmri.zarr"
    convert(bids_root, path, "01", parts="anatomy", progress=False)
    return path


def changed(own_splits, folder, file, change):
    """A copy of all split files, in which one is changed."""
    shutil.copytree(own_splits, folder)
    content = json.loads((folder / file).read_text())
    change(content, content["variants"][0])
    for side in ("train", "test"):
        content[f"n_{side}"] = len(content["variants"][0][f"{side}_ids"])
    (folder / file).write_text(json.dumps(content))
    return folder


def _unknown(content, variant):
    variant["train_ids"] = sorted([*variant["train_ids"], "shared_12rep_unknown.jpg"])


def _lacking(content, variant):
    variant["train_ids"] = variant["train_ids"][1:]


def _moved(content, variant):
    """One image from train to test: another size."""
    first, *variant["train_ids"] = variant["train_ids"]
    variant["test_ids"] = sorted([*variant["test_ids"], first])


def _swapped(content, variant):
    """One image each way: the same sizes."""
    first, *train = variant["train_ids"]
    last = variant["test_ids"].pop()
    variant["test_ids"] = sorted([*variant["test_ids"], first])
    variant["train_ids"] = sorted([*train, last])


def _own_method(content, variant):
    content["splitter"] = "mine"


def _revision_9(content, variant):
    content["params"]["revision"] = 9


@pytest.mark.parametrize("with_metadata", [True, False])
@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("shared/tau.json", _unknown, r"images of the pool 'shared', found 'shared_12rep_unknown"),
        ("pooled/tau.json", _unknown, r"images of the pool 'pooled', found 'shared_12rep_unknown"),
        ("sub-03/cluster_k5_1.json", _lacking, "images of the pool 'sub-03', found no '"),
        ("shared/ood.json", _lacking, "images of the pool 'shared', found no '"),
        ("shared/random_2.json", _moved, r"expected .* by the rule for .* images, found .* test"),
        (
            "shared/random_2.json",
            _swapped,
            "expected at most 0 in revision 1, found 1 test im",
        ),
        ("sub-01/random_1.json", _moved, r"expected .* by the rule for .* images, found .* test"),
        ("sub-01/random_1.json", _swapped, "expected folds without a common image"),
        ("pooled/cluster_k5_4.json", _moved, "expected folds without a common image"),
        ("sub-05/random_0.json", _own_method, r"random_\* of a published revision \(0, 1, 2\)"),
        ("shared/random_0.json", _revision_9, r"random_\* of a published revision \(0, 1\)"),
    ],
)
def test_files_against_the_rules(
    with_splits, bare, own_splits, copy_of, tmp_path, file, change, message, with_metadata
):
    path = copy_of(with_splits if with_metadata else bare)
    before = tree_bytes(path)
    folder = changed(own_splits, tmp_path / "changed", file, change)
    with pytest.raises(SourceError, match=message) as raised:
        add_splits(folder, path)
    named = file.rpartition("_")[0] if "common" in message else file  # either of two folds
    assert f"{folder}/{named}" in str(raised.value)
    assert tree_bytes(path) == before


def test_own_divisions_that_an_earlier_version_added(
    store, own_splits, copy_of, tmp_path, monkeypatch
):
    path = copy_of(store)
    folder = changed(own_splits, tmp_path / "changed", "sub-01/random_0.json", _own_method)
    with monkeypatch.context() as before:
        before.setattr(split_files, "check_splits", lambda *_: None)
        assert "sub-01/random_0.json" in add_splits(folder, path).own
    assert splits.load_split("random_0", "01", path).splitter == "mine"
    with pytest.raises(NotConvertedError, match="revision 2"):
        splits.load_split("random_0", "01", path, revision=2)
    add_splits(own_splits, path)  # the published one wins, and both are kept
    assert splits.load_split("random_0", "01", path).params["revision"] == 2
    assert verify(path, progress=False).problems == []


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"revision": True}, "of a published revision"),
        ({"revision": 2.0}, "of a published revision"),
        ({"fold": 3}, "expected {'method': 'shuffled_5fold_cv', 'k': 5, 'seed': 42, 'fold': 1"),
    ],
)
def test_parameters_are_those_of_the_revision(with_splits, own_splits, tmp_path, params, message):
    def change(content, variant):
        content["params"] |= params

    folder = changed(own_splits, tmp_path / "changed", "sub-01/random_1.json", change)
    with pytest.raises(SourceError, match=message):
        add_splits(folder, with_splits)


def test_other_folds_are_not_revision_2(with_splits, own_splits, tmp_path, monkeypatch):
    """At most as many images as were moved may differ from the rule of revision 1."""
    monkeypatch.setattr(rules, "MOVED", 0)
    with pytest.raises(SourceError, match="expected at most 0 in revision 2, found 1 test images"):
        add_splits(own_splits, with_splits)


def test_a_fold_is_compared_with_those_in_the_store(with_splits, own_splits, copy_of, tmp_path):
    path = copy_of(with_splits)
    folder = changed(own_splits, tmp_path / "changed", "pooled/cluster_k5_4.json", _moved)
    for file in [*folder.glob("*/*.json")]:
        if file.name != "cluster_k5_4.json" or file.parent.name != "pooled":
            file.unlink()
    with pytest.raises(SourceError, match=r"of the store's pooled/cluster_k5_\d\.json, too"):
        add_splits(folder, path)


def test_folds_that_leave_an_image_out(with_splits, own_splits, tmp_path):
    def fewer(content, variant):
        first, *variant["test_ids"] = variant["test_ids"]
        variant["train_ids"] = sorted([*variant["train_ids"], first])

    folder = changed(own_splits, tmp_path / "changed", "shared/cluster_k5_0.json", fewer)
    with pytest.raises(
        SourceError, match=r"expected each image in one fold, found '.*' in no fold"
    ):
        add_splits(folder, with_splits)


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
    for folder, what in ((tmp_path, "holds no split files"), (tmp_path / "no", "is not there")):
        with pytest.raises(DataNotDownloadedError, match=what):
            add_splits(folder, with_splits)


@pytest.fixture(scope="module")
def splits_alone(bids_root, own_splits, tmp_path_factory):
    """A store of splits, and of the metadata that they need: quick to verify."""
    path = tmp_path_factory.mktemp("splits-alone") / "s.zarr"
    convert(bids_root, path, parts="metadata", progress=False)
    add_splits(own_splits, path)
    return path


def test_damage_is_named_and_mended(splits_alone, with_splits, own_splits, copy_of):
    path = copy_of(splits_alone)
    assert tree_bytes(path / "splits") == tree_bytes(with_splits / "splits")
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
        assert tree_bytes(path) == tree_bytes(splits_alone), file


def test_converting_again_keeps_the_splits(bids_root, with_splits, copy_of):
    path = copy_of(with_splits)
    convert(bids_root, path, subjects="01", parts=["anatomy", "metadata"], progress=False)
    assert tree_bytes(path) == tree_bytes(with_splits)
    convert(bids_root, path, subjects="01", parts=["metadata"], overwrite=True, progress=False)
    assert tree_bytes(path / "splits") == tree_bytes(with_splits / "splits")
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


def test_from_a_url(with_bold, with_splits, copy_of, website, monkeypatch):
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    path = copy_of(with_bold)
    assert len(add_splits(website, path).added) == N_FILES
    assert tree_bytes(path) == tree_bytes(with_splits)


def test_what_is_published_today(with_bold, with_splits, copy_of, website, monkeypatch):
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    monkeypatch.setattr(published, "PUBLISHED", website)
    path = copy_of(with_bold)
    report = add_splits(store=path)
    assert tree_bytes(path) == tree_bytes(with_splits)
    found = {generation: len(names) for generation, names in report.generations.items()}
    assert found == {
        "random_* revision 1": 5,
        "random_* revision 2": 25,
        "ood of every generation": 6,
        "published today, of no known method": N_FILES - 36,  # the made-up clusters and tau
    }
    assert report.own == []
    monkeypatch.setattr(published, "PUBLISHED", f"{website}/elsewhere")
    with pytest.raises(DataNotDownloadedError, match="it is not there"):
        add_splits(store=path)


def test_old_files_are_not_what_is_published_today(store, copy_of, website, monkeypatch):
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    monkeypatch.setattr(published, "PUBLISHED", website)
    path = copy_of(store)
    monkeypatch.setattr(split_files, "revisions", lambda pool: (0, 1, 2, 3))
    with pytest.raises(SourceError, match=r"random_0\.json: expected revision 3, found revision"):
        add_splits(store=path)


def test_without_a_network(store, copy_of, monkeypatch):
    monkeypatch.setattr(published, "PUBLISHED", "http://127.0.0.1:9")
    with pytest.raises(DataNotDownloadedError, match=r"cannot be read .* splits add DIR"):
        add_splits(store=copy_of(store))


def test_the_command_line(store, own_splits, copy_of, capsys, tmp_path):
    path = copy_of(store)
    assert main(["splits", "add", str(own_splits), "--store", str(path)]) == 0
    assert capsys.readouterr().out == (
        "ood of every generation: 6 splits\n"
        "random_* revision 1: 5 splits\n"
        "random_* revision 2: 25 splits\n"
        "78 splits read; 78 in the store\n"
    )
    assert main(["info", "--store", str(path)]) == 0
    assert "splits: " in capsys.readouterr().out
    assert main(["splits", "add", str(tmp_path), "--store", str(path)]) == 1
    assert "holds no split files" in capsys.readouterr().err
