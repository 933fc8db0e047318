"""The cortex of a made-up head: its surfaces, and the regions of interest on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from laion_zarr import _release as release
from laion_zarr.conversion.synthetic.model.phantom import (
    CENTRE,
    FISSURE,
    RIBBON,
    Anatomy,
    Grid,
    Head,
    Mask,
    Points,
    Volume,
    cerebrum,
    cortical_depth,
    stream,
)

# Depth below the cortical shell, mm: of the white and pial surface, and of the surface halfway
# through the cortex, on which the regions are defined.
SURFACE_DEPTHS = {"white": 0.3 + RIBBON, "pial": 0.3}
_MIDDLE = RIBBON / 2
# Shift from the MNI coordinates in which the regions are listed to the coordinates of the head, mm.
_FROM_MNI = np.array([0, 15, -10], np.float32)
# Linear map of directions from the centre of the right hemisphere to directions on fsaverage's
# sphere. It was fitted to fsaverage5's pial vertices and their places on the sphere (least squares,
# the back of the brain counted three times).
_TO_FSAVERAGE = np.array([[1.2, 0, 0.03], [0.14, 0.75, 0.31], [0.02, -0.25, 0.96]])


@dataclass(frozen=True)
class Region:
    """A region of interest: a bilateral patch of cortex."""

    category: str
    seed: tuple[float, float, float]  # centre in the right hemisphere, MNI mm
    radius: float  # mm
    subjects: tuple[str, ...] = release.SUBJECTS  # subjects that have the region


GENERAL = "laiongeneral"  # the union of the other regions of its category
_NOT_01 = ("sub-03", "sub-05", "sub-06", "sub-07")
REGIONS = {
    "EBA": Region("body", (48, -72, 2), 11.0),
    "FBA": Region("body", (42, -44, -20), 9.5),
    "VWFA1": Region("character", (43, -70, -14), 9.0),
    "VWFA2": Region("character", (45, -56, -16), 9.0),
    "mfswords": Region("character", (38, -48, -18), 9.0, ("sub-01", "sub-05", "sub-06")),
    "pSTSwords": Region("character", (56, -42, 8), 9.5),
    "FFA1": Region("face", (40, -62, -18), 9.5),
    "FFA2": Region("face", (41, -50, -20), 9.5),
    "OFA": Region("face", (39, -82, -10), 10.0),
    "pSTSfaces": Region("face", (54, -50, 12), 10.0),
    "AFP1": Region("face", (38, -10, -36), 9.0, ("sub-03", "sub-06")),
    "AFP2": Region("face", (34, 2, -38), 9.0, ("sub-03",)),
    "laionEVC": Region("laion", (12, -90, 2), 27.0),
    "laionventral": Region("laion", (35, -62, -16), 25.0),
    "laionlateral": Region("laion", (48, -70, 4), 25.0),
    "laiondorsal": Region("laion", (26, -82, 33), 25.0),
    GENERAL: Region("laion", (0, 0, 0), 0.0),
    "MT": Region("motion", (45, -70, 4), 9.5),
    "MST": Region("motion", (47, -62, 8), 9.0),
    "lobjects": Region("object", (42, -78, -3), 11.0),
    "vobjects": Region("object", (34, -56, -16), 10.5),
    "MPA": Region("place", (14, -58, 14), 11.0),
    "OPA": Region("place", (34, -82, 24), 10.5),
    "PPA": Region("place", (27, -48, -12), 10.5),
    "V1v": Region("retinotopy", (8, -88, -5), 11.0),
    "V1d": Region("retinotopy", (8, -91, 8), 11.0),
    "V2v": Region("retinotopy", (12, -82, -10), 10.5),
    "V2d": Region("retinotopy", (14, -94, 16), 10.5),
    "V3v": Region("retinotopy", (20, -77, -12), 10.0),
    "V3d": Region("retinotopy", (22, -92, 20), 10.0),
    "hV4": Region("retinotopy", (28, -76, -14), 10.5),
    "VO1": Region("retinotopy", (26, -66, -13), 9.0),
    "VO2": Region("retinotopy", (26, -58, -13), 9.0),
    "LO1": Region("retinotopy", (35, -88, 6), 9.5),
    "LO2": Region("retinotopy", (41, -81, 3), 9.5),
    "TO1": Region("retinotopy", (46, -73, 3), 9.0),
    "TO2": Region("retinotopy", (48, -66, 2), 9.0),
    "V3A": Region("retinotopy", (20, -89, 28), 9.5),
    "V3B": Region("retinotopy", (30, -85, 25), 9.0),
    "IPS0": Region("retinotopy", (25, -79, 38), 10.0),
    "IPCS": Region("retinotopy", (46, 4, 34), 9.0),
    "SPCS": Region("retinotopy", (26, -4, 54), 9.0),
    "SPL": Region("retinotopy", (20, -66, 58), 10.0, _NOT_01),
}


def to_mni(head: Head) -> NDArray[np.float64]:
    """Affine (4, 4) from the head's mm to the MNI mm in which the regions are listed."""
    affine = np.diag([*(1 / head.scale.astype(float)), 1.0])
    affine[:3, 3] = -_FROM_MNI
    return affine


def _on_cortex(head: Head, rays: Points, right: bool, depth: float = _MIDDLE) -> Points:
    """Points where rays from the centre of a hemisphere reach a depth (mm) below its shell."""
    low: Volume = np.zeros(len(rays), np.float32)
    high: Volume = np.full(len(rays), 130, np.float32)
    for _ in range(20):
        middle = (low + high) * np.float32(0.5)
        points: Points = CENTRE + rays * middle[:, None]
        inside = np.minimum(cerebrum(points), points[:, 0] - FISSURE) > depth
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    points = CENTRE + rays * low[:, None]
    points[:, 0] *= 1 if right else -1
    return (points * head.scale).astype(np.float32)


def _corner_faces(corners: NDArray) -> list[tuple[int, int, int]]:
    """Faces of the icosahedron, each as the indices of its three corners."""
    near = np.isclose(((corners[:, None] - corners) ** 2).sum(-1), 4)
    return [
        (a, b, c)
        for a, b, c in np.ndindex(12, 12, 12)
        if a < b < c and near[a, b] and near[b, c] and near[a, c]
    ]


def _parts(frequency: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Divide a triangle: barycentric steps of n points (n, 3), indices of m triangles (m, 3)."""
    steps = [(i, j, frequency - i - j) for i, j in np.ndindex(frequency + 1, frequency + 1)]
    kept = [step for step in steps if step[2] >= 0]
    number = {step[:2]: k for k, step in enumerate(kept)}
    small = []
    for i, j in number:
        if i + j < frequency:
            small.append((number[i, j], number[i + 1, j], number[i, j + 1]))
        if i + j < frequency - 1:
            small.append((number[i + 1, j], number[i + 1, j + 1], number[i, j + 1]))
    return np.array(kept), np.array(small)


def _geodesic_sphere(frequency: int) -> tuple[Points, NDArray[np.intp]]:
    """Unit vectors of the vertices of a geodesic sphere, and its outward-facing triangles."""
    golden = (1 + 5**0.5) / 2
    signs = np.array([(a, b) for a in (-1, 1) for b in (-golden, golden)])
    corners = np.concatenate([np.roll(np.c_[np.zeros(4), signs], k, axis=1) for k in range(3)])
    steps, small = _parts(frequency)
    faces = _corner_faces(corners)
    points = np.concatenate([steps / frequency @ corners[list(face)] for face in faces])
    triangles = np.concatenate([small + k * len(steps) for k in range(len(faces))])
    # Neighbouring faces share the points of an edge: keep each point once, in order of first use.
    _, first, which = np.unique(points.round(6), axis=0, return_index=True, return_inverse=True)
    triangles = np.argsort(np.argsort(first))[which.ravel()][triangles]
    points = points[np.sort(first)]
    rays = points / np.linalg.norm(points, axis=1, keepdims=True)
    inwards = np.linalg.det(rays[triangles]) < 0
    triangles[inwards] = triangles[inwards, ::-1]
    return rays.astype(np.float32), triangles


def surface(head: Head, hemi: str, frequency: int, depth: float = _MIDDLE) -> Points:
    """Vertices of a hemisphere's surface: a geodesic sphere projected onto the cortex.

    Parameters
    ----------
    head : Head
        Head that the cortex belongs to.
    hemi : str
        ``"L"`` or ``"R"``.
    frequency : int
        Number of parts into which each edge of the icosahedron is divided; the surface has
        ``10 * frequency**2 + 2`` vertices.
    depth : float
        Depth below the cortical shell, mm.
    """
    return _on_cortex(head, _geodesic_sphere(frequency)[0], hemi == "R", depth)


def surface_faces(hemi: str, frequency: int) -> NDArray[np.intp]:
    """Outward-facing triangles of a hemisphere's surface, as vertex indices (m, 3)."""
    faces = _geodesic_sphere(frequency)[1]
    return faces if hemi == "R" else faces[:, ::-1]


def inflated_surface(hemi: str, frequency: int) -> Points:
    """Vertices of a hemisphere's inflated surface: an ellipsoid about the origin, mm."""
    points = _geodesic_sphere(frequency)[0] * np.array([38, 85, 52], np.float32)
    return (points * [1 if hemi == "R" else -1, 1, 1]).astype(np.float32)


def curvature(vertices: Points, faces: NDArray[np.intp]) -> NDArray[np.float32]:
    """Curvature at each vertex, 1/mm: positive where its neighbours lie further out."""
    ends = np.concatenate([faces, faces[:, ::-1]])[:, :2]
    ends = np.concatenate([ends, faces[:, 1:], faces[:, :0:-1]])
    centre = vertices.mean(axis=0)
    outward = (vertices - centre) / np.linalg.norm(vertices - centre, axis=1, keepdims=True)
    steps = vertices[ends[:, 1]] - vertices[ends[:, 0]]
    rise = (steps * outward[ends[:, 0]]).sum(axis=1) / (steps**2).sum(axis=1)
    total = np.bincount(ends[:, 0], weights=rise, minlength=len(vertices))
    return (2 * total / np.bincount(ends[:, 0], minlength=len(vertices))).astype(np.float32)


def registered_sphere(hemi: str, frequency: int) -> Points:
    """Vertices of a hemisphere's surface on fsaverage's sphere, of radius 100."""
    points = _geodesic_sphere(frequency)[0] @ _TO_FSAVERAGE
    points *= 100 / np.linalg.norm(points, axis=1, keepdims=True)
    points[:, 0] *= 1 if hemi == "R" else -1
    return points.astype(np.float32)


def region_names(subject: str) -> list[str]:
    """Names of the regions that a subject has."""
    return [name for name, region in REGIONS.items() if subject in region.subjects]


def _distances(head: Head, name: str, points: Points) -> dict[str, Volume]:
    """Distance of points to a region's seed in each hemisphere, in units of its radius."""
    region = REGIONS[name]
    jitter = stream(head.subject, name).uniform(-1.5, 1.5, 3)
    ray = np.asarray(region.seed) + _FROM_MNI + jitter - CENTRE
    rays = (ray / np.linalg.norm(ray)).astype(np.float32)[None]
    seeds = {hemi: _on_cortex(head, rays, hemi == "R") for hemi in release.HEMIS}
    return {
        hemi: np.linalg.norm(points - seed, axis=1) / region.radius for hemi, seed in seeds.items()
    }


def _with_union(masks: dict[str, Mask]) -> dict[str, Mask]:
    """Add the region ``laiongeneral``: the union of the other regions of its category."""
    category = REGIONS[GENERAL].category
    parts = [mask for name, mask in masks.items() if REGIONS[name].category == category]
    return {**masks, GENERAL: np.logical_or.reduce(parts)}


def region_volumes(head: Head, grid: Grid, anatomy: Anatomy) -> dict[str, Mask]:
    """Flat voxel mask of each region: cortex near the region's seeds, and a thin layer outside."""
    near = np.flatnonzero(anatomy.cortex)
    for index in grid.slabs():
        depth = cortical_depth(head, grid.points(index))
        near = np.union1d(near, index[(depth <= 0) & (depth > -grid.voxel_mm / 2)])
    points = grid.points(near)
    ribbon = (anatomy.cortex[near] >= 0.3) | (cortical_depth(head, points) <= 0)
    masks = {}
    for name in region_names(head.subject):
        if name == GENERAL:
            continue
        mask = np.zeros(anatomy.brain.size, bool)
        for distance in _distances(head, name, points).values():
            mask[near[ribbon & (distance < 1)]] = True
            mask[near[distance.argmin()]] = True  # at least one voxel, however coarse the grid
        masks[name] = mask
    return _with_union(masks)


def region_vertices(head: Head, hemi: str, vertices: Points) -> dict[str, Mask]:
    """Vertex mask of each region in one hemisphere."""
    masks = {}
    for name in region_names(head.subject):
        if name != GENERAL:
            distance = _distances(head, name, vertices)[hemi]
            masks[name] = distance <= max(1, distance.min())  # at least one vertex
    return _with_union(masks)
