"""Schema of the store, version 1: groups, arrays, dims, units, shared by converter and reader.

``docs/store.md`` describes the schema for readers in other programming languages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

SCHEMA_VERSION = 1
ROOT_ATTRIBUTE = "laion_zarr"  # {"schema_version": 1} in the root group's attributes
MANIFEST = "manifest.json"
STAGING = ".staging"  # group for the new version of a listed part, until it replaces that part
DEFAULT_STORE = "laion-fmri.zarr"

TRIAL = "trial"
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
DEFAULT_MASK = "anatomical"
ALL_SESSIONS_NC = "NoiseceilingAllrep"  # noise ceiling for thresholds that span sessions

# Array names that are valid as folder names on every file system.
_ARRAY_NAME = re.compile(r"[A-Za-z][\w .-]*")

PERCENT = "percent"
SIGNAL_CHANGE = "percent signal change"
MM = "mm"
T1W_SPACE = "subject's T1w space"


@dataclass(frozen=True)
class Chunking:
    """Chunks and shards of a large array along its first axis, and their compression.

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
    """

    rows: int
    per_shard: int
    packing: str | None
    listed: bool = True


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


def _specs(*specs: ArraySpec) -> dict[str, ArraySpec]:
    return {spec.name: spec for spec in specs}


# Group attribute that tells xarray which arrays are coordinates (names separated by blanks).
COORDINATES = "coordinates"
VOXEL_LABELS = ("i", "j", "k", "x", "y", "z", "in_anatomical", "in_rsquare", "category")
TRIAL_LABELS = ("session", "run", "beta_index", "image_name")

_PER_VOXEL = (VOXEL,)
_PER_TRIAL = (TRIAL,)
GRID_DIMS = ("x", "y", "z")

VOXEL_INDEX = ArraySpec(
    VOXEL, _PER_VOXEL, "int32", "flat C-order index into the functional grid, in storage order"
)

VOXEL_ARRAYS = _specs(
    VOXEL_INDEX,
    ArraySpec("i", _PER_VOXEL, "int16", "first grid index"),
    ArraySpec("j", _PER_VOXEL, "int16", "second grid index"),
    ArraySpec("k", _PER_VOXEL, "int16", "third grid index"),
    ArraySpec("x", _PER_VOXEL, "float64", f"position in the {T1W_SPACE}", MM),
    ArraySpec("y", _PER_VOXEL, "float64", f"position in the {T1W_SPACE}", MM),
    ArraySpec("z", _PER_VOXEL, "float64", f"position in the {T1W_SPACE}", MM),
    ArraySpec("in_anatomical", _PER_VOXEL, "bool", "voxel is in the anatomical brain mask"),
    ArraySpec("in_rsquare", _PER_VOXEL, "bool", "voxel is in the rsquare brain mask"),
    ArraySpec(ROI, (ROI,), "string", "name of the region of interest"),
    ArraySpec("category", (ROI,), "string", "category of the region of interest"),
    ArraySpec("roi_mask", (ROI, VOXEL), "bool", "voxel is in the region of interest"),
    ArraySpec(NC, (NC,), "string", "which cross-session noise ceiling"),
    ArraySpec("noise_ceiling", (NC, VOXEL), "float32", "cross-session noise ceiling", PERCENT),
)


def chunk_table(array: str) -> ArraySpec:
    """Array with the offset in its shard, size and CRC-32C of each chunk of a large array."""
    return ArraySpec(
        f"{array}_chunks",
        ("chunk", "field"),
        "uint64",
        f"for each chunk of {array}, in order: offset in its shard, bytes, CRC-32C of its data",
    )


BETAS = ArraySpec(
    "betas",
    (VOXEL, TRIAL),
    "float32",
    "single-trial GLMsingle betas (TYPED)",
    SIGNAL_CHANGE,
    Chunking(CHUNK_VOXELS, SLAB_VOXELS // CHUNK_VOXELS, "lz4"),
)
SESSION_ARRAYS = _specs(
    BETAS,
    chunk_table(BETAS.name),
    VOXEL_INDEX,
    ArraySpec(TRIAL, _PER_TRIAL, "int32", "0-based trial of this session, as in the volumes"),
    ArraySpec("session", _PER_TRIAL, "string", "session of the trial"),
    ArraySpec("run", _PER_TRIAL, "int64", "run of the trial, 1-12"),
    ArraySpec("beta_index", _PER_TRIAL, "int64", "0-based volume of the source file"),
    ArraySpec("image_name", _PER_TRIAL, "string", "file name of the stimulus (`label`)"),
)

MAP_ARRAYS = _specs(
    ArraySpec("session_noise_ceiling", _PER_VOXEL, "float32", "noise ceiling", PERCENT),
    ArraySpec("r2", _PER_VOXEL, "float32", "GLMsingle R²", PERCENT),
    ArraySpec("hrf_index", _PER_VOXEL, "float32", "GLMsingle HRF of the library, 0-19"),
    ArraySpec("fracridge", _PER_VOXEL, "float32", "GLMsingle ridge fraction"),
)

TRIAL_ARRAYS = _specs(
    ArraySpec(TRIAL, _PER_TRIAL, "int32", "global trial index: sessions in order, then volumes"),
    SESSION_ARRAYS["session"],
    SESSION_ARRAYS["run"],
    SESSION_ARRAYS["beta_index"],
    ArraySpec("session_trial", _PER_TRIAL, "int32", "0-based trial of the session"),
    SESSION_ARRAYS["image_name"],
    ArraySpec("unique_or_shared", _PER_TRIAL, "string", "whether every subject saw the image"),
    ArraySpec("repetition", _PER_TRIAL, "int32", "0-based count of this image so far"),
    ArraySpec("stim_idx", _PER_TRIAL, "int32", "0-based row of the stimulus metadata, -1 if none"),
)

ANATOMY_ARRAYS = _specs(
    ArraySpec("t1w", GRID_DIMS, "float32", "T1-weighted image on the functional grid"),
    ArraySpec("t2w", GRID_DIMS, "float32", "T2-weighted image on the functional grid"),
    ArraySpec("brain_mask", GRID_DIMS, "bool", "anatomical brain mask on the functional grid"),
    ArraySpec(
        "brain_mask_full",
        ("x_full", "y_full", "z_full"),
        "bool",
        "anatomical brain mask at full resolution; affine in the attributes",
    ),
)


def surface_mask(roi: str) -> ArraySpec:
    """Mask of an ROI over the vertices of one hemisphere, in the group ``hemi-L`` or ``hemi-R``."""
    return ArraySpec(roi, (VERTEX,), "bool", f"vertex is in {roi} (func.gii)")


def surface_label(roi: str) -> ArraySpec:
    """Vertices of an ROI as listed in its FreeSurfer ``.label`` file, in file order."""
    name = f"{roi}_label"
    return ArraySpec(name, (name,), "int32", f"vertices of {roi} in its FreeSurfer label")


IMAGE_NAME = ArraySpec("image_name", (IMAGE,), "string", "file name of the stimulus")

_ROW = ("row",)
_BYTE = ("byte",)
_PER_IMAGE = (IMAGE,)
PICTURE_BYTES = ArraySpec(
    "data",
    _BYTE,
    "uint8",
    "the pictures' files (JPEG, PNG), one after the other",
    chunking=Chunking(CHUNK_BYTES, 1024, None, listed=False),
)
IMAGE_ARRAYS = _specs(
    IMAGE_NAME,
    PICTURE_BYTES,
    ArraySpec("start", _PER_IMAGE, "uint64", "first byte of the picture in data"),
    ArraySpec("nbytes", _PER_IMAGE, "uint64", "bytes of the picture"),
    ArraySpec("crc32", _PER_IMAGE, "uint32", "CRC-32 of the picture's bytes"),
    ArraySpec("height", _PER_IMAGE, "int32", "height, 0 if it cannot be decoded", "pixels"),
    ArraySpec("width", _PER_IMAGE, "int32", "width, 0 if it cannot be decoded", "pixels"),
)
EMBEDDING = ArraySpec(
    "embedding",
    (IMAGE, FEATURE),
    "float16",
    "embedding of the picture, NaN if not valid",
    # float16 hardly compresses (to 0.96 of its size), and a reader usually needs many rows.
    chunking=Chunking(64, 512, None),
)
EMBEDDING_ARRAYS = _specs(
    IMAGE_NAME,
    EMBEDDING,
    chunk_table(EMBEDDING.name),
    ArraySpec("valid", _PER_IMAGE, "bool", "whether the model gave an embedding"),
)
MASKS_2D = ArraySpec(
    "masks",
    ("mask", "y", "x"),
    "uint8",
    "where the object is, 0 or 1",
    chunking=Chunking(1, 4096, "zstd"),
)
# Columns that the tables of segmentations and captions must have; other columns are stored, too.
SEGMENTATION_ARRAYS = _specs(
    MASKS_2D,
    chunk_table(MASKS_2D.name),
    ArraySpec("mask_row", _ROW, "int64", "0-based mask that the row is about"),
    ArraySpec("image_name", _ROW, "string", "file name of the stimulus"),
    ArraySpec("noun", _ROW, "string", "what was looked for"),
    ArraySpec("instance_id", _ROW, "int64", "0-based detection of the noun, best first"),
    ArraySpec("localized", _ROW, "int64", "1 if it was located, 0 if only seen"),
)
CAPTION_ARRAYS = _specs(
    ArraySpec("image_name", _ROW, "string", "file name of the stimulus"),
    ArraySpec("caption_idx", _ROW, "int64", "rank from 1 (human), 0 (ai)"),
    ArraySpec("source", _ROW, "string", "human or ai"),
    ArraySpec("caption", _ROW, "string", "the caption, literally"),
)

# Image names and sides of 72 splits take 0.1 MB at this highest level of zstd, and twice as much
# at the default level.
_PER_SPLIT, _TIGHT = ("split",), 19
SPLIT_ARRAYS = _specs(
    ArraySpec("pool", _PER_SPLIT, "string", "images that are divided: shared, or a subject's"),
    ArraySpec("name", _PER_SPLIT, "string", "name of the split"),
    ArraySpec("variant_id", _PER_SPLIT, "int32", "which of the split's divisions"),
    ArraySpec("splitter", _PER_SPLIT, "string", "how the split was made"),
    ArraySpec("params", _PER_SPLIT, "string", "the same in numbers, as JSON"),
    ArraySpec("image_name", (IMAGE,), "string", "file name of the stimulus", level=_TIGHT),
    ArraySpec(
        "side", (*_PER_SPLIT, IMAGE), "int8", "0 not of the split, 1 train, 2 test", level=_TIGHT
    ),
)

VOXELS_PART = "voxels"
TRIALS_PART = "trials"
ANATOMY_PART = "anatomy"
SURFACES_PART = "surfaces"
METADATA_PART = "metadata"
IMAGES_PART = "images"
EMBEDDINGS_PART = "embeddings"
SEGMENTATIONS_PART = "segmentations"
CAPTIONS_PART = "captions"
STIMULI_GROUP = "stimuli"
MEMBERSHIP_PART = "membership"
SPLITS_GROUP = "splits"
# Kinds of parts of the stimuli -> command that downloads the source files of the part.
STIMULUS_PARTS = {
    METADATA_PART: "download-stimuli",
    IMAGES_PART: "download-stimuli",
    EMBEDDINGS_PART: "download-embeddings",
    SEGMENTATIONS_PART: "download-segmentations",
    CAPTIONS_PART: "download-captions",
}
# License attribute of data that contain stimulus images.
IMAGE_LICENSE = (
    "The stimulus images are under the LAION-fMRI Data Use Agreement "
    "(https://laion-fmri.hebartlab.com) and must not be passed on. For a store to be shared, leave "
    "them out: 'laion-zarr convert --parts' with all parts but images."
)


def groups_of_parts(group: str) -> tuple[str, ...]:
    """Subgroups of a group with a manifest that hold parts but no arrays."""
    return {STIMULI_GROUP: (EMBEDDINGS_PART,), SPLITS_GROUP: ()}.get(group, ("maps",))


# Names of existing arrays, which additional columns of a table must not take: for tables of trials,
# and for tables of stimuli.
_TAKEN = {*VOXEL_ARRAYS, *SESSION_ARRAYS, *MAP_ARRAYS, *TRIAL_ARRAYS, SESSION, GRID, IMAGE, "label"}
_TAKEN_BY_STIMULI = {
    *(IMAGE, *_ROW, "mask", "y", "x", MASKS_2D.name, chunk_table(MASKS_2D.name).name, "height"),
    *("width", "n_human_captions", "n_ai_captions"),
}
_TRIAL_COLUMNS = {
    "session": "session",
    "run": "run",
    "beta_index": "beta_index",
    "label": "image_name",
}


def trial_columns(columns: Iterable[str]) -> dict[str, str]:
    """Map columns of a trial table to array names; ``label`` is stored as ``image_name``."""
    return _array_names(columns, _TRIAL_COLUMNS, _TAKEN, "tsv_")


def stimulus_columns(columns: Iterable[str]) -> dict[str, str]:
    """Map columns of a table of stimuli to array names."""
    return _array_names(columns, {}, _TAKEN_BY_STIMULI, "csv_")


def joined_columns(columns: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """Map columns of the stimulus metadata to names of arrays along trials.

    Without ``image_name``, by which the tables are joined, and ``unique_or_shared``, which the
    label of a trial already tells. `taken` are names of other arrays along trials.
    """
    further = [name for name in columns if name not in ("image_name", "unique_or_shared")]
    return _array_names(further, {}, {*_TAKEN, *taken}, "stim_")


def _array_names(
    columns: Iterable[str], own: dict[str, str], taken: set[str], prefix: str
) -> dict[str, str]:
    """Map columns to array names; a name that is in `taken`, or not valid, gets the prefix."""
    found: dict[str, str] = {}
    for column in columns:
        name = own.get(column, column)
        if column not in own and (column in taken or not _ARRAY_NAME.fullmatch(column)):
            name = prefix + re.sub(r"\W", "_", column)
        while name in found.values():
            name += "_"
        found[column] = name
    return found


def embeddings_part(model: str) -> str:
    """Name of the part that holds the embeddings of one model."""
    return f"{EMBEDDINGS_PART}/{model}"


def maps_part(session: str) -> str:
    """Name of the part that holds the 3-D maps of one session."""
    return f"maps/{session}"


def is_session_part(part: str) -> bool:
    """Whether a part of a subject holds the betas of a session."""
    return part.startswith("ses-")
