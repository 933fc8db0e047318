"""Surfaces, spheres and the MNI305 affine of a subject's FreeSurfer recon; fsaverage meshes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

import numpy as np

from laion_zarr import _release as release
from laion_zarr.errors import DataNotDownloadedError, NotConvertedError, SourceError
from laion_zarr.store import schema
from laion_zarr.store.bounds.tables import check_positions
from laion_zarr.store.parts import StoredParts
from laion_zarr.templates import freesurfer
from laion_zarr.templates.freesurfer import Surface

Mesh = tuple[np.ndarray, np.ndarray]  # vertices (vertex, 3) mm, faces (face, 3)
T = TypeVar("T")

# Mesh of fsaverage -> its name in file names. "fsaverage" is the densest mesh; nilearn includes
# fsaverage5 and downloads the other meshes.
BUNDLED = "fsaverage5"
DENSITIES = {BUNDLED: "10k", "fsaverage6": "41k", "fsaverage7": "164k", "fsaverage": "164k"}
MIDTHICKNESS = "midthickness"
SURFACES = (release.RECON_SURFACES[0], MIDTHICKNESS, release.RECON_SURFACES[1])
SIDES = {"L": "left", "R": "right"}


class Meshes(Protocol):
    """Where the recon of one subject is read from, as its files have it."""

    def surfaces(self, hemi: str, names: Sequence[str]) -> list[Surface]:
        """Surfaces of one hemisphere; white, pial and inflated have their `to_scanner`."""

    def curvature(self, hemi: str) -> np.ndarray | None:
        """Curvature of one hemisphere, (vertex,) float32; None if there is none."""

    def talairach(self) -> np.ndarray:
        """Affine from scanner mm to MNI305 mm."""


class StoredMeshes:
    """Recon in the store: the part ``geometry``, read array by array.

    Parameters
    ----------
    stored : StoredParts
        Parts of the subject, of which one is the geometry.
    """

    def __init__(self, stored: StoredParts) -> None:
        self._stored = stored

    def surfaces(self, hemi: str, names: Sequence[str]) -> list[Surface]:
        """Surfaces of one hemisphere, in one batch of reads."""
        arrays = [schema.in_hemi(hemi, name) for name in names]
        faces = schema.in_hemi(hemi, schema.FACES.name)
        found = self._load([*arrays, faces])
        every = self._stored.attributes(schema.GEOMETRY_PART, arrays)
        affines = [its.get(schema.TO_SCANNER.name) for its in every]
        if None in affines:  # what a surface's own file does not say, orig.mgz does
            name = schema.TO_SCANNER.name
            volume = self._stored.load(schema.GEOMETRY_PART, [name]).get(name)
            volume = None if volume is None else self._affine(name, volume)
            affines = [volume if its is None else its for its in affines]
        affines = [None if its is None else np.array(its) for its in affines]
        for name, affine in zip(names, affines, strict=True):
            if affine is None and name != release.RECON_SPHERE:
                array = schema.in_hemi(hemi, name)
                raise self._stored.refused(schema.GEOMETRY_PART, array, "says not where it lies")
        with self._stored.bounded(schema.GEOMETRY_PART, faces):
            check_positions(found[faces], len(found[arrays[0]]), "the surface")
        pairs = zip(arrays, affines, strict=True)
        return [Surface(found[array], found[faces], affine) for array, affine in pairs]

    def curvature(self, hemi: str) -> np.ndarray | None:
        """Curvature of one hemisphere; None if the store has none."""
        name = schema.in_hemi(hemi, release.RECON_CURVATURE)
        return self._stored.load(schema.GEOMETRY_PART, [name]).get(name)

    def talairach(self) -> np.ndarray:
        """Affine from scanner mm to MNI305 mm."""
        name = schema.TALAIRACH.name
        return self._affine(name, self._load([name])[name])

    def _affine(self, name: str, values: np.ndarray) -> np.ndarray:
        if values.shape != (4, 4) or not np.isfinite(values).all() or not np.linalg.det(values):
            raise self._stored.refused(schema.GEOMETRY_PART, name, "is no affine with an inverse")
        return values

    def _load(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        there = self._stored.part(schema.GEOMETRY_PART).arrays()
        if missing := [name for name in names if name not in there]:
            subject = self._stored.group
            raise NotConvertedError(
                f"The store has no {schema.GEOMETRY_PART}/{missing[0]} of {subject}. Download "
                f"{release.freesurfer_dir(subject)} (include_freesurfer=True) and run 'laion-zarr "
                "convert' again."
            )
        return self._stored.load(schema.GEOMETRY_PART, names)


class MirrorMeshes:
    """Recon in the files of the local mirror, for stores that have no part ``geometry``.

    Parameters
    ----------
    subject : str
        Id of the subject.
    find : callable
        Maps a path of the release to the local file; raises DataNotDownloadedError if the file is
        missing.
    """

    def __init__(self, subject: str, find: Callable[[PurePosixPath], Path]) -> None:
        self._subject = subject
        self._find = find

    def surfaces(self, hemi: str, names: Sequence[str]) -> list[Surface]:
        """Surfaces of one hemisphere."""
        return [self._surface(hemi, name) for name in names]

    def _surface(self, hemi: str, name: str) -> Surface:
        path = release.recon_surface(self._subject, hemi, name)
        found = self._parsed(path, freesurfer.parse_surface)
        if found.to_scanner is not None or name == release.RECON_SPHERE:
            return found
        volume = self._parsed(release.recon_volume(self._subject), freesurfer.parse_volume)
        return Surface(found.vertices, found.faces, volume)

    def curvature(self, hemi: str) -> np.ndarray | None:
        """Curvature of one hemisphere; None if the mirror has none."""
        path = release.recon_surface(self._subject, hemi, release.RECON_CURVATURE)
        try:
            return self._parsed(path, freesurfer.parse_curvature)
        except DataNotDownloadedError:
            return None

    def talairach(self) -> np.ndarray:
        """Affine from scanner mm to MNI305 mm."""
        return self._parsed(release.recon_talairach(self._subject), freesurfer.parse_talairach)

    def _parsed(self, path: PurePosixPath, parse: Callable[[bytes], T]) -> T:
        file = self._find(path)
        try:
            return parse(file.read_bytes())
        except (ValueError, OSError) as error:
            raise SourceError(
                f"{file} is not what FreeSurfer writes there: found {error}. Delete it and "
                "download it again."
            ) from error


class Recon:
    """FreeSurfer recon of one subject, in scanner mm.

    Parameters
    ----------
    subject : str
        Id of the subject.
    meshes : Meshes
        The store's, or the mirror's.
    """

    def __init__(self, subject: str, meshes: Meshes) -> None:
        self._subject = subject
        self._meshes = meshes

    def surface(self, hemi: str, name: str) -> Mesh:
        """Mesh of a surface, vertices in scanner mm (the space of the T1w image).

        `name` is one of `SURFACES`, ``"inflated"``, or the sphere, which is as in its file.
        """
        return self._mesh(self._read(hemi, _made_of(name)), name)

    def registered(self, hemi: str, surface: str) -> tuple[Mesh, Mesh]:
        """Mesh of a surface, and the same mesh on the sphere that is registered to fsaverage."""
        *found, sphere = self._read(hemi, (*_made_of(surface), release.RECON_SPHERE))
        return self._mesh(found, surface), (sphere.vertices.astype(float), sphere.faces)

    def sphere(self, hemi: str) -> Mesh:
        """Sphere that is registered to fsaverage, vertices as in its file."""
        return self.surface(hemi, release.RECON_SPHERE)

    def curvature(self, hemi: str) -> np.ndarray | None:
        """Curvature of one hemisphere, (vertex,) float32; None if there is none."""
        return self._meshes.curvature(hemi)

    def _mesh(self, found: Sequence[Surface], name: str) -> Mesh:
        if name == release.RECON_SPHERE:
            return found[0].vertices.astype(float), found[0].faces
        placed = []
        for its in found:
            assert its.to_scanner is not None, "only the sphere may lack it"
            placed.append(moved(its.to_scanner, its.vertices.astype(float)))
        return np.mean(placed, axis=0), found[0].faces

    def _read(self, hemi: str, names: Sequence[str]) -> list[Surface]:
        """Read surfaces; raises SourceError if they are not of one mesh: vertices match by number.

        The converter refuses such surfaces; in a mirror they may be of different recons.
        """
        found = self._meshes.surfaces(hemi, names)
        for name, its in zip(names, found, strict=True):
            if len(its.vertices) != len(found[0].vertices):
                raise SourceError(
                    f"The recon of {self._subject}, hemisphere {hemi}, has "
                    f"{len(found[0].vertices):,} in {names[0]} and {len(its.vertices):,} in "
                    f"{name} vertices: they must be of one mesh. Download it again."
                )
            if not np.array_equal(its.faces, found[0].faces):
                raise SourceError(
                    f"The recon of {self._subject}, hemisphere {hemi}, has other triangles in "
                    f"{names[0]} than in {name}: they must be of one mesh. Download it again."
                )
        return found

    def from_mni305(self) -> np.ndarray:
        """Affine from MNI305 mm to scanner mm, from the ``talairach.lta`` of the recon."""
        return np.linalg.inv(self._meshes.talairach())


def _made_of(surface: str) -> tuple[str, ...]:
    """Files whose mean a surface is."""
    return release.RECON_SURFACES if surface == MIDTHICKNESS else (surface,)


def moved(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply an affine to points, (…, 3)."""
    return points @ affine[:3, :3].T + affine[:3, 3]


@cache
def fsaverage_files(density: str) -> dict[str, str]:
    """Files of an fsaverage mesh, by names such as ``sphere_left``; may download the mesh."""
    from nilearn.datasets import fetch_surf_fsaverage

    try:
        return dict(fetch_surf_fsaverage(density))
    except Exception as error:  # any error of the network
        raise DataNotDownloadedError(
            f"nilearn could not download {density} ({error}). Connect to the internet once, or "
            f"pass fsaverage_density={BUNDLED!r}, which comes with nilearn."
        ) from error


def fsaverage_file(density: str, part: str, hemi: str) -> str:
    """Path of a file of fsaverage; `part` is ``"sphere"``, ``"infl"`` or ``"sulc"``."""
    return fsaverage_files(density)[f"{part}_{SIDES[hemi]}"]


def fsaverage_sphere(density: str, hemi: str) -> np.ndarray:
    """Vertices of the sphere of fsaverage, (vertex, 3) mm."""
    from nilearn.surface import load_surf_mesh

    return load_surf_mesh(fsaverage_file(density, "sphere", hemi)).coordinates
