"""A (presentation, neuroid) array with regions, as model benchmarks want it."""

import os

import numpy as np
import pandas as pd
import xarray as xr
from laion_fmri.config import dataset_initialize
from laion_fmri.subject import load_subject

dataset_initialize(os.environ["DATA_DIR"])

REGIONS = {"V3": ["V3B"], "V4": ["hV4"], "word": ["VWFA1", "mfswords"]}


def regions_of(sub):
    queries = [roi for rois in REGIONS.values() for roi in rois] + ["laionventral"]
    masks = sub.get_roi_masks(queries=queries)
    region = np.full(sub.get_n_voxels(), "", dtype=object)
    combined = np.zeros(sub.get_n_voxels(), dtype=bool)
    for name, rois in REGIONS.items():
        for roi in rois:
            combined |= masks[roi] > 0
            region[masks[roi]] = name
    it = masks["laionventral"]
    it &= ~combined
    region[it] = "IT"
    combined |= it
    return combined, region[combined]


def zscore(betas):
    spread = np.nanstd(betas, axis=0, keepdims=True)
    spread = np.where((spread == 0) | ~np.isfinite(spread), 1.0, spread)
    z = (betas - np.nanmean(betas, axis=0, keepdims=True)) / spread
    return np.nan_to_num(z).astype(np.float32)


def assemble(subject):
    sub = load_subject(subject)
    mask, region = regions_of(sub)
    sessions = sub.get_sessions()
    betas = {ses: zscore(sub.get_betas(session=ses, mask=mask)) for ses in sessions}
    trials = pd.concat([sub.get_trial_info(session=ses) for ses in sessions], ignore_index=True)
    xyz = sub.get_voxel_coordinates()[mask]
    ceiling = sub.get_noise_ceiling(desc="Noiseceiling12rep")[mask]
    return xr.DataArray(
        np.concatenate([betas[ses] for ses in sessions], axis=0),
        dims=("presentation", "neuroid"),
        coords={
            "stimulus": ("presentation", trials["label"].values),
            "session": ("presentation", trials["session"].values),
            "repetition": ("presentation", trials.groupby("label").cumcount().values),
            "region": ("neuroid", region),
            "voxel_index": ("neuroid", np.flatnonzero(mask)),
            "ceiling": ("neuroid", ceiling),
            "x": ("neuroid", xyz[:, 0]),
            "y": ("neuroid", xyz[:, 1]),
            "z": ("neuroid", xyz[:, 2]),
        },
    )


everything = assemble("sub-01")
is_ood = pd.Series(everything["stimulus"].values).str.contains("_OOD_").to_numpy()
assembly = (
    everything.isel(presentation=~is_ood)
    .set_xindex(["stimulus", "repetition"])
    .set_xindex(["x", "y", "z"])
)
first = assembly.sel(repetition=0)
# One of several patterns of masks: none of the regions, and both of two.
masks = load_subject("sub-01").get_roi_masks(["face", "body"])
both = masks["face"] & masks["body"]
masks["face"] ^= masks["body"]
