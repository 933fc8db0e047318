"""The part ``geometry``: cortical surfaces of a FreeSurfer recon, and where they lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from laion_zarr._release import HEMIS, RECON_CURVATURE, RECON_SPHERE, RECON_SURFACES
from laion_zarr.conversion.parts.pieces import Piece, PieceReader, Pieces
from laion_zarr.conversion.parts.subject import Sources
from laion_zarr.conversion.source.files import Source
from laion_zarr.conversion.source.problems import damaged
from laion_zarr.conversion.source.surfaces import (
    read_curvature,
    read_surface,
    read_talairach,
    read_volume_geometry,
)
from laion_zarr.errors import SourceError
from laion_zarr.store import codec, schema
from laion_zarr.templates.freesurfer import Surface

# Files of a recon by hemisphere and name; of the volume and of the affine to MNI305 by None.
ReconFiles = Mapping[tuple[str | None, str], str]

# Two files agree where a point of the brain lies, if it is the same to this many mm.
_SAME_PLACE = 1e-3
_BRAIN = np.array([[x, y, z, 1] for x in (-99, 99) for y in (-99, 99) for z in (-99, 99)])


def label(hemi: str | None, name: str) -> str:
    """Name of a recon file in messages."""
    return name if hemi is None else f"hemi-{hemi} {name}"


def array_names(files: ReconFiles) -> list[str]:
    """Names of the arrays that the files become."""
    whole = {"orig": schema.TO_SCANNER.name, "talairach": schema.TALAIRACH.name}
    named = [whole[name] if hemi is None else schema.in_hemi(hemi, name) for hemi, name in files]
    hemis = {hemi for hemi, name in files if hemi is not None and name != RECON_CURVATURE}
    return named + [schema.in_hemi(hemi, schema.FACES.name) for hemi in sorted(hemis)]


def read_geometry(source: Source, files: ReconFiles, ids: Sources) -> Pieces:
    """Read the recon: a damaged or contradictory file fails its own array, the rest is read."""
    reader = _ReconReader(source, ids)
    reader.read_wholes(files)
    for (hemi, name), file in files.items():
        if hemi is not None and name != RECON_CURVATURE:
            reader.add(label(hemi, name), file, partial(reader.surface, hemi, name, file))
    reader.drop_misplaced()
    meshes = {}
    for side in HEMIS:
        if reference := reader.one_mesh(side):
            meshes[reference.node] = reference.attributes[schema.MESH]
        if curvature := files.get((side, RECON_CURVATURE)):
            what = label(side, RECON_CURVATURE)
            reader.add(what, curvature, partial(reader.curvature, side, curvature, reference))
    # What only the store has stays, unless it is of a mesh that is another now.
    reader.pieces.outdated = lambda name, attributes: (
        meshes.get(name.rpartition("/")[0]) not in (None, attributes.get(schema.MESH))
    )
    return reader.pieces


class _ReconReader(PieceReader):
    """Reads the files of one recon, and compares them with one another."""

    def __init__(self, source: Source, identities: Sources) -> None:
        super().__init__(source, identities)
        self._surfaces: dict[str, Surface] = {}  # by file
        self._volume: np.ndarray | None = None  # to scanner mm, as orig.mgz has it

    def read_wholes(self, files: ReconFiles) -> None:
        """Read what belongs to both hemispheres: the volume's geometry, and the affine."""

        def volume(file: str) -> Piece:
            self._volume = read_volume_geometry(self.source, file)
            return Piece(schema.TO_SCANNER, self._volume, {})

        def talairach(file: str) -> Piece:
            return Piece(schema.TALAIRACH, read_talairach(self.source, file), {})

        for name, read in {"orig": volume, "talairach": talairach}.items():
            if file := files.get((None, name)):
                self.add(label(None, name), file, partial(read, file))

    def surface(self, hemi: str, name: str, file: str) -> Piece:
        """Read one surface; the sphere alone may lack a place in scanner mm."""
        found = read_surface(self.source, file)
        attributes: dict[str, Any] = {schema.MESH: _mesh_of(found)}
        if found.to_scanner is not None:
            attributes[schema.TO_SCANNER.name] = found.to_scanner.tolist()
        elif self._volume is None and name != RECON_SPHERE:
            raise damaged(
                self.source.full(file), "none", "a volume geometry, here or in mri/orig.mgz"
            )
        self._surfaces[file] = found
        return Piece(schema.surface_mesh(name), found.vertices, attributes, _node(hemi))

    def curvature(self, hemi: str, file: str, reference: Piece | None) -> Piece:
        """Read the curvature at the vertices of a hemisphere, of which `reference` is a surface."""
        if reference is None:
            raise damaged(self.source.full(file), "none", "a whole surface of the hemisphere")
        values = read_curvature(self.source, file)
        if len(values) != len(reference.values):
            raise self._another_mesh(file, f"{len(values):,} vertices", reference)
        mesh = {schema.MESH: reference.attributes[schema.MESH]}
        return Piece(schema.surface_curvature(RECON_CURVATURE), values, mesh, _node(hemi))

    def drop_misplaced(self) -> None:
        """Drop white and pial surfaces whose file places them elsewhere than another file does."""
        known, where = self._volume, "mri/orig.mgz"
        for piece in [p for p in self.pieces.found if p.spec.name in RECON_SURFACES]:
            file = _file_of(piece)
            affine = self._surfaces[file].to_scanner
            if known is None:
                known, where = affine, file
            elif affine is not None and np.abs((affine - known) @ _BRAIN.T).max() > _SAME_PLACE:
                centres = [f"c_ras {its[:3, 3].round(3).tolist()}" for its in (affine, known)]
                self._drop(piece, f"{centres[0]} and its axes", f"{centres[1]}, as {where} has it")

    def one_mesh(self, hemi: str) -> Piece | None:
        """Drop surfaces of another mesh than most of the hemisphere; add the faces of these.

        Returns the first of the surfaces that stay; None if there is none.
        """
        surfaces = [p for p in self.pieces.found if p.node == _node(hemi)]
        if not surfaces:
            return None
        count = Counter(piece.attributes[schema.MESH] for piece in surfaces)
        ((usual, _),) = count.most_common(1)  # of equal counts, that of the first surface
        reference = next(p for p in surfaces if p.attributes[schema.MESH] == usual)
        for piece in surfaces:
            if piece.attributes[schema.MESH] != usual:
                n_vertices, n_usual = len(piece.values), len(reference.values)
                other = n_vertices == n_usual
                found = "other triangles" if other else f"{n_vertices:,} vertices"
                self.pieces.errors[_what(piece)] = self._another_mesh(
                    _file_of(piece), found, reference
                )
                self._forget(piece)
        faces = self._surfaces[_file_of(reference)].faces
        attributes = {key: reference.attributes[key] for key in ("source", schema.MESH)}
        self.pieces.found.append(Piece(schema.FACES, faces, attributes, reference.node))
        return reference

    def _another_mesh(self, file: str, found: str, reference: Piece) -> SourceError:
        of = f"the mesh of {self.source.full(_file_of(reference))}"
        expected = f"{of} ({len(reference.values):,} vertices)"
        return damaged(self.source.full(file), found, expected)

    def _drop(self, piece: Piece, found: str, expected: str) -> None:
        self.pieces.errors[_what(piece)] = damaged(
            self.source.full(_file_of(piece)), found, expected
        )
        self._forget(piece)

    def _forget(self, piece: Piece) -> None:
        self.pieces.found.remove(piece)
        self.pieces.sources.pop(_file_of(piece))


def _node(hemi: str) -> str:
    return schema.in_hemi(hemi, "").rstrip("/")


def _file_of(piece: Piece) -> str:
    return piece.attributes["source"]["file"]


def _what(piece: Piece) -> str:
    return f"{piece.node} {piece.spec.name}"


def _mesh_of(surface: Surface) -> int:
    """Number that is the same for surfaces of one mesh."""
    count = np.array(len(surface.vertices), "<i8")
    return codec.crc32(count.tobytes() + surface.faces.astype("<i4").tobytes())
