"""Read surface files as arrays: GIFTI masks and maps, FreeSurfer labels, the FreeSurfer recon."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import nibabel as nib
import numpy as np

from laion_zarr.conversion.source.files import Source
from laion_zarr.conversion.source.problems import damaged
from laion_zarr.templates import freesurfer
from laion_zarr.templates.freesurfer import Surface

T = TypeVar("T")

_MOST_VERTICES = np.iinfo(np.int32).max


def read_surface_mask(source: Source, path: str) -> np.ndarray:
    """Read a ``func.gii`` mask; returns one bool per vertex."""
    return _per_vertex(source, path) != 0


def read_surface_map(source: Source, path: str) -> np.ndarray:
    """Read a ``func.gii`` map; returns one float32 per vertex, NaN as in the file."""
    values = _per_vertex(source, path)
    if values.dtype.kind not in "iuf" or not values.size:
        found = f"{values.size} values of type {values.dtype}"
        raise damaged(source.full(path), found, "one number per vertex")
    with np.errstate(over="ignore", invalid="ignore"):  # as for volumes
        return values.astype(np.float32)


def _per_vertex(source: Source, path: str) -> np.ndarray:
    """Values of the only data array of a GIFTI file, flat."""
    raw = source.read(path)
    try:
        image = nib.gifti.GiftiImage.from_bytes(raw)
        (data,) = (array.data for array in image.darrays)
    except Exception as error:  # the XML parser raises its own exception types
        raise damaged(source.full(path), f"something else ({error})", "GIfTI, one array") from (
            error
        )
    values = np.asarray(data)
    if max(values.shape, default=0) != values.size:
        raise damaged(source.full(path), f"values of shape {values.shape}", "one for each vertex")
    return values.ravel()


def read_label(source: Source, path: str) -> np.ndarray:
    """Read a FreeSurfer text label; returns vertex indices (int32) in file order."""
    full, lines = source.full(path), source.read(path).decode("utf-8", "replace").splitlines()
    try:
        count = int(lines[1])
        rows = {n: int(line.split()[0]) for n, line in enumerate(lines[2:], 3) if line.strip()}
    except (IndexError, ValueError) as error:
        raise damaged(full, "something else", "a FreeSurfer label") from error
    if len(rows) != count:
        raise damaged(full, f"{len(rows)} vertices", f"{count} vertices")
    seen: dict[int, int] = {}
    for line, vertex in rows.items():
        if not 0 <= vertex <= _MOST_VERTICES:
            raise damaged(full, f"vertex {vertex} in line {line}", "vertices counted from 0")
        if (before := seen.setdefault(vertex, line)) != line:
            raise damaged(
                full, f"vertex {vertex} in the lines {before} and {line}", "each vertex once"
            )
    return np.array(list(seen), dtype=np.int32)


def check_label(path: str, vertices: np.ndarray, n_vertices: int, of: str) -> None:
    """Raise unless the vertices of a label lie on the surface that a mask of the hemisphere has."""
    beyond = np.flatnonzero(vertices >= n_vertices)
    if beyond.size:
        raise damaged(
            path,
            f"vertex {vertices[beyond[0]]} (row {beyond[0] + 1} of the label)",
            f"vertices 0 … {n_vertices - 1}, as {of} has",
        )


def read_surface(source: Source, path: str) -> Surface:
    """Read a FreeSurfer surface, such as ``lh.white``."""
    return _parsed(source, path, freesurfer.parse_surface, "a FreeSurfer surface")


def read_curvature(source: Source, path: str) -> np.ndarray:
    """Read a FreeSurfer map such as ``lh.curv``; returns one float32 per vertex."""
    return _parsed(source, path, freesurfer.parse_curvature, "a FreeSurfer map of the vertices")


def read_volume_geometry(source: Source, path: str) -> np.ndarray:
    """Read where the volume of a recon lies: affine from mm of its surfaces to scanner mm."""
    return _parsed(source, path, freesurfer.parse_volume, "a FreeSurfer volume")


def read_talairach(source: Source, path: str) -> np.ndarray:
    """Read a recon's affine from scanner mm to MNI305 mm."""
    return _parsed(source, path, freesurfer.parse_talairach, "an affine of FreeSurfer's")


def _parsed(source: Source, path: str, parse: Callable[[bytes], T], what: str) -> T:
    raw = source.read(path)
    try:
        return parse(raw)
    except ValueError as error:
        raise damaged(source.full(path), str(error), what) from error
