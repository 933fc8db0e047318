"""Arrays of the averages over the trials of each image, which are made of the betas."""

from __future__ import annotations

from laion_zarr.store.schema.specs import (
    CHUNK_VOXELS,
    IMAGE,
    VOXEL,
    ArraySpec,
    Chunking,
    chunk_table,
    specs_by_name,
)
from laion_zarr.store.schema.stimuli import IMAGE_NAME
from laion_zarr.store.schema.subjects import VOXEL_INDEX

DEVIATIONS = "standard deviations"
N_TRIALS = ArraySpec("n_trials", (IMAGE,), "int32", "number of trials of the image")
MEAN = ArraySpec(
    "mean",
    (IMAGE, VOXEL),
    "float32",
    "betas, z-scored per voxel and session, averaged over the trials of each image",
    DEVIATIONS,
    # 275,000 voxels in 8 blocks: an image of the whole brain takes as many requests, and the
    # converter holds a block of all images, 0.9 GB, in memory. A shard of 256 images is ~30 MB.
    Chunking(1, 256, "lz4", columns=270 * CHUNK_VOXELS),
)
MEAN_BY_VOXEL = ArraySpec(
    "mean_by_voxel",
    (VOXEL, IMAGE),
    "float32",
    f"the values of {MEAN.name} once more, with all images of a voxel together",
    DEVIATIONS,
    # A voxel is one chunk, 0.35 MB for 6,204 images, and a region of 400 voxels ~27 of them, which
    # are mostly adjacent. A shard is ~34 MB.
    Chunking(16, 96, "lz4"),
)
NOISE = ArraySpec(
    "noise",
    (VOXEL,),
    "float32",
    "standard deviation of single trials around the mean of their image: square root of the "
    "variance over trials (ddof 1), averaged over the images with two trials or more",
    DEVIATIONS,
    Chunking(2048, 256, "lz4"),  # of one voxel, 8 kB are read
)
AVERAGE_ARRAYS = specs_by_name(
    MEAN,
    chunk_table(MEAN.name),
    MEAN_BY_VOXEL,
    chunk_table(MEAN_BY_VOXEL.name),
    NOISE,
    chunk_table(NOISE.name),
    VOXEL_INDEX,
    IMAGE_NAME,
    N_TRIALS,
)
