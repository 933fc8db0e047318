"""Time series of a subject: preprocessed ones in the store, scanned ones in the local mirror."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import dask.array as da
import nibabel as nib
import numpy as np
import xarray as xr
from dask.base import tokenize

from laion_zarr import _release as release
from laion_zarr._release import Id, session_id
from laion_zarr._words import MaskSource, Part
from laion_zarr.arrays import select
from laion_zarr.arrays.bold import select_bold
from laion_zarr.config import get_data_dir
from laion_zarr.errors import (
    DataDirNotSetError,
    DataNotDownloadedError,
    NotConvertedError,
    SourceError,
)
from laion_zarr.store import schema
from laion_zarr.store.schema import DEFAULT_MASK, GRID_DIMS, SECONDS, TIME
from laion_zarr.subject.base import SubjectBase
from laion_zarr.templates.templates import on_grid

_BLOCK_BYTES = 256 << 20  # of a Dask block: each one inflates its file from the start
_DAMAGE = (EOFError, OSError, ValueError, zlib.error, nib.filebasedimages.ImageFileError)


class TimeSeries(SubjectBase):
    """Methods of `Subject` for time series."""

    def get_bold(
        self,
        session: Id,
        run: Any = None,
        roi: Any = None,
        mask: Any = None,
        mask_source: MaskSource = DEFAULT_MASK,
        chunks: dict[str, Any] | None = None,
    ) -> xr.DataArray:
        """Preprocessed time series of one session, lazy.

        The store has them if it was converted with ``--parts bold``.

        Parameters
        ----------
        session : str or int
            Session, such as ``"ses-01"`` or 1.
        run : int, str or list of them, optional
            Runs of the session, such as 1 or ``"01"``. If not provided, all runs, one after the
            other, in one array.
        roi, mask, mask_source
            Selection of voxels, as in `get_betas`.
        chunks : dict, optional
            Dask block sizes by dim, such as ``{"voxel": 2048}``. A chunk of the store has all time
            points of the session, so blocks that cut the time axis read the same chunks again.

        Returns
        -------
        xarray.DataArray, (time, voxel) float32, Dask-backed
            In the units of the source, with the labels of voxels, ``session``, and along ``time``
            the ``run``. ``time`` is in seconds from the start of the run, so it begins anew with
            each run; ``attrs["repetition_time"]`` is the step.

        Raises
        ------
        NotConvertedError
            If the store lacks the time series of the session, or a run.
        ValueError
            If an ROI is unknown, or `roi` and `mask` are both given.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> bold = load_subject("01").get_bold("ses-01", run=1, roi="face")
        >>> change = 100 * (bold / bold.mean("time") - 1)
        """
        ses = session_id(session)
        voxels = self._query.voxels(roi, mask, mask_source, None, None)
        times = self._times(ses, run)
        return select_bold(self._handle, self._query, ses, times, voxels, chunks)

    def _times(self, session: str, run: Any) -> np.ndarray:
        """Positions of runs along the time axis of a stored session."""
        part, stored = schema.bold_part(session), self._handle.stored
        which = f"--subject {self.subject_id} --ses {session}"
        mend = (
            f"Run 'laion-zarr download {which} --include-bold', then 'laion-zarr convert --parts "
            f"bold {which}'."
        )
        if part not in stored.parts:
            there = ", ".join(n.partition("/")[2] for n in stored.parts if schema.is_bold_part(n))
            raise NotConvertedError(
                f"The store has no time series of {self.subject_id} {session}, but of "
                f"{there or 'no session'}. {mend}"
            )
        runs = stored.load(part, ["run"], needed=True)["run"]
        if run is None:
            return np.arange(len(runs))
        wanted = [release.run_number(one) for one in select.as_list(run)]
        for number in wanted:
            if number not in runs:
                there = ", ".join(map(str, np.unique(runs).tolist()))
                raise NotConvertedError(
                    f"The time series of {self.subject_id} {session} in the store are of runs "
                    f"{there}, not of run {number}. {mend}"
                )
        return np.flatnonzero(np.isin(runs, wanted))

    # -- as scanned, from the mirror

    def has_raw(self, session: Id | None = None) -> bool:
        """Whether the local mirror has raw files of the subject.

        Parameters
        ----------
        session : str or int, optional
            Only files of this session.

        Returns
        -------
        bool

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> load_subject("01").has_raw("ses-01")
        True
        """
        folder = release.raw_dir(self.subject_id)
        folder = folder if session is None else folder / session_id(session)
        try:
            # Images: tables of events alone are no scans.
            return any((get_data_dir() / folder).rglob("*.nii*"))
        except DataDirNotSetError:
            return False

    def get_raw_bold(self, session: Id, run: Id, echo: Id, part: Part = "mag") -> xr.DataArray:
        """Volumes of one echo of a run as scanned, lazy, from the local mirror.

        Parameters
        ----------
        session, run, echo : str or int
            Session, run and echo (from 1), such as ``"ses-01"``, ``"01"`` and 1.
        part : {"mag", "phase"}
            Magnitude or phase.

        Returns
        -------
        xarray.DataArray, (time, x, y, z) float32, Dask-backed
            On the scanner's own grid, which is not that of the betas. ``time``: seconds from the
            start of the run. ``i``, ``j``, ``k`` are grid indices; ``x``, ``y``, ``z`` are mm, if
            the grid is not oblique. ``attrs``: ``affine``, ``space``, ``repetition_time``. A packed
            file is inflated up to the volumes that are asked for.

        Raises
        ------
        DataNotDownloadedError
            If the mirror lacks the file; it is a `FileNotFoundError`.
        SourceError
            If the file is damaged; where its data are, when they are computed.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> raw = load_subject("01").get_raw_bold("ses-01", run=1, echo=2)
        >>> raw.dims
        ('time', 'x', 'y', 'z')
        """
        if part not in release.ECHO_PARTS:
            raise ValueError(f"part must be one of {list(release.ECHO_PARTS)}, got {part!r}.")
        ids = self.subject_id, session_id(session), release.run_number(run)
        path = self._raw_file(*ids, [release.raw_bold(*ids, release.echo_number(echo), part)])
        scan = _Scan(path, 4)
        step = scan.repetition_time
        found = scan.labelled(schema.BOLD.name)
        times = {TIME: (TIME, np.arange(len(found)) * step, {"units": SECONDS})}
        return found.assign_coords(times).assign_attrs(repetition_time=step)

    def get_sbref(self, session: Id, run: Id, echo: Id) -> xr.DataArray:
        """Single-band reference of one echo of a run as scanned, lazy, from the local mirror.

        Parameters
        ----------
        session, run, echo : str or int
            As in `get_raw_bold`.

        Returns
        -------
        xarray.DataArray, (x, y, z) float32, Dask-backed
            On the scanner's own grid, with the labels of `get_raw_bold`.

        Raises
        ------
        DataNotDownloadedError
            If the mirror lacks the file; it is a `FileNotFoundError`.
        SourceError
            If the file is damaged; where its data are, when they are computed.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> reference = load_subject("01").get_sbref("ses-01", run=1, echo=1)
        >>> reference.dims
        ('x', 'y', 'z')
        """
        ids = self.subject_id, session_id(session), release.run_number(run)
        names = release.sbrefs(*ids, release.echo_number(echo))
        return _Scan(self._raw_file(*ids, names), 3).labelled("sbref")

    def _raw_file(self, subject: str, session: str, run: int, names: Any) -> Path:
        """Path in the mirror of the first name that is there, packed or not."""
        paths = [get_data_dir() / name for name in names]
        for path in paths:
            for candidate in (path, path.with_suffix("")):
                if candidate.is_file():
                    return candidate
        raise DataNotDownloadedError(
            f"{paths[0]} is not there. Download it: laion-zarr download-raw --subject {subject} "
            f"--ses {session.removeprefix('ses-')} --run {run}."
        )


class _Scan:
    """A NIfTI file as an array with time first; reads the values that it is indexed with.

    Parameters
    ----------
    path : Path
        The file.
    ndim : int
        Number of dims that it must have.
    """

    dtype = np.dtype("float32")

    def __init__(self, path: Path, ndim: int) -> None:
        self._path, self.ndim = path, ndim
        image = self._opened()
        if len(image.shape) != ndim:
            raise self._damaged(f"an image of shape {image.shape}", f"one of {ndim} dims")
        self.shape = (*image.shape[3:], *image.shape[:3])
        self._affine = np.asarray(image.affine)

    def _opened(self) -> Any:
        try:
            return nib.load(self._path)
        except _DAMAGE as error:
            raise self._damaged(f"a damaged or cut-off one ({error})", "a NIfTI file") from error

    def _damaged(self, found: str, expected: str) -> SourceError:
        return SourceError(
            f"{self._path}: expected {expected}, found {found}. Delete it and download it again, "
            "with 'laion-zarr download-raw'."
        )

    @property
    def repetition_time(self) -> float:
        """Seconds between two volumes: from the sidecar, or else from the header."""
        sidecar = Path(release.sidecar(str(self._path)))
        told = json.loads(sidecar.read_bytes()) if sidecar.is_file() else {}
        if (step := told.get("RepetitionTime")) is None:
            header = self._opened().header
            per_second = {"msec": 1_000, "usec": 1_000_000}.get(header.get_xyzt_units()[1], 1)
            # As decimals: float32 has 1.9 as 1.89999998.
            step = float(str(np.float32(header["pixdim"][4]))) / per_second
        if not step > 0:
            raise self._damaged(f"a repetition time of {step} s", "the time between two volumes")
        return float(step)

    def __getitem__(self, key: tuple[Any, ...]) -> np.ndarray:
        spans = [k if isinstance(k, slice) else slice(k, k + 1) for k in key]
        *times, x, y, z = spans
        try:
            values = np.asarray(self._opened().dataobj[(x, y, z, *times)])
        except _DAMAGE as error:
            found = f"a damaged or cut-off one ({error})"
            raise self._damaged(found, f"a whole file of {self.shape} values") from error
        values = np.moveaxis(values, 3, 0) if times else values
        one = tuple(slice(None) if isinstance(k, slice) else 0 for k in key)
        return values[one].astype(self.dtype)  # scaled by nibabel in float64

    def labelled(self, what: str) -> xr.DataArray:
        """Dask-backed array of this name, with the labels of a volume."""
        grid = self.shape[-3:]
        several = max(1, _BLOCK_BYTES // (int(np.prod(grid)) * self.dtype.itemsize))
        blocks = (*([several] if self.ndim == 4 else []), *grid)
        state = self._path.stat()
        name = f"{what}-{tokenize(str(self._path), state.st_size, state.st_mtime_ns)}"
        meta = np.empty((0,) * self.ndim, self.dtype)
        data = da.from_array(self, blocks, name, asarray=False, fancy=False, meta=meta)
        dims = (*([TIME] if self.ndim == 4 else []), *GRID_DIMS)
        return on_grid(xr.DataArray(data, dims=dims, name=what), self._affine, "scanner")
