"""Settings: the default store and data directory, from arguments, environment and file."""

from __future__ import annotations

import pytest
from fresh_python import run_python
from source_answers import SESSIONS, SUB

import laion_zarr
import laion_zarr.config
from laion_zarr import load_subject
from laion_zarr.errors import DataDirNotSetError, NotConvertedError


def test_settings_are_needed():
    with pytest.raises(DataDirNotSetError, match="LAION_ZARR_STORE"):
        laion_zarr.config.get_store()
    with pytest.raises(DataDirNotSetError, match="LAION_ZARR_DATA_DIR"):
        laion_zarr.get_data_dir()
    with pytest.raises(DataDirNotSetError):
        load_subject(SUB)


def test_settings_by_precedence(tmp_path, monkeypatch):
    """Environment before file, and a store before the data directory's own."""
    config = laion_zarr.config
    folders = {name: tmp_path / name for name in ("kept", "environment")}
    for folder in folders.values():
        folder.mkdir()
    laion_zarr.dataset_initialize(folders["kept"])
    assert config.get_data_dir() == folders["kept"]
    assert config.get_store() == str(folders["kept"] / "laion-fmri.zarr")
    config.store_initialize("s3://kept/store.zarr")
    assert config.get_store() == "s3://kept/store.zarr"
    assert config.get_data_dir() == folders["kept"]
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(folders["environment"]))
    assert config.get_data_dir() == folders["environment"]
    assert config.get_store() == str(folders["environment"] / "laion-fmri.zarr")
    monkeypatch.setenv("LAION_ZARR_STORE", "memory://wins")
    assert config.get_store() == "memory://wins"
    assert config.get_data_dir() == folders["environment"]
    monkeypatch.delenv("LAION_ZARR_DATA_DIR")
    assert config.get_store() == "memory://wins"
    monkeypatch.delenv("LAION_ZARR_STORE")
    assert config.get_store() == "s3://kept/store.zarr"


def test_empty_settings_are_no_settings(monkeypatch):
    monkeypatch.setenv("LAION_ZARR_STORE", "")
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", "")
    with pytest.raises(DataDirNotSetError):
        laion_zarr.config.get_store()


def test_the_default_store_is_opened(store, tmp_path, monkeypatch):
    other = tmp_path / "empty"
    other.mkdir()
    (tmp_path / "laion-fmri.zarr").symlink_to(store, target_is_directory=True)
    laion_zarr.dataset_initialize(tmp_path)
    assert load_subject(SUB).get_sessions() == SESSIONS
    monkeypatch.setenv("LAION_ZARR_STORE", str(other))
    with pytest.raises(NotConvertedError, match=str(other)):
        load_subject(SUB)
    assert load_subject(SUB, store).get_sessions() == SESSIONS  # an argument wins over all


def test_settings_outlive_the_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mirror").mkdir()
    laion_zarr.dataset_initialize("mirror")  # relative: kept as absolute
    code = "import laion_zarr; print(laion_zarr.get_data_dir())"
    assert run_python(code) == str(tmp_path / "mirror")


def test_dataset_initialize_wants_a_folder(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(FileNotFoundError, match=str(path)):
            laion_zarr.dataset_initialize(path)
    with pytest.raises(DataDirNotSetError):
        laion_zarr.get_data_dir()
