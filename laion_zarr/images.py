"""Pictures of the stimuli, where users import them; see `laion_zarr.stimuli.images`."""

from laion_zarr.stimuli.images import Images, SubjectImages

__all__ = ["Images", "SubjectImages"]
