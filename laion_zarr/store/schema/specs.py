"""What an array of the store is (dims, dtype, units, chunks), and the words all arrays share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SCHEMA_VERSION = 1
ROOT_ATTRIBUTE = "laion_zarr"  # {"schema_version": 1} in the root group's attributes
MANIFEST = "manifest.json"
STAGING = ".staging"  # group for the new version of a listed part, until it replaces that part
DEFAULT_STORE = "laion-fmri.zarr"
# What zarr writes at the root before it renames it; a killed run leaves one behind.
PARTIAL = re.compile(r"(zarr|manifest)\.[0-9a-f]{32}\.partial")

TRIAL = "trial"
TIME = "time"
VOXEL = "voxel"
ROI = "roi"
NC = "nc"
SESSION = "session_id"
GRID = "grid"
VERTEX = "vertex"
HEMI = "hemi"
IMAGE = "image"
FEATURE = "feature"
SUBJECT = "subject"  # attribute that names the subject that the voxels belong to

# Measured: a chunk of 128 voxels x all trials of a session is ~0.5 MB, and an ROI of ~500 voxels
# then requires reading 1.8 times its own bytes (2.5 times with 256 voxels); 135 chunks make one
# ~72 MB shard, which is also one Dask block.
CHUNK_VOXELS = 128
SLAB_VOXELS = 135 * CHUNK_VOXELS
CHUNK_BYTES = 1 << 17  # of the image files; a reader requests only the bytes of one image file

MASKS = ("anatomical", "rsquare")
MASK_CHOICES = (*MASKS, "both")  # of ``convert --mask``
DEFAULT_MASK: Final = "anatomical"
ALL_SESSIONS_NC = "NoiseceilingAllrep"  # noise ceiling for thresholds that span sessions

PERCENT = "percent"
SECONDS = "s"
SIGNAL_CHANGE = "percent signal change"
MM = "mm"
T1W_SPACE = "subject's T1w space"


@dataclass(frozen=True)
class Chunking:
    """Chunks and shards of a large array, and their compression.

    Along the first axis; where `columns` says so along the second one, too, into blocks of columns.
    Each block has shards of its own.

    Attributes
    ----------
    rows : int
        Rows per chunk.
    per_shard : int
        Chunks per shard.
    packing : {"lz4", "zstd", None}
        Compression of a chunk; None if not compressed.
    listed : bool
        Whether the store has a table of the chunks, see `chunk_table`.
    columns : int, optional
        Most columns of a block, a multiple of `CHUNK_VOXELS`. If not provided, a chunk has all.
    """

    rows: int
    per_shard: int
    packing: str | None
    listed: bool = True
    columns: int | None = None

    def n_blocks(self, shape: Sequence[int]) -> int:
        """Number of blocks of columns of an array."""
        return 1 if self.columns is None else max(1, -(-shape[1] // self.columns))

    def row(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of a row of a chunk; the last block of columns may fill it only in part.

        Blocks are of one width, of whole chunks of voxels where there are several.
        """
        n_blocks = self.n_blocks(shape)
        if n_blocks == 1:
            return tuple(shape[1:])
        return (-(-shape[1] // (n_blocks * CHUNK_VOXELS)) * CHUNK_VOXELS,)

    def below(self, block: int, n_dims: int) -> str:
        """What follows the number of a shard in its key, by block and number of axes."""
        return f"/{block}" * (n_dims > 1) + "/0" * (n_dims - 2)


@dataclass(frozen=True)
class ArraySpec:
    """One array of the store.

    Attributes
    ----------
    name : str
        Name of the array in the store, and of the xarray variable.
    dims : tuple of str
        Names of its axes, outermost first.
    dtype : str
        Zarr data type.
    description : str
        Description of the values, for users; stored in the array's attributes.
    units : str, optional
        Stored in the array's attributes.
    chunking : Chunking, optional
        If not provided, the array is one chunk.
    level : int
        Compression level of zstd, for an array of one chunk.
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    description: str
    units: str | None = None
    chunking: Chunking | None = None
    level: int = 3

    @property
    def attributes(self) -> dict[str, str]:
        """Attributes of the array in the store: description, and units if any."""
        units = {} if self.units is None else {"units": self.units}
        return {"description": self.description, **units}


def specs_by_name(*specs: ArraySpec) -> dict[str, ArraySpec]:
    """Table of arrays, by name."""
    return {spec.name: spec for spec in specs}


def chunk_table(array: str) -> ArraySpec:
    """Array with the offset in its shard, size and CRC-32C of each chunk of a large array."""
    return ArraySpec(
        f"{array}_chunks",
        ("chunk", "field"),
        "uint64",
        f"for each chunk of {array}, in order: offset in its shard, bytes, CRC-32C of its data",
    )
