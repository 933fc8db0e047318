"""Several people, on the images that all of them saw."""

import os

import numpy as np
from laion_fmri import Group, load_subject
from laion_fmri.config import dataset_initialize
from laion_fmri.group import load_subjects

dataset_initialize(os.environ["DATA_DIR"])
group = load_subjects(["sub-03", "01"])
ids = [subject for subject, _ in group]
sizes = {subject: sub.get_betas(session="ses-02", roi="face").shape for subject, sub in group}
shared = group.get_shared_betas(session="ses-01", roi="laionventral", nc_threshold=10)
means = {subject: betas.mean(axis=0) for subject, betas in shared.items()}
table = group.get_shared_stimulus_metadata()
pictures = group.get_shared_images()
stacked = group.get_shared_images(format="numpy")
modes = {name: picture.mode for name, picture in zip(table["image_name"], pictures, strict=True)}
brightness = np.array([np.array(picture.convert("RGB")).mean() for picture in pictures])

first = group[0].subject_id
others = Group({"sub-03": load_subject("sub-03")})
same = others["sub-03"].get_noise_ceiling(session="ses-01")
everyone = len(load_subjects("all"))
