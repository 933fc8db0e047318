"""What was seen: by image from the stimuli, by trial from a subject."""

import os

import laion_fmri
import numpy as np
from laion_fmri import Captions, Segmentations, Stimuli
from laion_fmri.embeddings import AVAILABLE_MODELS

laion_fmri.set_data_dir(os.environ["DATA_DIR"])

stim = laion_fmri.load_stimuli()
names = stim.images.names()
jpeg = stim.images[3]
same = stim.images[names[3]]
row = stim.images.index_of(names[3])
picture = np.array(stim.images.get(names[3]))
n_bytes = {name: len(data) for name, data in stim.images}
shared = stim.metadata.loc[stim.metadata["unique_or_shared"] == "shared", "image_name"].tolist()

clip = stim.embeddings["CLIP"][:]
ids = stim.embeddings.image_ids
some = stim.embeddings.get("DINOv2", shared[::-1])
one = stim.embeddings.get("DINOv2", shared[0])

mask_sizes = {
    (name, noun): int(stim.segmentations.get(name, noun).sum())
    for name in stim.segmentations.images()
    for noun in stim.segmentations.nouns(name)
}
first_mask = stim.segmentations[0]
captions = {name: stim.captions.human(name, limit=2) for name in names}
ai = {name: stim.captions.ai(name) for name in names}

with Stimuli(data_dir=os.environ["DATA_DIR"]) as other:
    displayed = laion_fmri.as_displayed_rgb(other.images.get(names[3], as_displayed=False))
with Segmentations() as seg:
    n_masks = len(seg)
n_captions = len(Captions(data_dir=os.environ["DATA_DIR"]))
with laion_fmri.load_embeddings(["CLIP", "PEcore"]) as emb:
    loaded = emb.models
    has = "CLIP" in emb, "SigLIP2" in emb, ("CLIP", names[0]) in emb, ("CLIP", "none") in emb
    n_images = len(emb)
all_models = laion_fmri.load_embeddings().models == list(AVAILABLE_MODELS)

sub = laion_fmri.load_subject("01")
table = sub.metadata
in_session = table["session"] == "ses-02"
stack = sub.images.array(session="ses-02")
listed = [np.array(image) for image in sub.images.all(session="ses-02")]
features = sub.embeddings.all("SigLIP2", session="ses-02")
every_feature = sub.embeddings.all("SigLIP2")
betas = np.concatenate(list(sub.get_betas(session=sub.get_sessions(), roi="face").values()))
trial = int(table.index[table["image_name"].isin(stim.segmentations.images())][0])
its_feature = sub.embeddings.get("SigLIP2", trial)
its_bytes = sub.images[trial]
its_nouns = sub.segmentations.nouns(trial)
its_mask = sub.segmentations.get(trial, its_nouns[0])
its_captions = sub.captions.for_image(trial)
its_texts = sub.captions.list(trial, source="human")
shown = sub.has_stimuli() and sub.get_n_stimuli(stimuli="shared") == len(shared)
