"""One subject, as in `laion_zarr.subject`, but with numpy arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from laion_zarr import _release, subject
from laion_zarr._release import Id, Ids
from laion_zarr._words import (
    Hemi,
    Hemis,
    Interpolation,
    MaskSource,
    Part,
    Res,
    RoiForm,
    Stat,
    StimulusSet,
    Template,
)
from laion_zarr.compat._convert import KeyedView, NumpyView, as_numpy, as_returned, store_in
from laion_zarr.compat.embeddings import Embeddings
from laion_zarr.compat.segmentations import ImageSegmentations
from laion_zarr.store.objects import StoreLike
from laion_zarr.store.schema import DEFAULT_MASK

__all__ = ["Subject", "load_subject", "resolve_subject_id"]


def resolve_subject_id(subject: Id) -> str:
    """1, ``"01"`` or ``"sub-01"`` -> ``"sub-01"``; `SubjectNotFoundError` for any other form."""
    return _release.subject_id(subject)


class SubjectImages(KeyedView):
    """Pictures by global trial index; as `laion_zarr.images.SubjectImages`."""

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return iter(self._labelled)

    def array(self, session: Ids | None = None, size: tuple[int, int] | None = None) -> np.ndarray:
        """Pictures as displayed in trial order, (trial, y, x, channel) uint8, all in memory.

        As `laion_zarr.images.SubjectImages.array`. One session of the release takes 3 GB.
        """
        return as_numpy(self._labelled.array(size=size, session=session))


class SubjectEmbeddings(Embeddings):
    """Embeddings by global trial index; as `laion_zarr.embeddings.SubjectEmbeddings`."""

    def get(self, model: str, trial_idx: Any) -> np.ndarray:
        """Embedding of the image shown in one trial, (feature,) float16."""
        return as_numpy(self._labelled.get(model, trial_idx))

    def all(self, model: str, session: Ids | None = None) -> np.ndarray:
        """Embeddings in trial order, (trial, feature) float16: row by row those of the betas."""
        return as_numpy(self._labelled.all(model, session))


class SubjectCaptions(KeyedView):
    """Captions by global trial index; as `laion_zarr.captions.ImageCaptions`."""

    def for_image(self, trial_idx: Any) -> pd.DataFrame:
        """Table of all captions of the image shown in one trial, one row each; as ``get``."""
        return self._labelled.get(trial_idx)


class Subject(NumpyView):
    """One subject; as `laion_zarr.subject.Subject`, with numpy arrays.

    Attributes that need no conversion (ids, sessions, tables, paths) are those of that class.
    ``dataset``, ``sel``, ``get_image_betas``, ``get_surface`` and ``get_bold``, which the numpy
    package does not have, are not converted either and return labelled arrays.

    Parameters
    ----------
    subject_id : str or int
        ``"sub-01"``, ``"01"`` or 1.
    data_dir : str or os.PathLike, optional
        Folder that holds ``laion-fmri.zarr``. If not provided, the default store.
    store, storage_options
        Store to open instead of the store in `data_dir`, as in `laion_zarr.load_subject`.
    """

    _labelled: subject.Subject

    def __init__(
        self,
        subject_id: Id,
        data_dir: str | os.PathLike[str] | None = None,
        store: StoreLike | None = None,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        self._labelled = subject.load_subject(
            subject_id, store_in(data_dir, store), storage_options
        )

    # -- regions

    def get_available_rois(self, category: str | None = None) -> list[str]:
        """ROI names, sorted; an empty list, not an error, for an unknown category."""
        if category is not None and category not in self._labelled.get_available_categories():
            return []
        return self._labelled.get_available_rois(category)

    def get_brain_mask(
        self, source: MaskSource = DEFAULT_MASK, res: Res | None = "1pt8"
    ) -> np.ndarray:
        """Brain mask over the whole grid, flat in C order, (grid,) bool."""
        return as_numpy(self._labelled.get_brain_mask(source, res))

    def get_roi_mask(self, query: Any, mask_source: MaskSource = DEFAULT_MASK) -> np.ndarray:
        """Union of ROIs on the voxel axis, (voxel,) bool."""
        return as_numpy(self._labelled.get_roi_mask(query, mask_source))

    def get_roi_masks(
        self, queries: Any, mask_source: MaskSource = DEFAULT_MASK
    ) -> dict[str, np.ndarray]:
        """Masks of several queries as from `get_roi_mask`, in a dict by query."""
        return as_numpy(self._labelled.get_roi_masks(queries, mask_source))

    def get_roi_data(
        self,
        query: Any,
        format: RoiForm | None = None,
        hemi: Hemis | None = None,
        mask_source: MaskSource = DEFAULT_MASK,
    ) -> dict[str, dict[str, Any]]:
        """ROIs as volume and surface masks and labels; None as `format` or `hemi` is ``"all"``."""
        found = self._labelled.get_roi_data(query, format or "all", hemi or "all", mask_source)
        return as_numpy(found)

    def get_roi_volume(self, roi: Any, res: Res = "1pt8") -> np.ndarray:
        """Union of ROIs on a grid, (x, y, z) bool."""
        return as_numpy(self._labelled.get_roi_volume(roi, res))

    # -- localizers, which the numpy package gives as paths alone (`laion_zarr.compat.derivatives`)

    def get_localizer(
        self,
        task: str,
        contrast: str | Sequence[str],
        stat: Stat = "z",
        run: int | None = None,
        roi: Any = None,
        mask: Any = None,
        mask_source: MaskSource = DEFAULT_MASK,
    ) -> np.ndarray:
        """Localizer map on the voxel axis, (voxel,) float32; for a list, (contrast, voxel)."""
        selection = (roi, mask, mask_source)
        return as_numpy(self._labelled.get_localizer(task, contrast, stat, run, *selection))

    def get_localizer_surface(
        self,
        task: str,
        contrast: str,
        hemi: Hemis = "all",
        stat: Stat = "z",
        run: int | None = None,
    ) -> Any:
        """Localizer map on the subject's surface, (vertex,) float32; a dict by hemi for "all"."""
        return as_numpy(self._labelled.get_localizer_surface(task, contrast, hemi, stat, run))

    def get_localizer_volume(
        self, task: str, contrast: str, res: Res = "1pt5", stat: Stat = "z", run: int | None = None
    ) -> np.ndarray:
        """Localizer map on a grid, (x, y, z) float32, NaN where it estimates nothing."""
        return as_numpy(self._labelled.get_localizer_volume(task, contrast, res, stat, run))

    # -- betas and maps

    def get_betas(
        self,
        session: Ids | None = None,
        roi: str | Sequence[str] | None = None,
        mask: Any = None,
        nc_threshold: float | None = None,
        stimuli: StimulusSet | None = None,
        streaming: bool = False,
        mask_source: MaskSource = DEFAULT_MASK,
    ) -> Any:
        """Single-trial betas, in memory.

        Parameters
        ----------
        session, roi, mask, nc_threshold, stimuli, streaming, mask_source
            As in `laion_zarr.subject.Subject.get_betas`. Without `session`, the betas of all
            sessions in one array; the numpy package raises an error instead.

        Returns
        -------
        numpy.ndarray, (trial, voxel) float32, percent signal change
            C-contiguous, NaN where there is no estimate. For a list of sessions, a dict of arrays
            by session id.

        Examples
        --------
        >>> from laion_zarr.compat.subject import load_subject
        >>> b = load_subject("sub-01").get_betas(session="ses-01", roi=["face", "place"])
        >>> z = (b - b.mean(0)) / b.std(0)
        """
        options = (roi, mask, nc_threshold, stimuli, streaming, mask_source)
        return as_numpy(self._labelled.get_betas(session, *options))

    def get_noise_ceiling(
        self,
        session: Any = None,
        desc: Any = None,
        roi: str | Sequence[str] | None = None,
        mask: Any = None,
        mask_source: MaskSource = DEFAULT_MASK,
    ) -> Any:
        """Noise ceiling per voxel, (voxel,) float32, percent; for a list, a dict of arrays."""
        return as_numpy(self._labelled.get_noise_ceiling(session, desc, roi, mask, mask_source))

    # -- time series as scanned

    def get_raw_bold(self, session: Any, run: Any, echo: Any, part: Part = "mag") -> np.ndarray:
        """Volumes of one echo of a run on the scanner's grid, (time, x, y, z) float32, in memory.

        The numpy package applies a brain mask of the functional grid, which is another grid.
        """
        return as_numpy(self._labelled.get_raw_bold(session, run, echo, part))

    def get_sbref(self, session: Any, run: Any, echo: Any) -> np.ndarray:
        """Single-band reference of one echo of a run on the scanner's grid, (x, y, z) float32."""
        return as_numpy(self._labelled.get_sbref(session, run, echo))

    # -- brain space

    def get_voxel_coordinates(
        self, roi: Any = None, mask: Any = None, mask_source: MaskSource = DEFAULT_MASK
    ) -> np.ndarray:
        """Positions of the voxels in T1w space, (voxel, 3) float64, mm."""
        return as_numpy(self._labelled.get_voxel_coordinates(roi, mask, mask_source))

    def to_nifti(
        self,
        values: Any,
        output_path: str | os.PathLike[str],
        roi: Any = None,
        mask: Any = None,
        mask_source: MaskSource = DEFAULT_MASK,
    ) -> None:
        """Write (voxel,) or (trial, voxel) values as float32 NIfTI, 0 outside."""
        self._labelled.to_nifti(values, output_path, roi, mask, mask_source)

    def unmask(
        self, values: Any, roi: Any = None, mask: Any = None, mask_source: MaskSource = DEFAULT_MASK
    ) -> np.ndarray:
        """Values in volumes of the functional grid, (x, y, z) or (trial, x, y, z); NaN outside."""
        return as_numpy(self._labelled.unmask(values, roi, mask, mask_source))

    def to_template(
        self,
        values: Any,
        target: Template,
        *,
        hemi: Hemi | None = None,
        surface: str = "white",
        fsaverage_density: str = "fsaverage5",
        interpolation: Interpolation = "linear",
        output_dir: str | os.PathLike[str] | None = None,
        desc: str | None = None,
        session: Id | None = None,
        mask_source: MaskSource = DEFAULT_MASK,
    ) -> Any:
        """Carry values into a template space; as `laion_zarr.subject.Subject.to_template`.

        Returns
        -------
        numpy.ndarray, dict or nibabel.Nifti1Image
            For fsaverage and one `hemi`, an array (vertex,) or (trial, vertex); without `hemi`, a
            dict of such arrays by ``"L"`` and ``"R"``. For MNI305 an image, with trials last.
        """
        found = self._labelled.to_template(
            values,
            target,
            hemi=hemi,
            surface=surface,
            fsaverage_density=fsaverage_density,
            interpolation=interpolation,
            output_dir=output_dir,
            desc=desc,
            session=session,
            mask_source=mask_source,
        )
        return as_returned(found)

    def volume_to_surface(
        self, values: Any, target: Literal["fsaverage"] = "fsaverage", **options: Any
    ) -> Any:
        """Values of voxels on fsaverage, as `to_template` returns them, with its options."""
        return as_returned(self._labelled.volume_to_surface(values, target, **options))

    def volume_to_template(self, values: Any, target: Literal["MNI305"], **options: Any) -> Any:
        """Values of voxels in MNI305, as `to_template` returns them, with its options."""
        return as_returned(self._labelled.volume_to_template(values, target, **options))

    def surface_to_template(
        self, values: Any, target: Literal["fsaverage"] = "fsaverage", **options: Any
    ) -> Any:
        """Values on the subject's own surface on fsaverage: an array, or a dict for a dict.

        As `laion_zarr.subject.Subject.surface_to_template`, with its options.
        """
        return as_returned(self._labelled.surface_to_template(values, target, **options))

    # -- stimuli

    @property
    def images(self) -> SubjectImages:
        """Pictures that the subject saw, by global trial index."""
        return SubjectImages.around(self._labelled.images)

    @property
    def embeddings(self) -> SubjectEmbeddings:
        """Embeddings of the images that the subject saw, by global trial index."""
        return SubjectEmbeddings.around(self._labelled.embeddings)

    @property
    def segmentations(self) -> ImageSegmentations:
        """Masks of objects in the shared images that the subject saw, by global trial index."""
        return ImageSegmentations.around(self._labelled.segmentations)

    @property
    def captions(self) -> SubjectCaptions:
        """Captions of the images that the subject saw, by global trial index."""
        return SubjectCaptions.around(self._labelled.captions)


def load_subject(
    subject: Id,
    store: StoreLike | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Subject:
    """Open a subject; as `laion_zarr.load_subject`, but its methods return numpy arrays.

    Parameters
    ----------
    subject, store, storage_options
        As in `laion_zarr.load_subject`.

    Returns
    -------
    Subject

    Raises
    ------
    SubjectNotFoundError
        If `subject` is no subject id.
    DataNotDownloadedError
        If the store does not hold the subject.

    Examples
    --------
    >>> from laion_zarr.compat.subject import load_subject
    >>> load_subject("sub-01").get_betas(session="ses-01", roi="FFA1").dtype
    dtype('float32')
    """
    return Subject(subject, store=store, storage_options=storage_options)
