"""The data directory, as in `laion_zarr.config`, but returned as a string."""

from __future__ import annotations

from laion_zarr import config
from laion_zarr.config import dataset_initialize

__all__ = ["dataset_initialize", "get_data_dir", "set_data_dir"]

set_data_dir = dataset_initialize


def get_data_dir() -> str:
    """Data directory, as in `laion_zarr.config.get_data_dir`, but as a string.

    Returns
    -------
    str
        Root of the local mirror.

    Raises
    ------
    DataDirNotSetError
        If no data directory is set.
    """
    return str(config.get_data_dir())
