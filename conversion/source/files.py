"""The release's files as numpy and pandas: the converter's only reader of NIfTI, TSV, GIfTI.

Every problem with a file is a `SourceError` that names it.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import nibabel as nib
import numpy as np
import pandas as pd
from isal import igzip
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from laion_zarr import _release as release
from laion_zarr.conversion.source.remote import Remote, content_crc32
from laion_zarr.errors import DataNotDownloadedError, SourceError
from laion_zarr.store.remote import is_remote

# deflate packs no better than 1032:1, so a header that claims more is damaged.
_MOST_PACKED = 1100
# Corners of the grid may differ by this much between files of one subject (mm).
CORNER_TOLERANCE = 0.001
_GZIP_MAGIC = b"\x1f\x8b"
MISSING = {"n/a", "NA", "NaN", "nan", ""}  # of numbers
# Text, even where it looks like numbers.
_TEXT_COLUMNS = (
    *("label", "session", "image_name", "dataset", "participant", "unique_or_shared", "n_reps"),
    *("noun", "mask_file", "source", "caption", "origin_collection", "participant_id", "ai_model"),
)
TRIAL_COLUMNS = ("session", "run", "beta_index", "label")

Identity = dict[str, int]  # {"size": bytes, "crc32": CRC-32 of the unpacked or plain content}


def damaged(path: str, found: str, expected: str) -> SourceError:
    """The error for a file that is not what it should be."""
    mend = "Run" if "://" in path else "Delete it, download it again and run"
    return SourceError(
        f"{path}: expected {expected}, found {found}. {mend} the same command: what is converted "
        "already is kept."
    )


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn what the libraries raise on a bad file into a `SourceError` that names it."""
    try:
        yield
    except SourceError:
        raise
    except FileNotFoundError as error:
        raise damaged(path, "nothing (it vanished, or is a dangling link)", "a file") from error
    except PermissionError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}. Mend its permissions.") from (
            error
        )
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:  # igzip raises the same
        raise damaged(path, f"a damaged or cut-off one ({error})", "a whole gzip file") from error
    except (HeaderDataError, WrapStructError, ImageFileError) as error:
        raise damaged(path, f"another header ({error})", "a NIfTI file") from error


@dataclass(frozen=True)
class Source:
    """A mirror of the release: a local folder or an fsspec URL.

    Attributes
    ----------
    root : str
        Local path or URL of the data directory.
    """

    root: str

    @cached_property
    def _remote(self) -> Remote | None:
        return Remote(self.root) if "://" in self.root else None

    def full(self, path: str) -> str:
        """Path of a file as a user would write it."""
        return f"{self.root.rstrip('/')}/{path}"

    def listing(self, subjects: Iterable[str] | None = None, stimuli: bool = True) -> list[str]:
        """Relative paths of all files that the converter may read.

        Of a URL only what is needed is listed: some `subjects`, and the `stimuli` or not.
        """
        if self._remote is not None:
            return self._remote.listing(subjects, stimuli)
        fs = fsspec.filesystem("file")
        if not fs.isdir(self.root):
            raise DataNotDownloadedError(
                f"{self.root} is not a folder. Name the one that holds 'derivatives/' with "
                "--source, or set it with 'laion-zarr config --data-dir DIR'."
            )
        tops = (release.GLM, release.ROIS, release.ANATOMY, release.STIMULI)
        folders = [f"{self.root}/{top}" for top in tops]
        names = [name for folder in folders if fs.isdir(folder) for name in fs.find(folder)]
        return [name[len(self.root) :].lstrip("/") for name in names]

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """Open a file as it lies, without unpacking."""
        if self._remote is not None:
            with self._remote.open(path) as file, reading(self.full(path)):
                yield file
            return
        with reading(self.full(path)), (Path(self.root) / path).open("rb") as file:
            yield file

    def local(self, path: str) -> Path | None:
        """The file on disk; None where the source is no local folder."""
        return None if self._remote is not None else Path(self.root) / path

    def read(self, path: str) -> bytes:
        """Read a whole small file."""
        with self.open(path) as file:
            return file.read()

    def size(self, path: str) -> int:
        """Bytes of a file as it lies."""
        if self._remote is not None:
            return self._remote.size(path)
        with reading(self.full(path)):
            return (Path(self.root) / path).stat().st_size

    def look_ahead(self, paths: Iterable[str]) -> None:
        """Say which files will be looked at: at a URL they are asked for together."""
        if self._remote is not None:
            self._remote.look_ahead(paths)

    def identity(self, path: str) -> Identity:
        """What tells one version of a file from another.

        Size, and the CRC-32 of the content: from the trailer of a gzip, which reading the file
        proves, else computed.
        """
        size = self.size(path)
        if self._remote is not None:
            return {"size": size, "crc32": self._remote.crc32(path)}
        with self.open(path) as file:
            return {"size": size, "crc32": content_crc32(file, path, size)}

    def check_unchanged(self, identities: Mapping[str, Identity]) -> None:
        """Refuse files that are not what they were when they were looked at."""
        if self._remote is not None:
            changed = self._remote.changed(identities)
        else:
            changed = [path for path, was in identities.items() if self.identity(path) != was]
        for path in changed:
            raise damaged(self.full(path), "another one", "the file that it was at the start")

    def sidecar(self, path: str, names: frozenset[str]) -> str | None:
        """BIDS sidecar of a file, if it is there."""
        found = release.sidecar(path)
        return found if found in names else None

    def json(self, path: str) -> dict[str, Any]:
        """Parse a sidecar."""
        try:
            # NaN is no JSON, though some write it: nothing, then.
            parsed = json.loads(self.read(path), parse_constant=lambda _: None)
        except ValueError as error:
            raise damaged(self.full(path), f"something else ({error})", "JSON") from error
        if not isinstance(parsed, dict):
            raise damaged(self.full(path), type(parsed).__name__, "a JSON object")
        return parsed

    @contextmanager
    def unpacked(self, path: str) -> Iterator[BinaryIO | igzip.IGzipFile]:
        """Open a file, inflating a gzip on the way."""
        with self.open(path) as raw:
            if not path.endswith(".gz"):
                yield raw
                return
            magic = raw.read(2)
            raw.seek(0)
            if magic != _GZIP_MAGIC:
                raise damaged(self.full(path), _describe(raw.read(64)), "a gzip file")
            with igzip.IGzipFile(fileobj=raw, mode="rb") as file:
                yield file

    @contextmanager
    def volume(self, path: str) -> Iterator[Volume]:
        """Open a NIfTI file for reading once, front to back."""
        most = self.size(path) * (_MOST_PACKED if path.endswith(".gz") else 1)
        with reading(self.full(path)), self.unpacked(path) as file:
            yield Volume(self.full(path), file, most)

    def read_map(self, path: str, grid: Grid | None = None) -> tuple[np.ndarray, Grid]:
        """Read a 3-D map -> its values, (x, y, z) float32, and its grid."""
        volume, values = self._read_3d(path, grid)
        return volume.convert(values).reshape(volume.shape, order="F"), volume.grid

    def read_mask(self, path: str, grid: Grid | None = None) -> tuple[np.ndarray, Grid]:
        """Read a 3-D mask -> where it is not 0, (x, y, z) bool, and its grid."""
        volume, values = self._read_3d(path, grid)
        # Before anything is rounded to float32: what is tiny is not 0.
        return (volume.scaled(values) != 0).reshape(volume.shape, order="F"), volume.grid

    def _read_3d(self, path: str, grid: Grid | None) -> tuple[Volume, np.ndarray]:
        with self.volume(path) as volume:
            if len(volume.shape) != 3:
                raise damaged(self.full(path), f"{len(volume.shape)}-D", "a 3-D map")
            if grid is not None:
                volume.grid.check_same(grid)
            buffer = volume.buffer()
            volume.read_into(buffer)
            volume.finish()
        return volume, volume.typed(buffer)

    def read_trials(self, path: str, session: str) -> pd.DataFrame:
        """Read a session's trial table, rows sorted into volume order."""
        table = self._table(path, "\t")
        self._check_columns(path, table, TRIAL_COLUMNS)
        return _in_volume_order(table, self.full(path), session)

    def read_metadata(self, path: str) -> pd.DataFrame:
        """Read the stimulus metadata, rows as they come."""
        table = self.read_table(path, ("image_name",))
        repeated = table["image_name"][table["image_name"].duplicated()]
        if len(repeated):
            raise damaged(self.full(path), f"{repeated.iloc[0]!r} twice", "each image once")
        return table

    def read_table(self, path: str, columns: Sequence[str]) -> pd.DataFrame:
        """Read a CSV that has at least these columns, rows as they come."""
        table = self._table(path, ",")
        self._check_columns(path, table, columns)
        return table

    def _check_columns(self, path: str, table: pd.DataFrame, columns: Sequence[str]) -> None:
        if missing := [column for column in columns if column not in table.columns]:
            raise damaged(
                self.full(path),
                f"columns {list(table.columns)}",
                f"the columns {', '.join(columns)} (lacks {', '.join(missing)})",
            )

    def _table(self, path: str, separator: str) -> pd.DataFrame:
        raw = self.read(path)
        try:
            # pandas fills short rows up, and takes what is beyond the header for an index.
            rows = csv.reader(io.StringIO(raw.decode("utf-8"), newline=""), delimiter=separator)
            lengths = [len(row) for row in rows if row]
            # All text first: 'NA' is a label like any other until a whole column is numbers.
            table = pd.read_csv(
                io.BytesIO(raw), sep=separator, dtype=str, keep_default_na=False, encoding="utf-8"
            )
        except (ValueError, csv.Error) as error:
            raise damaged(self.full(path), f"something else ({error})", "a table") from error
        for row, length in enumerate(lengths):
            if length != lengths[0]:
                found = f"{length} values in row {row}"
                raise damaged(self.full(path), found, f"one for each of the {lengths[0]} columns")
        return pd.DataFrame(
            {
                name: column if name in _TEXT_COLUMNS else _typed_column(column)
                for name, column in table.items()
            }
        )

    def read_surface_mask(self, path: str) -> np.ndarray:
        """Read a ``func.gii`` mask -> bool per vertex."""
        raw = self.read(path)
        try:
            image = nib.gifti.GiftiImage.from_bytes(raw)
            (data,) = (array.data for array in image.darrays)
        except Exception as error:  # the XML parser raises its own
            raise damaged(self.full(path), f"something else ({error})", "GIfTI, one array") from (
                error
            )
        return np.asarray(data).ravel() != 0

    def read_label(self, path: str) -> np.ndarray:
        """Read a FreeSurfer text label -> vertex indices, in file order."""
        lines = self.read(path).decode("utf-8", "replace").splitlines()
        try:
            count = int(lines[1])
            rows = [int(line.split()[0]) for line in lines[2:] if line.strip()]
        except (IndexError, ValueError) as error:
            raise damaged(self.full(path), "something else", "a FreeSurfer label") from error
        if len(rows) != count:
            raise damaged(self.full(path), f"{len(rows)} vertices", f"{count} vertices")
        return np.array(rows, dtype=np.int32)


def _describe(head: bytes) -> str:
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page (an error page saved by a downloader?)"
    return f"bytes {head[:8]!r}" if head else "an empty file"


def _typed_column(column: pd.Series) -> pd.Series:
    """A column as numbers or truth values, if each of its values is one (or missing)."""
    values = column.to_numpy(dtype=object)
    present = ~np.isin(values, list(MISSING))
    if not present.any():
        return pd.Series(values, dtype=object)
    if set(values.tolist()) <= {"True", "False"}:
        return pd.Series(values == "True")
    numbers = pd.to_numeric(pd.Series(values[present]), errors="coerce")
    if numbers.isna().any():
        return pd.Series(values, dtype=object)
    if present.all():
        return pd.Series(numbers.to_numpy())
    filled = np.full(len(values), np.nan)
    filled[present] = numbers.to_numpy()
    return pd.Series(filled)


def _in_volume_order(table: pd.DataFrame, path: str, session: str) -> pd.DataFrame:
    for column in ("run", "beta_index"):
        if not pd.api.types.is_integer_dtype(table[column]):
            raise damaged(path, f"{column} {table[column].iloc[:3].tolist()} …", "whole numbers")
        table[column] = table[column].astype(np.int64)
    index = table["beta_index"].to_numpy()
    if not np.array_equal(np.sort(index), np.arange(len(table))):
        values, counts = np.unique(index, return_counts=True)
        repeated = values[counts > 1][:3].tolist()
        found = (
            f"{repeated} repeated" if repeated else f"values from {index.min()} to {index.max()}"
        )
        raise damaged(path, found, f"a beta_index that is 0 … {len(table) - 1} in some order")
    others = set(table["session"].tolist()) - {session}
    if others:
        raise damaged(path, f"session {sorted(map(str, others))}", f"rows of {session} only")
    return table.sort_values("beta_index", kind="stable").reset_index(drop=True)


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a file lie.

    Attributes
    ----------
    path : str
        File it was read from, for messages.
    shape : tuple of int
        Voxels along x, y, z.
    affine : numpy.ndarray, (4, 4) float64
        Voxel indices to mm.
    """

    path: str
    shape: tuple[int, int, int]
    affine: np.ndarray

    def _corners(self) -> np.ndarray:
        ends = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape])).reshape(3, -1)
        return self.affine[:3, :3] @ ends + self.affine[:3, 3:]

    def check_same(self, other: Grid) -> None:
        """Refuse a file on another grid than the subject's other files."""
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
    """A NIfTI stream: header now, then volume after volume, then the proof that it was whole.

    Parameters
    ----------
    path : str
        For messages.
    file : binary file
        Unpacked content, at its start.
    most : int
        Bytes that it may unpack to.
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
            raise damaged(self.path, _describe(head), "a NIfTI header")
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
        while len(data) < count:  # a stream may answer with less than asked
            more = self._file.read(count - len(data))
            if not more:
                raise damaged(self.path, f"only {len(data)} bytes of header", f"{count} bytes")
            data += more
        return data

    def buffer(self) -> bytearray:
        """A buffer for one volume."""
        return bytearray(int(np.prod(self.shape[:3])) * self.dtype.itemsize)

    def read_into(self, buffer: bytearray) -> None:
        """Read the next volume."""
        view = memoryview(buffer)
        done = 0
        while done < len(view):
            count = self._file.readinto(view[done:])
            if not count:
                raise damaged(self.path, "an end in the middle of the data", f"{self.shape} values")
            done += count

    def typed(self, buffer: bytearray) -> np.ndarray:
        """One volume's values as stored, flat in Fortran order."""
        return np.frombuffer(buffer, self.dtype)

    @property
    def is_scaled(self) -> bool:
        """Whether the header asks for a slope or an intercept."""
        return self.scaling not in (None, (1.0, 0.0))

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Stored values -> scaled in float64; as they are where nothing is to be scaled."""
        if not self.is_scaled:
            return values
        assert self.scaling is not None
        slope, intercept = self.scaling
        with np.errstate(over="ignore", invalid="ignore"):
            return values.astype(np.float64) * slope + intercept

    def convert(self, values: np.ndarray) -> np.ndarray:
        """Stored values -> float32: scaled in float64, rounded once; float32 bit for bit."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self.scaled(values).astype("<f4", copy=False)

    def finish(self) -> None:
        """Read to the end: that proves the checksum and that nothing follows."""
        if self._file.read(1):
            raise damaged(self.path, "more data than that", f"{self.shape} values")


def open_source(source: str | Path) -> Source:
    """Open a mirror by its folder or URL."""
    text = str(source)
    if is_remote(text):
        return Source(text)
    return Source(str(Path(text.removeprefix("file://")).expanduser().absolute()))
