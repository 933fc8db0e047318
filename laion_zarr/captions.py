"""Captions of the stimuli, where users import them; see `laion_zarr.stimuli.captions`."""

from laion_zarr.stimuli.captions import Captions, ImageCaptions

__all__ = ["Captions", "ImageCaptions"]
