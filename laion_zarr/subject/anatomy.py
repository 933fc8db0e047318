"""Anatomical files of a subject in the local mirror."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from laion_zarr import _release as release
from laion_zarr.config import get_data_dir
from laion_zarr.errors import DataDirNotSetError, DataNotDownloadedError
from laion_zarr.subject.base import SubjectBase


class MirrorAnatomy(SubjectBase):
    """Paths of a subject's anatomical files; methods of `Subject` that need the local mirror."""

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

    def get_t1w(self, res: str | None = None) -> Path:
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

    def get_t2w(self, res: str | None = None) -> Path:
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

    def get_anatomical_brain_mask(self, res: str | None = None) -> Path:
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
