"""Checks of stimuli and splits: arrays of a part against one another, values against the source.

Source arrays are read with h5py, source tables with pandas.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from laion_zarr.conversion.verification.checks import Check
from laion_zarr.conversion.verification.sources import read_text_table
from laion_zarr.store.causes import cause_of
from laion_zarr.store.objects import location
from laion_zarr.store.parts import Part
from laion_zarr.store.schema import (
    CAPTIONS_PART,
    EMBEDDING,
    EMBEDDINGS_PART,
    IMAGES_PART,
    MASKS_2D,
    MEMBERSHIP_PART,
    METADATA_PART,
    SEGMENTATIONS_PART,
    SPLIT_ARRAYS,
    SPLITS_GROUP,
    STIMULI_GROUP,
    stimulus_columns,
)

_SPLITS = f"{SPLITS_GROUP}/{MEMBERSHIP_PART}"
_PICTURES_AT_ONCE = 64
_MASKS_AT_ONCE = 64


@dataclass
class StimulusChecks:
    """Checks of the stimuli.

    Attributes
    ----------
    check : Check
        Verification that these checks belong to.
    """

    check: Check

    @property
    def _parts(self) -> dict[str, Part]:
        return self.check.groups[STIMULI_GROUP]

    def _problem(self, path: str, what: str) -> None:
        where = location(self.check.store, path)
        self.check.problem(f"{where}: {what}. Convert it again with 'convert --overwrite'.")

    # -- contents

    def contents(self) -> None:
        """Check in each part: lengths, chunk tables, mask rows, checksums of pictures."""
        for name in sorted(self._parts):
            path = f"{STIMULI_GROUP}/{name}"
            if name == IMAGES_PART:
                self._pictures(path)
            elif name == SEGMENTATIONS_PART:
                self.check.chunk_table(path, MASKS_2D)
                self._mask_rows(path)
            elif name.startswith(EMBEDDINGS_PART):
                self.check.chunk_table(path, EMBEDDING)
                self._lengths(path, ("embedding", "valid", "image_name"))

    def _lengths(self, path: str, arrays: tuple[str, ...]) -> None:
        found = {name: self.check.root[f"{path}/{name}"].shape[0] for name in arrays}
        if len(set(found.values())) > 1:
            self._problem(path, f"rows differ: {found}")

    def _mask_rows(self, path: str) -> None:
        rows = self.check.array(f"{path}/mask_row")
        n_masks = self.check.root[f"{path}/{MASKS_2D.name}"].shape[0]
        if rows.size and not 0 <= rows.min() <= rows.max() < n_masks:
            self._problem(path, f"mask_row goes beyond the {n_masks} masks")

    def _pictures(self, path: str) -> None:
        """Check the checksum of each picture at the position that the part's table states."""
        self._lengths(path, ("start", "nbytes", "crc32", "height", "width", "image_name"))
        crcs, names = self.check.array(f"{path}/crc32"), self.check.array(f"{path}/image_name")
        for row, picture in enumerate(self._stored_pictures(path)):
            if zlib.crc32(picture.tobytes()) != crcs[row]:
                self._problem(path, f"{names[row]} is not as listed")

    def _stored_pictures(self, path: str) -> Iterator[np.ndarray]:
        data = self.check.root[f"{path}/data"]
        start = self.check.array(f"{path}/start").astype(np.int64)
        ends = start + self.check.array(f"{path}/nbytes").astype(np.int64)
        for lo in range(0, len(start), _PICTURES_AT_ONCE):
            some = slice(lo, lo + _PICTURES_AT_ONCE)
            first = start[some][0]
            block = np.asarray(data[first : ends[some].max()])
            for a, b in zip(start[some] - first, ends[some] - first, strict=True):
                yield block[a:b]

    # -- values

    def values(self) -> None:
        """Read the source with h5py and pandas and compare every value."""
        for name, part in sorted(self._parts.items()):
            path = f"{STIMULI_GROUP}/{name}"
            if name in (METADATA_PART, CAPTIONS_PART, SEGMENTATIONS_PART):
                self._compare_table(path, part)
            if name == SEGMENTATIONS_PART:
                self._compare_masks(path, part)
            elif name == IMAGES_PART:
                self._compare_pictures(path, part)
            elif name.startswith(EMBEDDINGS_PART):
                self._compare_embeddings(path, part)

    def _compare_table(self, path: str, part: Part) -> None:
        assert self.check.folder is not None
        for file in part.sources:
            if file.endswith(".csv") and self.check.converted(self.check.folder / file):
                table = read_text_table(self.check.folder / file, ",")
                self.check.same_table(path, table, stimulus_columns(table.columns))

    @contextmanager
    def _source(self, part: Part) -> Iterator[Any]:
        """Open the HDF5 source file of a part; None if the file is missing."""
        assert self.check.folder is not None
        (path,) = (self.check.folder / name for name in part.sources if name.endswith(".h5"))
        if not self.check.converted(path):
            yield None
            return
        with ExitStack() as stack:
            try:
                file = stack.enter_context(h5py.File(path))
            except OSError as error:
                self.check.problem(f"{path} cannot be read: {cause_of(error)}.")
                file = None
            yield file

    def _compare_masks(self, path: str, part: Part) -> None:
        stored = self.check.root[f"{path}/{MASKS_2D.name}"]
        with self._source(part) as file, self.check.bar(stored.nbytes, path) as bar:
            for lo in range(0, stored.shape[0] if file else 0, _MASKS_AT_ONCE):
                some = slice(lo, lo + _MASKS_AT_ONCE)
                masks = np.asarray(stored[some])
                self.check.same(f"{path}/masks from {lo}", masks, file["masks"][some])
                bar.update(masks.nbytes)

    def _compare_pictures(self, path: str, part: Part) -> None:
        names = self.check.array(f"{path}/image_name")
        with self._source(part) as file:
            if file is None:
                return
            if len(file["images"]) != len(names):
                self._problem(path, f"{len(names)} pictures, the source {len(file['images'])}")
                return
            for row, picture in enumerate(self._stored_pictures(path)):
                self.check.same(f"{path} {names[row]}", picture, file["images"][row])

    def _compare_embeddings(self, path: str, part: Part) -> None:
        with self._source(part) as file:
            if file is None:
                return
            values, valid = file["embedding"][:], file["valid"][:].astype(bool)
            names = file["image_ids"].asstr()[:].tolist()
        values[~valid] = np.nan
        row_of = {name: row for row, name in enumerate(names)}
        stored = self.check.array(f"{path}/image_name").tolist()
        if sorted(stored) != sorted(names):
            self._problem(path, "it is about other images than the source")
            return
        rows = [row_of[name] for name in stored]
        self.check.same(f"{path}/embedding", self.check.array(f"{path}/embedding"), values[rows])
        self.check.same(f"{path}/valid", self.check.array(f"{path}/valid"), valid[rows])


@dataclass
class SplitChecks:
    """Checks of the splits.

    Attributes
    ----------
    check : Check
        Verification that these checks belong to.
    """

    check: Check

    def contents(self) -> None:
        """Check lengths, unique image names, valid sides, and a side for every image."""
        arrays = {name: self.check.array(f"{_SPLITS}/{name}") for name in SPLIT_ARRAYS}
        side, names = arrays.pop("side"), arrays.pop("image_name")
        rows = {len(values) for values in arrays.values()}
        if side.shape != (rows.pop(), len(names)) or rows:
            self._problem("rows differ")
        elif len(set(names.tolist())) < len(names):
            self._problem("an image occurs twice")
        elif not np.isin(side, (0, 1, 2)).all() or not side.any(axis=0).all():
            self._problem("a side is neither train nor test, or an image is on none")

    def values(self) -> None:
        """Compare nothing: split files are not in the mirror, and were checked when added."""

    def _problem(self, what: str) -> None:
        where = location(self.check.store, _SPLITS)
        self.check.problem(f"{where}: {what}. Add the splits again with 'laion-zarr splits add'.")
