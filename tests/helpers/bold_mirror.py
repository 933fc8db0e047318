"""Preprocessed time series for the mirror made by hand, and what a store should answer."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
from small_mirror import AFFINE, SHAPE, nifti, pack, put

SUB = "sub-01"


def bold_file(run, ses="ses-01", sub=SUB, extension="nii.gz"):
    stem = f"{sub}_{ses}_task-images_run-{run:02d}_space-T1w_desc-optcom_bold"
    return f"derivatives/tedana/{sub}/{ses}/func/{stem}.{extension}"


def write_run(root, run, values, ses="ses-01", step=1.0, sidecar=True, affine=AFFINE, **options):
    """One run; `step` goes to the header, `sidecar` to the sidecar; False for no sidecar."""
    shape = {"pixdim": [1, 1.7778, 1.7778, 1.7778, step, 0, 0, 0], "xyzt_units": 10}
    put(root, bold_file(run, ses), pack(nifti(values, affine, **(shape | options))))
    if sidecar is not False:
        told = {"RepetitionTime": 1.0, "NumberOfVolumes": np.shape(values)[3]}
        told |= {} if sidecar is True else sidecar
        put(root, bold_file(run, ses, extension="json"), json.dumps(told))


def random_run(rng, n_volumes, shape=SHAPE):
    values = (900 + rng.normal(size=(*shape, n_volumes))).astype(np.float32)
    values[rng.random(values.shape) < 0.05] = np.nan
    return values


def write_bold(root, lengths=(4, 7), ses="ses-01"):
    rng = np.random.default_rng(5)
    for run, n_volumes in enumerate(lengths, 1):
        write_run(root, run, random_run(rng, n_volumes), ses)
    return root


def answer(path, inside):
    """Series of the voxels of a mask, flat in C order: (time, voxel), by nibabel and numpy."""
    image = nib.load(path)
    raw, slope, inter = image.dataobj.get_unscaled(), image.dataobj.slope, image.dataobj.inter
    if (slope, inter) != (1, 0):
        raw = raw.astype(np.float64) * slope + inter
    return raw.reshape(-1, raw.shape[3])[inside].T.astype(np.float32)
