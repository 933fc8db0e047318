"""Files of the localizers: maps on both grids and on both hemispheres, ROI masks on their grid."""

from __future__ import annotations

from pathlib import PurePosixPath

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from laion_zarr import _release as release
from laion_zarr.conversion.synthetic.folder import Folder
from laion_zarr.conversion.synthetic.model import cortex, localizers, phantom, responses
from laion_zarr.conversion.synthetic.model.experiment import Size
from laion_zarr.conversion.synthetic.model.localizers import Localizer

_FINER = 27 / 32  # edge of a voxel of the localizers' own grid: 1.5 mm, where the betas' is 1.7778


def fine_grid(size: Size) -> phantom.Grid:
    """The localizers' own grid: smaller voxels, about the same field of view."""
    x, y, z = (int(np.ceil(n / _FINER)) for n in size.shape)
    return phantom.Grid((x, y, z), size.voxel_mm * _FINER)


def gifti(hemi: str, values: NDArray) -> str:
    """Text of a GIFTI file with one float32 per vertex."""
    array = nib.gifti.GiftiDataArray(
        values.astype(np.float32), intent="NIFTI_INTENT_SHAPE", datatype="NIFTI_TYPE_FLOAT32"
    )
    structure = {"L": "CortexLeft", "R": "CortexRight"}[hemi]
    meta = nib.gifti.GiftiMetaData(AnatomicalStructurePrimary=structure)
    return nib.gifti.GiftiImage(darrays=[array], meta=meta).to_bytes().decode("utf-8")


def write_localizers(folder: Folder, model: responses.Model) -> None:
    """Write the localizer maps of a subject, and its ROI masks on the localizers' own grid."""
    size, head = model.size, phantom.Head.of(model.subject)
    fine = fine_grid(size)
    anatomy = phantom.scan(head, fine)
    regions = cortex.region_volumes(head, fine, anatomy)
    for name, mask in regions.items():
        category = cortex.REGIONS[name].category
        path = release.roi_volume(model.subject, category, name, release.FINE_RES)
        folder.volume(path, fine, mask.astype(np.uint8), {"Type": "ROI", "Label": name})
    volumes = {
        release.FUNCTIONAL_RES: (size.grid, model.anatomy.brain, model.regions),
        release.FINE_RES: (fine, anatomy.brain, regions),
    }
    for place, (grid, brain, masks) in volumes.items():
        inside = np.flatnonzero(brain)
        here = {name: mask[inside] for name, mask in masks.items()}
        right = grid.points(inside)[:, 0] > 0
        for one in localizers.MAPS:
            volume = np.full(brain.size, np.nan, np.float32)
            volume[inside] = localizers.values(model.subject, one, place, right, here)
            path = _path(model.subject, one, place)
            folder.volume(path, grid, volume, {"TaskName": one.task, "Contrast": one.contrast})
    for hemi, frequency in zip(release.HEMIS, size.sphere, strict=True):
        vertices = cortex.surface(head, hemi, frequency)
        here = cortex.region_vertices(head, hemi, vertices)
        right = np.full(len(vertices), hemi == "R")
        for one in localizers.MAPS:
            found = localizers.values(model.subject, one, hemi, right, here)
            path = _path(model.subject, one, hemi)
            folder.text(path, gifti(hemi, found))
            folder.sidecar(path, {"TaskName": one.task, "Contrast": one.contrast})


def _path(subject: str, one: Localizer, place: str) -> PurePosixPath:
    return release.localizer_map(subject, one.session, one.task, one.contrast, one.run, place)
