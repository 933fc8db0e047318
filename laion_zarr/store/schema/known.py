"""What the schema has in a place: the array of a name in a part of a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from laion_zarr._release import RECON_CURVATURE
from laion_zarr.store.schema.averages import AVERAGE_ARRAYS
from laion_zarr.store.schema.events import (
    BEHAVIOUR,
    EVENT,
    EVENT_ARRAYS,
    TABLE_ARRAYS,
    TRIAL_TYPE,
)
from laion_zarr.store.schema.geometry import (
    FACES,
    TALAIRACH,
    TO_SCANNER,
    surface_curvature,
    surface_mesh,
)
from laion_zarr.store.schema.localizers import fine_roi, fine_voxels, localizer_maps
from laion_zarr.store.schema.parts import (
    ANATOMY_PART,
    AVERAGES_PART,
    BOLD_PART,
    CAPTIONS_PART,
    EMBEDDINGS_PART,
    EVENTS_PART,
    FINE_ROIS_PART,
    GEOMETRY_PART,
    IMAGES_PART,
    LOCALIZERS_PART,
    MEMBERSHIP_PART,
    METADATA_PART,
    SEGMENTATIONS_PART,
    SURFACES_PART,
    TRIALS_PART,
    VOXELS_PART,
    is_session_part,
)
from laion_zarr.store.schema.specs import HEMI, IMAGE, TRIAL, ArraySpec, chunk_table
from laion_zarr.store.schema.stimuli import (
    CAPTION_ARRAYS,
    EMBEDDING_ARRAYS,
    IMAGE_ARRAYS,
    IMAGE_NAME,
    SEGMENTATION_ARRAYS,
    SPLIT_ARRAYS,
)
from laion_zarr.store.schema.subjects import (
    ANATOMY_ARRAYS,
    BOLD_ARRAYS,
    MAP_ARRAYS,
    SESSION_ARRAYS,
    TRIAL_ARRAYS,
    VOXEL_ARRAYS,
    VOXEL_INDEX,
)

# Columns of tables have the type of their values, but for these, which readers compute with.
_TYPED_EVENTS = {name: EVENT_ARRAYS[name] for name in ("session", "run", "stim_name", "trial_type")}
# First part of a part's name -> dim of its columns, or None where it has no others; known arrays.
_PARTS: dict[str, tuple[str | None, Mapping[str, ArraySpec]]] = {
    VOXELS_PART: (None, VOXEL_ARRAYS),
    TRIALS_PART: (
        TRIAL,
        {**TRIAL_ARRAYS, BEHAVIOUR.name: BEHAVIOUR, TRIAL_TYPE.name: TRIAL_TYPE},
    ),
    "maps": (None, {**MAP_ARRAYS, VOXEL_INDEX.name: VOXEL_INDEX}),
    ANATOMY_PART: (None, ANATOMY_ARRAYS),
    BOLD_PART: (None, BOLD_ARRAYS),
    AVERAGES_PART: (None, AVERAGE_ARRAYS),
    EVENTS_PART: (EVENT, {**_TYPED_EVENTS, **TABLE_ARRAYS}),
    METADATA_PART: (IMAGE, {IMAGE_NAME.name: IMAGE_NAME}),
    IMAGES_PART: (None, IMAGE_ARRAYS),
    EMBEDDINGS_PART: (None, EMBEDDING_ARRAYS),
    SEGMENTATIONS_PART: ("row", SEGMENTATION_ARRAYS),
    CAPTIONS_PART: ("row", CAPTION_ARRAYS),
    MEMBERSHIP_PART: (None, SPLIT_ARRAYS),
}


def spec_of(part: str, array: str) -> ArraySpec | None:
    """What the schema has for an array of a part, both by name.

    Returns
    -------
    ArraySpec or None
        With a `dtype` of ``""`` where the type is that of the values, as in columns of tables. None
        if the schema has no such array.
    """
    kind, node, name = part.partition("/")[0], *array.rpartition("/")[::2]
    if is_session_part(part):
        return SESSION_ARRAYS.get(array) or _column(array, TRIAL)
    if kind in _PARTS:
        dim, known = _PARTS[kind]
        return known.get(array) or (None if dim is None else _column(array, dim))
    return _NESTED[kind](node, name) if kind in _NESTED else None


def _column(array: str, dim: str) -> ArraySpec:
    return ArraySpec(array, (dim,), "", "column of a table")


def _localizers(node: str, name: str) -> ArraySpec | None:
    place = node.removeprefix(f"{HEMI}-")
    maps = localizer_maps(place)
    specs = (maps, chunk_table(maps.name), fine_voxels(place))
    return next((spec for spec in specs if spec.name == f"{node}/{name}"), None)


def _geometry(node: str, name: str) -> ArraySpec:
    known = {spec.name: spec for spec in (FACES, TO_SCANNER, TALAIRACH)}
    if name == RECON_CURVATURE:
        return surface_curvature(name)
    return known.get(name) or surface_mesh(name)


_NESTED: dict[str, Callable[[str, str], ArraySpec | None]] = {
    LOCALIZERS_PART: _localizers,
    FINE_ROIS_PART: lambda _, name: fine_roi(name),
    GEOMETRY_PART: _geometry,
    SURFACES_PART: lambda _, name: ArraySpec(name, (name,), "", "mask, or vertices of a label"),
}
