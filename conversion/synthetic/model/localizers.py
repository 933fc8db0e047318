"""Localizer maps of a made-up head: which regions prefer what, as z values and as effects.

Each random number is seeded by names of its purpose, such as subject and map, so it does not depend
on which other parts of the dataset are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from laion_zarr.conversion.synthetic.model import phantom
from laion_zarr.conversion.synthetic.model.cortex import REGIONS
from laion_zarr.conversion.synthetic.model.experiment import CONTENTS

_FLOC, _OLOC, _MOTION = "ses-4BarScreenfLoc", "ses-31", "ses-MotionLocBarsSML"


@dataclass(frozen=True)
class Localizer:
    """One localizer map.

    Attributes
    ----------
    session, task, contrast : str
        As in its file name; the contrast is a condition, for an effect.
    prefers : str
        Category of the regions that respond.
    run : int or None
        Run of an effect; None for a z map of all runs.
    side : int
        1 if the right hemisphere alone responds, -1 if the left, 0 if both do.
    """

    session: str
    task: str
    contrast: str
    prefers: str
    run: int | None = None
    side: int = 0


MAPS = (
    *(Localizer(_FLOC, "floc", f"{content}VsOthers", content) for content in CONTENTS),
    Localizer(_FLOC, "floc", "faceVsObject", "face"),
    *(
        Localizer(_FLOC, "floc", content, content, run)
        for content in ("face", "place")
        for run in (1, 2)
    ),
    Localizer(_OLOC, "oloc", "objectVsScrambled", "object"),
    Localizer(_OLOC, "oloc", "object", "object", 1),
    Localizer(_MOTION, "MotionLoc", "movingVsStatic", "motion"),
    # Each hemisphere sees the other side of the visual field.
    Localizer(_MOTION, "MotionLeft", "movingVsStatic", "motion", side=1),
    Localizer(_MOTION, "MotionRight", "movingVsStatic", "motion", side=-1),
    Localizer(_MOTION, "MotionLeft", "moving", "motion", 1, side=1),
)


def values(
    subject: str,
    one: Localizer,
    where: str,
    right: NDArray[np.bool_],
    regions: Mapping[str, phantom.Mask],
) -> NDArray[np.float32]:
    """Values of a map at points of the brain; NaN at some, which differ from map to map.

    Parameters
    ----------
    subject : str
        Subject id.
    one : Localizer
        The map.
    where : str
        Name of the set of points: they are independent of one another.
    right : numpy.ndarray, (point,) bool
        Points of the right hemisphere.
    regions : mapping of str to numpy.ndarray
        Which points are in each region.
    """
    rng = phantom.stream(subject, one.task, one.contrast, str(one.run), where)
    found = rng.standard_normal(right.size)
    seeing = np.ones(right.size, bool) if one.side == 0 else right == (one.side > 0)
    for name, mask in regions.items():
        if REGIONS[name].category == one.prefers:
            found[mask & seeing] += 4
    if one.run is not None:
        found = 0.4 * found + 0.2  # percent signal change
    found[rng.random(right.size) < 0.01] = np.nan
    return found.astype(np.float32)
