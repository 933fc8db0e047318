"""Read the HDF5 files of the release as numpy arrays: the converter's only reader of HDF5.

Every problem with a file is a `SourceError` that names the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import h5py
import numpy as np

from laion_zarr.conversion.source.files import Source
from laion_zarr.conversion.source.problems import damaged, reading, unreadable
from laion_zarr.errors import SourceError
from laion_zarr.store.causes import NO_LOCKS

_ROWS_AT_ONCE = 64


class Hdf5:
    """An open HDF5 file of the release.

    Parameters
    ----------
    path : str
        Full path or URL of the file, for error messages.
    file : h5py.File
        The open file.
    """

    def __init__(self, path: str, file: h5py.File) -> None:
        self.path = path
        self._file = file

    def dataset(self, name: str, n_dims: int) -> h5py.Dataset:
        """Dataset of this name; raises if there is none, or not with `n_dims` dimensions."""
        found = self._file.get(name)
        if not isinstance(found, h5py.Dataset):
            here = ", ".join(map(str, self._file)) or "nothing"
            raise damaged(self.path, f"{here} in it", f"a dataset {name!r}")
        if len(found.shape) != n_dims:
            raise damaged(self.path, f"{name} of shape {found.shape}", f"{n_dims}-D {name}")
        return found

    def rows(self, dataset: h5py.Dataset) -> Iterator[np.ndarray]:
        """Yield the rows of a dataset in order, a block of rows at a time."""
        for lo in range(0, len(dataset), _ROWS_AT_ONCE):
            with self._reading():
                yield dataset[lo : lo + _ROWS_AT_ONCE]

    def pictures(self) -> tuple[int, Iterator[bytes]]:
        """Number of pictures, and an iterator over the bytes of each picture's file."""
        images = self.dataset("images", 1)
        if h5py.check_vlen_dtype(images.dtype) != np.dtype("uint8"):
            raise damaged(self.path, f"images of {images.dtype}", "variable-length uint8")
        files = (np.asarray(row, np.uint8).tobytes() for rows in self.rows(images) for row in rows)
        return len(images), files

    def embeddings(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Embeddings (image, feature) float16, image names, and whether each embedding is valid."""
        with self._reading():
            values = self.dataset("embedding", 2)
            names = self.dataset("image_ids", 1)
            valid = self.dataset("valid", 1)
            if h5py.check_string_dtype(names.dtype) is None:
                raise damaged(self.path, f"image_ids of {names.dtype}", "strings")
            if values.dtype != np.float16:
                raise damaged(self.path, f"an embedding of {values.dtype}", "float16")
            if valid.dtype.kind not in "biu":
                raise damaged(self.path, f"valid of {valid.dtype}", "booleans")
            if not len(values) == len(names) == len(valid):
                found = f"{len(values)} embeddings, {len(names)} image_ids, {len(valid)} valid"
                raise damaged(self.path, found, "as many of each")
            labels = np.array([_text(self.path, name) for name in names[:]], dtype=object)
            return values[:], labels, valid[:].astype(bool)

    def masks(self) -> h5py.Dataset:
        """Dataset of the segmentation masks, (mask, y, x) uint8; not read yet."""
        masks = self.dataset("masks", 3)
        if masks.dtype != np.uint8:
            raise damaged(self.path, f"masks of {masks.dtype}", "uint8")
        return masks

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except SourceError:
            raise
        except (OSError, RuntimeError, ValueError) as error:  # from h5py, on damaged content
            if cause := _cause(error):
                raise unreadable(self.path, cause) from error
            raise damaged(self.path, f"damaged content ({error})", "a whole HDF5 file") from error


def _text(path: str, name: object) -> str:
    try:
        return name.decode() if isinstance(name, bytes) else str(name)
    except UnicodeDecodeError as error:
        raise damaged(path, f"{name!r} in image_ids", "UTF-8") from error


# How h5py repeats an error of the operating system in the text of its own.
_ERRNO = re.compile(r"errno = (\d+)")


def _cause(error: Exception) -> OSError | None:
    """Error of the operating system behind an error of h5py; None if the content is damaged."""
    number = getattr(error, "errno", None)
    if number is None and (match := _ERRNO.search(str(error))):
        number = int(match[1])
    return OSError(number, os.strerror(number)) if number else None


def _open(where: object) -> h5py.File:
    """Open a file with a lock against programs that write to it, where the system has locks."""
    try:
        return h5py.File(where, "r")
    except OSError as error:
        if "lock" in str(error) and error.errno in NO_LOCKS:
            return h5py.File(where, "r", locking=False)
        raise


@contextmanager
def open_hdf5(source: Source, path: str) -> Iterator[Hdf5]:
    """Open an HDF5 file of a mirror."""
    name = source.full(path)
    with reading(name), ExitStack() as stack:
        # A local file is opened by its path: h5py then reads without holding the GIL.
        where = source.local(path) or stack.enter_context(source.open(path))
        try:
            file = stack.enter_context(_open(where))
        except SourceError:
            raise
        except OSError as error:
            if cause := _cause(error):
                raise unreadable(name, cause) from error
            raise damaged(name, f"another or a cut-off one ({error})", "a whole HDF5 file") from (
                error
            )
        yield Hdf5(name, file)
