"""Files of a FreeSurfer recon, written by nibabel, with meshes of a few vertices."""

from __future__ import annotations

import warnings
from pathlib import Path

import nibabel as nib
import numpy as np

N_VERTICES = {"L": 10, "R": 12}  # as the surface masks of the small mirror
N_FACES = {"L": 7, "R": 9}
MESHES = ("white", "pial", "inflated", "sphere.reg")
C_RAS = np.array([-0.4, -17.123, 12.5])
AXES = {"xras": [-1.0, 0, 0], "yras": [0, 0, -1.0], "zras": [0, 1.0, 0]}
INFO = {
    "head": np.array([2, 0, 20], np.int32),
    "valid": "1  # volume info valid",
    "filename": "../mri/orig.mgz",
    "volume": np.array([6, 6, 6]),
    "voxelsize": np.array([2.0, 2.0, 2.0]),
    **{name: np.array(axis) for name, axis in AXES.items()},
    "cras": C_RAS,
}
LTA = """# transform file talairach.lta
type      = {kind}{comment}
nxforms   = 1
mean      = 0.0000 0.0000 0.0000
sigma     = 1.0000
1 4 4
{matrix}
src volume info
{source}
dst volume info
{target}
subject sub-01
"""
TO_MNI = np.array(
    [[1.05, 0.01, 0, 2.5], [-0.01, 1.04, 0.05, 20.75], [0, -0.06, 1.1, -8], [0, 0, 0, 1]]
)


def surf(hemi: str, name: str, sub: str = "sub-01") -> str:
    return f"derivatives/freesurfer/{sub}/surf/{hemi.lower()}h.{name}"


def orig(sub: str = "sub-01") -> str:
    return f"derivatives/freesurfer/{sub}/mri/orig.mgz"


def talairach(sub: str = "sub-01") -> str:
    return f"derivatives/freesurfer/{sub}/mri/transforms/talairach.lta"


def faces_of(hemi: str) -> np.ndarray:
    return np.random.default_rng(len(hemi) + ord(hemi)).integers(
        0, N_VERTICES[hemi], (N_FACES[hemi], 3)
    )


def put_surface(
    path: Path, vertices: np.ndarray, faces: np.ndarray, info: dict | None = INFO
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nib.freesurfer.write_geometry(path, vertices, faces, "made up", info)


def volume_text(info: dict = INFO) -> str:
    """Geometry of a volume as a transform file has it."""
    rows = {name: info[name] for name in ("volume", "voxelsize", "xras", "yras", "zras", "cras")}
    lines = [f"{name} = {' '.join(map(str, row.tolist()))}" for name, row in rows.items()]
    return "\n".join(["valid = 1  # volume info valid", "filename = orig.mgz", *lines])


def lta_text(matrix: np.ndarray = TO_MNI, kind: int = 1, comment: str = "") -> str:
    rows = "\n".join(" ".join(map(repr, row)) for row in matrix.tolist())
    mni = INFO | {"cras": np.zeros(3), "volume": np.full(3, 256), "voxelsize": np.ones(3)}
    return LTA.format(
        kind=kind, comment=comment, matrix=rows, source=volume_text(), target=volume_text(mni)
    )


def orig_affine(c_ras: np.ndarray = C_RAS) -> np.ndarray:
    linear = np.array(list(AXES.values())).T * 2.0
    return nib.affines.from_matvec(linear, c_ras - linear @ np.full(3, 3))


def put_orig(path: Path, c_ras: np.ndarray = C_RAS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.freesurfer.MGHImage(np.zeros((6, 6, 6), np.uint8), orig_affine(c_ras)), path)


def write_recon(root: Path, sub: str = "sub-01") -> None:
    rng = np.random.default_rng(3)
    for hemi, count in N_VERTICES.items():
        for name in MESHES:
            vertices = rng.normal(0, 30, (count, 3)).astype(np.float32)
            put_surface(root / surf(hemi, name, sub), vertices, faces_of(hemi))
        curv = rng.normal(0, 0.1, count).astype(np.float32)
        nib.freesurfer.write_morph_data(root / surf(hemi, "curv", sub), curv, N_FACES[hemi])
    put_orig(root / orig(sub))
    path = root / talairach(sub)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(lta_text())
