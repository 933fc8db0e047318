"""Measures reads of the stimuli at full count, beside h5py and Pillow on files as in the release.

Run ``python benchmarks/stimuli.py [--dir DIR] [--size full|tiny] [--json FILE]``. First makes
stimuli of 25,052 images (tiny pictures), 24,011 masks of 1000 × 1000, and 1,000 pictures of
1000 × 1000 (minutes, 1 GB). With ``--dir`` they are kept for the next run.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
from measure import Figure, in_child, measure_in_folder, seconds, side_by_side, timed
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from laion_zarr import _release as release
from laion_zarr import convert, load_stimuli, load_subject

SUBJECT = "sub-01"
MODELS = {"CLIP": 1024, "DINOv2": 1024, "PEcore": 1024, "SigLIP2": 1152}
GRID = (3, 5, 4)  # small: the benchmark needs the trials of a subject, not its voxels
DISTINCT = 50  # number of different pictures and masks; all further ones repeat them
PEAK = """
import sys
from pathlib import Path
from laion_zarr import load_stimuli
def rss(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith(name))
images = load_stimuli(sys.argv[1]).images
images.array([0]).mean(("y", "x")).compute()
before = rss("VmRSS")
images.array().mean(("y", "x")).compute()
print(rss("VmHWM") - before)
"""
OPENING = """
import sys, time
from laion_zarr import load_stimuli
import laion_zarr.stimuli, dask.array
start = time.perf_counter()
load_stimuli(sys.argv[1]).dataset
print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Size:
    """Numbers of images, masks, sessions and trials to make."""

    images: int
    masks: int
    sessions: int
    trials: int  # of a session
    large: int  # number of large pictures
    side: int  # edge length of large pictures and of masks, pixels


SIZES = {
    "full": Size(25_052, 24_011, 30, 1_000, 1_000, 1_000),
    "tiny": Size(60, 12, 2, 30, 6, 100),
}


def image_names(size: Size) -> list[str]:
    """Names of all images, in random order."""
    numbers = np.random.default_rng(0).permutation(size.images)
    return [f"shared_4rep_LAION_cluster_{number}_i{number % 46}.jpg" for number in numbers]


def picture(rng: np.random.Generator, side: int) -> bytes:
    """JPEG of `side` × `side` random pixels, with about as many bytes as a photograph."""
    coarse = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.int16)
    noisy = smooth + rng.normal(0, 12, smooth.shape).astype(np.int16)
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def _mask(rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """Mask of a random blob."""
    y, x = np.mgrid[:side, :side]
    centre, radius = rng.uniform(0.3, 0.7, 2) * side, rng.uniform(0.05, 0.3) * side
    angle = np.arctan2(y - centre[0], x - centre[1])
    wobble = sum(rng.normal(0, 0.08) * np.cos(n * angle + rng.uniform(0, 6)) for n in range(2, 30))
    return (np.hypot(y - centre[0], x - centre[1]) < radius * (1 + wobble)).astype(np.uint8)


def write_pictures(root: Path, names: list[str], make: Callable[[int], bytes]) -> None:
    """Write the HDF5 file of encoded pictures, and the table of metadata."""
    path = root / release.STIMULUS_IMAGES
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        kind = h5py.vlen_dtype(np.uint8)
        images = file.create_dataset("images", len(names), kind)
        for row in tqdm(range(len(names)), "pictures"):
            images[row] = np.frombuffer(make(row), np.uint8)
    columns = {"image_name": names, "dataset": "LAION", "participant": "all"}
    table = pd.DataFrame(columns | {"unique_or_shared": "shared", "n_reps": "4rep"})
    table.to_csv(root / release.STIMULUS_METADATA, index=False)


def write_embeddings(root: Path, names: list[str]) -> None:
    """Write embeddings by every model, in a random order of images."""
    rng = np.random.default_rng(1)
    order = rng.permutation(len(names))
    for model, n_features in MODELS.items():
        with h5py.File(root / release.embeddings(model), "w") as file:
            file["embedding"] = rng.standard_normal((len(names), n_features)).astype(np.float16)
            kind = h5py.string_dtype()
            file.create_dataset("image_ids", data=np.array(names, object)[order], dtype=kind)
            file["valid"] = rng.random(len(names)) > 0.001


def _write_masks(root: Path, size: Size, names: list[str]) -> None:
    rng = np.random.default_rng(2)
    blobs = [_mask(rng, size.side) for _ in range(DISTINCT)]
    shape = (size.masks, size.side, size.side)
    with h5py.File(root / release.SEGMENTATIONS, "w") as file:
        packing = {"chunks": (1, *shape[1:]), "compression": "gzip", "shuffle": True}
        masks = file.create_dataset("masks", shape, np.uint8, **packing)
        for row in tqdm(range(size.masks), "masks"):
            masks[row] = np.roll(blobs[row % DISTINCT], row % 97, axis=0)
    rows = rng.permutation(size.masks)
    image = [names[row % len(names)] for row in rows]
    columns = {"mask_row": rows, "image_name": image, "noun": "thing", "instance_id": 0}
    columns |= {"score": rng.random(size.masks).round(4)}
    columns |= {name: rng.integers(0, size.side, size.masks) for name in ("box_x0", "box_y0")}
    columns |= dict.fromkeys(("box_x1", "box_y1"), size.side) | {"localized": 1}
    columns |= {"mask_file": [f"{name}__thing_0.png" for name in image]}
    pd.DataFrame(columns).to_csv(root / release.SEGMENTATION_TABLE, index=False)


def _write_captions(root: Path, names: list[str]) -> None:
    rng = np.random.default_rng(3)
    rows = [(name, rank) for name in names for rank in (1, 2, 3)]
    words = np.array(["a", "the", "red", "small", "house", "tree", "person", "dog", "on", "sea"])
    texts = [" ".join(words[rng.integers(0, len(words), 9)]) for _ in rows]
    table = pd.DataFrame(rows, columns=["image_name", "caption_idx"])
    table = table.assign(source="human", caption=texts, origin_collection="main3")
    table = table.assign(participant_id=rng.integers(0, 999, len(rows)), ai_model="")
    table.sample(frac=1, random_state=0).to_csv(root / release.CAPTIONS, index=False)


def write_subject(
    root: Path, size: Size, names: list[str], grid: tuple[int, int, int] = GRID
) -> None:
    """Write a subject with every voxel in the brain mask: betas and trial table of each session."""
    rng = np.random.default_rng(4)
    mask = root / release.anatomy(SUBJECT, "brain_mask", release.FUNCTIONAL_RES)
    mask.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.ones(grid, np.uint8), np.eye(4)), mask)
    for number in range(1, size.sessions + 1):
        session = f"ses-{number:02d}"
        betas = root / release.betas(SUBJECT, session)
        betas.parent.mkdir(parents=True)
        values = rng.standard_normal((*grid, size.trials)).astype(np.float32)
        nib.save(nib.Nifti1Image(values, np.eye(4)), betas)
        # A subject sees a quarter of the images, each about five times.
        labels = rng.choice(names[: max(1, len(names) // 4)], size.trials)
        columns = {"session": session, "run": 1, "beta_index": np.arange(size.trials)}
        table = pd.DataFrame(columns | {"label": labels})
        table.to_csv(root / release.trials(SUBJECT, session), sep="\t", index=False)


def make(root: Path, size: Size) -> None:
    """Write two mirrors: ``many`` with all stimuli at full count, ``large`` with large pictures."""
    names, rng = image_names(size), np.random.default_rng(5)
    small = [picture(rng, 32) for _ in range(DISTINCT)]
    write_pictures(root / "many", names, lambda row: small[row % DISTINCT])
    write_embeddings(root / "many", names)
    _write_masks(root / "many", size, names)
    _write_captions(root / "many", names)
    write_subject(root / "many", size, names)
    large = [picture(rng, size.side) for _ in range(DISTINCT)]
    write_pictures(root / "large", names[: size.large], lambda row: large[row % DISTINCT])


def _nbytes(*paths: Path) -> int:
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
    return sum(file.stat().st_size for file in files if file.is_file())


def store_figures(root: Path, size: Size) -> Iterator[Figure]:
    """Time of the conversion, and bytes of each part relative to its source files."""
    for mirror in ("many", "large"):
        store = root / f"{mirror}.zarr"
        shutil.rmtree(store, ignore_errors=True)
        time = timed(lambda mirror=mirror, store=store: convert(root / mirror, store))
        yield Figure(f"convert, {mirror}", time, "s")
    stimuli = root / "many"
    files = {
        "metadata": (release.STIMULUS_METADATA,),
        "images": (release.STIMULUS_IMAGES,),
        **{f"embeddings/{model}": (release.embeddings(model),) for model in MODELS},
        "segmentations": (release.SEGMENTATIONS, release.SEGMENTATION_TABLE),
        "captions": (release.CAPTIONS,),
    }
    for part, names in files.items():
        stored = _nbytes(root / "many.zarr" / "stimuli" / part)
        ratio = stored / _nbytes(*(stimuli / name for name in names))
        budget = 1.0 if size.images > 10_000 else None  # few images fill only a part of a chunk
        yield Figure(f"{part}, {size.images:,} images: store", ratio, "× source", budget)


def open_figures(root: Path, size: Size) -> Iterator[Figure]:
    """Time to open the stimuli, in a new process, after its imports."""
    opening = float(np.median([in_child(OPENING, root / "many.zarr") for _ in range(5)]))
    yield Figure(f"open the stimuli, dataset ready, {size.images:,} images", opening, "s", 0.15)


def picture_figures(root: Path, size: Size) -> Iterator[Figure]:
    """Times to read one large picture and many, relative to h5py and Pillow."""
    rng = np.random.default_rng(6)
    images = load_stimuli(root / "large.zarr").images
    names, side = images.names(), size.side
    with h5py.File(root / "large" / release.STIMULUS_IMAGES) as file:
        source = file["images"]

        def plain(row: int) -> NDArray[np.uint8]:
            return np.asarray(Image.open(io.BytesIO(source[row].tobytes())).convert("RGB"))

        def means() -> NDArray[np.float64]:
            return np.array([plain(row).mean((0, 1)) for row in range(len(names))])

        works = {
            "ours": lambda: np.asarray(images.get(names[rng.integers(len(names))])),
            "plain": lambda: plain(int(rng.integers(len(names)))),
        }
        one = side_by_side(works, 40)
        lazy = images.array().mean(("y", "x"))
        np.testing.assert_allclose(lazy.values, means(), rtol=1e-6)
        many = side_by_side({"ours": lazy.compute, "plain": means}, 3)
    name = f"picture of {side} × {side}"
    yield Figure(f"one random {name}", one["ours"] / one["plain"], "× h5py + Pillow", 1.2)
    yield Figure(f"one random {name}: time", 1e3 * one["ours"], "ms")
    ratio = many["ours"] / many["plain"]
    yield Figure(f"{len(names):,} of them, decoded and averaged", ratio, "× a loop", 1 / 1.5)
    yield Figure(f"{len(names):,} of them: time", many["ours"], "s")
    peak = in_child(PEAK, root / "large.zarr")
    decoded = 3 * side**2 * len(names) / 1e6
    yield Figure(f"{len(names):,} of them, {decoded:,.0f} MB: memory", peak, "MB")


def embedding_figures(root: Path) -> Iterator[Figure]:
    """Time to read the embeddings of all trials, relative to h5py on plain and chunked HDF5."""
    sub = load_subject(SUBJECT, root / "many.zarr")
    labels = sub.metadata["label"]
    cut = root / "chunked.h5"
    with h5py.File(root / "many" / release.embeddings("CLIP")) as file, h5py.File(cut, "w") as copy:
        embedding = file["embedding"]
        chunked = copy.create_dataset("embedding", data=embedding[:], chunks=True)
        rows = pd.Index(file["image_ids"].asstr()[:]).get_indexer(labels)
        unique, inverse = np.unique(rows, return_inverse=True)
        valid = file["valid"][:][rows]
        works = {
            "ours": lambda: sub.embeddings.all("CLIP").values,
            "fancy": lambda: embedding[unique][inverse],
            "whole": lambda: embedding[:][rows],
            "fancy, chunked": lambda: chunked[unique][inverse],
        }
        same = {name: np.asarray(work())[valid] for name, work in works.items()}
        np.testing.assert_array_equal(same["ours"], same["fancy"])
        times = side_by_side(works)
    name = f"embeddings of {len(labels):,} trials"
    cut.unlink()
    yield Figure(name, times["ours"] / times["fancy"], "× h5py fancy", 1 / 3)
    yield Figure(name, times["ours"] / times["fancy, chunked"], "× h5py fancy, HDF5 chunks", 1 / 3)
    yield Figure(name, times["ours"] / times["whole"], "× whole + gather", 1.5)
    yield Figure(f"{name}: time", 1e3 * times["ours"], "ms")


def mask_figures(root: Path, size: Size) -> Iterator[Figure]:
    """Time to read a random mask, relative to h5py on a file as in the release."""
    rng = np.random.default_rng(7)
    masks = load_stimuli(root / "many.zarr").segmentations
    with h5py.File(root / "many" / release.SEGMENTATIONS) as file:
        source = file["masks"]
        np.testing.assert_array_equal(masks[3], source[3])
        works = {
            "ours": lambda: masks[int(rng.integers(size.masks))].values,
            "h5py": lambda: source[int(rng.integers(size.masks))],
        }
        times = side_by_side(works, 60)
    yield Figure("one random mask", times["ours"] / times["h5py"], "× h5py", 0.5)
    yield Figure("one random mask: time", 1e3 * times["ours"], "ms")


def caption_figures(root: Path) -> Iterator[Figure]:
    """Time to get the captions of one image: first call, and later calls with the table loaded."""
    names = load_stimuli(root / "many.zarr").images.names()
    first = timed(lambda: load_stimuli(root / "many.zarr").captions.human(names[0]))
    captions = load_stimuli(root / "many.zarr").captions
    yield Figure("captions of one image, the first time", 1e3 * first, "ms")
    yield Figure("captions of one image", 1e3 * seconds(lambda: captions.human(names[9])), "ms")


def all_figures(root: Path, size: Size) -> Iterator[Figure]:
    """All figures of the table, in order."""
    yield from store_figures(root, size)
    yield from open_figures(root, size)
    yield from picture_figures(root, size)
    yield from embedding_figures(root)
    yield from mask_figures(root, size)
    yield from caption_figures(root)


if __name__ == "__main__":
    made = f"large/{release.STIMULUS_METADATA}"
    measure_in_folder(__doc__, SIZES, made, make, all_figures)
