"""Closed sets of words that arguments take: editors offer them, type checkers refuse others."""

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
