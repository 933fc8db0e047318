"""Write the names of groups, arrays and parts of the store as TypeScript: ``python names.py``.

The page imports them, so that it cannot drift from the schema.
"""

import json
import sys

from laion_zarr._release import OOD_TYPES
from laion_zarr.store import schema
from laion_zarr.store.schema import (
    ANATOMY_ARRAYS,
    AVERAGE_ARRAYS,
    CAPTION_ARRAYS,
    EMBEDDING,
    EMBEDDING_ARRAYS,
    IMAGE_ARRAYS,
    MAP_ARRAYS,
    SEGMENTATION_ARRAYS,
    SPLIT_ARRAYS,
    TRIAL_ARRAYS,
    VOXEL_ARRAYS,
    ArraySpec,
)

HEAD = "// Made from laion_zarr/store/schema by explorer/names.py ('make explorer'); do not edit.\n"


def named(specs: dict[str, ArraySpec]) -> dict[str, str]:
    """Names of arrays, by themselves: one that is gone is an error where the page uses it."""
    return {name: name for name in specs}


def names() -> dict[str, object]:
    """All names that the page knows."""
    subject_parts = ("VOXELS", "TRIALS", "ANATOMY", "SURFACES", "LOCALIZERS", "GEOMETRY")
    subject_parts += ("AVERAGES",)
    stimulus_parts = ("METADATA", "IMAGES", "EMBEDDINGS", "SEGMENTATIONS", "CAPTIONS", "MEMBERSHIP")
    parts = {
        name.lower(): getattr(schema, f"{name}_PART") for name in subject_parts + stimulus_parts
    }
    return {
        "schemaVersion": schema.SCHEMA_VERSION,
        "rootAttribute": schema.ROOT_ATTRIBUTE,
        "manifest": schema.MANIFEST,
        "store": schema.DEFAULT_STORE,
        "allSessionsCeiling": schema.ALL_SESSIONS_NC,
        "groups": {"stimuli": schema.STIMULI_GROUP, "splits": schema.SPLITS_GROUP},
        "parts": parts,
        "chunkTable": schema.chunk_table("").name,
        "dims": {"voxel": schema.VOXEL, "image": schema.IMAGE},
        "maps": {
            name: {"description": spec.description, "units": spec.units or ""}
            for name, spec in MAP_ARRAYS.items()
        },
        "mapsPart": schema.maps_part(""),
        "embeddingsPart": schema.embeddings_part(""),
        "voxels": named(VOXEL_ARRAYS),
        "trials": named(TRIAL_ARRAYS),
        "betas": schema.BETAS.name,
        "averages": named(AVERAGE_ARRAYS),
        "anatomy": named(ANATOMY_ARRAYS),
        "localizerMaps": {place: schema.localizer_maps(place).name for place in ("1pt8", "L", "R")},
        "mapLabels": schema.MAP_LABELS,
        "faces": {hemi: schema.in_hemi(hemi, schema.FACES.name) for hemi in "LR"},
        "hemis": {hemi: schema.in_hemi(hemi, "") for hemi in "LR"},
        "toScanner": schema.TO_SCANNER.name,
        "mesh": schema.MESH,
        "images": named(IMAGE_ARRAYS),
        "embedding": schema.EMBEDDING.name,
        "embeddings": named({k: v for k, v in EMBEDDING_ARRAYS.items() if v is not EMBEDDING}),
        "segmentations": named(SEGMENTATION_ARRAYS),
        "captions": named(CAPTION_ARRAYS),
        "splits": named(SPLIT_ARRAYS),
        "license": schema.IMAGE_LICENSE,
        "oodTypes": OOD_TYPES,
    }


if __name__ == "__main__":
    text = json.dumps(names(), indent=2, ensure_ascii=False)
    sys.stdout.write(f"{HEAD}export const NAMES = {text} as const;\n")
