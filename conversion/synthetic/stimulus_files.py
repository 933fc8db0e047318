"""Files of the made-up experiment's stimuli: pictures, embeddings, masks, captions.

The files depend only on the size of the dataset, not on which of its subjects are written.
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
from laion_zarr.conversion.synthetic import pictures
from laion_zarr.conversion.synthetic.model import experiment, phantom
from laion_zarr.conversion.synthetic.model.experiment import Size
from laion_zarr.conversion.synthetic.pictures import Mask

MODELS = ("CLIP", "DINOv2", "PEcore", "SigLIP2")
# Captions as participants may write them, which a reader of CSV files may misread.
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
_UNSEEN = ("shadow", "tree", "window")  # nouns listed for pictures that do not show them
_BOX = ("box_x0", "box_y0", "box_x1", "box_y1")
_CAPTION_COLUMNS = [
    *("image_name", "caption_idx", "source", "caption"),
    *("origin_collection", "participant_id", "ai_model"),
]
_SILENT = 0.04  # fraction of missing human captions
_NOISE = 0.5  # standard deviation of the noise of embeddings; their signal has unit variance


def _names(size: Size) -> list[str]:
    """Names of the images, in the order of the metadata."""
    return experiment.metadata(size)["image_name"].tolist()


def _shuffled(table: pd.DataFrame, purpose: str) -> pd.DataFrame:
    """Shuffle the rows of a table, since readers must not rely on their order."""
    return table.sample(frac=1, random_state=phantom.stream(purpose, "rows"))


def _shared(size: Size) -> list[str]:
    """Names of the images that every subject saw; only these are segmented."""
    return sorted(filter(release.is_shared, _names(size)))


def write_images(path: Path, size: Size, progress: bool) -> None:
    """Write an HDF5 file with the encoded pictures, in the order of the metadata."""
    names = _names(size)
    with h5py.File(path, "w") as file:
        images = file.create_dataset("images", len(names), h5py.vlen_dtype(np.uint8))
        for row, name in enumerate(tqdm(names, "pictures", disable=not progress)):
            data = pictures.draw(pictures.scene(name), size.picture).encode()
            images[row] = np.frombuffer(data, np.uint8)


# Embeddings


def _embedded(names: list[str], model: str, length: int) -> Iterator[np.ndarray]:
    """Embedding of each image by one model: a projection of the image's features, plus noise."""
    projection = phantom.stream(model, "projection").standard_normal(
        (experiment.N_FEATURES, length)
    )
    projection /= experiment.N_FEATURES**0.5
    for name in names:
        noise = phantom.stream(model, "noise", name).standard_normal(length)
        yield (experiment.features(name) @ projection + _NOISE * noise).astype(np.float16)


def write_embeddings(path: Path, size: Size, model: str) -> None:
    """Write the embeddings by one model; all models share an order, not that of the metadata."""
    names = phantom.stream("embeddings").permutation(sorted(_names(size))).tolist()
    length = dict(zip(MODELS, size.embeddings, strict=True))[model]
    without = phantom.stream(model, "invalid").choice(len(names), 2 + len(names) // 100, False)
    valid = np.ones(len(names), bool)
    valid[without] = False
    with h5py.File(path, "w") as file:
        # A missing embedding keeps the fill value of the array, 0.
        embedding = file.create_dataset("embedding", (len(names), length), np.float16)
        for row, values in enumerate(_embedded(names, model, length)):
            if valid[row]:
                embedding[row] = values
        file.create_dataset("image_ids", data=names, dtype=h5py.string_dtype())
        file.create_dataset("valid", data=valid)


# Segmentations


def _nouns(name: str, rank: int) -> list[str]:
    """Nouns listed for a picture: its things and, for every third picture, one not shown in it."""
    nouns = [thing.kind.noun for thing in pictures.scene(name).things]
    return [*nouns, _UNSEEN[rank // 3 % len(_UNSEEN)]] if rank % 3 == 1 else nouns


def _segments(name: str, nouns: list[str], side: int) -> Iterator[tuple[dict[str, Any], Mask]]:
    """Row of the table, and mask, of each noun of a picture."""
    picture = pictures.draw(pictures.scene(name), side)
    # In descending order, so that the first instance of a noun has the highest score.
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
    """Write the masks of the shared images and return their table, in a different order."""
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
    """Captions of an image: by people, some missing, and by a model for natural shared images."""
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
    """Make the table of captions, some of which are `ODD_CAPTIONS`."""
    records = [record for name in _names(size) for record in _captions_of(name)]
    table = pd.DataFrame(records, columns=_CAPTION_COLUMNS)
    human = np.flatnonzero(table["source"] == "human")
    odd = phantom.stream("odd captions").choice(human, len(ODD_CAPTIONS), replace=False)
    table.loc[odd, "caption"] = list(ODD_CAPTIONS)
    return _shuffled(table, "captions")
