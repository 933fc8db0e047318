"""Betas and pictures of a session, in batches."""

import os

import torch
from laion_fmri.config import dataset_initialize
from laion_fmri.subject import load_subject
from laion_fmri.torch_data import LaionFMRIDataset
from torch.utils.data import DataLoader

dataset_initialize(os.environ["DATA_DIR"])
sub = load_subject("sub-01")
dataset = sub.to_torch_dataset(session="ses-02", roi="laionventral")
item = dataset[8]

mask = sub.get_roi_mask("face") & ~sub.get_roi_mask("FFA1")
other = LaionFMRIDataset(sub, "ses-01", mask=mask, image_transform=lambda x: 2 * x - 1)
batches = list(DataLoader(other, batch_size=7))
betas = torch.cat([batch["betas"] for batch in batches]).numpy()
names = [name for batch in batches for name in batch["image_name"]]
lowest = min(float(batch["image"].min()) for batch in batches)
