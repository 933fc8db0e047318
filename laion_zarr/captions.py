"""Public import path of captions of the stimuli; see `laion_zarr.stimuli.captions`."""

from laion_zarr.stimuli.captions import Captions, ImageCaptions

__all__ = ["Captions", "ImageCaptions"]
