"""Where the data are; as `laion_zarr.config`, with a string for the path."""

from __future__ import annotations

from laion_zarr import config
from laion_zarr.config import dataset_initialize

__all__ = ["dataset_initialize", "get_data_dir", "set_data_dir"]

set_data_dir = dataset_initialize


def get_data_dir() -> str:
    """As `laion_zarr.config.get_data_dir`, but a string.

    Returns
    -------
    str
        Root of the local mirror.

    Raises
    ------
    DataDirNotSetError
        If it is not set.
    """
    return str(config.get_data_dir())
