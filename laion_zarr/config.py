"""Locations of the data and the store: from arguments, environment variables or settings.

The environment variables ``LAION_ZARR_DATA_DIR`` and ``LAION_ZARR_STORE`` take precedence over the
settings that `dataset_initialize` and `store_initialize` saved.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import platformdirs

from laion_zarr.errors import DataDirNotSetError, LaionZarrError
from laion_zarr.store.schema import DEFAULT_STORE

_HOW = (
    "'laion-zarr config --data-dir DIR', laion_zarr.config.dataset_initialize(DIR) or the "
    "environment variable LAION_ZARR_DATA_DIR"
)


def config_file() -> Path:
    """Path of the settings file, in the user's config directory."""
    return Path(platformdirs.user_config_dir("laion_zarr")) / "config.json"


def _settings() -> dict[str, str]:
    path = config_file()
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise LaionZarrError(
            f"{path} is not readable as JSON ({error}). Delete it, then run "
            "'laion-zarr config --data-dir DIR' again."
        ) from error


def _keep(key: str, value: str) -> None:
    path = config_file()
    settings = _settings() | {key: value}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(settings, indent=2), encoding="utf-8")
    partial.replace(path)


def dataset_initialize(path: str | os.PathLike[str]) -> None:
    """Save the data directory, the root of the local mirror, in the user's settings.

    Parameters
    ----------
    path : str or os.PathLike
        An existing folder.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.

    Examples
    --------
    >>> import laion_zarr
    >>> laion_zarr.dataset_initialize("/data/laion-fmri")  # doctest: +SKIP
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not a folder. Create it first (mkdir), or name the folder that holds "
            "'derivatives/'."
        )
    _keep("data_dir", str(folder.absolute()))


def store_initialize(store: str) -> None:
    """Save the default store in the user's settings, used if no store is passed.

    Parameters
    ----------
    store : str
        A local path or an fsspec URL; the store need not exist yet.
    """
    is_url = "://" in store
    _keep("store", store if is_url else str(Path(store).expanduser().absolute()))


def get_data_dir() -> Path:
    """Root of the local mirror.

    Returns
    -------
    pathlib.Path
        From ``LAION_ZARR_DATA_DIR``, else the directory that `dataset_initialize` saved.

    Raises
    ------
    DataDirNotSetError
        If neither is set.
    """
    found = os.environ.get("LAION_ZARR_DATA_DIR") or _settings().get("data_dir")
    if not found:
        raise DataDirNotSetError(
            f"The data directory is not set. Set it with {_HOW}; some commands take --source, too."
        )
    return Path(found).expanduser()


def get_store() -> str:
    """Path or URL of the default store.

    Returns
    -------
    str
        From ``LAION_ZARR_STORE``, else (unless ``LAION_ZARR_DATA_DIR`` is set) the store set by
        ``laion-zarr config --store``, else ``laion-fmri.zarr`` in the data directory.

    Raises
    ------
    DataDirNotSetError
        If neither a store nor a data directory is set.
    """
    found = os.environ.get("LAION_ZARR_STORE")
    # A data directory in the environment takes precedence over a store in the settings.
    if not found and not os.environ.get("LAION_ZARR_DATA_DIR"):
        found = _settings().get("store")
    if found:
        return found
    try:
        return str(get_data_dir() / DEFAULT_STORE)
    except DataDirNotSetError:
        raise DataDirNotSetError(
            "No store is known. Name one by store= (on the command line: --store S), 'laion-zarr "
            f"config --store S' or LAION_ZARR_STORE; or the data directory by {_HOW}."
        ) from None
