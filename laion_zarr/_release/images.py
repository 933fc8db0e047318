"""What the label (file name) of an image tells: shared or unique, out of distribution or not."""

from __future__ import annotations

import re


def is_shared(label: str) -> bool:
    """Whether an image was shown to every subject, by its label (file name)."""
    return label.startswith("shared_")


# Types of out-of-distribution (OOD) images, as in the names of the images.
OOD_TYPES = (
    *("cropped", "gabor", "gaudy", "illusion-classic", "illusion-natural"),
    *("relations", "selfmade", "shape", "unusual"),
)
_OOD_LABEL = re.compile(r"shared_\w+_OOD_([A-Za-z-]+)_.+")


def is_ood(label: str) -> bool:
    """Whether an image is out of distribution (OOD), by its label (file name)."""
    return "_OOD_" in label


def ood_type(label: str) -> str | None:
    """OOD type: ``"shared_4rep_OOD_shape_….png"`` -> ``"shape"``; None for other images."""
    match = _OOD_LABEL.fullmatch(label)
    return match[1] if match else None
