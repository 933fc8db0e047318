"""Files of the made-up experiment's stimuli: pictures, embeddings, masks, captions.

All follow from a size alone, whoever of its subjects is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np
import pandas as pd
from tqdm import tqdm

from laion_zarr import _release as release
from laion_zarr.conversion.synthetic import experiment, phantom, pictures
from laion_zarr.conversion.synthetic.experiment import Size
from laion_zarr.conversion.synthetic.pictures import Mask

MODELS = ("CLIP", "DINOv2", "PEcore", "SigLIP2")
# What people write, and what a reader of tables may take for something else.
ODD_CAPTIONS = (
    "",
    "NA",
    "None",
    "nan",
    "a 'single', a \"double\" quote, and commas, all in one",
    "First line,\nsecond line",
    '""',
    "  blanks at both ends ",
    "tab\there; semicolon",
    "Un café crème — 日本の猫 🐈",
)
_UNSEEN = ("shadow", "tree", "window")  # said to be in a picture, but found nowhere
_BOX = ("box_x0", "box_y0", "box_x1", "box_y1")
_CAPTION_COLUMNS = [
    *("image_name", "caption_idx", "source", "caption"),
    *("origin_collection", "participant_id", "ai_model"),
]
_SILENT = 0.04  # part of the captions that people were to write and did not
_NOISE = 0.5  # of an embedding's numbers, whose signal has unit variance


def _names(size: Size) -> list[str]:
    """Names of the images, in the order of the metadata."""
    return experiment.metadata(size)["image_name"].tolist()


def _shuffled(table: pd.DataFrame, purpose: str) -> pd.DataFrame:
    """Mix the rows of a table, whose order no reader may rely on."""
    return table.sample(frac=1, random_state=phantom.stream(purpose, "rows"))


def _shared(size: Size) -> list[str]:
    """Names of the images that everyone saw: these alone are segmented."""
    return sorted(filter(release.is_shared, _names(size)))


def write_images(path: Path, size: Size, progress: bool) -> None:
    """Write the file of each picture, in the order of the metadata."""
    names = _names(size)
    with h5py.File(path, "w") as file:
        images = file.create_dataset("images", len(names), h5py.vlen_dtype(np.uint8))
        for row, name in enumerate(tqdm(names, "pictures", disable=not progress)):
            data = pictures.draw(pictures.scene(name), size.picture).encode()
            images[row] = np.frombuffer(data, np.uint8)


# Embeddings


def _embedded(names: list[str], model: str, length: int) -> Iterator[np.ndarray]:
    """One model's view of each image: its features, projected, and noise."""
    projection = phantom.stream(model, "projection").standard_normal(
        (experiment.N_FEATURES, length)
    )
    projection /= experiment.N_FEATURES**0.5
    for name in names:
        noise = phantom.stream(model, "noise", name).standard_normal(length)
        yield (experiment.features(name) @ projection + _NOISE * noise).astype(np.float16)


def write_embeddings(path: Path, size: Size, model: str) -> None:
    """Write the embeddings by a model, in an order of all models but not of the metadata."""
    names = phantom.stream("embeddings").permutation(sorted(_names(size))).tolist()
    length = dict(zip(MODELS, size.embeddings, strict=True))[model]
    without = phantom.stream(model, "invalid").choice(len(names), 2 + len(names) // 100, False)
    valid = np.ones(len(names), bool)
    valid[without] = False
    with h5py.File(path, "w") as file:
        # Where an embedding is lacking, a pipeline leaves what its array was filled with.
        embedding = file.create_dataset("embedding", (len(names), length), np.float16)
        for row, values in enumerate(_embedded(names, model, length)):
            if valid[row]:
                embedding[row] = values
        file.create_dataset("image_ids", data=names, dtype=h5py.string_dtype())
        file.create_dataset("valid", data=valid)


# Segmentations


def _nouns(name: str, rank: int) -> list[str]:
    """What is said to be in a picture: its things, and for some what is found nowhere."""
    nouns = [thing.kind.noun for thing in pictures.scene(name).things]
    return [*nouns, _UNSEEN[rank // 3 % len(_UNSEEN)]] if rank % 3 == 1 else nouns


def _segments(name: str, nouns: list[str], side: int) -> Iterator[tuple[dict[str, Any], Mask]]:
    """Record and mask of each noun of a picture."""
    picture = pictures.draw(pictures.scene(name), side)
    # Falling, so that the first instance of a noun is the best.
    scores = np.sort(phantom.stream(name, "scores").uniform(0.2, 0.99, len(nouns)))[::-1]
    for k, noun in enumerate(nouns):
        mask, instance = picture.mask(k), nouns[:k].count(noun)
        seen = bool(mask.any())
        record = {
            "image_name": name,
            "noun": noun,
            "instance_id": instance,
            "score": f"{scores[k]:.4f}" if seen else "",
            **dict(zip(_BOX, pictures.box(mask) if seen else [""] * 4, strict=True)),
            "localized": int(seen),
            "mask_file": f"{PurePosixPath(name).stem}__{noun}_{instance}.png",
        }
        yield record, mask


def write_masks(path: Path, size: Size, progress: bool) -> pd.DataFrame:
    """Write the masks of the shared images; their table, neither in the order of the other."""
    nouns = {name: _nouns(name, rank) for rank, name in enumerate(_shared(size))}
    n_masks, side = sum(map(len, nouns.values())), size.picture
    rows = iter(phantom.stream("masks").permutation(n_masks).tolist())
    records = []
    with h5py.File(path, "w") as file:
        masks = file.create_dataset(
            "masks",
            (n_masks, side, side),
            np.uint8,
            chunks=(1, side, side),
            compression="gzip",
            shuffle=True,
        )
        for name in tqdm(nouns, "masks", disable=not progress):
            for record, mask in _segments(name, nouns[name], side):
                records.append({"mask_row": next(rows), **record})
                masks[records[-1]["mask_row"]] = mask
    return _shuffled(pd.DataFrame(records), "segmentations")


# Captions


def _captions_of(name: str) -> Iterator[tuple[Any, ...]]:
    """Captions of an image: by people, some of whom said nothing, and of some by a machine."""
    shared, scene = release.is_shared(name), pictures.scene(name)
    rng = phantom.stream(name, "captions")
    collection = "COCO" if "_NSD_" in name else "online"
    for rank in range(1, 6 if shared else 4):
        person = f"c{rng.integers(400):04d}"
        if rng.random() > _SILENT:
            yield name, rank, "human", pictures.describe(scene, rank), collection, person, ""
    if shared and not release.is_ood(name):
        yield name, 0, "ai", pictures.describe(scene, 0), "generated", "", "vlm-1"


def captions(size: Size) -> pd.DataFrame:
    """Make the table of captions, odd ones among them."""
    records = [record for name in _names(size) for record in _captions_of(name)]
    table = pd.DataFrame(records, columns=_CAPTION_COLUMNS)
    human = np.flatnonzero(table["source"] == "human")
    odd = phantom.stream("odd captions").choice(human, len(ODD_CAPTIONS), replace=False)
    table.loc[odd, "caption"] = list(ODD_CAPTIONS)
    return _shuffled(table, "captions")
