"""Closed sets of words that arguments take: editors offer them, type checkers refuse others.

And how a size is worded.
"""

from __future__ import annotations

from typing import Literal

MaskSource = Literal["anatomical", "rsquare"]
StimulusSet = Literal["shared", "unique"]
ZscoreBy = Literal["session", "run"]
Hemi = Literal["L", "R"]
Hemis = Literal["all", "L", "R"]
RoiForm = Literal["all", "volume", "nii.gz", "gii", "func.gii", "label"]
Stat = Literal["z", "effect"]
Res = Literal["1pt5", "1pt8"]
SurfaceName = Literal["white", "pial", "midthickness", "inflated", "sphere.reg"]
Template = Literal["fsaverage", "MNI305"]
CaptionSource = Literal["human", "ai"]
Part = Literal["mag", "phase"]
Interpolation = Literal["linear", "nearest"]


def as_size(nbytes: int) -> str:
    """A number of bytes in the unit that suits it: ``"1.05 GB"``, ``"4.9 MB"`` or ``"12 B"``."""
    if nbytes < 1e3:
        return f"{nbytes} B"
    if nbytes < 1e6:
        return f"{nbytes / 1e3:.1f} kB"
    return f"{nbytes / 1e6:.1f} MB" if nbytes < 1e8 else f"{nbytes / 1e9:,.2f} GB"
