"""Small parts of a subject: one table of which files each is made of, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from laion_zarr import _release as release
from laion_zarr._release import SubjectFiles
from laion_zarr.conversion.parts import pieces
from laion_zarr.conversion.parts.pieces import Pieces
from laion_zarr.conversion.parts.subject import Sources, VoxelAxis
from laion_zarr.conversion.source.files import Source
from laion_zarr.store import schema

# Reads the files of a part; called with the source, the voxel axis and the files' identities.
Read = Callable[[Source, VoxelAxis, Sources], Pieces]


@dataclass(frozen=True)
class SmallPart:
    """One part that the parent process writes.

    Attributes
    ----------
    name : str
        Name of the part in the manifest.
    files : mapping of str to str
        Source files, by what each is called in messages.
    read : callable
        Reads the files, see `Read`.
    arrays : frozenset of str
        Names of the arrays that the files become, with the name of the part.
    """

    name: str
    files: Mapping[str, str]
    read: Read
    arrays: frozenset[str]


@dataclass(frozen=True)
class Kind:
    """A kind of small parts, as ``--parts`` names it.

    Attributes
    ----------
    stored_as : str
        Start of the names of such parts in the manifest.
    folder : callable
        Folder of the source files of a subject, for messages.
    find : callable
        Parts that can be made of a subject's files.
    """

    stored_as: str
    folder: Callable[[str], PurePosixPath]
    find: Callable[[SubjectFiles], list[SmallPart]]


def _part(name: str, files: Mapping[str, str], read: Read, arrays: list[str]) -> list[SmallPart]:
    """A part in a list; an empty list if there are no files."""
    names = frozenset(f"{name}/{array}" for array in arrays)
    return [SmallPart(name, files, read, names)] if files else []


def _maps(files: SubjectFiles) -> list[SmallPart]:
    return [
        part
        for session, its in files.sessions.items()
        for part in _part(
            schema.maps_part(session), its.maps, partial(_read_maps, its.maps), list(its.maps)
        )
    ]


def _read_maps(
    maps: Mapping[str, str], source: Source, axis: VoxelAxis, identities: Sources
) -> Pieces:
    return pieces.read_maps(source, maps, axis, identities)


def _anatomy(files: SubjectFiles) -> list[SmallPart]:
    images = pieces.anatomy_files(files)

    def read(source: Source, axis: VoxelAxis, identities: Sources) -> Pieces:
        return pieces.read_anatomy(source, images, axis.grid, identities)

    return _part(schema.ANATOMY_PART, images, read, list(images))


def _surfaces(files: SubjectFiles) -> list[SmallPart]:
    rois = {roi: its for roi, its in files.rois.items() if its.surfaces}
    form_of = {"func.gii": schema.surface_mask, "label": schema.surface_label}
    paths, arrays = {}, []
    for roi, its in rois.items():
        for (hemi, fmt), path in its.surfaces.items():
            paths[f"{roi} hemi-{hemi} {fmt}"] = path
            arrays.append(f"hemi-{hemi}/{form_of[fmt](roi).name}")

    def read(source: Source, axis: VoxelAxis, identities: Sources) -> Pieces:
        return pieces.read_surfaces(source, rois, identities)

    return _part(schema.SURFACES_PART, paths, read, arrays)


# The maps of a session belong to its betas: they have no option of their own.
MAPS = Kind("maps/", release.glm_dir, _maps)
KINDS = {
    "anatomy": Kind(schema.ANATOMY_PART, release.anatomy_dir, _anatomy),
    "surfaces": Kind(schema.SURFACES_PART, lambda subject: release.ROIS / subject, _surfaces),
}


def find_parts(files: SubjectFiles) -> list[SmallPart]:
    """All small parts that can be made of a subject's files."""
    return [part for kind in (MAPS, *KINDS.values()) for part in kind.find(files)]
