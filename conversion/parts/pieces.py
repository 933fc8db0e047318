"""Parts made of many small files: maps of a session, anatomy, surfaces.

Each file becomes one array. A damaged file fails only its own array; a stored array whose file is
now gone or damaged is copied from the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from zarr.abc.store import Store

from laion_zarr._release import FUNCTIONAL_RES, RoiFiles, SubjectFiles, sidecar
from laion_zarr.conversion.options import PROBLEMS
from laion_zarr.conversion.parts.subject import Sources, VoxelAxis, attributes_of, sources_of
from laion_zarr.conversion.source.files import Source
from laion_zarr.conversion.source.nifti import Grid, read_map, read_mask
from laion_zarr.conversion.source.problems import damaged
from laion_zarr.conversion.source.surfaces import check_label, read_label, read_surface_mask
from laion_zarr.conversion.write.writer import PartWriter
from laion_zarr.errors import SourceError
from laion_zarr.store import schema
from laion_zarr.store.parts import Part, StoredParts
from laion_zarr.store.schema import ArraySpec


@dataclass(frozen=True, eq=False)  # arrays have no single truth: a piece equals only itself
class Piece:
    """One array of a part.

    Attributes
    ----------
    spec : ArraySpec
        Name, dims and dtype of the array.
    values : numpy.ndarray
        Values of the array.
    attributes : dict
        Provenance and further attributes of the array.
    node : str
        Group within the part that holds the array; empty for the group of the part itself.
    """

    spec: ArraySpec
    values: np.ndarray
    attributes: dict[str, Any]
    node: str = ""


@dataclass
class Pieces:
    """Arrays of a part that could be read, and the errors of those that could not.

    Attributes
    ----------
    found : list of Piece
        Arrays that could be read.
    sources : dict
        Identities of the source files of these arrays.
    errors : dict of str to Exception
        Name of each array that failed, and its exception.
    attributes : dict
        Attributes of the part's group.
    outdated : callable
        Whether a stored array, by name and attributes, does not go with those that were read.
    """

    found: list[Piece] = field(default_factory=list)
    sources: Sources = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    outdated: Callable[[str, Mapping[str, Any]], bool] = lambda name, attributes: False

    def write(self, store: Store, path: str, stored: StoredParts | None) -> Part:
        """Write the part, see `write_pieces`."""
        return write_pieces(store, path, self, stored)


class PieceReader:
    """Reads small files one by one; the error of a damaged file is kept, and reading continues."""

    def __init__(self, source: Source, identities: Sources) -> None:
        self.source = source
        self._identities = identities
        self.pieces = Pieces()

    def add(self, name: str, file: str, read: Callable[[], Piece]) -> None:
        """Read one file into an array; `name` is what the file is called in messages."""
        if file not in self._identities:
            return  # its identity could not be read, which has been reported
        try:
            piece = read()
            provenance = attributes_of(self.source, file, self._identities)
            sources = sources_of(self.source, file, self._identities)
            self.source.check_unchanged(sources)
        except PROBLEMS as error:
            self.pieces.errors[name] = error
            return
        attributes = piece.attributes | provenance
        self.pieces.found.append(Piece(piece.spec, piece.values, attributes, piece.node))
        self.pieces.sources |= sources


def read_maps(source: Source, maps: Mapping[str, str], axis: VoxelAxis, ids: Sources) -> Pieces:
    """Read the 3-D maps of one session, voxels in storage order."""
    reader = PieceReader(source, ids)

    def read(name: str, file: str) -> Piece:
        values, _ = read_map(source, file, axis.grid)
        return Piece(schema.MAP_ARRAYS[name], values.ravel()[axis.voxels], {})

    for name, file in maps.items():
        reader.add(name, file, partial(read, name, file))
    reader.pieces.found.append(Piece(schema.VOXEL_INDEX, axis.voxels, {}))
    return reader.pieces


def anatomy_files(files: SubjectFiles) -> dict[str, str]:
    """Files of the anatomical images to be stored, by name of the array that each becomes."""
    wanted = {
        "t1w": ("t1w", FUNCTIONAL_RES),
        "t2w": ("t2w", FUNCTIONAL_RES),
        "brain_mask": ("brain_mask", FUNCTIONAL_RES),
        "brain_mask_full": ("brain_mask", None),
    }
    return {name: files.anatomy[key] for name, key in wanted.items() if key in files.anatomy}


def read_anatomy(source: Source, images: Mapping[str, str], grid: Grid, ids: Sources) -> Pieces:
    """Read T1w and T2w on the functional grid, and the brain mask at both resolutions."""
    reader = PieceReader(source, ids)

    def read(name: str, file: str) -> Piece:
        spec = schema.ANATOMY_ARRAYS[name]
        read_3d = read_mask if spec.dtype == "bool" else read_map
        values, own = read_3d(source, file, None if name == "brain_mask_full" else grid)
        return Piece(spec, values, {"affine": own.affine.tolist()})

    for name, file in images.items():
        reader.add(name, file, partial(read, name, file))
    return reader.pieces


def read_surfaces(source: Source, rois: Mapping[str, RoiFiles], ids: Sources) -> Pieces:
    """Read the ROIs on the subject's cortical surface, one group per hemisphere."""
    reader = PieceReader(source, ids)

    def read(roi: str, hemi: str, fmt: str, file: str) -> Piece:
        if fmt == "label":
            spec, values = schema.surface_label(roi), read_label(source, file)
        else:
            spec, values = schema.surface_mask(roi), read_surface_mask(source, file)
        return Piece(spec, values, {"category": rois[roi].category}, f"hemi-{hemi}")

    for roi, its in sorted(rois.items()):
        for (hemi, fmt), file in its.surfaces.items():
            name = f"{roi} hemi-{hemi} {fmt}"
            reader.add(name, file, partial(read, roi, hemi, fmt, file))
    reader.pieces.attributes["rois"] = {
        piece.spec.name.removesuffix("_label"): piece.attributes["category"]
        for piece in reader.pieces.found
    }
    _drop_odd_meshes(source, reader.pieces)
    return reader.pieces


def read_fine_rois(source: Source, rois: Mapping[str, RoiFiles], ids: Sources) -> Pieces:
    """Read the ROI masks on the localizers' own grid, as the voxels that they hold."""
    reader = PieceReader(source, ids)
    grids: dict[str, Grid] = {}

    def read(roi: str, file: str) -> Piece:
        mask, grids[file] = read_mask(source, file)
        attributes = {
            "category": rois[roi].category,
            "shape": list(mask.shape),
            "affine": grids[file].affine.tolist(),
        }
        return Piece(schema.fine_roi(roi), np.flatnonzero(mask).astype(np.int32), attributes)

    for roi, its in sorted(rois.items()):
        if its.fine is not None:
            reader.add(roi, its.fine, partial(read, roi, its.fine))
    _drop_odd_grids(reader.pieces, grids)
    reader.pieces.attributes["rois"] = {
        piece.spec.name: piece.attributes["category"] for piece in reader.pieces.found
    }
    return reader.pieces


def _drop_odd_grids(pieces: Pieces, grids: Mapping[str, Grid]) -> None:
    """Reject masks on another grid than most of them."""
    forms = [(p.attributes["shape"], p.attributes["affine"]) for p in pieces.found]
    usual = max(range(len(forms)), key=lambda n: forms.count(forms[n]), default=0)
    kept = list(pieces.found)
    for piece in kept:
        file = piece.attributes["source"]["file"]
        try:
            grids[file].check_same(grids[kept[usual].attributes["source"]["file"]])
        except SourceError as error:
            pieces.errors[piece.spec.name] = error
            pieces.found.remove(piece)
            for name in (file, sidecar(file)):
                pieces.sources.pop(name, None)


def _drop_odd_meshes(source: Source, pieces: Pieces) -> None:
    """Reject what does not fit the mesh that most masks of the hemisphere have.

    That is masks of another number of vertices, and labels with vertices beyond it.
    """
    for node in sorted({piece.node for piece in pieces.found}):
        masks = [p for p in pieces.found if p.node == node and p.spec.dtype == "bool"]
        if not masks:
            continue
        ((usual, _),) = Counter(len(piece.values) for piece in masks).most_common(1)
        of = next(_file_of(piece) for piece in masks if len(piece.values) == usual)
        for piece in [piece for piece in pieces.found if piece.node == node]:
            file = _file_of(piece)
            try:
                if piece.spec.dtype != "bool":
                    check_label(source.full(file), piece.values, usual, of)
                elif len(piece.values) != usual:
                    raise damaged(
                        source.full(file),
                        f"{len(piece.values)} vertices",
                        f"{usual} vertices, as {of} has",
                    )
            except SourceError as error:
                form = "func.gii" if piece.spec.dtype == "bool" else "label"
                pieces.errors[f"{piece.spec.name} {node} {form}"] = error
                pieces.found = [one for one in pieces.found if one is not piece]
                pieces.sources.pop(file)


def _file_of(piece: Piece) -> str:
    return piece.attributes["source"]["file"]


def write_pieces(store: Store, path: str, pieces: Pieces, stored: StoredParts | None) -> Part:
    """Write a part: the arrays that were read, and the arrays that only the store has.

    Parameters
    ----------
    store, path
        Store, and the group in it to write to.
    pieces : Pieces
        The arrays that were read.
    stored : StoredParts or None
        The subject's stored parts, from which arrays are kept; None to keep none.
    """
    writer = PartWriter(store, path)
    written = {f"{piece.node}/{piece.spec.name}".lstrip("/") for piece in pieces.found}
    sources, attributes = dict(pieces.sources), dict(pieces.attributes)
    kept = _only_stored(stored, path, written) if stored is not None else []
    kept = [(name, its) for name, its in kept if not pieces.outdated(name, its)]
    if stored is not None:
        part = stored.part(_part_name(path))
        for name, array_attributes in kept:
            writer.take_over(stored, part, name)
            file = array_attributes["source"]["file"]
            names = [n for n in (file, sidecar(file)) if n in part.sources]
            sources |= {name: dict(part.sources[name]) for name in names}
        if kept and "rois" in attributes:
            old_rois = stored.attributes(_part_name(path))[0]["rois"]
            attributes["rois"] = dict(sorted((old_rois | attributes["rois"]).items()))
    nodes = {name.rpartition("/")[0] for name in written | {name for name, _ in kept}}
    writer.group(attributes)
    for node in sorted(nodes - {""}):
        writer.group({}, node)
    for piece in pieces.found:
        writer.array(piece.spec, piece.values, piece.attributes, piece.node)
    return writer.part(sources)


def _part_name(path: str) -> str:
    """Name of a part, ``"maps/ses-01"``, from its path, ``"sub-01/maps/ses-01"``, staged or not."""
    path = path.removeprefix(f"{schema.STAGING}/")
    return path.partition("/")[2]


def _only_stored(
    stored: StoredParts, path: str, written: set[str]
) -> list[tuple[str, dict[str, Any]]]:
    """Stored arrays that have a source file and are not in `written`, with their attributes."""
    name = _part_name(path)
    left = [array for array in stored.part(name).arrays() if array not in written]
    found = stored.attributes(name, left)
    return [(array, attrs) for array, attrs in zip(left, found, strict=True) if "source" in attrs]
