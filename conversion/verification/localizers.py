"""Checks of localizer maps, and of ROI masks on the localizers' own grid.

Maps are read from the source with nibabel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from laion_zarr._release import FUNCTIONAL_RES, HEMIS, VOLUME_RESOLUTIONS
from laion_zarr.conversion.verification.checks import Check
from laion_zarr.store.objects import location
from laion_zarr.store.schema import (
    FINE_ROIS_PART,
    LOCALIZERS_PART,
    MAP_FIELDS,
    MAP_LABELS,
    MAP_SOURCES,
    VOXELS_PART,
    chunk_table,
    fine_voxels,
    localizer_maps,
)


@dataclass
class LocalizerChecks:
    """Checks of one subject's localizer maps.

    Attributes
    ----------
    check : Check
        Verification that these checks belong to.
    group : str
        Name of the subject's group.
    """

    check: Check
    group: str

    def contents(self) -> None:
        """Check that labels, voxels and chunks agree with the maps."""
        for place in self._places():
            spec = localizer_maps(place)
            array = self._maps(place)
            self._labels(place, array)
            if place in VOLUME_RESOLUTIONS:
                self._voxels(place, array)
            self.check.chunk_table(self._path, spec)
            n_chunks = len(self.check.array(f"{self._path}/{chunk_table(spec.name).name}"))
            if n_chunks != array.shape[0]:
                self._problem(place, f"{array.shape[0]} maps, and a table of {n_chunks} chunks")
        for name, array in self._fine_rois():
            voxels = np.asarray(array[...])
            size = int(np.prod(array.attrs["shape"]))
            if voxels.size and not _ascend(voxels, size):
                where = location(self.check.store, f"{self.group}/{FINE_ROIS_PART}/{name}")
                self.check.problem(f"{where} does not list voxels of its grid in ascending order.")

    def values(self) -> None:
        """Compare every map, and every ROI on the localizers' own grid, with its file."""
        for place in self._places():
            array = self._maps(place)
            voxels = self._stored_voxels(place)
            for row, entry in enumerate(array.attrs[MAP_SOURCES]):
                path = self._file(entry)
                if path is not None:
                    found = _of_surface(path) if place in HEMIS else _of_volume(path)
                    self._same_grid(place, array, path)
                    where = f"{self._path}/{localizer_maps(place).name} {path.name}"
                    stored = np.asarray(array[row])
                    self.check.same(where, stored, found if voxels is None else found[voxels])
                    if voxels is not None and place != FUNCTIONAL_RES:
                        # No estimate may be missing on the stored voxels.
                        counts = [(~np.isnan(values)).sum() for values in (stored, found)]
                        self.check.same(f"{where} estimates", *map(np.asarray, counts))
        for name, array in self._fine_rois():
            path = self._file(dict(array.attrs))
            if path is not None:
                found = np.flatnonzero(_of_volume(path))
                where = f"{self.group}/{FINE_ROIS_PART}/{name}"
                self.check.same(where, np.asarray(array[...]), found)

    # -- shared by the methods above

    @property
    def _path(self) -> str:
        return f"{self.group}/{LOCALIZERS_PART}"

    def _places(self) -> list[str]:
        if LOCALIZERS_PART not in self.check.groups[self.group]:
            return []
        there = self.check.root[self._path]
        every = (*VOLUME_RESOLUTIONS, *HEMIS)
        return [place for place in every if localizer_maps(place).name in there]

    def _maps(self, place: str) -> Any:
        return self.check.root[f"{self._path}/{localizer_maps(place).name}"]

    def _fine_rois(self) -> list[tuple[str, Any]]:
        if FINE_ROIS_PART not in self.check.groups[self.group]:
            return []
        return sorted(self.check.root[f"{self.group}/{FINE_ROIS_PART}"].arrays())

    def _problem(self, place: str, text: str) -> None:
        where = location(self.check.store, f"{self._path}/{localizer_maps(place).name}")
        self.check.problem(f"{where} has {text}.")

    def _labels(self, place: str, array: Any) -> None:
        labels, n_maps = array.attrs[MAP_LABELS], array.shape[0]
        counts = {len(labels[name]) for name in MAP_FIELDS} | {len(array.attrs[MAP_SOURCES])}
        if counts != {n_maps}:
            self._problem(place, f"{n_maps} maps, and labels of {sorted(counts)}")
            return
        rows = list(zip(*(labels[name] for name in MAP_FIELDS), strict=True))
        if rows != sorted(set(rows)):
            self._problem(place, "labels that are not sorted, or come twice")

    def _voxels(self, place: str, array: Any) -> None:
        voxels = self._stored_voxels(place)
        assert voxels is not None
        if len(voxels) != array.shape[1]:
            self._problem(place, f"{array.shape[1]} voxels, and labels of {len(voxels)}")
        if place == FUNCTIONAL_RES:
            axis = self.check.array(f"{self.group}/{VOXELS_PART}/voxel")
            if not np.array_equal(voxels, axis):
                self._problem(place, f"other voxels than {self.group}/{VOXELS_PART}")
        elif not _ascend(voxels, int(np.prod(array.attrs["shape"]))):
            self._problem(place, "voxels that do not ascend on its grid")

    def _stored_voxels(self, place: str) -> np.ndarray | None:
        if place in HEMIS:
            return None
        return self.check.array(f"{self._path}/{fine_voxels(place).name}")

    def _file(self, entry: Any) -> Path | None:
        """Source file of an entry of the attributes; None if the file is missing."""
        assert self.check.folder is not None
        path = self.check.folder / entry["source"]["file"]
        return path if self.check.converted(path) else None

    def _same_grid(self, place: str, array: Any, path: Path) -> None:
        if place in HEMIS:
            return
        image: Any = nib.load(path)
        same = image.shape == tuple(array.attrs["shape"])
        if not (same and np.allclose(image.affine, array.attrs["affine"], atol=1e-3)):
            self._problem(place, f"another grid than {path}")


def _ascend(voxels: np.ndarray, size: int) -> bool:
    return bool((np.diff(voxels) > 0).all() and voxels[0] >= 0 and voxels[-1] < size)


def _of_volume(path: Path) -> np.ndarray:
    """Values of a volume, flat in C order of its grid."""
    image: Any = nib.load(path)
    return np.asanyarray(image.dataobj).ravel()


def _of_surface(path: Path) -> np.ndarray:
    return np.asarray(nib.gifti.GiftiImage.from_filename(path).darrays[0].data).ravel()
