"""A user's script, as editors see it: `make types` checks it with mypy and pyright.

What type checkers must refuse has an ``ignore``, which they report where it is not needed.
``test_types.py`` runs the rest, and compares the values with the types that are asserted here.
"""

from __future__ import annotations

from typing import assert_type

import numpy as np
import pandas as pd
import xarray as xr
from PIL import Image

from laion_zarr import load_stimuli, load_subject, load_subjects
from laion_zarr.analysis import noise_ceiling, zscore
from laion_zarr.splits import get_split_masks, get_train_test_ids

sub = load_subject("01")

# One session is an array, a list of sessions is a dict.
assert_type(sub.get_betas(), xr.DataArray)
assert_type(sub.get_betas("ses-01", roi="face", stimuli="shared"), xr.DataArray)
assert_type(sub.get_betas(1, roi=["FFA1", "PPA"]).mean("trial"), xr.DataArray)
assert_type(sub.get_betas(["ses-01", "ses-02"]), dict[str, xr.DataArray])
assert_type(sub.get_betas(sub.get_sessions()), dict[str, xr.DataArray])
assert_type(sub.get_trial_info("ses-01"), pd.DataFrame)
assert_type(sub.get_trial_info([1, 2]), dict[str, pd.DataFrame])
assert_type(sub.get_noise_ceiling(desc="NoiseceilingAllrep"), xr.DataArray)
assert_type(sub.get_noise_ceiling("ses-01"), xr.DataArray)
assert_type(sub.get_noise_ceiling(["ses-01", "ses-02"]), dict[str, xr.DataArray])
assert_type(
    sub.get_noise_ceiling(desc=["Noiseceiling4rep", "Noiseceiling12rep"]), dict[str, xr.DataArray]
)
assert_type(sub.get_localizer_surface("floc", "faceVsOthers", "L"), xr.DataArray)
assert_type(sub.get_localizer_surface("floc", "faceVsOthers"), dict[str, xr.DataArray])
assert_type(load_subjects("all").get_shared_betas(roi="face"), dict[str, xr.DataArray])

# One image is a value, several are a list; models of embeddings are a dict.
stim = load_stimuli()
names = stim.images.names()[:2]
assert_type(stim.images.get(names[0]), Image.Image)
assert_type(stim.images.get(names), list[Image.Image])
assert_type(sub.images[int(np.argmax(sub.metadata["session"] == "ses-02"))], bytes)
assert_type(sub.captions.human(0), list[str])
assert_type(sub.captions.human([0, 1]), list[list[str]])
assert_type(stim.segmentations.has_image(names[0]), bool)
assert_type(stim.segmentations.nouns(names), list[list[str]])
assert_type(stim.embeddings["CLIP"], xr.DataArray)
assert_type(stim.embeddings.get(["CLIP", "DINOv2"], names), dict[str, xr.DataArray])
assert_type(sub.embeddings.all("CLIP"), xr.DataArray)

betas = zscore(sub.get_betas(roi="face"), by="session")
assert_type(noise_ceiling(sub.get_betas(roi="face")), xr.DataArray)
train, test = get_split_masks(betas, "random_0", "sub-01")
assert_type(train, np.ndarray)
assert_type(get_train_test_ids("random_0", "shared")[0], list[str])


def refused() -> None:
    """Words that are not among those of an argument."""
    sub.get_betas(stimuli="sharde")  # type: ignore[call-overload]
    sub.get_betas(mask_source="anatomic")  # type: ignore[call-overload]
    sub.get_image_betas(zscore="trial")  # type: ignore[arg-type]
    sub.get_localizer("floc", "faceVsOthers", stat="t")  # type: ignore[arg-type]
    sub.get_roi_volume("FFA1", res="1.5")  # type: ignore[arg-type]
    sub.get_surface("pail")  # type: ignore[arg-type]
    sub.to_template(betas, "MNI152")  # type: ignore[arg-type]
    sub.captions.list(0, source="people")  # type: ignore[call-overload]
