"""Stimulus pictures: as released files, as decoded pictures, or as one lazy array."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import xarray as xr
from dask.base import tokenize
from xarray.core import indexing

from laion_zarr._release import Ids
from laion_zarr._repr import Shown
from laion_zarr.arrays.query import Query
from laion_zarr.arrays.select import as_list, is_one
from laion_zarr.stimuli import picture_files
from laion_zarr.stimuli.handle import StimuliHandle
from laion_zarr.stimuli.keys import Key, Keys, TrialKeys
from laion_zarr.store.schema import IMAGE_LICENSE, IMAGES_PART

if TYPE_CHECKING:
    from PIL import Image

_CHANNELS = ("red", "green", "blue")
# Bytes of a Dask block of decoded pictures: small enough for memory, and small enough that 1,000
# pictures make enough blocks to keep all cores busy.
_BLOCK_NBYTES = 24 << 20
_MOST_IN_BLOCK = 64
_READ_AT_ONCE = 32


class Images(Shown):
    """Stimulus pictures, by image name or row; available as ``Stimuli.images``."""

    _keys: Keys

    def __init__(self, handle: StimuliHandle, keys: Keys) -> None:
        handle.part(IMAGES_PART)
        self._handle = handle
        self._keys = keys

    def _facts(self) -> dict[str, Any]:
        return {
            "Pictures of": self._keys.said(IMAGES_PART),
            "Terms": "under the data use agreement",
            "Next": f".get({self._keys.dim}), .array([{self._keys.dim}, …])",
        }

    def names(self) -> list[str]:
        """Image names, one per picture (for a subject: per trial), in order."""
        return list(self._keys.names)

    def __len__(self) -> int:
        return len(self._keys.names)

    def __contains__(self, key: object) -> bool:
        try:
            return bool(self._keys.rows(IMAGES_PART)[self._keys.position(key)] >= 0)
        except (KeyError, IndexError, TypeError):
            return False

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        names = self.names()
        rows = self._there(self._keys.everywhere())
        for lo in range(0, len(names), _READ_AT_ONCE):
            some = slice(lo, lo + _READ_AT_ONCE)
            yield from zip(names[some], picture_files.read(self._handle, rows[some]), strict=True)

    @overload
    def __getitem__(self, key: Key) -> bytes: ...  # type: ignore[overload-overlap]
    @overload
    def __getitem__(self, key: Iterable[Key]) -> list[bytes]: ...
    def __getitem__(self, key: Key | Iterable[Key]) -> bytes | list[bytes]:
        """File of a picture (JPEG or PNG), byte for byte as released; for a list, their list."""
        found = picture_files.read(self._handle, self._there(self._keys.positions(key)))
        return found[0] if is_one(key) else found

    @overload
    def get(  # type: ignore[overload-overlap]
        self, key: Key, as_displayed: bool = True
    ) -> Image.Image: ...
    @overload
    def get(self, key: Iterable[Key], as_displayed: bool = True) -> list[Image.Image]: ...
    def get(
        self, key: Key | Iterable[Key], as_displayed: bool = True
    ) -> Image.Image | list[Image.Image]:
        """Decode one or several pictures; reads only the bytes of their files.

        Parameters
        ----------
        key : str or int, or a list of them
            Image name, or row of the metadata; for a subject, the global trial index.
        as_displayed : bool
            Whether to return RGB as the subject saw it, with transparent pixels drawn over mid-grey
            (128, 128, 128). If False, the picture is returned as encoded.

        Returns
        -------
        PIL.Image.Image
            For a list, a list of pictures.

        Raises
        ------
        KeyError
            If there is no such image.
        SourceError
            If the picture cannot be decoded; the message names the image.

        Examples
        --------
        >>> from laion_zarr import load_stimuli
        >>> stim = load_stimuli()
        >>> stim.images.get(0).mode
        'RGB'
        """
        rows = self._there(self._keys.positions(key))
        found = [
            picture_files.decode(self._handle, row, data)
            for row, data in zip(rows, picture_files.read(self._handle, rows), strict=True)
        ]
        found = [picture_files.displayed(image) for image in found] if as_displayed else found
        return found[0] if is_one(key) else found

    def array(self, keys: Any = None, size: tuple[int, int] | None = None) -> xr.DataArray:
        """Pictures as displayed, in one lazy array that is decoded in parallel when computed.

        Parameters
        ----------
        keys : str or int, or a list of them, optional
            Image names or rows, in the order of the result. If not provided, all images.
        size : (int, int), optional
            Height and width to resize to (Lanczos). If not provided, all pictures must have the
            same size.

        Returns
        -------
        xarray.DataArray, (image, y, x, channel) uint8, Dask-backed

        Raises
        ------
        ValueError
            If the pictures differ in size and `size` is not given; the message names examples.

        Examples
        --------
        >>> from laion_zarr import load_stimuli
        >>> pictures = load_stimuli().images.array([0, 1])
        >>> pictures.dims
        ('image', 'y', 'x', 'channel')
        """
        if keys is None:
            return self._array(self._keys.everywhere(), size)
        return self._array(self._keys.positions(keys), size)

    def _array(self, positions: np.ndarray, size: tuple[int, int] | None) -> xr.DataArray:
        """Lazy array of the pictures at positions along the dim of the keys."""
        rows = self._there(positions)
        shape = self._one_size(rows) if size is None else _checked(size)
        lazy = picture_files.LazyPictures(self._handle, rows, shape)
        dims = (self._keys.dim, "y", "x", "channel")
        block = min(_MOST_IN_BLOCK, max(1, _BLOCK_NBYTES // (3 * shape[0] * shape[1])))
        attrs = {"description": "pictures as displayed", "license": IMAGE_LICENSE}
        variable = xr.Variable(dims, indexing.LazilyIndexedArray(lazy), attrs)
        token = tokenize(lazy, block)
        lazy_blocks = variable.chunk({self._keys.dim: block}, name=f"images-{token}")
        found = self._keys.labelled("images", lazy_blocks, positions)
        return found.assign_coords(channel=list(_CHANNELS))

    def _there(self, positions: np.ndarray) -> np.ndarray:
        """Rows of the pictures at positions; raises KeyError for an image without picture."""
        rows = self._keys.rows(IMAGES_PART)[positions]
        if (rows < 0).any():
            lacking = self._keys.names[positions[rows < 0]].unique()
            more = f" and {len(lacking) - 3:,} more" if len(lacking) > 3 else ""
            raise KeyError(
                f"There is no picture of {', '.join(map(repr, lacking[:3]))}{more}: the stimuli of "
                "this store do not list it."
            )
        return rows

    def _one_size(self, rows: np.ndarray) -> tuple[int, int]:
        """Height and width that all decodable pictures share; raises ValueError if they differ."""
        height, width = (size[rows] for size in picture_files.sizes(self._handle))
        found, counts = np.unique(
            np.stack([height, width])[:, height > 0], axis=1, return_counts=True
        )
        if not counts.size:
            return 1, 1  # no picture can be decoded: the error is raised on compute
        usual = found[:, counts.argmax()]
        if counts.size > 1:
            odd = np.flatnonzero((height > 0) & ((height != usual[0]) | (width != usual[1])))
            names = self._handle.names(IMAGES_PART)[rows].tolist()
            examples = [f"{names[n]} ({height[n]} × {width[n]})" for n in odd[:3]]
            raise ValueError(
                f"{len(odd):,} of {len(rows):,} pictures are not {usual[0]} × {usual[1]}: "
                f"{', '.join(examples)}{', …' if len(odd) > 3 else ''}. Pass size=(height, width) "
                "to resize all to one, or select others."
            )
        return int(usual[0]), int(usual[1])


def _checked(size: Any) -> tuple[int, int]:
    try:
        height, width = size
        if height >= 1 and width >= 1:
            return int(height), int(width)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"size takes (height, width) in pixels, got {size!r}.")


class SubjectImages(Images):
    """Pictures that a subject saw, by global trial index; available as ``Subject.images``."""

    _keys: TrialKeys

    def __init__(self, handle: StimuliHandle, query: Query) -> None:
        super().__init__(handle, TrialKeys(handle, query))

    def all(self, session: Ids | None = None) -> Iterator[Image.Image]:
        """Pictures in trial order, decoded one after the other.

        Parameters
        ----------
        session : str, int or list of them, optional
            Only trials of these sessions. If not provided, of all sessions.

        Yields
        ------
        PIL.Image.Image
            Picture of one trial, as displayed.
        """
        for row in self._there(self._keys.of_session(session)):
            (data,) = picture_files.read(self._handle, [row])
            yield picture_files.displayed(picture_files.decode(self._handle, row, data))

    def array(
        self, keys: Any = None, size: tuple[int, int] | None = None, session: Ids | None = None
    ) -> xr.DataArray:
        """Pictures in trial order, as displayed, in one lazy array with the labels of the trials.

        Parameters
        ----------
        keys : int or list of int, optional
            Global trial indices, in the order of the result. If not provided, all trials. Strings,
            such as ``"ses-01"``, are taken as `session`.
        size : (int, int), optional
            Height and width to resize to, as in `Images.array`.
        session : str, int or list of them, optional
            Only trials of these sessions, instead of `keys`. If not provided, of all sessions.

        Returns
        -------
        xarray.DataArray, (trial, y, x, channel) uint8, Dask-backed
            A picture of several trials is read and decoded once per Dask block.
        """
        if keys is not None and session is not None:
            raise ValueError("keys and session exclude each other: pass one of them.")
        if keys is None or ((listed := as_list(keys)) and all(isinstance(k, str) for k in listed)):
            return self._array(self._keys.of_session(session if keys is None else keys), size)
        return self._array(self._keys.positions(keys), size)
