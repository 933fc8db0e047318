"""Read NIfTI files as numpy arrays: sequentially, scaled in float64, rounded once to float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from isal import igzip

from laion_zarr.conversion.source.files import Source
from laion_zarr.conversion.source.problems import damaged, describe, reading
from laion_zarr.errors import SourceError

# deflate compresses at most 1032:1: a header that claims more data than that is damaged.
_MOST_PACKED = 1100
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
    """

    path: str
    shape: tuple[int, int, int]
    affine: np.ndarray

    def _corners(self) -> np.ndarray:
        ends = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape])).reshape(3, -1)
        return self.affine[:3, :3] @ ends + self.affine[:3, 3:]

    def check_same(self, other: Grid) -> None:
        """Raise `SourceError` if this grid differs from that of another file of the subject."""
        if self.shape != other.shape:
            raise damaged(self.path, f"a grid of {self.shape}", f"{other.shape} as in {other.path}")
        apart = float(np.abs(self._corners() - other._corners()).max())
        if not apart <= CORNER_TOLERANCE:
            raise damaged(
                self.path,
                f"an affine whose corners are up to {apart:.4g} mm off",
                f"the affine of {other.path} (to {CORNER_TOLERANCE} mm)",
            )


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
        self.shape: tuple[int, ...] = header.get_data_shape()
        if len(self.shape) not in (3, 4) or 0 in self.shape:
            raise damaged(path, f"shape {self.shape}", "a 3-D or 4-D image")
        self.dtype: np.dtype = header.get_data_dtype()
        if self.dtype.kind not in "iuf":
            raise damaged(path, f"values of type {self.dtype}", "real numbers")
        slope, intercept = header.get_slope_inter()
        self.scaling = None if slope is None else (float(slope), float(intercept))
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
        x, y, z = self.shape[:3]
        self.grid = Grid(path, (x, y, z), affine)
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


@contextmanager
def open_volume(source: Source, path: str) -> Iterator[Volume]:
    """Open a NIfTI file for one sequential read."""
    most = source.size(path) * (_MOST_PACKED if path.endswith(".gz") else 1)
    with reading(source.full(path)), source.unpacked(path) as file:
        yield Volume(source.full(path), file, most)


def read_map(source: Source, path: str, grid: Grid | None = None) -> tuple[np.ndarray, Grid]:
    """Read a 3-D map; returns its values, (x, y, z) float32, and its grid."""
    volume, values = _read_3d(source, path, grid)
    return volume.convert(values).reshape(volume.shape, order="F"), volume.grid


def read_mask(source: Source, path: str, grid: Grid | None = None) -> tuple[np.ndarray, Grid]:
    """Read a 3-D mask; returns where it is not 0, (x, y, z) bool, and its grid."""
    volume, values = _read_3d(source, path, grid)
    # Compared before rounding to float32, which could turn a tiny value into 0.
    return (volume.scaled(values) != 0).reshape(volume.shape, order="F"), volume.grid


def _read_3d(source: Source, path: str, grid: Grid | None) -> tuple[Volume, np.ndarray]:
    with open_volume(source, path) as volume:
        if len(volume.shape) != 3:
            raise damaged(source.full(path), f"{len(volume.shape)}-D", "a 3-D map")
        if grid is not None:
            volume.grid.check_same(grid)
        buffer = volume.buffer()
        volume.read_into(buffer)
        volume.finish()
    return volume, volume.typed(buffer)
