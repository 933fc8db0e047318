"""Checks of cortical surfaces: meshes against one another, values against the files of the recon.

Files are read with nibabel, the transform to MNI305 as text.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from laion_zarr._release import RECON_CURVATURE
from laion_zarr.conversion.verification.checks import Check
from laion_zarr.store.schema import FACES, MESH, TALAIRACH, TO_SCANNER

_SAME_MM = 1e-4


def check_meshes(check: Check, path: str) -> None:
    """Check that the arrays of each hemisphere are of one mesh."""
    for node in check.root[path].group_keys():
        arrays = dict(check.root[f"{path}/{node}"].arrays())
        meshes = {array.attrs[MESH] for array in arrays.values()}
        counts = {array.shape[0] for name, array in arrays.items() if name != FACES.name}
        faces = check.array(f"{path}/{node}/{FACES.name}") if FACES.name in arrays else np.array(-1)
        if len(meshes) != 1 or len(counts) != 1 or faces.min() < 0 or faces.max() >= max(counts):
            check.problem(
                f"{path}/{node} has surfaces of different meshes. Convert it again with "
                "'laion-zarr convert --overwrite --parts geometry'."
            )


def compare_geometry(check: Check, path: str) -> None:
    """Compare every array with the file that it was made from."""
    assert check.folder is not None
    for node in ("", *check.root[path].group_keys()):
        group = f"{path}/{node}".rstrip("/")
        for name, array in check.root[group].arrays():
            file = check.folder / array.attrs["source"]["file"]
            if check.converted(file):
                _compare(check, f"{group}/{name}", array, file)


def _compare(check: Check, where: str, array: Any, file: Path) -> None:
    stored, name = np.asarray(array[...]), where.rpartition("/")[2]
    if name == TO_SCANNER.name:
        _near(check, where, stored, _to_scanner(nib.load(file).header))
    elif name == TALAIRACH.name:
        _near(check, where, stored, _affine(file.read_text(encoding="utf-8", errors="replace")))
    elif name == RECON_CURVATURE:
        check.same(where, stored, nib.freesurfer.read_morph_data(file))
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a file without a volume geometry
            vertices, faces, info = nib.freesurfer.read_geometry(file, read_metadata=True)
        check.same(where, stored, faces if name == FACES.name else vertices)
        affine = array.attrs.get(TO_SCANNER.name)
        if affine is not None and "cras" in info:
            _near(check, f"{where} {TO_SCANNER.name}", np.array(affine), _to_scanner(_header(info)))


def _near(check: Check, where: str, stored: np.ndarray, source: np.ndarray) -> None:
    """Compare affines; nibabel has the geometry of volumes in float32."""
    check.report.n_values += stored.size
    if stored.shape != source.shape or not np.allclose(stored, source, rtol=0, atol=_SAME_MM):
        check.problem(
            f"{where} differs from the source. Convert it again with 'laion-zarr convert "
            "--overwrite'."
        )


def _header(info: Mapping[str, Any]) -> Any:
    """Header of the volume that a surface file, or a transform, describes."""
    header = nib.freesurfer.mghformat.MGHHeader()
    header.set_data_shape(np.asarray(info["volume"], int))
    header["delta"] = info["voxelsize"]
    header["Mdc"] = [info[axis] for axis in ("xras", "yras", "zras")]
    header["Pxyz_c"] = info["cras"]
    return header


def _to_scanner(header: Any) -> np.ndarray:
    """Affine from surface mm to scanner mm."""
    return header.get_affine() @ np.linalg.inv(header.get_vox2ras_tkr())


def _affine(text: str) -> np.ndarray:
    """Affine from scanner mm to MNI305 mm of a transform file (LTA)."""
    numbers = re.findall(r"^1 4 4\n((?:.*\n){4})", text, re.MULTILINE)[0].split()
    matrix = np.array(numbers, float).reshape(4, 4)
    if re.search(r"^type\s*=\s*1", text, re.MULTILINE):
        return matrix
    volumes = text.split("src volume info")[1].split("dst volume info")
    lines = [re.findall(r"^(\w+)\s*= ([^#\n]*)", volume, re.MULTILINE) for volume in volumes]
    source, target = (_header({name: its.split() for name, its in found}) for found in lines)
    return target.get_affine() @ matrix @ np.linalg.inv(source.get_affine())
