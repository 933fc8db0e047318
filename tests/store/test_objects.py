"""Every way to name a store, and the errors for a store that does not exist or is no store."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from small_mirror import names_and_mends, not_converted
from source_answers import SESSIONS, SUB
from zarr.storage import LocalStore

from laion_zarr import convert, load_subject
from laion_zarr.conversion.cli import main
from laion_zarr.errors import DataDirNotSetError, LaionZarrError, NotConvertedError

# -- where the store is


@pytest.fixture
def memory_url(store):
    """The store, copied into fsspec's memory."""
    files = fsspec.filesystem("memory")
    for path in sorted(store.rglob("*")):
        if path.is_file():
            files.pipe(f"/accessors/{path.relative_to(store).as_posix()}", path.read_bytes())
    yield "memory://accessors"
    files.rm("/accessors", recursive=True)


FORMS = {
    "str": str,
    "Path": Path,
    "file URL": lambda store: store.as_uri(),
    "LocalStore": lambda store: LocalStore(store, read_only=True),
    "writable LocalStore": LocalStore,
    "relative": lambda store: os.path.relpath(store),
    "slash": lambda store: f"{store}/",
}


@pytest.mark.parametrize("form", [*FORMS, "memory"])
def test_forms_of_a_store(form, store, sub, memory_url):
    where = memory_url if form == "memory" else FORMS[form](store)
    found = load_subject("01", where)
    assert found.get_sessions() == SESSIONS
    expected = sub.get_betas(roi="face", nc_threshold=5).load()
    assert expected.size
    xr.testing.assert_identical(found.get_betas(roi="face", nc_threshold=5).load(), expected)
    xr.testing.assert_identical(found.dataset.compute(), sub.dataset.compute())
    pd.testing.assert_frame_equal(found.metadata, sub.metadata)
    assert SUB in repr(found)
    with xr.open_dataset(where, engine="laion_zarr", group="sub-01") as dataset:
        xr.testing.assert_identical(dataset.compute(), sub.dataset.compute())


def test_a_path_with_blanks_as_url(store, tmp_path):
    odd = tmp_path / "a store, mine"
    odd.symlink_to(store, target_is_directory=True)
    assert load_subject(SUB, odd).get_sessions() == SESSIONS
    assert load_subject(SUB, f"file://{odd}").get_sessions() == SESSIONS


def test_home_is_expanded(store, tmp_path):
    (tmp_path / "mine.zarr").symlink_to(store, target_is_directory=True)  # HOME is tmp_path
    assert load_subject(SUB, "~/mine.zarr").get_sessions() == SESSIONS


@pytest.mark.parametrize("store_like", ["nowhere.zarr", "file:///nowhere.zarr", "memory://nowhere"])
def test_no_store(store_like, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotConvertedError, match="laion-zarr convert"):
        load_subject(SUB, store_like)
    assert list(tmp_path.iterdir()) == []


def test_relative_stores_survive_a_change_of_folder(store, tmp_path, monkeypatch):
    monkeypatch.chdir(store.parent)
    lazy = load_subject("01", store.name).get_betas(roi="laionEVC")
    packed = pickle.dumps(lazy)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(pickle.loads(packed).values, lazy.values)


# -- stores that do not exist


def test_no_store_is_set():
    with pytest.raises(DataDirNotSetError) as caught:
        load_subject("sub-01")
    names_and_mends(str(caught.value), "laion-zarr config --data-dir", "LAION_ZARR_STORE")
    with pytest.raises(DataDirNotSetError):
        convert()
    assert main(["convert", "--quiet"]) == 1


def test_store_that_does_not_exist(tmp_path, monkeypatch):
    nowhere = tmp_path / "nowhere.zarr"
    not_converted(lambda: load_subject("01", nowhere), nowhere, "convert")
    not_converted(lambda: load_subject("01", "memory://nowhere.zarr"), "nowhere.zarr")
    monkeypatch.setenv("LAION_ZARR_STORE", str(nowhere))
    not_converted(lambda: load_subject("01"), nowhere)
    assert not nowhere.exists()


@pytest.mark.parametrize("given", ["a folder", "a zarr group"])
def test_store_that_is_none(tmp_path, given):
    folder = tmp_path / "folder"
    folder.mkdir()
    if given == "a zarr group":
        zarr.open_group(folder, mode="w")
    with pytest.raises(LaionZarrError) as caught:
        load_subject("01", folder)
    names_and_mends(str(caught.value), folder, "laion-zarr")
