"""Public import path of segmentation masks; see `laion_zarr.stimuli.segmentations`."""

from laion_zarr.stimuli.segmentations import ImageSegmentations, Segmentations

__all__ = ["ImageSegmentations", "Segmentations"]
