"""Measures PyTorch's DataLoader over a subject's trials, beside tensors and files in memory.

Run ``python benchmarks/torch_loading.py [--dir DIR] [--size full|tiny] [--json FILE]``. First makes
a subject of 30 × 1,000 trials with embeddings, and one with pictures of 1000 × 1000 (a minute,
1 GB). With ``--dir`` they are kept for the next run.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Figure, in_child, measure_in_folder, side_by_side, timed
from PIL import Image
from stimuli import (
    DISTINCT,
    SIZES,
    SUBJECT,
    Size,
    image_names,
    picture,
    write_embeddings,
    write_pictures,
    write_subject,
)
from torch.utils.data import DataLoader, Dataset, TensorDataset

from laion_zarr import convert, load_stimuli, load_subject
from laion_zarr.arrays import trial_rows

GRID = (7, 9, 8)  # every voxel is in the brain mask
N_VOXELS = 500
MODEL = "CLIP"
BATCH, PICTURES_IN_BATCH = 128, 16
LOOKED_AT = 512  # trials of an epoch over large pictures
# Prints the peak memory of an epoch, relative to the peak in its first tenth.
GROWTH = """
import sys
from pathlib import Path
from torch.utils.data import DataLoader
from laion_zarr import load_subject
from laion_zarr.arrays import trial_rows
def rss(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith(name))
store, include, batch, most = sys.argv[1], sys.argv[2].split(), int(sys.argv[3]), int(sys.argv[4])
trial_rows.MOST_IN_MEMORY = most
data = load_subject("sub-01", store).to_torch_dataset(include=include)
loader = DataLoader(data, batch_size=batch, shuffle=True)
for n, found in enumerate(loader):
    if n == len(loader) // 10:
        before = rss("VmHWM")
print(rss("VmHWM") / before)
"""


def make(root: Path, size: Size) -> None:
    """Write and convert two mirrors: ``trials`` with many trials, ``pictures`` with large ones."""
    names, rng = image_names(size), np.random.default_rng(5)
    few = names[: size.large]
    for name, side, seen, sessions in (
        ("trials", 32, names, size.sessions),
        ("pictures", size.side, few, 1),
    ):
        files = [picture(rng, side) for _ in range(DISTINCT)]
        write_pictures(root / name, seen, lambda row, files=files: files[row % DISTINCT])
        write_subject(root / name, replace(size, sessions=sessions), seen, GRID)
    write_embeddings(root / "trials", names)
    for name in ("trials", "pictures"):
        convert(root / name, root / f"{name}.zarr", overwrite=True)


class Decoded(Dataset):
    """Dataset that only decodes pictures, from encoded files in memory."""

    def __init__(self, files: list[bytes]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        pixels = np.asarray(Image.open(io.BytesIO(self.files[index])).convert("RGB"))
        scaled = np.empty((3, *pixels.shape[:2]), np.float32)
        return torch.from_numpy(np.divide(pixels.transpose(2, 0, 1), np.float32(255), out=scaled))


def epoch(data: Any, batch: int, workers: int) -> None:
    """Load all trials once, in random order."""
    for _ in DataLoader(data, batch_size=batch, shuffle=True, num_workers=workers):
        pass


def row_figures(root: Path) -> Iterator[Figure]:
    """Time of an epoch of betas and embeddings, relative to equal tensors in memory."""
    sub = load_subject(SUBJECT, root / "trials.zarr")
    mask = np.arange(sub.get_n_voxels()) < N_VOXELS

    def dataset() -> Any:
        return sub.to_torch_dataset(mask=mask, include=(f"embedding:{MODEL}",))

    ours, most = dataset(), trial_rows.MOST_IN_MEMORY
    items = ours.__getitems__(range(len(ours)))
    columns = [torch.stack([item[key] for item in items]) for key in list(items[0])[:2]]
    betas, features = sub.get_betas(mask=mask).values, sub.embeddings.all(MODEL).values
    np.testing.assert_array_equal(columns[0].numpy(), betas)
    np.testing.assert_array_equal(columns[1].numpy(), features.astype(np.float32))
    plain = TensorDataset(*columns)
    trial_rows.MOST_IN_MEMORY = 0
    streamed = dataset()
    trial_rows.MOST_IN_MEMORY = most
    name = f"{len(ours):,} trials of {N_VOXELS} voxels + {MODEL}"
    yield Figure(f"{name}: to make", timed(dataset), "s")
    for workers, repeats in ((0, 7), (2, 3)):
        times = side_by_side(
            {
                "ours": lambda workers=workers: epoch(ours, BATCH, workers),
                "streamed": lambda workers=workers: epoch(streamed, BATCH, workers),
                "plain": lambda workers=workers: epoch(plain, BATCH, workers),
            },
            repeats,
        )
        end = f", {workers} workers"
        yield Figure(f"{name}{end}", times["ours"] / times["plain"], "× tensors", 2.0)
        yield Figure(f"{name}{end}: time of an epoch", times["ours"], "s")
        yield Figure(f"{name}{end}: streamed", times["streamed"] / times["plain"], "× tensors")


def picture_figures(root: Path, size: Size) -> Iterator[Figure]:
    """Time of an epoch of betas and large pictures, relative to decoding files in memory."""
    ours = load_subject(SUBJECT, root / "pictures.zarr").to_torch_dataset()
    images = load_stimuli(root / "pictures.zarr").images
    few = range(min(LOOKED_AT, len(ours)))
    names = load_subject(SUBJECT, root / "pictures.zarr").metadata["image_name"].iloc[: len(few)]
    plain = Decoded([images[name] for name in names])
    some = ours.__getitems__(range(4))
    assert all(torch.equal(item["image"], plain[n]) for n, item in enumerate(some))
    part = torch.utils.data.Subset(ours, few)
    name = f"{len(few)} trials + pictures of {size.side} × {size.side}"
    for workers in (0, 2):
        works = {
            "ours": lambda workers=workers: epoch(part, PICTURES_IN_BATCH, workers),
            "plain": lambda workers=workers: epoch(plain, PICTURES_IN_BATCH, workers),
        }
        times = side_by_side(works, 5)
        end = f", {workers} workers"
        yield Figure(f"{name}{end}", times["ours"] / times["plain"], "× decoding", 1.2)
        yield Figure(f"{name}{end}: time of a picture", 1e3 * times["ours"] / len(few), "ms")


def memory_figures(root: Path) -> Iterator[Figure]:
    """Growth of memory during an epoch, with betas in memory and streamed from a file."""
    most = trial_rows.MOST_IN_MEMORY
    for name, store, include, batch in (
        (f"betas + {MODEL}", "trials", f"embedding:{MODEL}", BATCH),
        ("betas + pictures", "pictures", "image", PICTURES_IN_BATCH),
    ):
        for end, limit in (("", most), (", streamed", 0)):
            path = root / f"{store}.zarr"
            grown = in_child(GROWTH, path, include, str(batch), str(limit))
            yield Figure(f"{name}{end}: memory of an epoch", grown, "× its first tenth", 1.05)


def all_figures(root: Path, size: Size) -> Iterator[Figure]:
    """All figures of the table, in order."""
    yield from row_figures(root)
    yield from picture_figures(root, size)
    yield from memory_figures(root)


if __name__ == "__main__":
    measure_in_folder(__doc__, SIZES, "pictures.zarr", make, all_figures)
