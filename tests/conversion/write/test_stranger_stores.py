"""A conversion into a store that a stranger made: cleans nothing but the store."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from converting import alone
from strangers import seal_manifest
from trees import tree

from laion_zarr.conversion.write.catalogue import Catalogue, prune
from laion_zarr.conversion.write.root import prepare_root, remove_strays
from laion_zarr.errors import LaionZarrError, StoreError
from laion_zarr.store.objects import open_store


@pytest.fixture
def theirs(store, copy_of) -> Path:
    return copy_of(store)


@pytest.fixture
def outside(theirs, tmp_path) -> Path:
    """A folder beside the store: a copy of its subject, files of somebody, an empty folder."""
    folder = tmp_path / "outside"
    shutil.copytree(theirs / "sub-01", folder / "sub-01")
    (folder / "thesis.txt").write_text("all of it")
    (folder / "empty").mkdir()
    return folder


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["sub-01", "sub-01/ses-01", ".staging", "stimuli"])
def test_folders_that_are_links_outside_are_not_cleaned(
    bids_root, theirs, outside, name, overwrite
):
    target = outside / name if (outside / name).exists() else outside
    before = tree(outside)
    shutil.rmtree(theirs / name, ignore_errors=True)
    (theirs / name).symlink_to(target)
    with suppress(LaionZarrError):  # or the link alone is removed
        alone(bids_root, theirs, subjects="01", overwrite=overwrite)
    assert tree(outside) == before


def test_stray_links_are_removed_and_not_what_they_lead_to(theirs, outside):
    before, whole = tree(outside), tree(theirs)
    for name, target in (("folder", ""), ("file", "thesis.txt"), ("nothing", "absent")):
        (theirs / "sub-01" / name).symlink_to(outside / target)
    (theirs / "sub-01" / "ses-01" / "deeper").symlink_to(outside)
    opened = open_store(theirs, read_only=False)
    Catalogue(opened, "sub-01").recover()
    remove_strays(opened)
    assert tree(theirs) == whole
    assert not [path for path in theirs.rglob("*") if path.is_symlink()]
    assert tree(outside) == before


def test_empty_folders_are_pruned_through_no_link(outside, tmp_path):
    (tmp_path / "link").symlink_to(outside)
    prune(tmp_path / "link")
    assert (outside / "empty").is_dir()
    prune(outside / "empty")
    assert not (outside / "empty").exists()


PATHS = [
    "../outside",
    "../outside/sub-01/ses-01",
    "{outside}/sub-01/ses-01",
    ".staging/../../outside",
]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_manifests_that_lead_outside_are_refused(bids_root, theirs, outside, path, overwrite):
    listing = theirs / "sub-01" / "manifest.json"
    manifest = json.loads(listing.read_bytes())
    manifest["parts"]["ses-01"]["path"] = path.format(outside=outside)
    listing.write_bytes(seal_manifest(manifest))
    before = tree(outside)
    with pytest.raises(StoreError, match="has its part 'ses-01' at"):
        Catalogue(open_store(theirs, read_only=False), "sub-01")
    if overwrite:  # counts as damaged: everything is converted again
        alone(bids_root, theirs, subjects="01", overwrite=True)
    else:
        with pytest.raises(LaionZarrError, match="has its part 'ses-01' at"):
            alone(bids_root, theirs, subjects="01")
    assert tree(outside) == before


@pytest.mark.parametrize("no_links", [False, True])
def test_a_staged_part_brings_nothing_in(theirs, outside, monkeypatch, no_links):
    """The last commit of a killed run is finished: its objects are copied to their place."""
    if no_links:  # a file system without hard links copies contents

        def refuse(*_: object) -> None:
            raise OSError

        monkeypatch.setattr("os.link", refuse)
    listing, secret = theirs / "sub-01" / "manifest.json", outside / "sub-01" / "ses-01"
    manifest = json.loads(listing.read_bytes())
    manifest["parts"]["ses-01"]["path"] = ".staging/sub-01/ses-01"
    listing.write_bytes(seal_manifest(manifest))
    staged = theirs / ".staging" / "sub-01" / "ses-01"
    shutil.copytree(theirs / "sub-01" / "ses-01", staged)
    shutil.rmtree(theirs / "sub-01" / "ses-01")
    chunk = "image_name/c/0"
    (staged / chunk).unlink()
    (staged / chunk).symlink_to(secret / chunk)
    with pytest.raises(StoreError, match=r"is a link to .*outside"):
        Catalogue(open_store(theirs, read_only=False), "sub-01").recover()
    assert not (theirs / "sub-01" / "ses-01" / chunk).exists()


def test_only_what_a_killed_run_left_at_the_root_is_removed(theirs, tmp_path):
    ours = [f"{name}.{'0a' * 16}.partial" for name in ("zarr", "manifest")]
    others = ["thesis.partial", "zarr.partial", f"thesis.{'0a' * 16}.partial", "zarr.x.partial"]
    for name in (*ours, *others):
        (theirs / name).write_bytes(b"x")
    remove_strays(open_store(theirs, read_only=False))
    assert not [name for name in ours if (theirs / name).exists()]
    assert all((theirs / name).exists() for name in others)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / ours[0]).write_bytes(b"x")
    prepare_root(open_store(empty, read_only=False))
    (empty / "zarr.json").unlink()
    (empty / others[0]).write_bytes(b"x")
    with pytest.raises(StoreError, match=r"thesis\.partial"):
        prepare_root(open_store(empty, read_only=False))
