"""Small parts of a subject: one table of which files each is made of, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from laion_zarr import _release as release
from laion_zarr._release import SubjectFiles
from laion_zarr.conversion.parts import geometry, localizers, pieces
from laion_zarr.conversion.parts.events import read_tables, table_name
from laion_zarr.conversion.parts.localizers import LocalizerMaps
from laion_zarr.conversion.parts.pieces import Pieces
from laion_zarr.conversion.parts.subject import Sources, VoxelAxis
from laion_zarr.conversion.source.files import Source
from laion_zarr.store import schema

_DOWNLOAD = "download --subject {}"

# Reads the files of a part; called with the source, the voxel axis and the files' identities.
Read = Callable[[Source, VoxelAxis, Sources], Pieces | LocalizerMaps]


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
        Names of the arrays that the files become, with the name of the part. Empty if an array is
        made of many files.
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
        Folder of the source files of a subject: what a bucket is listed for, and for messages.
    find : callable
        Parts that can be made of a subject's files.
    command : str
        Command of ``laion-zarr`` that downloads the files of the subject ``{}``.
    """

    stored_as: str
    folder: Callable[[str], PurePosixPath]
    find: Callable[[SubjectFiles], list[SmallPart]]
    command: str = _DOWNLOAD


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


def _localizers(files: SubjectFiles) -> list[SmallPart]:
    maps = {what: its for what, its in files.localizers.items() if what.place in localizers.PLACES}
    arrays = []
    for place in {what.place for what in maps}:
        array = schema.localizer_maps(place).name
        arrays += [array, schema.chunk_table(array).name]

    def read(source: Source, axis: VoxelAxis, identities: Sources) -> LocalizerMaps:
        return localizers.read_localizers(source, maps, axis, identities)

    named = {localizers.describe(what): path for what, path in maps.items()}
    return _part(schema.LOCALIZERS_PART, named, read, arrays)


def _fine_rois(files: SubjectFiles) -> list[SmallPart]:
    rois = {roi: its.fine for roi, its in files.rois.items() if its.fine is not None}

    def read(source: Source, axis: VoxelAxis, identities: Sources) -> Pieces:
        return pieces.read_fine_rois(source, files.rois, identities)

    return _part(schema.FINE_ROIS_PART, rois, read, list(rois))


def _geometry(files: SubjectFiles) -> list[SmallPart]:
    paths = {geometry.label(*key): path for key, path in files.recon.items()}

    def read(source: Source, axis: VoxelAxis, identities: Sources) -> Pieces:
        return geometry.read_geometry(source, files.recon, identities)

    return _part(schema.GEOMETRY_PART, paths, read, geometry.array_names(files.recon))


def _events(files: SubjectFiles) -> list[SmallPart]:
    paths = {table_name(*run): path for run, path in files.events.items()}

    def read(source: Source, axis: VoxelAxis, identities: Sources) -> Pieces:
        return read_tables(source, files.events, identities)

    return _part(schema.EVENTS_PART, paths, read, [])


# The betas of a session are large; they are planned by themselves.
BETAS = Kind("ses-", release.glm_dir, lambda files: [])
# The maps of a session belong to its betas: they have no option of their own.
MAPS = Kind("maps/", release.glm_dir, _maps)
KINDS = {
    "anatomy": Kind(
        schema.ANATOMY_PART, release.anatomy_dir, _anatomy, f"{_DOWNLOAD} --include-anatomical"
    ),
    "surfaces": Kind(schema.SURFACES_PART, lambda subject: release.ROIS / subject, _surfaces),
    "localizers": Kind(
        schema.LOCALIZERS_PART,
        lambda subject: release.LOCALIZERS / subject,
        _localizers,
        f"{_DOWNLOAD} --include-localizers",
    ),
    "rois_1pt5": Kind(schema.FINE_ROIS_PART, lambda subject: release.ROIS / subject, _fine_rois),
    "geometry": Kind(
        schema.GEOMETRY_PART,
        release.freesurfer_dir,
        _geometry,
        f"{_DOWNLOAD} --include-freesurfer",
    ),
    "events": Kind(
        schema.EVENTS_PART, release.raw_dir, _events, "download-raw --subject {} --suffix events"
    ),
}


def find_parts(files: SubjectFiles) -> list[SmallPart]:
    """All small parts that can be made of a subject's files."""
    return [part for kind in (MAPS, *KINDS.values()) for part in kind.find(files)]
