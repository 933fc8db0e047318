"""Paths of ROI masks in the mirror, by the names that the numpy package has for them."""

from __future__ import annotations

import os
from pathlib import Path

from laion_zarr import _release as release
from laion_zarr.errors import DataNotDownloadedError


def parse_roi_label(filename: str, subject: str, res: str = "1pt8") -> str | None:
    """Name of the ROI whose volume mask a file is; None for any other file.

    Parameters
    ----------
    filename : str
        Name of the file, without folders.
    subject : str
        Subject id, such as ``"sub-01"``.
    res : {"1pt8", "1pt5"}
        Grid of the mask.
    """
    roi = release.parse_key(filename).entities.get("label", "")
    return roi if roi and filename == release.roi_volume(subject, "", roi, res).name else None


def roi_mask_path(
    data_dir: str | os.PathLike[str], subject: str, roi: str, res: str = "1pt8"
) -> Path:
    """Path of the volume mask of an ROI, whatever its category.

    Parameters
    ----------
    data_dir : str or path
        The mirror.
    subject : str
        Subject id, such as ``"sub-01"``.
    roi : str
        Name of the ROI, such as ``"FFA1"``.
    res : {"1pt8", "1pt5"}
        Grid of the mask.

    Raises
    ------
    DataNotDownloadedError
        If the mirror has no such mask; it is a `FileNotFoundError`.
    """
    folder = Path(data_dir, release.ROIS, subject)
    for category in sorted(folder.glob("*")):
        path = Path(data_dir, release.roi_volume(subject, category.name, roi, res))
        if path.is_file():
            return path
    raise DataNotDownloadedError(
        f"{folder} has no mask of {roi} at res-{res}. Download it: laion-zarr download --subject "
        f"{subject}."
    )
