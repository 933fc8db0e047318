"""Files of time series in the synthetic dataset: preprocessed runs, and what the scanner gave."""

from __future__ import annotations

from pathlib import PurePosixPath

from laion_zarr import _release as release
from laion_zarr.conversion.synthetic.folder import Folder
from laion_zarr.conversion.synthetic.model import time_series as model
from laion_zarr.conversion.synthetic.model.responses import Model

_BOLD_SIDECAR = {
    "Description": "Synthetic time series, optimally combined, resampled in time",
    "TaskName": "images",
    "RepetitionTime": model.STEP,
    "SkullStripped": False,
}


def write_bold(folder: Folder, people: Model, session: str) -> None:
    """Write the preprocessed runs of a session, on the functional grid."""
    size, subject = people.size, people.subject
    for run in model.runs(size):
        path = release.bold(subject, session, run)
        count = model.n_volumes(size, subject, session, run)
        volumes = map(people.in_file_order, model.bold(people, session, run))
        folder.series(path, size.grid, (*size.shape, count), volumes, model.STEP)
        folder.sidecar(path, {**_BOLD_SIDECAR, "NumberOfVolumes": count})


def write_scans(folder: Folder, subject: str, session: str, run: int = 1) -> None:
    """Write the echoes of one run as scanned, and their single-band references."""
    shape = model.SCAN_GRID.shape
    for echo, seconds in enumerate(model.ECHO_TIMES, 1):
        sidecar = {"EchoTime": seconds, "TaskName": "images"}
        for part in release.ECHO_PARTS:
            volumes = list(model.scans(subject, session, run, echo, part))
            path = release.raw_bold(subject, session, run, echo, part)
            folder.series(path, model.SCAN_GRID, (*shape, len(volumes)), volumes, model.SCAN_STEP)
            folder.sidecar(path, {**sidecar, "RepetitionTime": model.SCAN_STEP})
        path = _reference(subject, session, run, echo)
        folder.series(
            path, model.SCAN_GRID, shape, model.scans(subject, session, run, echo, "mag", 1)
        )
        folder.sidecar(path, sidecar)


def _reference(subject: str, session: str, run: int, echo: int) -> PurePosixPath:
    """Name of a single-band reference as the release has it: without ``part-``."""
    return release.sbrefs(subject, session, run, echo)[1]
