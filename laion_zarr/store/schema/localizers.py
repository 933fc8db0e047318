"""Arrays of localizer maps, and of ROI masks on the localizers' own grid.

The labels of the maps are attributes of their array: whoever opens a subject in a bucket has them
with the metadata, without one more request.
"""

from __future__ import annotations

from laion_zarr.store.schema.specs import HEMI, VERTEX, VOXEL, ArraySpec, Chunking

LOCALIZER = "localizer"
LOCALIZER_Z = "localizer_z"
# Attributes of an array of maps: per row, what the map shows (columns of a table), and its source
# file; of volumes also the grid.
MAP_LABELS = "labels"
MAP_FIELDS = ("task", "session", "contrast", "stat", "run")
MAP_SOURCES = "sources"
# Coordinates of `LOCALIZER_Z` -> column of the labels.
LOCALIZER_COORDS = {"task": "task", "contrast": "contrast", "localizer_session": "session"}


def maps_node(place: str) -> str:
    """Group, within the part, of the maps of one resolution (``1pt8``) or hemisphere (``L``)."""
    return f"{HEMI}-{place}" if len(place) == 1 else place


def localizer_maps(place: str) -> ArraySpec:
    """All maps of one resolution or hemisphere, one per chunk; named with its group."""
    along = VERTEX if len(place) == 1 else VOXEL
    return ArraySpec(
        f"{maps_node(place)}/maps",
        (LOCALIZER, along),
        "float32",
        "localizer maps: z over all runs, or % signal change of a condition in a run",
        # A map is read whole: one chunk each. Shards of 64 bound the memory of the converter.
        chunking=Chunking(1, 64, "lz4"),
    )


def fine_voxels(place: str) -> ArraySpec:
    """Voxels of the maps in the same group: flat C-order indices into the grid of the maps."""
    return ArraySpec(
        f"{maps_node(place)}/{VOXEL}", (VOXEL,), "int32", "flat C-order index into the maps' grid"
    )


def fine_roi(roi: str) -> ArraySpec:
    """Voxels of an ROI on the localizers' own grid, ascending."""
    return ArraySpec(roi, (roi,), "int32", f"flat C-order indices of the voxels in {roi}")
