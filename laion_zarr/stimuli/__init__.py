"""All that was seen: pictures, embeddings, segmentation masks, captions, by image or by trial.

Knows how images are named and asked for (`keys`), the open stimuli of a store (`handle`), and each
kind of stimulus data: `images` with their files (`picture_files`, `decode`), `embeddings`, and
`segmentations` and `captions` with their tables (`tables`). `stimuli` puts them together. Knows no
subject: a subject's trials come in as keys.

Promises that everything is joined by image name, never by the order of rows, and that pictures and
masks are read and decoded when they are asked for, not before.

Begin with `stimuli.Stimuli`, then `keys`: the keys decide which rows any other module reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from laion_zarr._lazy_names import lazy_names

if TYPE_CHECKING:
    from laion_zarr.stimuli.stimuli import Stimuli, load_stimuli

__all__ = ["Stimuli", "load_stimuli"]

# Looked up on first use: the converter takes `decode` alone.
__getattr__, __dir__ = lazy_names(__name__, dict.fromkeys(__all__, f"{__name__}.stimuli"))
