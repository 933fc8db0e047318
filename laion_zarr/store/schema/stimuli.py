"""Arrays of the stimuli and of the splits."""

from __future__ import annotations

from laion_zarr.store.schema.specs import (
    CHUNK_BYTES,
    FEATURE,
    IMAGE,
    ArraySpec,
    Chunking,
    chunk_table,
    specs_by_name,
)

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
IMAGE_ARRAYS = specs_by_name(
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
EMBEDDING_ARRAYS = specs_by_name(
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
SEGMENTATION_ARRAYS = specs_by_name(
    MASKS_2D,
    chunk_table(MASKS_2D.name),
    ArraySpec("mask_row", _ROW, "int64", "0-based mask that the row is about"),
    ArraySpec("image_name", _ROW, "string", "file name of the stimulus"),
    ArraySpec("noun", _ROW, "string", "what was looked for"),
    ArraySpec("instance_id", _ROW, "int64", "0-based detection of the noun, best first"),
    ArraySpec("localized", _ROW, "int64", "1 if it was located, 0 if only seen"),
)
CAPTION_ARRAYS = specs_by_name(
    ArraySpec("image_name", _ROW, "string", "file name of the stimulus"),
    ArraySpec("caption_idx", _ROW, "int64", "rank from 1 (human), 0 (ai)"),
    ArraySpec("source", _ROW, "string", "human or ai"),
    ArraySpec("caption", _ROW, "string", "the caption, literally"),
)

# Image names and sides of 72 splits take 0.1 MB at this highest level of zstd, and twice as much
# at the default level.
_PER_SPLIT, _TIGHT = ("split",), 19
SPLIT_ARRAYS = specs_by_name(
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
