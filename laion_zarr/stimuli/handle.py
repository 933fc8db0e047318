"""The open stimuli group of a store: image names, and the rows of images in each part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from laion_zarr._release import embedding_revision
from laion_zarr.config import get_store
from laion_zarr.errors import NotConvertedError, StimuliNotDownloadedError
from laion_zarr.store.chunks import ChunkedArray
from laion_zarr.store.handle import Handle
from laion_zarr.store.objects import StoreLike, location
from laion_zarr.store.parts import Part
from laion_zarr.store.schema import (
    CAPTIONS_PART,
    IMAGE_NAME,
    IMAGES_PART,
    METADATA_PART,
    SEGMENTATIONS_PART,
    STIMULI_GROUP,
    STIMULUS_PARTS,
    ArraySpec,
    embeddings_part,
)

# Columns that readers of a table compute with.
_COLUMNS = {
    SEGMENTATIONS_PART: ("mask_row", "noun", "instance_id", "localized"),
    CAPTIONS_PART: ("caption_idx", "source", "caption"),
}


def download_command(part: str) -> str:
    """Command that downloads the source files of a part."""
    revision = embedding_revision(part)
    command = STIMULUS_PARTS[part.partition("/")[0]]
    return command if revision is None else f"{command} --revision {revision}"


class StimuliHandle(Handle):
    """The open stimuli of a store; caches image names, tables and chunk tables once read.

    Parameters
    ----------
    store : str, Path or zarr.abc.store.Store, optional
        As the user named it. If not provided, `laion_zarr.config.get_store`.
    storage_options : dict, optional
        For fsspec URLs.

    Raises
    ------
    StimuliNotDownloadedError
        If the store holds no stimuli.
    """

    def __init__(
        self, store: StoreLike | None = None, storage_options: dict[str, Any] | None = None
    ) -> None:
        try:
            super().__init__(
                get_store() if store is None else store, storage_options, STIMULI_GROUP
            )
        except NotConvertedError as error:
            raise StimuliNotDownloadedError(
                f"{error} The stimuli come with 'laion-zarr download-stimuli' and 'laion-zarr "
                "convert'."
            ) from error

    def _forget(self) -> None:
        self._kept: dict[Any, Any] = {}

    def part(self, name: str) -> Part:
        """Return a part; the error for a missing part says how to get it."""
        if name not in self.stored.parts:
            kind = name.partition("/")[0]
            raise StimuliNotDownloadedError(
                f"The store {location(self.stored.store)} holds no {name.replace('/', ' of ')}. "
                f"Get them with 'laion-zarr {download_command(name)}', then run 'laion-zarr "
                f"convert --parts {kind}'."
            )
        return self.stored.parts[name]

    def models(self) -> list[str]:
        """Models whose embeddings are stored, sorted."""
        prefix = embeddings_part("")
        return sorted(n.removeprefix(prefix) for n in self.stored.parts if n.startswith(prefix))

    def arrays(self, part: str, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Small arrays of a part; read once, then cached."""
        self.part(part)
        missing = [name for name in names if (part, name) not in self._kept]
        if missing:
            for name, values in self.stored.load(part, missing, needed=True).items():
                self._kept[part, name] = values
        return {name: self._kept[part, name] for name in names}

    def table(self, part: str) -> pd.DataFrame:
        """Table with the columns of the release's CSV; cached, so copy it before returning it."""
        if (part, "table") not in self._kept:
            self.part(part)
            (attributes,) = self.stored.attributes(part, needed=["csv_columns"])
            columns = attributes["csv_columns"]
            found = self.arrays(part, list(columns.values()))
            for name in {IMAGE_NAME.name, *_COLUMNS.get(part, ())} - {*columns}:
                raise self.stored.refused(part, "", f"has no column {name!r}")
            if len(lengths := {len(values) for values in found.values()}) > 1:
                raise self.stored.refused(part, "", f"has columns of {sorted(lengths)} rows")
            frame = pd.DataFrame({column: found[array] for column, array in columns.items()})
            self._kept[part, "table"] = frame
        return self._kept[part, "table"]

    def rows_by_image(self, part: str) -> dict[str, np.ndarray]:
        """Row numbers of each image in a table, images in order of first occurrence; cached."""
        if (part, "rows") not in self._kept:
            names = pd.Series(self.arrays(part, [IMAGE_NAME.name])[IMAGE_NAME.name])
            codes, images = pd.factorize(names)
            order = np.argsort(codes, kind="stable")
            ends = np.cumsum(np.bincount(codes, minlength=len(images)))
            groups = np.split(order, ends[:-1]) if len(images) else []
            self._kept[part, "rows"] = dict(zip(images, groups, strict=True))
        return self._kept[part, "rows"]

    def names(self, part: str) -> pd.Index:
        """Image name of each row of a part; cached."""
        # Most parts have the same image names in the same order: parts whose array of names has the
        # same size and checksum share one index.
        key = ("names", self.part(part).files.get(f"{IMAGE_NAME.name}/c/0"))
        if key not in self._kept:
            found = self.arrays(part, [IMAGE_NAME.name])[IMAGE_NAME.name]
            self._kept[key] = pd.Index(found, dtype=object)
        return self._kept[key]

    def each_once(self, part: str) -> pd.Index:
        """Image name of each row of a part, none of which may come twice."""
        names = self.names(part)
        if not names.is_unique:
            raise self.stored.refused(part, IMAGE_NAME.name, "has an image twice")
        return names

    @property
    def axis(self) -> pd.Index:
        """Names of all images: of the metadata's rows, or without metadata of all other parts."""
        if METADATA_PART in self.stored.parts:
            return self.each_once(METADATA_PART)
        if "axis" not in self._kept:
            parts = sorted(self.stored.parts, key=lambda name: (name != IMAGES_PART, name))
            every = dict.fromkeys(name for part in parts for name in self.names(part))
            self._kept["axis"] = pd.Index(list(every), dtype=object)
        return self._kept["axis"]

    def chunked(self, part: str, spec: ArraySpec) -> ChunkedArray:
        """Large array of a part, read by chunk; its chunk table is cached."""
        self.part(part)
        found = self._kept.setdefault((part, "chunks"), ChunkedArray(self.stored, part, spec))
        found.stored = self.stored  # a forked process has its own connections
        return found

    def shape(self, part: str, array: str) -> tuple[int, ...]:
        """Shape of an array of a part; cached."""
        if (part, array, "shape") not in self._kept:
            self.part(part)
            self._kept[part, array, "shape"] = self.stored.shape(part, array)
        return self._kept[part, array, "shape"]
