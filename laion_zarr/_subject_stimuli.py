"""The stimuli, as a subject sees them."""

from __future__ import annotations

from functools import cached_property

import pandas as pd

from laion_zarr._base import SubjectBase
from laion_zarr._keys import TrialKeys
from laion_zarr._schema import IMAGES_PART, METADATA_PART, STIMULI_GROUP, TRIALS_PART
from laion_zarr._stimulus_handle import StimuliHandle
from laion_zarr._store import Part, StoredParts, location
from laion_zarr.captions import ImageCaptions
from laion_zarr.embeddings import SubjectEmbeddings
from laion_zarr.errors import NotConvertedError, StimuliNotDownloadedError, StoreError
from laion_zarr.images import SubjectImages
from laion_zarr.segmentations import ImageSegmentations


class SubjectStimuli(SubjectBase):
    """The part of `Subject` that knows the stimuli."""

    def has_stimuli(self) -> bool:
        """Whether the store holds the pictures and their metadata."""
        try:
            parts = StoredParts(self._handle.stored.store, STIMULI_GROUP).parts
        except NotConvertedError:
            return False
        return {METADATA_PART, IMAGES_PART} <= set(parts)

    @cached_property
    def _stimuli(self) -> StimuliHandle:
        return StimuliHandle(*self._handle.recipe)

    @cached_property
    def images(self) -> SubjectImages:
        """Pictures that the subject saw, by global trial index."""
        return SubjectImages(self._stimuli, self._query)

    @cached_property
    def embeddings(self) -> SubjectEmbeddings:
        """Embeddings of what the subject saw, by global trial index."""
        return SubjectEmbeddings(self._stimuli, self._query)

    @cached_property
    def segmentations(self) -> ImageSegmentations:
        """Masks of objects in what the subject saw, by global trial index; shared images only."""
        return ImageSegmentations(self._stimuli, TrialKeys(self._stimuli, self._query))

    @cached_property
    def captions(self) -> ImageCaptions:
        """Captions of what the subject saw, by global trial index."""
        return ImageCaptions(self._stimuli, TrialKeys(self._stimuli, self._query))

    def get_stimulus_metadata(self) -> pd.DataFrame:
        """Table of all stimuli of the dataset, one row per image, as in the release's CSV."""
        try:
            stored = StoredParts(self._handle.stored.store, STIMULI_GROUP)
            part = stored.part(METADATA_PART)
        except NotConvertedError as error:
            raise StimuliNotDownloadedError(
                f"The store {location(self._handle.stored.store)} holds no stimulus metadata. "
                "Download stimuli/task-images_metadata.csv and run 'laion-zarr convert' again."
            ) from error
        self._refuse_other_rows(part)
        arrays = stored.attributes(METADATA_PART)[0]["csv_columns"]
        found = stored.load(METADATA_PART, part.arrays())
        return pd.DataFrame({column: found[array] for column, array in arrays.items()})

    def _refuse_other_rows(self, part: Part) -> None:
        """Refuse metadata whose rows are not those that ``stim_idx`` of the trials means."""
        trials = self._handle.stored.parts.get(TRIALS_PART)
        joined = None if trials is None else trials.sources.get(METADATA_PART)
        if joined not in (None, part.fingerprint):
            raise StoreError(
                f"The stimulus metadata of {location(self._handle.stored.store)} are not those "
                f"that the trials of {self._handle.subject} were joined with: a conversion is at "
                "work, or was interrupted. Open it again; if that does not help, run 'laion-zarr "
                "convert' again."
            )

    def get_n_stimuli(self, stimuli: str | None = None) -> int:
        """Number of stimuli in the metadata of the dataset.

        Parameters
        ----------
        stimuli : {"shared", "unique"}, optional
            Only the images that every subject saw, or that one subject saw.

        Returns
        -------
        int
        """
        table = self.get_stimulus_metadata()
        if stimuli is None:
            return len(table)
        if stimuli not in ("shared", "unique"):
            raise ValueError(f"stimuli must be 'shared', 'unique' or None, got {stimuli!r}.")
        return int((table["unique_or_shared"] == stimuli).sum())
