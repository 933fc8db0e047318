"""A FreeSurfer recon of a made-up head: surfaces, volume and transform, as recon-all writes them.

FreeSurfer gives the coordinates of surfaces in mm from the centre of its volume, not from the
origin of the scanner. The offset between the two, ``c_ras``, is not 0 here, as in real recons.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from laion_zarr import _release as release
from laion_zarr.conversion.synthetic.model import cortex, phantom
from laion_zarr.conversion.synthetic.model.experiment import Size

_AXES = np.array([[-1, 0, 0], [0, 0, 1], [0, -1, 0]])  # columns: left, inferior, anterior
_STAMP = "synthetic"  # FreeSurfer writes a user name and a time here
_LTA = """# transform file talairach.lta, synthetic
type      = 1
nxforms   = 1
mean      = 0.0000 0.0000 0.0000
sigma     = 1.0000
1 4 4
{matrix}
src volume info
{source}
dst volume info
{target}
subject {subject}
"""


@dataclass(frozen=True)
class Geometry:
    """Geometry of a volume conformed by FreeSurfer: a cube with axes left, inferior, anterior."""

    name: str
    side: int
    voxel_mm: float
    centre: NDArray[np.float64]  # c_ras, mm

    @property
    def affine(self) -> NDArray[np.float64]:
        """Affine (4, 4) from voxel indices to scanner mm."""
        linear = _AXES * self.voxel_mm
        return nib.affines.from_matvec(linear, self.centre - linear @ np.full(3, self.side / 2))

    def info(self) -> OrderedDict[str, object]:
        """Geometry as the footer of a surface file states it."""
        axes = {f"{axis}ras": column for axis, column in zip("xyz", _AXES.T, strict=True)}
        return OrderedDict(
            head=np.array([2, 0, 20], np.int32),
            valid="1  # volume info valid",
            filename=f"../mri/{self.name}",
            volume=np.full(3, self.side),
            voxelsize=np.full(3, self.voxel_mm),
            **axes,
            cras=self.centre,
        )

    def text(self) -> str:
        """Geometry as a transform file (LTA) states it."""
        axes = zip("xyz", _AXES.T, strict=True)
        return "\n".join(
            [
                "valid = 1  # volume info valid",
                f"filename = {self.name}",
                f"volume = {self.side} {self.side} {self.side}",
                "voxelsize = " + " ".join([f"{self.voxel_mm:.6f}"] * 3),
                *(f"{axis}ras   = {_numbers(column)}" for axis, column in axes),
                f"cras   = {_numbers(self.centre)}",
            ]
        )


def _numbers(values: NDArray) -> str:
    return " ".join(f"{value:.12f}" for value in values)


def geometry(size: Size, subject: str) -> Geometry:
    """Geometry of a subject's recon volume; its centre is not the scanner's origin."""
    centre = np.array([-0.4, -17.0, 12.0]) + phantom.stream(subject, "c_ras").uniform(-2, 2, 3)
    return Geometry("orig.mgz", max(size.anatomy_shape), size.anatomy_mm, centre.round(3))


def orig(cube: Geometry, grid: phantom.Grid, t1w: phantom.Volume) -> bytes:
    """Content of ``orig.mgz`` before gzip: nearest voxels of a T1w image, scaled to 0-255."""
    to_grid = np.linalg.inv(grid.affine) @ cube.affine
    scaled = (t1w / t1w.max() * 255).round().astype(np.uint8).reshape(grid.shape)
    values = np.zeros((cube.side,) * 3, np.uint8)
    for i, plane in enumerate(values):
        index = np.moveaxis(np.indices((1, *plane.shape)), 0, -1)[0] + [i, 0, 0]
        nearest = nib.affines.apply_affine(to_grid, index).round().astype(int)
        inside = ((nearest >= 0) & (nearest < grid.shape)).all(axis=-1)
        plane[inside] = scaled[tuple(nearest[inside].T)]
    return nib.freesurfer.MGHImage(values, cube.affine).to_bytes()


def write_surfaces(folder: Path, head: phantom.Head, size: Size, cube: Geometry) -> None:
    """Write the surfaces of each hemisphere, its registered sphere and its curvature."""
    for hemi, frequency in zip(release.HEMIS, size.sphere, strict=True):
        surfaces: dict[str, NDArray] = {
            name: cortex.surface(head, hemi, frequency, depth) - cube.centre
            for name, depth in cortex.SURFACE_DEPTHS.items()
        }
        surfaces["inflated"] = cortex.inflated_surface(hemi, frequency)
        surfaces[release.RECON_SPHERE] = cortex.registered_sphere(hemi, frequency)
        faces = cortex.surface_faces(hemi, frequency)
        for name, vertices in surfaces.items():
            target = folder / release.recon_surface(head.subject, hemi, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            nib.freesurfer.write_geometry(target, vertices, faces, _STAMP, cube.info())
        values = cortex.curvature(surfaces["white"], faces)
        target = folder / release.recon_surface(head.subject, hemi, release.RECON_CURVATURE)
        nib.freesurfer.write_morph_data(target, values, len(faces))


def talairach(head: phantom.Head, cube: Geometry) -> str:
    """Text of the LTA file with the affine from scanner mm to MNI305 mm."""
    rows = (" ".join(f"{value:.12f}" for value in row) for row in cortex.to_mni(head))
    return _LTA.format(
        matrix="\n".join(rows),
        source=cube.text(),
        target=Geometry("mni305.cor.mgz", 256, 1.0, np.zeros(3)).text(),
        subject=head.subject,
    )
