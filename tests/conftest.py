"""One small synthetic dataset and its conversion, shared by all tests; nothing may change them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from zarr.storage import LocalStore

from laion_zarr import convert, load_subject
from laion_zarr.conversion.synthetic import write_dataset
from laion_zarr.subject import Subject


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees or changes the settings of whoever runs it."""
    for name in ("LAION_ZARR_STORE", "LAION_ZARR_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="session")
def bids_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects, two sessions each, on a grid whose sides all differ."""
    return write_dataset(tmp_path_factory.mktemp("bids"), "tiny", ["sub-01", "sub-03"])


@pytest.fixture(scope="session")
def store(bids_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The conversion of `bids_root`."""
    path = tmp_path_factory.mktemp("store") / "laion-fmri.zarr"
    convert(bids_root, path, progress=False)
    return path


@pytest.fixture(scope="session")
def sub(store: Path) -> Subject:
    """The first subject of `store`."""
    return load_subject("sub-01", store)


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """Copies a tree for a test that changes it."""

    def copy(tree: Path) -> Path:
        return Path(shutil.copytree(tree, tmp_path / "copy" / tree.name))

    return copy


class CountingStore(LocalStore):
    """A local store that remembers what was read: keys, and bytes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.keys_read: list[str] = []
        self.bytes_read = 0

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        value = await super().get(key, *args, **options)
        self.keys_read.append(key)
        self.bytes_read += 0 if value is None else len(value)
        return value

    def beta_reads(self) -> list[str]:
        """Reads of beta chunks."""
        return [key for key in self.keys_read if "/betas/c/" in key]
