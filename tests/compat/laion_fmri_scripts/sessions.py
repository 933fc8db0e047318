"""Session by session: z-scores, repetitions, noise ceilings; arrays changed in place."""

import os

import numpy as np
import pandas as pd
from laion_fmri.config import dataset_initialize, get_data_dir
from laion_fmri.subject import load_subject

dataset_initialize(os.environ["DATA_DIR"])
trial_file = get_data_dir() + "/derivatives"

sub = load_subject("sub-01")
sessions = sub.get_sessions()
areas = ["FFA1", "OFA", "place", "laionventral"]

train, test = [], []
for ses in sessions:
    betas = sub.get_betas(session=ses, roi=areas, streaming=True)
    z = (betas - betas.mean(0)) / betas.std(0)
    trials = sub.get_trial_info(session=ses)
    is_shared = trials["label"].str.startswith("shared_").to_numpy()
    train.append(z[~is_shared])
    test.append(z[is_shared])
z_train = np.concatenate(train, axis=0)
z_test = np.concatenate(test, axis=0)

# All sessions below each other, and the mean of each image.
by_session = sub.get_betas(session=tuple(sessions), roi=areas)
stacked = np.concatenate(list(by_session.values()), axis=0)
tables = sub.get_trial_info(session=sessions)
trials = pd.concat(list(tables.values()), ignore_index=True)
trials["repetition"] = trials.groupby("label").cumcount()
frame = pd.DataFrame(stacked)
frame["label"] = trials["label"].values
image_means = frame.groupby("label").mean()
grand_mean = stacked.mean(axis=0)
nan_mean = np.nanmean(stacked, axis=0)
odd_minus_even = np.stack(
    [
        stacked[(trials["label"] == label) & (trials["repetition"] % 2 == 1)].mean(0)
        - stacked[(trials["label"] == label) & (trials["repetition"] % 2 == 0)].mean(0)
        for label in image_means.index
        if (trials["label"] == label).sum() > 1
    ]
)

# Reliable voxels, three ways.
ceiling = sub.get_noise_ceiling(session="ses-01")
reliable = sub.get_betas(session="ses-01", nc_threshold=30)
custom = sub.get_roi_mask("laiongeneral") & (ceiling > 30)
masked = sub.get_betas(session="ses-01", mask=custom)
ceilings = sub.get_noise_ceiling(desc=["Noiseceiling4rep", "NoiseceilingAllrep"], roi="face")
functional = sub.get_betas(session="ses-02", mask_source="rsquare", stimuli="unique")

# In place, again and again.
centred = sub.get_betas("ses-02", "laionventral")
centred -= np.nanmean(centred, axis=0)
centred[np.isnan(centred)] = 0
untouched = sub.get_betas("ses-02", "laionventral")
