"""The stimuli: pictures, embeddings, segmentation masks and captions, by image or by trial.

`keys` turns image names, rows or trials into rows of the stored arrays; `handle` is the open
stimuli group of a store. Each kind of stimulus data has its module: `images` with the picture files
(`picture_files`, `decode`), `embeddings`, and `segmentations` and `captions` with their tables
(`tables`). `stimuli` combines all of them. No module depends on `Subject`: a subject's trials are
passed in as keys.

Data are always joined by image name, never by the order of rows. Pictures and masks are read and
decoded only on request.

Begin with `stimuli.Stimuli`, then `keys`, which decides which rows every other module reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from laion_zarr._lazy_names import lazy_names

if TYPE_CHECKING:
    from laion_zarr.stimuli.stimuli import Stimuli, load_stimuli

__all__ = ["Stimuli", "load_stimuli"]

# Imported on first use: the converter needs only `decode`, and not the imports of `stimuli`.
__getattr__, __dir__ = lazy_names(__name__, dict.fromkeys(__all__, f"{__name__}.stimuli"))
