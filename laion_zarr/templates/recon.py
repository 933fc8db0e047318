"""Surfaces, spheres and the MNI305 affine of a subject's FreeSurfer recon; fsaverage meshes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from laion_zarr import _release as release
from laion_zarr.errors import DataNotDownloadedError, SourceError

Mesh = tuple[np.ndarray, np.ndarray]  # vertices (vertex, 3) mm, faces (face, 3)

# "fsaverage" is the densest mesh; nilearn includes fsaverage5 and downloads the other meshes.
BUNDLED = "fsaverage5"
DENSITIES = (BUNDLED, "fsaverage6", "fsaverage7", "fsaverage")
SURFACES = ("white", "midthickness", "pial")
SIDES = {"L": "left", "R": "right"}


class Recon:
    """FreeSurfer recon of one subject in the local mirror.

    Parameters
    ----------
    subject : str
        Id of the subject.
    find : callable
        Maps a path of the release to the local file; raises an error if the file is missing.
    """

    def __init__(self, subject: str, find: Callable[[PurePosixPath], Path]) -> None:
        self._subject = subject
        self._find = find

    def surface(self, hemi: str, name: str) -> Mesh:
        """Mesh of one of `SURFACES`, vertices in scanner mm (the space of the T1w image)."""
        if name == "midthickness":
            (white, faces), (pial, _) = (self.surface(hemi, one) for one in ("white", "pial"))
            self._same_mesh(hemi, {"white": white, "pial": pial})
            return (white + pial) / 2, faces
        vertices, faces, footer = self._read(hemi, name)
        return moved(self._to_scanner(footer), vertices), faces

    def registered(self, hemi: str, surface: str) -> tuple[Mesh, Mesh]:
        """Mesh of a surface, and the same mesh on the sphere that is registered to fsaverage."""
        vertices, faces = self.surface(hemi, surface)
        sphere, its_faces, _ = self._read(hemi, release.RECON_SPHERE)
        self._same_mesh(hemi, {surface: vertices, release.RECON_SPHERE: sphere})
        return (vertices, faces), (sphere, its_faces)

    def _same_mesh(self, hemi: str, surfaces: dict[str, np.ndarray]) -> None:
        """Raise SourceError if vertex counts differ: meshes are matched by vertex number alone."""
        counts = {name: len(vertices) for name, vertices in surfaces.items()}
        if len(set(counts.values())) > 1:
            numbers = " and ".join(f"{count:,} in {name}" for name, count in counts.items())
            raise SourceError(
                f"The recon of {self._subject}, hemisphere {hemi}, has {numbers} vertices: they "
                "must be of one mesh. Download it again."
            )

    def _read(self, hemi: str, name: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        import nibabel as nib

        path = self._find(release.recon_surface(self._subject, hemi, name))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a missing footer, which _to_scanner handles
                return nib.freesurfer.read_geometry(path, read_metadata=True)
        except (ValueError, OSError, IndexError, OverflowError) as error:
            raise SourceError(f"{path} is no FreeSurfer surface: {error}") from error

    def _to_scanner(self, footer: dict[str, Any]) -> np.ndarray:
        """Affine from surface mm, with the origin at the centre of a volume, to scanner mm."""
        import nibabel as nib

        volume: Any
        if str(footer.get("valid", "")).startswith("1"):
            volume = nib.freesurfer.mghformat.MGHHeader()
            volume.set_data_shape(footer["volume"])
            volume["delta"] = footer["voxelsize"]
            volume["Mdc"] = [footer[axis] for axis in ("xras", "yras", "zras")]
            volume["Pxyz_c"] = footer["cras"]
        else:
            volume = nib.load(self._find(release.recon_volume(self._subject))).header
        return volume.get_affine() @ np.linalg.inv(volume.get_vox2ras_tkr())

    def from_mni305(self) -> np.ndarray:
        """Affine from MNI305 mm to scanner mm, from the ``talairach.lta`` of the recon."""
        from nitransforms.linear import Affine

        path = self._find(release.recon_talairach(self._subject))
        try:
            # The matrix of nitransforms maps target points to the source, here MNI305 to scanner.
            matrix = Affine.from_filename(path, fmt="fs").matrix
        except Exception as error:  # nitransforms raises many kinds, none names the file
            raise SourceError(f"{path} is no affine of FreeSurfer's: {error}") from error
        if not np.isfinite(matrix).all():
            raise SourceError(f"{path} has no invertible matrix.")
        return matrix


def moved(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply an affine to points, (…, 3)."""
    return points @ affine[:3, :3].T + affine[:3, 3]


@cache
def fsaverage_files(density: str) -> dict[str, str]:
    """Files of an fsaverage mesh, by names such as ``sphere_left``; may download the mesh."""
    from nilearn.datasets import fetch_surf_fsaverage

    try:
        return dict(fetch_surf_fsaverage(density))
    except Exception as error:  # any error of the network
        raise DataNotDownloadedError(
            f"nilearn could not download {density} ({error}). Connect to the internet once, or "
            f"pass fsaverage_density={BUNDLED!r}, which comes with nilearn."
        ) from error


def fsaverage_file(density: str, part: str, hemi: str) -> str:
    """Path of a file of fsaverage; `part` is ``"sphere"``, ``"infl"`` or ``"sulc"``."""
    return fsaverage_files(density)[f"{part}_{SIDES[hemi]}"]


def fsaverage_sphere(density: str, hemi: str) -> np.ndarray:
    """Vertices of the sphere of fsaverage, (vertex, 3) mm."""
    from nilearn.surface import load_surf_mesh

    return load_surf_mesh(fsaverage_file(density, "sphere", hemi)).coordinates
