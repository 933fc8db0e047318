"""Convert the preprocessed time series of one session: its runs, one after the other.

Runs in a worker process; independent of other sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from laion_zarr.conversion.series.shards import write_series
from laion_zarr.conversion.series.task import Progress, SeriesTask
from laion_zarr.conversion.series.volumes import read_volumes
from laion_zarr.conversion.source.files import Source
from laion_zarr.conversion.source.nifti import Grid, Volume, open_volume
from laion_zarr.conversion.source.problems import damaged
from laion_zarr.conversion.write.writer import PartWriter
from laion_zarr.store.objects import open_store
from laion_zarr.store.parts import Part
from laion_zarr.store.schema import BOLD, BOLD_ARRAYS, COORDINATES, TIME, VOXEL_INDEX

# Headers have the repetition time in float32, sidecars in decimals.
_TIME_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Run:
    """One file of time series.

    Attributes
    ----------
    number : int
        Number of the run, from 1.
    path : str
        Path of the file, relative to the source.
    n_volumes : int
        Number of time points.
    repetition_time : float
        Seconds from one time point to the next.
    volume_nbytes : int
        Bytes of one volume, decompressed.
    """

    number: int
    path: str
    n_volumes: int
    repetition_time: float
    volume_nbytes: int


@dataclass(frozen=True)
class BoldTask(SeriesTask):
    """Everything that a worker needs to convert the time series of one session.

    Attributes
    ----------
    session : str
        Id of the session, such as ``"ses-01"``.
    runs : tuple of Run
        Its runs, in order.
    """

    session: str
    runs: tuple[Run, ...]

    def convert(self, progress: Progress) -> Part:
        """Write the group of the session's time series."""
        return convert_bold(self, progress)

    def summary(self) -> str:
        """Number of time points, and of runs."""
        return f"{sum(run.n_volumes for run in self.runs):,} volumes of {len(self.runs)} runs"


def convert_bold(task: BoldTask, progress: Progress) -> Part:
    """Write the group of one session; `progress` is called with the bytes of each volume."""
    n_volumes = sum(run.n_volumes for run in task.runs)
    store = open_store(task.store, task.storage_options, read_only=False)
    writer = PartWriter(store, task.path)
    writer.group({COORDINATES: "run", "session": task.session})
    with task.slabs(n_volumes, store) as slabs:
        first = 0
        for run in task.runs:
            with open_volume(task.source, run.path) as volume:
                _check_grid(volume, task.grid)
                if volume.shape[3] != run.n_volumes:
                    raise damaged(
                        volume.path, f"{volume.shape[3]} volumes", f"{run.n_volumes}, as before"
                    )
                read_volumes(volume, slabs, progress, first)
            first += run.n_volumes
        write_series(writer, BOLD, slabs, (len(task.voxels), n_volumes), _attributes(task))
    writer.array(VOXEL_INDEX, task.voxels)
    steps = [np.arange(run.n_volumes) * run.repetition_time for run in task.runs]
    writer.array(BOLD_ARRAYS[TIME], np.concatenate(steps))
    numbers = [run.number for run in task.runs]
    writer.array(BOLD_ARRAYS["run"], np.repeat(numbers, [run.n_volumes for run in task.runs]))
    task.source.check_unchanged(task.identities)
    return writer.part(task.identities)


def _attributes(task: BoldTask) -> dict[str, Any]:
    runs = [
        {"run": run.number, "n_volumes": run.n_volumes, **task.provenance(run.path)}
        for run in task.runs
    ]
    return {"repetition_time": task.runs[0].repetition_time, "runs": runs}


def _check_grid(volume: Volume, grid: Grid) -> None:
    if len(volume.shape) != 4:
        raise damaged(volume.path, f"a {len(volume.shape)}-D image", "4-D, one volume per time")
    volume.grid.check_same(grid)


def read_run(source: Source, number: int, path: str, grid: Grid, names: frozenset[str]) -> Run:
    """Read what the header and the sidecar of one run say; raises where they disagree."""
    name = source.sidecar(path, names)
    sidecar = source.json(name) if name else {}
    with open_volume(source, path) as volume:
        _check_grid(volume, grid)
        n_volumes, nbytes = volume.shape[3], len(volume.buffer())
        step = _agreed(volume, sidecar.get("RepetitionTime"), f"{source.root}/{name}")
    told = sidecar.get("NumberOfVolumes", n_volumes)
    if told != n_volumes:
        there = f"{told!r}, as {name} says (or is that the damaged one?)"
        raise damaged(source.full(path), f"{n_volumes} volumes", there)
    return Run(number, path, n_volumes, step, nbytes)


def _agreed(volume: Volume, told: Any, sidecar: str) -> float:
    """Repetition time, in s, of the sidecar and of the header, where these have one."""
    held = volume.repetition_time
    if not isinstance(told, int | float) or not told > 0:
        if held is None:
            raise damaged(volume.path, "no repetition time", "one in its header or its sidecar")
        return held
    if held is not None and not _same_time(held, told):
        raise damaged(
            volume.path,
            f"a repetition time of {held:g} s",
            f"{told:g} s, as {sidecar} says (or is that the damaged one?)",
        )
    return float(told)


def _same_time(first: float, second: float) -> bool:
    return abs(first - second) <= _TIME_TOLERANCE * second


def check_runs(source: Source, runs: Sequence[Run]) -> str | None:
    """Compare the runs of a session with one another.

    Returns a warning that names runs with fewer volumes than the longest one; None if there are
    none. Runs may differ in length, and are converted as they are.

    Raises
    ------
    SourceError
        If the runs do not have one repetition time; names a run that differs from most.
    """
    steps = [run.repetition_time for run in runs]
    usual = sorted(steps)[(len(steps) - 1) // 2]
    for run in runs:
        if not _same_time(run.repetition_time, usual):
            found = f"a repetition time of {run.repetition_time:g} s"
            raise damaged(source.full(run.path), found, f"{usual:g} s, as of the other runs")
    most = max(run.n_volumes for run in runs)
    if short := [run for run in runs if run.n_volumes < most]:
        files = ", ".join(f"{source.full(run.path)} ({run.n_volumes})" for run in short)
        return (
            f"fewer volumes than the {most:,} of the longest run of the session: {files}. They are "
            "converted as they are; if the scans were longer, download them again"
        )
    return None
