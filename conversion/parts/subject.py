"""The voxel axis and the trials of one subject, which all its sessions share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from zarr.abc.store import Store

from laion_zarr._release import FUNCTIONAL_RES, SubjectFiles, is_shared
from laion_zarr.conversion.budget import storage_order
from laion_zarr.conversion.parts.session import column_spec
from laion_zarr.conversion.source.files import Identity, Source
from laion_zarr.conversion.source.nifti import Grid, read_map, read_mask
from laion_zarr.conversion.source.tables import MISSING
from laion_zarr.conversion.write.writer import PartWriter
from laion_zarr.errors import NotConvertedError, SourceError
from laion_zarr.store import schema
from laion_zarr.store.parts import Part, StoredParts
from laion_zarr.store.schema import MASKS, NC, ROI, TRIAL, TRIAL_TYPE, VOXEL

Sources = dict[str, Identity]


def with_sidecar(source: Source, path: str, names: frozenset[str]) -> list[str]:
    """Path of a file, followed by the path of its sidecar if there is one."""
    sidecar = source.sidecar(path, names)
    return [path] if sidecar is None else [path, sidecar]


def attributes_of(source: Source, path: str, identities: Sources) -> dict[str, Any]:
    """Provenance of an array: path and identity of the source file, content of its sidecar."""
    sidecar = source.sidecar(path, frozenset(identities))
    return {"source": {"file": path, **identities[path]}} | (
        {"sidecar": source.json(sidecar)} if sidecar else {}
    )


def sources_of(source: Source, path: str, identities: Sources) -> Sources:
    """Identities of a file and of its sidecar, if there is one."""
    names = with_sidecar(source, path, frozenset(identities))
    return {name: identities[name] for name in names}


# -- voxel axis


@dataclass
class VoxelAxis:
    """The stored voxels of a subject, with masks, ROIs and noise ceilings.

    Attributes
    ----------
    grid : Grid
        The functional grid.
    voxels : numpy.ndarray, (voxel,) int32
        Flat C indices of the voxels, in storage order.
    masks : dict of str to numpy.ndarray
        Brain masks, flat over the grid, bool.
    rois : dict of str to (str, numpy.ndarray)
        Category and mask (flat over the grid, bool) of each ROI.
    ceilings : dict of str to numpy.ndarray
        Cross-session noise ceilings, flat over the grid, float32.
    attributes : dict of str to dict
        Provenance of each mask, ROI and noise ceiling, by name.
    sources : dict
        Source files and their identities.
    errors : dict of str to Exception
        Masks, ROIs and noise ceilings that could not be used, and why; the voxel axis is valid
        without them.
    """

    grid: Grid
    voxels: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    rois: dict[str, tuple[str, np.ndarray]] = field(default_factory=dict)
    ceilings: dict[str, np.ndarray] = field(default_factory=dict)
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)
    sources: Sources = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)


def mask_files(files: SubjectFiles, mask: str) -> dict[str, str]:
    """Files of the brain masks that the user chose (`mask`), as far as the mirror has them."""
    found = {
        "anatomical": files.anatomy.get(("brain_mask", FUNCTIONAL_RES)),
        "rsquare": files.r2mean,
    }
    return {
        name: path for name, path in found.items() if path is not None and mask in (name, "both")
    }


def _on_grid(files: SubjectFiles) -> dict[str, str]:
    rois = {f"{ROI}:{roi}": its.volume for roi, its in files.rois.items() if its.volume}
    return rois | {f"{NC}:{desc}": path for desc, path in files.noise_ceilings.items()}


def voxel_files(files: SubjectFiles, mask: str) -> dict[str, str]:
    """All source files of the part ``voxels``, by name of the mask, ROI or noise ceiling."""
    return mask_files(files, mask) | _on_grid(files)


def read_voxels(source: Source, files: SubjectFiles, mask: str, identities: Sources) -> VoxelAxis:
    """Read masks, ROIs and noise ceilings of a mirror; ``voxels`` of the result is still empty.

    A damaged mask raises, which fails the subject: without the mask, the voxel axis would be wrong.
    The error of a damaged ROI or noise ceiling is kept in ``errors``, and the others are read.
    """
    axis: VoxelAxis | None = None
    for name, path in mask_files(files, mask).items():
        values, grid = read_mask(source, path, None if axis is None else axis.grid)
        axis = axis or VoxelAxis(grid)
        _add(axis, source, files, (name, path), values, identities)
    assert axis is not None  # the caller made sure that there is a mask
    read_into(axis, source, files, identities)
    return axis


def read_into(axis: VoxelAxis, source: Source, files: SubjectFiles, identities: Sources) -> None:
    """Read a mirror's ROIs and noise ceilings into a voxel axis."""
    for what, path in _on_grid(files).items():
        if path not in identities:
            continue  # its identity could not be read, which the planner reports
        read = read_mask if what.startswith(ROI) else read_map
        try:
            values, _ = read(source, path, axis.grid)
            _add(axis, source, files, (what, path), values, identities)
        except SourceError as error:
            axis.errors[what] = error


def _add(
    axis: VoxelAxis,
    source: Source,
    files: SubjectFiles,
    named: tuple[str, str],
    values: np.ndarray,
    identities: Sources,
) -> None:
    what, path = named
    provenance, sources = (
        attributes_of(source, path, identities),
        sources_of(source, path, identities),
    )
    source.check_unchanged(sources)
    axis.attributes[what] = provenance
    axis.sources |= sources
    kind, _, name = what.partition(":")
    flat = values.ravel()  # C order of the grid, whatever the order in the file
    if kind in MASKS:
        axis.masks[kind] = flat
    elif kind == ROI:
        axis.rois[name] = (files.rois[name].category, flat)
    else:
        axis.ceilings[name] = flat


def restore_voxels(stored: StoredParts) -> VoxelAxis:
    """Read the voxel axis from the store, with masks, ROIs and noise ceilings on the whole grid."""
    found = stored.load(schema.VOXELS_PART)
    (attributes,) = stored.attributes(schema.VOXELS_PART)
    shape = tuple(attributes["shape"])
    axis = VoxelAxis(
        Grid(attributes["grid_file"], shape, np.array(attributes["affine"])), found[VOXEL]
    )
    axis.attributes = dict(attributes["sources"])
    axis.sources = {k: dict(v) for k, v in stored.part(schema.VOXELS_PART).sources.items()}

    def spread(values: np.ndarray) -> np.ndarray:
        flat = np.zeros(int(np.prod(shape)), dtype=values.dtype)
        flat[axis.voxels] = values
        return flat

    axis.masks = {name: spread(found[f"in_{name}"]) for name in MASKS if f"in_{name}" in found}
    for row, roi in enumerate(found.get(ROI, ())):
        axis.rois[roi] = (found["category"][row], spread(found["roi_mask"][row]))
    for row, desc in enumerate(found.get(NC, ())):
        axis.ceilings[desc] = spread(found["noise_ceiling"][row])
    return axis


def merge_voxels(old: VoxelAxis, new: VoxelAxis, subject: str) -> VoxelAxis:
    """Update a stored voxel axis with masks, ROIs and noise ceilings of a mirror.

    The storage order stays. A new mask with voxels that are not stored is refused (its error is in
    ``errors`` of the result), and the stored mask of that name stays.
    """
    new.grid.check_same(old.grid)
    stored = np.zeros(int(np.prod(old.grid.shape)), dtype=bool)
    stored[old.voxels] = True
    masks, sources, errors = dict(old.masks), old.sources | new.sources, dict(new.errors)
    attributes = old.attributes | new.attributes
    for name, mask in new.masks.items():
        missing = int((mask & ~stored).sum())
        if not missing:
            masks[name] = mask
            continue
        errors[name] = NotConvertedError(
            f"{subject}: the {name} brain mask holds {missing:,} voxels that are not stored. "
            f"Convert {subject} anew with 'laion-zarr convert --overwrite --subject {subject}' "
            "(what is stored stays readable until that is whole), or keep to the stored ones "
            "with --mask."
        )
        sources.pop(attributes.pop(name)["source"]["file"])
        if name in old.attributes:
            attributes[name] = old.attributes[name]
            sources |= {k: v for k, v in old.sources.items() if k not in sources}
    rois, ceilings = old.rois | new.rois, old.ceilings | new.ceilings
    return VoxelAxis(old.grid, old.voxels, masks, rois, ceilings, attributes, sources, errors)


def order_voxels(axis: VoxelAxis) -> np.ndarray:
    """All voxels that are in at least one mask, in storage order."""
    voxels = np.flatnonzero(np.logical_or.reduce(list(axis.masks.values())))
    if not voxels.size:
        raise SourceError(
            f"{axis.grid.path}: expected a brain mask with voxels in it, found none (nor in the "
            "other mask). Delete it and download it again."
        )
    none = np.zeros(len(voxels), dtype=bool)
    masks = np.stack([axis.masks[name][voxels] if name in axis.masks else none for name in MASKS])
    rois = np.array([mask[voxels] for _, (_, mask) in sorted(axis.rois.items())], dtype=bool)
    return storage_order(voxels, axis.grid.shape, masks, rois.reshape(-1, len(voxels)))


def write_voxels(store: Store, path: str, axis: VoxelAxis) -> Part:
    """Write the part ``voxels``: all arrays along the voxel axis, in storage order."""
    writer = PartWriter(store, path)
    voxels, specs = axis.voxels, schema.VOXEL_ARRAYS
    ijk = np.stack(np.unravel_index(voxels, axis.grid.shape), axis=1)
    xyz = ijk @ axis.grid.affine[:3, :3].T + axis.grid.affine[:3, 3]
    columns: dict[str, np.ndarray] = {VOXEL: voxels}
    columns |= {name: ijk[:, n] for n, name in enumerate("ijk")}
    columns |= {name: xyz[:, n] for n, name in enumerate("xyz")}
    columns |= {f"in_{name}": mask[voxels] for name, mask in axis.masks.items()}
    if rois := sorted(axis.rois):
        columns[ROI] = np.array(rois, dtype=object)
        columns["category"] = np.array([axis.rois[roi][0] for roi in rois], dtype=object)
        columns["roi_mask"] = np.stack([axis.rois[roi][1][voxels] for roi in rois])
    if descs := sorted(axis.ceilings):
        columns[NC] = np.array(descs, dtype=object)
        columns["noise_ceiling"] = np.stack([axis.ceilings[desc][voxels] for desc in descs])
    for name, values in columns.items():
        writer.array(specs[name], values)
    writer.group(
        {
            schema.COORDINATES: " ".join(n for n in schema.VOXEL_LABELS if n in columns),
            "shape": list(axis.grid.shape),
            "affine": axis.grid.affine.tolist(),
            "grid_file": axis.grid.path.rpartition("/")[2],
            "masks": sorted(axis.masks),
            "sources": dict(sorted(axis.attributes.items())),
        }
    )
    return writer.part(axis.sources)


# -- trials


def write_trials(
    store: Store,
    path: str,
    tables: Mapping[str, pd.DataFrame],
    stimuli: pd.DataFrame | None,
    behaviour: tuple[np.ndarray, np.ndarray] | None,
    made_from: Sources,
) -> Part:
    """Write the part ``trials``: one array for each column, over all sessions.

    Parameters
    ----------
    store, path
        Store, and the group in it to write to.
    tables : mapping of str to pandas.DataFrame
        Trial table of each session, in volume order.
    stimuli : pandas.DataFrame or None
        Stimulus metadata, joined to the trials by image name; None to join nothing.
    behaviour : tuple of numpy.ndarray or None
        What the trials have from the events, see `parts.events.behaviour_of`; None without events.
    made_from : dict
        Fingerprints, by name, of the parts that the tables come from: each session, the events and
        the stimulus metadata.
    """
    sessions = sorted(tables)
    table = combined([tables[session] for session in sessions])
    table = table.rename(columns=schema.trial_columns(table.columns))
    table["session_trial"] = np.concatenate([np.arange(len(tables[ses])) for ses in sessions])
    table["unique_or_shared"] = [
        "shared" if is_shared(name) else "unique" for name in table["image_name"]
    ]
    table["repetition"] = table.groupby("image_name").cumcount()
    names = {} if behaviour is None else schema.behaviour_names(table.columns)
    if stimuli is not None:
        table = _join_stimuli(table, stimuli, names.values())
    writer = PartWriter(store, path)
    writer.group({"sessions": sessions})
    writer.array(schema.TRIAL_ARRAYS[TRIAL], np.arange(len(table)))
    if behaviour is not None:
        numbers, types = behaviour
        columns = [names[name] for name in schema.BEHAVIOUR_ARRAYS]
        writer.array(schema.BEHAVIOUR, numbers, {"columns": columns})
        writer.array(replace(TRIAL_TYPE, name=names[TRIAL_TYPE.name]), types)
    for name in map(str, table.columns):
        spec = schema.TRIAL_ARRAYS.get(name) or column_spec(name, table[name], (TRIAL,))
        writer.array(spec, table[name].to_numpy())
    return writer.part(made_from)


def combined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate tables by rows; a column that mixes numbers, bools or text becomes text."""
    names = dict.fromkeys(name for table in tables for name in table.columns)
    columns = {}
    for name in names:
        missing = (np.full(len(table), "", dtype=object) for table in tables)
        parts = [table.get(name) for table in tables]
        pairs = zip(parts, missing, strict=True)
        columns[name] = _column([n if part is None else part.to_numpy() for part, n in pairs])
    return pd.DataFrame(columns)


def _column(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate the pieces of one column, whose types may differ."""
    empty = [_all_missing(part) for part in parts]
    kinds = {part.dtype.kind for part, none in zip(parts, empty, strict=True) if not none}
    if kinds and kinds <= set("iuf"):
        nothing = [np.full(len(part), np.nan) for part in parts]
        pieces = zip(parts, nothing, empty, strict=True)
        numbers = [n if none else part for part, n, none in pieces]
        joined = np.concatenate(numbers)
        if joined.dtype.kind != "f" or all(map(_is_exact_as_float, numbers)):
            return joined
    if kinds == {"b"} and not any(empty):
        return np.concatenate(parts)
    return np.array([str(value) for part in parts for value in part], dtype=object)


def _is_exact_as_float(values: np.ndarray) -> bool:
    """Whether float64 holds each of these numbers: floats, or whole numbers up to 2**53."""
    if values.dtype.kind not in "iu" or not len(values):
        return True
    return int(values.min()) >= -(2**53) and int(values.max()) <= 2**53


def _all_missing(values: np.ndarray) -> bool:
    """Whether all values of a text column are missing values."""
    return values.dtype.kind not in "iufb" and set(values.tolist()) <= MISSING


def _join_stimuli(table: pd.DataFrame, stimuli: pd.DataFrame, taken: Iterable[str]) -> pd.DataFrame:
    """Add the columns of the stimulus metadata to the trials, by image name."""
    rows = pd.Index(stimuli["image_name"].to_numpy(dtype=object))
    found = rows.get_indexer(pd.Index(table["image_name"].to_numpy(dtype=object)))
    missing = found < 0
    joined = {"stim_idx": found}
    for name, array in schema.joined_columns(stimuli.columns, [*table.columns, *taken]).items():
        values = stimuli[name].to_numpy()
        if missing.any() and values.dtype.kind in "iub":
            if _is_exact_as_float(values):
                values = values.astype(np.float64)
            else:
                values = values.astype(str).astype(object)
        column = values[found]
        if missing.any():
            column[missing] = np.nan if values.dtype.kind == "f" else ""
        joined[array] = column
    return table.assign(**joined)
