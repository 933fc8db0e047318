"""Masks in the stimuli, where users import them; see `laion_zarr.stimuli.segmentations`."""

from laion_zarr.stimuli.segmentations import ImageSegmentations, Segmentations

__all__ = ["ImageSegmentations", "Segmentations"]
