"""Parts and models of the stimuli of `bids_root`, and their names and files as fixtures."""

from __future__ import annotations

import csv

import h5py
import pytest

MODELS = ("CLIP", "DINOv2", "PEcore", "SigLIP2")
GLOBS = {
    "metadata": "task-images_metadata.csv",
    "images": "task-images_stimuli.h5",
    "embeddings": "*_embeddings.h5",
    "segmentations": "*segmentations*",
    "captions": "*captions.csv",
}


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def names(bids_root):
    return [row["image_name"] for row in rows_of(bids_root / "stimuli" / GLOBS["metadata"])]


@pytest.fixture(scope="module")
def files(bids_root, names):
    with h5py.File(bids_root / "stimuli" / GLOBS["images"]) as file:
        return dict(zip(names, (row.tobytes() for row in file["images"]), strict=True))
