"""Ways without laion_zarr to read betas of some voxels of one session, (trial, voxel)."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from isal import igzip

_HEADER = 352  # bytes of the NIfTI-1 header and its extension flag in the synthetic files
TRIALS_PER_CHUNK = 16


def inflate(path: Path) -> None:
    """Inflate a gzip file to its end, and discard the data: the least work of any conversion."""
    buffer = bytearray(1 << 24)
    with igzip.open(path) as file:
        while file.readinto(buffer):
            pass


def nibabel_load(path: Path, mask: np.ndarray) -> np.ndarray:
    """Load with nibabel, then mask, as most scripts do; in halves, since the whole takes 24 GB."""
    betas = nib.load(path).dataobj
    middle = betas.shape[3] // 2
    halves = (np.asarray(betas[..., part])[mask] for part in (np.s_[:middle], np.s_[middle:]))
    return np.concatenate(list(halves), axis=1).T


def gzip_stream(path: Path, mask: np.ndarray, n_trials: int) -> np.ndarray:
    """Inflate volume by volume with Python's gzip and keep the mask's voxels; low memory use."""
    index = np.ravel_multi_index(np.nonzero(mask), mask.shape, order="F")
    found = np.empty((n_trials, len(index)), dtype="<f4")
    with gzip.open(path) as file:
        file.read(_HEADER)
        for row in found:
            row[:] = np.frombuffer(file.read(mask.size * 4), "<f4")[index]
    return found


def write_hdf5(path: Path, betas: np.ndarray) -> None:
    """Write all betas of a session, (trial, voxel), in chunks of 16 trials × all voxels."""
    with h5py.File(path, "w") as file:
        chunks = (min(TRIALS_PER_CHUNK, len(betas)), betas.shape[1])
        file.create_dataset("betas", data=betas, chunks=chunks)


def read_hdf5(path: Path, keep: np.ndarray) -> np.ndarray:
    """Read some voxels of all trials, block by block: h5py's own fancy indexing is slower."""
    with h5py.File(path) as file:
        betas = file["betas"]
        found = np.empty((len(betas), len(keep)), dtype="<f4")
        for lo in range(0, len(betas), TRIALS_PER_CHUNK):
            found[lo : lo + TRIALS_PER_CHUNK] = betas[lo : lo + TRIALS_PER_CHUNK][:, keep]
    return found


def read_memmap(path: Path) -> np.ndarray:
    """Read a contiguous file of only these voxels: no format can be faster."""
    return np.array(np.load(path, mmap_mode="r"))
