"""The stimuli of a subject: pictures, embeddings, masks and captions by trial; PyTorch data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from laion_zarr._release import STIMULUS_METADATA, Ids
from laion_zarr._words import MaskSource, StimulusSet
from laion_zarr.errors import NotConvertedError, StimuliNotDownloadedError, StoreError
from laion_zarr.stimuli.captions import ImageCaptions
from laion_zarr.stimuli.embeddings import SubjectEmbeddings
from laion_zarr.stimuli.handle import StimuliHandle
from laion_zarr.stimuli.images import SubjectImages
from laion_zarr.stimuli.keys import TrialKeys
from laion_zarr.stimuli.segmentations import ImageSegmentations
from laion_zarr.store.objects import location
from laion_zarr.store.parts import Part, StoredParts
from laion_zarr.store.schema import (
    DEFAULT_MASK,
    IMAGES_PART,
    METADATA_PART,
    STIMULI_GROUP,
    TRIALS_PART,
)
from laion_zarr.subject.base import SubjectBase

if TYPE_CHECKING:
    from laion_zarr.torch_data import LaionFMRIDataset


class SubjectStimuli(SubjectBase):
    """Methods of `Subject` for the stimuli."""

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
        """Embeddings of the images that the subject saw, by global trial index."""
        return SubjectEmbeddings(self._stimuli, self._query)

    @cached_property
    def segmentations(self) -> ImageSegmentations:
        """Masks of objects in images the subject saw, by global trial index; shared images only."""
        return ImageSegmentations(self._stimuli, TrialKeys(self._stimuli, self._query))

    @cached_property
    def captions(self) -> ImageCaptions:
        """Captions of the images that the subject saw, by global trial index."""
        return ImageCaptions(self._stimuli, TrialKeys(self._stimuli, self._query))

    def get_stimulus_metadata(self) -> pd.DataFrame:
        """Table of all stimuli of the dataset, one row per image, as in the release's CSV."""
        try:
            stored = StoredParts(self._handle.stored.store, STIMULI_GROUP)
            part = stored.part(METADATA_PART)
        except NotConvertedError as error:
            raise StimuliNotDownloadedError(
                f"The store {location(self._handle.stored.store)} holds no stimulus metadata. "
                f"Download {STIMULUS_METADATA} and run 'laion-zarr convert' again."
            ) from error
        self._refuse_other_rows(part)
        arrays = stored.attributes(METADATA_PART, needed=["csv_columns"])[0]["csv_columns"]
        found = stored.load(METADATA_PART, arrays.values(), needed=True)
        return pd.DataFrame({column: found[array] for column, array in arrays.items()})

    def _refuse_other_rows(self, part: Part) -> None:
        """Raise StoreError if ``stim_idx`` of the trials refers to rows of other metadata."""
        trials = self._handle.stored.parts.get(TRIALS_PART)
        joined = None if trials is None else trials.sources.get(METADATA_PART)
        if joined not in (None, part.fingerprint):
            raise StoreError(
                f"The stimulus metadata of {location(self._handle.stored.store)} are not those "
                f"that the trials of {self._handle.subject} were joined with: a conversion is at "
                "work, or was interrupted. Open it again; if that does not help, run 'laion-zarr "
                "convert' again."
            )

    def get_n_stimuli(self, stimuli: StimulusSet | None = None) -> int:
        """Number of stimuli in the metadata of the dataset.

        Parameters
        ----------
        stimuli : {"shared", "unique"}, optional
            ``"shared"``: only images that every subject saw; ``"unique"``: only images that one
            subject saw. If not provided, all.

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

    def to_torch_dataset(
        self,
        session: Ids | None = None,
        roi: str | Sequence[str] | None = None,
        mask: Any = None,
        nc_threshold: float | None = None,
        image_transform: Callable[[Any], Any] | None = None,
        mask_source: MaskSource = DEFAULT_MASK,
        include: str | Sequence[str] = ("image",),
    ) -> LaionFMRIDataset:
        """Trials for PyTorch's ``DataLoader``; needs PyTorch (the extra ``torch``).

        Betas and embeddings are read when the dataset is made: up to 2 GiB of betas are kept in
        memory; larger betas are written to a scratch file in the temporary folder (``TMPDIR``) and
        read from it batch by batch. Pictures are read and decoded batch by batch.

        Parameters
        ----------
        session : str, int or list of them, optional
            One session or several; their trials are in session order. If not provided, all.
        roi, mask, nc_threshold, mask_source
            Selection of voxels, as in `get_betas`. One voxel axis for all trials: the threshold of
            several sessions applies to ``NoiseceilingAllrep``.
        image_transform : callable, optional
            Called with each picture, a float32 tensor (3, H, W) in 0-1; its result is ``image`` of
            the item.
        include : list of str
            Any of ``"image"``, ``"caption"`` and ``"embedding:<model>"``, or none of them.

        Returns
        -------
        LaionFMRIDataset
            Map-style ``torch.utils.data.Dataset`` of dicts: ``betas`` (voxel,) float32, percent
            signal change, NaN kept, on the voxel axis of `get_betas`; ``image`` as above, RGB as
            displayed; ``embedding:<model>`` (feature,) float32, NaN for an image without embedding;
            ``caption``, the best human caption, ``""`` for an image without one; ``image_name``,
            ``session``; ``rep_index``, how often the subject had seen the image before.

        Raises
        ------
        ImportError
            If PyTorch is not installed.
        StimuliNotDownloadedError
            If the store lacks the pictures, captions or embeddings that `include` names.
        ValueError
            If `include` or `mask` is invalid, or trials have no label (image name).

        Examples
        --------
        >>> from torch.utils.data import DataLoader
        >>> from laion_zarr import load_subject
        >>> data = load_subject("01").to_torch_dataset(roi="face", include=["embedding:CLIP"])
        >>> batch = next(iter(DataLoader(data, batch_size=32, shuffle=True)))
        >>> batch["betas"].dtype
        torch.float32
        """
        from laion_zarr.torch_data import LaionFMRIDataset

        return LaionFMRIDataset(
            self, session, roi, mask, nc_threshold, image_transform, mask_source, include
        )
