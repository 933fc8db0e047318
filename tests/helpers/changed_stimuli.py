"""A second version of the stimulus files of a mirror."""

from __future__ import annotations

from pathlib import Path

import h5py
import pandas as pd


def change_stimuli(folder: Path) -> None:
    """Other pictures, embeddings, masks and captions of the same images."""
    (path,) = folder.glob("*stimuli.h5")
    with h5py.File(path, "r+") as file:
        pictures = list(file["images"][:])
        for row, data in enumerate(pictures[1:] + pictures[:1]):
            file["images"][row] = data
    for path in folder.glob("*embeddings.h5"):
        with h5py.File(path, "r+") as file:
            file["embedding"][:] = -file["embedding"][:]
    (path,) = folder.glob("*segmentations.h5")
    with h5py.File(path, "r+") as file:
        file["masks"][:] = 1 - file["masks"][:]
    (path,) = folder.glob("*captions.csv")
    table = pd.read_csv(path, keep_default_na=False)
    table.assign(caption=table["caption"] + "!").to_csv(path, index=False)
