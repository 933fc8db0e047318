"""Public import path of the stimulus pictures; see `laion_zarr.stimuli.images`."""

from laion_zarr.stimuli.images import Images, SubjectImages

__all__ = ["Images", "SubjectImages"]
