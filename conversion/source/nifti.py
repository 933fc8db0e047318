"""Read NIfTI files as numpy arrays: sequentially, scaled in float64, rounded once to float32."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from isal import igzip
from nibabel.spatialimages import HeaderDataError

from laion_zarr.conversion.source.files import Source
from laion_zarr.conversion.source.problems import damaged, describe, reading
from laion_zarr.errors import SourceError

# What nibabel mends in a header is mended without a word, and what it refuses is refused below.
_SILENT, _NEVER = logging.Logger("silent", logging.CRITICAL + 1), logging.CRITICAL + 1
# deflate compresses at most 1032:1: a header that claims more data than that is damaged.
_MOST_PACKED = 1100
# Units of time in a NIfTI header: the bits that tell them, and how many make a second.
_TIME_UNITS, _PER_SECOND = 0x38, {16: 1_000, 24: 1_000_000}
# Corners of the grid may differ by this many mm between the files of one subject.
CORNER_TOLERANCE = 0.001


@dataclass(frozen=True)
class Grid:
    """Voxel grid of a file: its shape and affine.

    Attributes
    ----------
    path : str
        File that the grid was read from, for error messages.
    shape : tuple of int
        Number of voxels along x, y, z.
    affine : numpy.ndarray, (4, 4) float64
        Transform from voxel indices to mm.
    field : str
        Field of the header that states the affine, for error messages.
    other : numpy.ndarray, (4, 4) float64, or None
        Affine of the qform, where the sform, which comes first, states another one as well.
    """

    path: str
    shape: tuple[int, int, int]
    affine: np.ndarray
    field: str = "affine"
    other: np.ndarray | None = None

    def _corners(self, affine: np.ndarray) -> np.ndarray:
        ends = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape])).reshape(3, -1)
        return affine[:3, :3] @ ends + affine[:3, 3:]

    def _apart(self, affine: np.ndarray, other: Grid) -> float:
        """Largest distance in mm between corners of a grid of this affine and the other grid."""
        return float(np.abs(self._corners(affine) - self._corners(other.affine)).max())

    def check_same(self, other: Grid) -> None:
        """Raise `SourceError` if this grid differs from that of another file of the subject."""
        if self.shape != other.shape:
            raise damaged(self.path, f"a grid of {self.shape}", f"{other.shape} as in {other.path}")
        apart = self._apart(self.affine, other)
        if apart <= CORNER_TOLERANCE:
            return
        found = f"an affine (its {self.field}) whose corners are up to {apart:.4g} mm off"
        if self.other is not None:
            apart = self._apart(self.other, other)
            agrees = (
                "is that affine" if apart <= CORNER_TOLERANCE else f"is {apart:.4g} mm off, too"
            )
            found += f" (its qform {agrees}; the sform, where there is one, counts)"
        raise damaged(self.path, found, f"the affine of {other.path} (to {CORNER_TOLERANCE} mm)")


class Volume:
    """A NIfTI file, read sequentially: header on creation, then volumes, then a check of the end.

    Parameters
    ----------
    path : str
        Full path or URL of the file, for error messages.
    file : binary file
        Decompressed content, at its start.
    most : int
        Largest number of bytes that the decompressed content can have.
    """

    def __init__(self, path: str, file: BinaryIO | igzip.IGzipFile, most: int) -> None:
        self.path = path
        self._file: Any = file
        self._most = most
        try:
            self._parse(self._read_header())
        except (KeyError, ValueError, OverflowError) as error:
            if isinstance(error, SourceError):
                raise
            raise damaged(path, f"another header ({error})", "a NIfTI header") from error

    def _parse(self, header: Any) -> None:
        path = self.path
        # Mends what nibabel mends when it loads a file: negative pixdim, pixdim[0] of 0, odd codes.
        header.check_fix(logger=_SILENT, error_level=_NEVER)
        self.shape: tuple[int, ...] = header.get_data_shape()
        while len(self.shape) > 4 and self.shape[-1] == 1:
            self.shape = self.shape[:-1]
        if len(self.shape) not in (3, 4) or 0 in self.shape:
            raise damaged(path, f"shape {self.shape}", "a 3-D or 4-D image")
        self.dtype: np.dtype = header.get_data_dtype()
        if self.dtype.kind not in "iuf":
            raise damaged(path, f"values of type {self.dtype}", "real numbers")
        self._step, self._units = float(header["pixdim"][4]), int(header["xyzt_units"])
        slope, intercept = header.get_slope_inter()
        self.scaling = None if slope is None else (float(slope), float(intercept))
        x, y, z = self.shape[:3]
        self.grid = Grid(path, (x, y, z), *_affine(path, header))
        claimed = int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize
        if claimed > self._most:
            raise damaged(path, f"{self.shape} values, more than it can hold", "data as its header")

    def _read_header(self) -> Any:
        head = self._read_exactly(348)
        size = {int.from_bytes(head[:4], order) for order in ("little", "big")}
        if not size & {348, 540}:
            raise damaged(self.path, describe(head), "a NIfTI header")
        version2 = 540 in size
        if version2:
            head += self._read_exactly(540 - 348)
        header = (nib.Nifti2Header if version2 else nib.Nifti1Header)(head, check=False)
        if bytes(header["magic"])[:3] != (b"n+2" if version2 else b"n+1"):
            raise damaged(self.path, f"magic {bytes(header['magic'])!r}", "a single-file NIfTI")
        gap = float(header["vox_offset"]) - len(head)
        if not 0 <= gap <= self._most:
            raise damaged(self.path, f"data offset {header['vox_offset']}", "data after the header")
        self._read_exactly(int(gap))
        return header

    def _read_exactly(self, count: int) -> bytes:
        data = self._file.read(count)
        while len(data) < count:  # a stream may return fewer bytes than requested
            more = self._file.read(count - len(data))
            if not more:
                raise damaged(self.path, f"only {len(data)} bytes of header", f"{count} bytes")
            data += more
        return data

    @property
    def repetition_time(self) -> float | None:
        """Seconds from one volume to the next, as the header says; None if it does not say."""
        # As decimals: float32 has 1.9 as 1.89999998.
        step = float(str(np.float32(self._step)))
        step /= _PER_SECOND.get(self._units & _TIME_UNITS, 1)
        return step if np.isfinite(step) and step > 0 else None

    def buffer(self) -> bytearray:
        """New buffer that holds one volume."""
        return bytearray(int(np.prod(self.shape[:3])) * self.dtype.itemsize)

    def read_into(self, buffer: bytearray) -> None:
        """Read the next volume of the file into a buffer."""
        view = memoryview(buffer)
        done = 0
        while done < len(view):
            count = self._file.readinto(view[done:])
            if not count:
                raise damaged(self.path, "an end in the middle of the data", f"{self.shape} values")
            done += count

    def typed(self, buffer: bytearray) -> np.ndarray:
        """Values of the volume in a buffer, not scaled, flat in Fortran order."""
        return np.frombuffer(buffer, self.dtype)

    @property
    def is_scaled(self) -> bool:
        """Whether the header has a slope or intercept that changes the values."""
        return self.scaling not in (None, (1.0, 0.0))

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Scale values in float64; return them unchanged if the header has no scaling."""
        if not self.is_scaled:
            return values
        assert self.scaling is not None
        slope, intercept = self.scaling
        with np.errstate(over="ignore", invalid="ignore"):
            return values.astype(np.float64) * slope + intercept

    def convert(self, values: np.ndarray) -> np.ndarray:
        """Scale values in float64, round once to float32; unscaled float32 is kept bit for bit."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self.scaled(values).astype("<f4", copy=False)

    def finish(self) -> None:
        """Read to the end of the file: verifies the gzip checksum, and that no data follow."""
        if self._file.read(1):
            raise damaged(self.path, "more data than that", f"{self.shape} values")


def _affine(path: str, header: Any) -> tuple[np.ndarray, str, np.ndarray | None]:
    """Affine of a header as nibabel takes it, the field that states it, and that of the qform."""
    coded = [name for name in ("sform", "qform") if header[f"{name}_code"] > 0]
    field = coded[0] if coded else "pixdim"
    affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        rows = affine[:3].tolist()
        raise damaged(path, f"{rows} as affine (in its {field})", "an affine that spans a grid")
    other = None
    if len(coded) == 2:
        with suppress(ValueError, HeaderDataError):  # a qform that is none says nothing
            qform = np.asarray(header.get_qform(), dtype=np.float64)
            other = None if np.allclose(qform, affine, atol=CORNER_TOLERANCE) else qform
    return affine, field, other


@contextmanager
def open_volume(source: Source, path: str) -> Iterator[Volume]:
    """Open a NIfTI file for one sequential read."""
    most = source.size(path) * (_MOST_PACKED if path.endswith(".gz") else 1)
    with reading(source.full(path)), source.unpacked(path) as file:
        yield Volume(source.full(path), file, most)


def read_map(source: Source, path: str, grid: Grid | None = None) -> tuple[np.ndarray, Grid]:
    """Read a 3-D map; returns its values, (x, y, z) float32, and its grid."""
    volume, values = _read_3d(source, path, grid)
    return volume.convert(values).reshape(volume.grid.shape, order="F"), volume.grid


def read_mask(source: Source, path: str, grid: Grid | None = None) -> tuple[np.ndarray, Grid]:
    """Read a 3-D mask; returns where it is not 0, (x, y, z) bool, and its grid."""
    volume, values = _read_3d(source, path, grid)
    # Compared before rounding to float32, which could turn a tiny value into 0.
    return (volume.scaled(values) != 0).reshape(volume.grid.shape, order="F"), volume.grid


def _read_3d(source: Source, path: str, grid: Grid | None) -> tuple[Volume, np.ndarray]:
    with open_volume(source, path) as volume:
        if volume.shape[3:] not in ((), (1,)):  # some programs write 3-D as 4-D of one volume
            raise damaged(source.full(path), f"{len(volume.shape)}-D", "a 3-D map")
        if grid is not None:
            volume.grid.check_same(grid)
        buffer = volume.buffer()
        volume.read_into(buffer)
        volume.finish()
    return volume, volume.typed(buffer)
