"""Values back into volumes and surfaces; files of the mirror beside the accessors."""

import os

import nibabel as nib
import numpy as np
from laion_fmri.brain import get_voxel_coordinates, to_nifti
from laion_fmri.config import dataset_initialize
from laion_fmri.io import load_nifti_4d, load_nifti_data, load_nifti_mask, load_tsv
from laion_fmri.subject import load_subject

dataset_initialize(os.environ["DATA_DIR"])
out = os.environ["OUT_DIR"]

sub = load_subject("sub-03")
mean = sub.get_betas(session="ses-01").mean(axis=0)

mask_file = sub.get_anatomical_brain_mask(res="1pt8")
image = nib.load(str(mask_file))
mask = sub.get_brain_mask()
volume = np.zeros(mask.shape, dtype=np.float32)
volume[mask] = mean
volume = volume.reshape(image.shape)

sub.to_nifti(mean, f"{out}/mean.nii.gz")
faces = sub.get_betas(session="ses-01", roi="face").mean(axis=0)
sub.to_nifti(faces, output_path=f"{out}/faces.nii.gz", roi="face")
functional = sub.get_noise_ceiling(session="ses-02", mask_source="rsquare")
sub.to_nifti(functional, f"{out}/rsquare.nii", mask_source="rsquare")
to_nifti(mean, f"{out}/by_file.nii", mask_file, image.affine)

xyz = sub.get_voxel_coordinates()
left = xyz[:, 0] < 0
left_xyz = sub.get_voxel_coordinates(mask=left)
same_xyz = get_voxel_coordinates(mask_file, image.affine, custom_mask=left)

full = sub.get_brain_mask(source="anatomical", res=None)
n_voxels = sub.get_n_voxels(), sub.get_n_voxels(source="rsquare")
surface = sub.get_roi_data("FFA2", format="func.gii")["FFA2"]["gii"]
everything = sub.get_roi_data("FFA2")["FFA2"]
sizes = {roi: sub.get_roi_mask(roi).sum() for roi in sub.get_available_rois(category="laion")}
missing = sub.get_available_rois(category="no such category")

folder = sub.get_t1w().parents[4] / "glmsingle-tedana" / "sub-03"
stem = "ses-01/func/sub-03_ses-01_task-images"
betas = load_nifti_4d(
    folder / f"{stem}_space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz",
    load_nifti_mask(mask_file),
    streaming=True,
)
r2 = load_nifti_data(folder / f"{stem}_space-T1w_stat-rsquare_desc-R2_statmap.nii.gz", mask_file)
trials = load_tsv(folder / f"{stem}_desc-SingletrialBetas_trials.tsv")
