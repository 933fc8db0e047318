"""Read surface files as numpy arrays: GIFTI masks and FreeSurfer labels."""

from __future__ import annotations

import nibabel as nib
import numpy as np

from laion_zarr.conversion.source.files import Source
from laion_zarr.conversion.source.problems import damaged


def read_surface_mask(source: Source, path: str) -> np.ndarray:
    """Read a ``func.gii`` mask; returns one bool per vertex."""
    raw = source.read(path)
    try:
        image = nib.gifti.GiftiImage.from_bytes(raw)
        (data,) = (array.data for array in image.darrays)
    except Exception as error:  # the XML parser raises its own exception types
        raise damaged(source.full(path), f"something else ({error})", "GIfTI, one array") from (
            error
        )
    return np.asarray(data).ravel() != 0


def read_label(source: Source, path: str) -> np.ndarray:
    """Read a FreeSurfer text label; returns vertex indices (int32) in file order."""
    lines = source.read(path).decode("utf-8", "replace").splitlines()
    try:
        count = int(lines[1])
        rows = [int(line.split()[0]) for line in lines[2:] if line.strip()]
    except (IndexError, ValueError) as error:
        raise damaged(source.full(path), "something else", "a FreeSurfer label") from error
    if len(rows) != count:
        raise damaged(source.full(path), f"{len(rows)} vertices", f"{count} vertices")
    return np.array(rows, dtype=np.int32)
