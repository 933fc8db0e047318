"""Time series of a made-up experiment: preprocessed runs, and what the scanner gave.

Each trial of the events has a response to its image, blank trials have none. The values are those
of a magnet: around a mean per voxel, with drift and noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from laion_zarr.conversion.synthetic.model import phantom
from laion_zarr.conversion.synthetic.model.behaviour import events_tables
from laion_zarr.conversion.synthetic.model.experiment import Size, features
from laion_zarr.conversion.synthetic.model.responses import Model
from laion_zarr.store.schema import BLANK

STEP = 1.0  # s between volumes of preprocessed time series
SCAN_STEP = 1.9  # s between volumes as scanned
SCAN_GRID = phantom.Grid((9, 10, 7), 24.0)
ECHO_TIMES = (0.0128, 0.0314, 0.05)  # s
_SCANS = 5  # volumes of a run as scanned
_PAUSE = 12.0  # s after the last trial
_MEAN, _DRIFT = 900.0, 0.004
_FINEST = 1 / 16  # values are multiples of it, so that the files are small


def runs(size: Size) -> range:
    """Runs of the first session that have time series."""
    return range(1, min(size.bold_runs, size.runs) + 1)


def onsets(size: Size, subject: str, session: str, run: int) -> list[tuple[float, str]]:
    """Onset (s from the start of the run) and label of each trial of a run that is not blank."""
    table = events_tables(size, subject, session)[run]
    shown = table[table["stim_name"] != BLANK]
    return list(zip(shown["onset"], shown["stim_name"], strict=True))


def n_volumes(size: Size, subject: str, session: str, run: int) -> int:
    """Number of volumes of a preprocessed run."""
    last = events_tables(size, subject, session)[run].iloc[-1]
    return int((last["onset"] + last["duration"] + _PAUSE) / STEP)


def _response(seconds: NDArray) -> NDArray[np.float32]:
    """Haemodynamic response, 1 at its peak: difference of two gamma densities (Glover, 1999)."""
    time = np.maximum(seconds, 0)
    shape = time**5 * np.exp(-time) / math.factorial(5)
    shape -= time**15 * np.exp(-time) / math.factorial(15) / 6
    return (shape / 0.1755).astype(np.float32)


def bold(model: Model, session: str, run: int) -> Iterator[NDArray[np.float32]]:
    """Volumes of a preprocessed run, each (voxel,) over the voxels of the model."""
    size, subject = model.size, model.subject
    trials = onsets(size, subject, session, run)
    weights = np.stack([features(label) for _, label in trials])
    starts = np.array([onset for onset, _ in trials])
    rng = phantom.stream(subject, session, str(run), "time series")
    mean = (_MEAN + 100 * rng.standard_normal(model.voxels.size, np.float32)).astype(np.float32)
    drift = rng.standard_normal(model.voxels.size, np.float32) * np.float32(_DRIFT)
    total = n_volumes(size, subject, session, run)
    for number in range(total):
        evoked = _response(number * STEP - starts) @ weights
        percent = np.einsum("f,fv->v", evoked.astype(np.float32), model.tuning)
        percent += rng.standard_normal(model.voxels.size, np.float32)
        values = mean * (1 + percent * model.scale / 100 + drift * np.float32(number / total))
        values = np.round(values / _FINEST) * np.float32(_FINEST)
        values[model.damage["nan"]] = np.nan
        values[model.damage["zero"]] = 0
        yield values.astype(np.float32)


def scans(
    subject: str, session: str, run: int, echo: int, part: str, count: int = _SCANS
) -> Iterator[NDArray[np.int16]]:
    """Volumes of one echo as scanned, each flat in the order of the file (Fortran)."""
    rng = phantom.stream(subject, session, str(run), str(echo), part, str(count))
    index = np.arange(int(np.prod(SCAN_GRID.shape))).reshape(SCAN_GRID.shape).ravel(order="F")
    distance = np.linalg.norm(SCAN_GRID.points(index), axis=1)
    for _ in range(count):
        if part == "phase":
            yield rng.integers(-4096, 4096, index.size, np.int16)
            continue
        signal = 800 * np.exp(-ECHO_TIMES[echo - 1] / 0.035) * (distance < 85)
        yield (signal + np.abs(rng.normal(0, 12, index.size))).round().astype(np.int16)
