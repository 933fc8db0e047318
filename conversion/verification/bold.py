"""Checks of preprocessed time series: the part against itself, values against the source.

The runs of the source are read with nibabel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np

from laion_zarr.conversion.verification.checks import Check
from laion_zarr.store.objects import location
from laion_zarr.store.schema import BOLD, TIME, VOXELS_PART

_VOLUMES_AT_ONCE = 16


@dataclass
class BoldChecks:
    """Checks of the time series of one session.

    Attributes
    ----------
    check : Check
        Verification that these checks belong to.
    group, part : str
        Group of the subject, and name of the part in it.
    """

    check: Check
    group: str
    part: str

    @property
    def _path(self) -> str:
        return f"{self.group}/{self.part}"

    def _array(self) -> Any:
        return self.check.root[f"{self._path}/{BOLD.name}"]

    def contents(self) -> None:
        """Check that voxels, time points and runs agree with one another."""
        array, where = self.check.array, location(self.check.store, self._path)
        voxels = array(f"{self.group}/{VOXELS_PART}/voxel")
        if not np.array_equal(voxels, array(f"{self._path}/voxel")):
            self.check.problem(f"{where} has other voxels than {self.group}/voxels.")
        runs = self._array().attrs["runs"]
        numbers = np.repeat([run["run"] for run in runs], [run["n_volumes"] for run in runs])
        expected = (len(voxels), len(numbers))
        if self._array().shape != expected:
            self.check.problem(
                f"{where}/{BOLD.name} has shape {self._array().shape}, expected {expected}: "
                "voxels, volumes of all runs."
            )
        step = self._array().attrs["repetition_time"]
        times = [step * np.arange(run["n_volumes"]) for run in runs]
        if not np.array_equal(numbers, array(f"{self._path}/run")) or not np.allclose(
            np.concatenate(times), array(f"{self._path}/{TIME}"), rtol=1e-3
        ):
            self.check.problem(f"{where} has runs or times that its volumes do not have.")
        self.check.chunk_table(self._path, BOLD)

    def values(self, ijk: tuple[np.ndarray, ...]) -> None:
        """Compare every value with the source; `ijk` are grid indices in storage order."""
        stored = np.asarray(self._array()[...])
        first = 0
        with self.check.bar(stored.nbytes, self._path) as bar:
            for run in self._array().attrs["runs"]:
                its = stored[:, first : first + run["n_volumes"]]
                first += run["n_volumes"]
                self._compare_run(run, its, ijk, bar)

    def _compare_run(
        self, run: Any, stored: np.ndarray, ijk: tuple[np.ndarray, ...], bar: Any
    ) -> None:
        assert self.check.folder is not None
        path = self.check.folder / run["source"]["file"]
        if not self.check.converted(path):  # noted when the source files were looked at
            return
        # Kept open: inflating continues at the next volume, instead of at the start of the file.
        image: Any = nib.load(path, keep_file_open=True)
        what = f"{self._path}/{BOLD.name}, run {run['run']}"
        if image.shape[3] != run["n_volumes"]:
            self.check.problem(f"{what}: {path} has {image.shape[3]} volumes, not as stored.")
            return
        for lo in range(0, image.shape[3], _VOLUMES_AT_ONCE):
            block = np.asanyarray(image.dataobj[..., lo : lo + _VOLUMES_AT_ONCE])[ijk]
            piece = stored[:, lo : lo + _VOLUMES_AT_ONCE]
            self.check.same(f"{what}, from volume {lo}", piece, block)
            bar.update(piece.nbytes)
