"""Cortical surfaces of a subject, and anatomical files in the local mirror."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import xarray as xr

from laion_zarr import _release as release
from laion_zarr._words import Hemi, Res, SurfaceName
from laion_zarr.config import get_data_dir
from laion_zarr.errors import DataDirNotSetError, DataNotDownloadedError, NotConvertedError
from laion_zarr.store.schema import (
    CORNER,
    FACE,
    GEOMETRY_PART,
    HEMI,
    MM,
    SUBJECT,
    VERTEX,
    XYZ,
    surface_curvature,
)
from laion_zarr.subject.base import SubjectBase, among
from laion_zarr.templates.recon import MIDTHICKNESS, MirrorMeshes, Recon, StoredMeshes


class Anatomy(SubjectBase):
    """Methods of `Subject` for cortical surfaces, and paths of anatomical files in the mirror."""

    def _in_mirror(self, path: Any) -> Path:
        found = get_data_dir() / path
        for candidate in (found, Path(str(found).removesuffix(".gz"))):
            if candidate.exists():
                return candidate
        raise DataNotDownloadedError(
            f"{found} is not there. Download the anatomy of {self.subject_id}: "
            f"laion_zarr.download.download({self.subject_id!r}, include_anatomical=True, "
            "include_freesurfer=True)."
        )

    def _has_in_mirror(self, path: Any) -> bool:
        try:
            return self._in_mirror(path).is_dir()
        except (DataNotDownloadedError, DataDirNotSetError):
            return False

    def has_anatomical(self) -> bool:
        """Whether the local mirror has the subject's anatomical images."""
        return self._has_in_mirror(release.anatomy_dir(self.subject_id))

    def get_anatomical_dir(self) -> Path:
        """Folder of the anatomical images in the local mirror."""
        return self._in_mirror(release.anatomy_dir(self.subject_id))

    def get_t1w(self, res: Res | None = None) -> Path:
        """Path of the T1w image in the local mirror.

        Parameters
        ----------
        res : {"1pt8", None}
            ``"1pt8"``: on the functional grid; None: at full resolution.

        Returns
        -------
        pathlib.Path

        Raises
        ------
        DataNotDownloadedError
            If the mirror lacks the file.
        """
        return self._in_mirror(release.anatomy(self.subject_id, "t1w", res))

    def get_t2w(self, res: Res | None = None) -> Path:
        """Path of the T2w image in the local mirror.

        Parameters
        ----------
        res : {"1pt8", None}
            ``"1pt8"``: on the functional grid; None: at full resolution.

        Returns
        -------
        pathlib.Path

        Raises
        ------
        DataNotDownloadedError
            If the mirror lacks the file.
        """
        return self._in_mirror(release.anatomy(self.subject_id, "t2w", res))

    def get_anatomical_brain_mask(self, res: Res | None = None) -> Path:
        """Path of the anatomical brain mask in the local mirror.

        Parameters
        ----------
        res : {"1pt8", None}
            ``"1pt8"``: on the functional grid; None: at full resolution.

        Returns
        -------
        pathlib.Path

        Raises
        ------
        DataNotDownloadedError
            If the mirror lacks the file.
        """
        return self._in_mirror(release.anatomy(self.subject_id, "brain_mask", res))

    def has_freesurfer(self) -> bool:
        """Whether the local mirror has the subject's FreeSurfer reconstruction (recon)."""
        return self._has_in_mirror(release.freesurfer_dir(self.subject_id))

    def get_freesurfer_dir(self) -> Path:
        """Folder of the FreeSurfer reconstruction (recon) in the local mirror."""
        return self._in_mirror(release.freesurfer_dir(self.subject_id))

    # -- cortical surfaces

    def has_geometry(self) -> bool:
        """Whether the store has the subject's cortical surfaces, so that no mirror is needed."""
        return GEOMETRY_PART in self._handle.stored.parts

    def get_surface(self, name: SurfaceName = "pial", hemi: Hemi = "L") -> xr.Dataset:
        """Cortical surface of one hemisphere, from the subject's FreeSurfer recon.

        Parameters
        ----------
        name : {"white", "pial", "midthickness", "inflated", "sphere.reg"}
            ``"midthickness"`` is halfway between white and pial surface; ``"sphere.reg"`` is the
            sphere that is registered to fsaverage.
        hemi : {"L", "R"}
            Hemisphere.

        Returns
        -------
        xarray.Dataset, in memory
            ``coordinates`` (vertex, xyz) float64, scanner mm, the T1w space of the voxels (of the
            sphere: as in its file); ``faces`` (face, corner) int32, the vertices of each triangle;
            and, if the recon has it, ``curvature`` (vertex) float32, 1/mm, positive in sulci.
            Vertices are those of surface ROIs and of localizer maps.

        Raises
        ------
        NotConvertedError
            If neither the store nor the local mirror has the surface.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> pial = load_subject("01").get_surface("pial", hemi="R")
        >>> pial["coordinates"].dims
        ('vertex', 'xyz')
        """
        among("name", name, (*release.RECON_GEOMETRY, MIDTHICKNESS))
        among("hemi", hemi, release.HEMIS)
        vertices, faces = self._recon.surface(hemi, name)
        found = xr.Dataset(
            {
                "coordinates": ((VERTEX, XYZ), vertices, {"units": MM}),
                "faces": ((FACE, CORNER), faces),
            },
            coords={VERTEX: np.arange(len(vertices)), XYZ: list("xyz"), HEMI: hemi},
            attrs={SUBJECT: self.subject_id, "surface": name},
        )
        curvature = self._recon.curvature(hemi)
        if curvature is not None:
            units = {"units": surface_curvature("").units}
            found["curvature"] = (VERTEX, curvature, units)
        return found

    @property
    def _recon(self) -> Recon:
        """Recon of the subject: the store's, else the local mirror's."""
        if self.has_geometry():
            return Recon(self.subject_id, StoredMeshes(self._handle.stored))
        return Recon(self.subject_id, MirrorMeshes(self.subject_id, self._recon_file))

    def _recon_file(self, path: PurePosixPath) -> Path:
        try:
            return self._in_mirror(path)
        except (DataDirNotSetError, DataNotDownloadedError) as error:
            raise NotConvertedError(
                f"Neither the store nor a local mirror has the cortical surfaces of "
                f"{self.subject_id}. Download {release.freesurfer_dir(self.subject_id)} "
                f"(laion_zarr.download.download({self.subject_id!r}, include_freesurfer=True)) and "
                "run 'laion-zarr convert' again."
            ) from error
