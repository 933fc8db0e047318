"""A made-up head: tissues, folded cortex, surfaces and regions, as functions of position.

Points are mm, RAS, with the brain around the origin, so that one head can be sampled on any grid.
Left and right share their shape (``|x|``) but not their folds. Nothing here touches a disk.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from laion_zarr import _release as release

Points = NDArray[np.float32]  # (n, 3), mm
Mask = NDArray[np.bool_]
Volume = NDArray[np.float32]

AIR, SCALP, MUSCLE, SKULL, CSF, CORTEX, WHITE, NUCLEI = range(8)
T1W = np.array([6, 720, 330, 90, 160, 470, 750, 560], np.float32)
T2W = np.array([6, 420, 190, 60, 980, 540, 330, 450], np.float32)

# Where the rays of the cortical surface start, in the folded hemisphere (x >= 0).
_CENTRE = np.array([24, 0, 2], np.float32)
_FISSURE = 1.2  # half the gap between the hemispheres, mm
_RIBBON = 3.0  # thickness of the cortex, mm
# Depth below the shell of the cortex's inner and outer surface, and of where regions are drawn, mm.
SURFACE_DEPTHS = {"white": 0.3 + _RIBBON, "pial": 0.3}
_MIDDLE = _RIBBON / 2
_FOLD_RADIUS = 50.0  # the sphere on which the folds are drawn, mm
_FOLD_LENGTH = 25.0  # from one sulcus to the next but one, mm
# From the MNI coordinates in which the regions are listed to the head's.
_FROM_MNI = np.array([0, 15, -10], np.float32)
# Directions from the centre of the right hemisphere to those on fsaverage's sphere: the linear map
# that brings fsaverage5's pial vertices closest to their places (least squares, the back of the
# brain counted three times).
_TO_FSAVERAGE = np.array([[1.2, 0, 0.03], [0.14, 0.75, 0.31], [0.02, -0.25, 0.96]])
_SLAB = 200_000  # points evaluated at once: bounds the memory of a large grid


@dataclass(frozen=True)
class Region:
    """A region of interest: a bilateral patch of cortex."""

    category: str
    seed: tuple[float, float, float]  # of the right hemisphere, MNI mm
    radius: float  # mm
    subjects: tuple[str, ...] = release.SUBJECTS  # who has it


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


def stream(*purpose: str) -> np.random.Generator:
    """Random numbers that depend on the words alone: any part of a dataset is made alike."""
    return np.random.default_rng([zlib.crc32(word.encode()) for word in purpose])


@dataclass(frozen=True)
class Head:
    """What distinguishes one head from another."""

    subject: str
    scale: Points  # (3,) size of the head along each axis, about 1
    waves: Points  # (wave, 3) rad / mm, whose sum's zeros are the sulci
    phases: Points  # (hemisphere, wave)

    @classmethod
    def of(cls, subject: str, n_waves: int = 14) -> Head:
        """Draw the head of a subject."""
        rng = stream(subject, "head")
        waves = rng.standard_normal((n_waves, 3))
        waves *= 2 * np.pi / _FOLD_LENGTH / np.linalg.norm(waves, axis=1, keepdims=True)
        return cls(
            subject,
            rng.uniform(0.98, 1.02, 3).astype(np.float32),
            waves.astype(np.float32),
            rng.uniform(0, 2 * np.pi, (2, n_waves)).astype(np.float32),
        )


def _ellipsoid(points: Points, centre: Sequence[float], semi: Sequence[float]) -> Volume:
    """Depth below an ellipsoid's surface: mm (to first order), positive inside."""
    scaled = (points - np.asarray(centre, np.float32)) / np.asarray(semi, np.float32)
    level = np.sqrt((scaled**2).sum(1)) + np.float32(1e-6)
    slope = np.sqrt(((scaled / np.asarray(semi, np.float32)) ** 2).sum(1)) / level
    return (1 - level) / (slope + np.float32(1e-6))


def _cranium(points: Points) -> Volume:
    """Depth below a smooth shell around the brain, narrower in front."""
    tapered = points.copy()
    tapered[:, 0] *= 1 + 0.0012 * points[:, 1]
    return _ellipsoid(tapered, (0, 0, -2), (69.5, 87.5, 67))


def _cerebrum(points: Points) -> Volume:
    """Depth below the outer shell of the cerebrum, flat underneath but for the temporal lobes."""
    x, y, z = points.T
    lobe = np.exp(-(((np.abs(x) - 42) / 22) ** 2) - ((y - 12) / 34) ** 2)
    return np.minimum(_cranium(points), (z + 25 + 24 * lobe) * np.float32(0.8))


def _cerebellum(points: Points) -> Volume:
    halves = _ellipsoid(points, (21, -47, -45), (31, 28, 22))  # |x|: left and right in one
    return np.minimum(halves, -23.5 - points[:, 2] - 0.12 * np.abs(points[:, 0]))


def _brainstem(points: Points) -> Volume:
    x, y, z = points.T
    axis = -8 - 0.25 * (z + 20)
    radius = np.float32(8.5) + 6 * np.exp(-(((z + 32) / 11) ** 2))  # the pons is the bulge
    return np.minimum.reduce([radius - np.hypot(x, y - axis), -10 - z, z + 72])


def _half(head: Head, points: Points) -> tuple[Points, Mask]:
    """Points of the unscaled head folded onto its right half, and which were there already."""
    half = points / head.scale
    right = half[:, 0] > 0
    half[:, 0] = np.abs(half[:, 0])
    return half, right


def _sulci(head: Head, points: Points, right: Mask) -> Volume:
    """Distance to the nearest sulcus: sheets along rays from the centre of the hemisphere."""
    # Bent a little, as straight sheets look like spokes.
    ray = points + 3 * np.sin(points[:, [1, 2, 0]] / 8) - _CENTRE
    radius = np.sqrt((ray**2).sum(1)) + np.float32(1e-3)
    unit = ray / radius[:, None]
    angle = (_FOLD_RADIUS * unit) @ head.waves.T + head.phases[right.astype(np.intp)]
    level = np.cos(angle).sum(1)
    slope = np.sin(angle) @ head.waves
    slope -= (slope * unit).sum(1, keepdims=True) * unit
    # The floor keeps saddles of the pattern from widening into lakes.
    steep = np.sqrt((slope**2).sum(1) + np.float32(0.08)) * (_FOLD_RADIUS / radius)
    x, y, z = points.T
    sylvian = np.maximum.reduce([np.abs(z + 3 + 0.38 * y) * 0.93, 40 - x, -28 - y, y - 44])
    # Near the centre the rays crowd: no folds there.
    return np.minimum(np.maximum(np.abs(level) / steep, 30 - radius), sylvian)


def _cerebral_tissue(head: Head, points: Points, right: Mask) -> NDArray[np.uint8]:
    """Tissue of points of the cerebrum."""
    x, y, z = points.T
    # The hemispheres meet at the callosum and below it.
    joined = _ellipsoid(points, (0, -6, -4), (15, 38, 20))
    depth = np.minimum(_cerebrum(points), np.maximum(x - _FISSURE, joined))
    floor = 17 + 6 * np.sin(x / 9) * np.sin(y / 12 + 1) * np.cos(z / 10)
    sheet = np.hypot(_sulci(head, points, right), np.maximum(depth - floor, 0)) - 0.5
    pial = np.minimum(depth, sheet)
    tissue = np.select([pial < 0.3, pial < 0.3 + _RIBBON], [CSF, CORTEX], WHITE)
    nuclei = np.maximum.reduce(
        [
            _ellipsoid(points, (10, -16, 0), (8, 15, 9)),  # thalamus
            _ellipsoid(points, (25, 3, -3), (7, 18, 11)),  # putamen
            _ellipsoid(points, (14, 18, 6), (6, 11, 11)),  # caudate
        ]
    )
    bend = 10 + 0.006 * y**2  # the horns diverge behind
    ventricle = np.maximum(
        _ellipsoid(np.stack([x - bend, y, z - 0.1 * y], 1), (0, -4, 11), (5, 40, 7)),
        _ellipsoid(points, (0, -10, -4), (2, 14, 9)),  # the third
    )
    tissue[nuclei > 0] = NUCLEI
    tissue[ventricle > 0] = CSF
    return tissue.astype(np.uint8)


def _cerebellar_tissue(points: Points, depth: Volume) -> NDArray[np.uint8]:
    """Tissue of points of the cerebellum: a white core with folia around it."""
    x, y, z = points.T
    folia = np.sin(2 * np.pi * np.sqrt(0.3 * x**2 + (y + 30) ** 2 + (z + 36) ** 2) / 5.5)
    core = (depth > 12) | ((depth > 2) & (folia > 0.4))
    return np.where(core, WHITE, np.where(depth < 0.6, CSF, NUCLEI)).astype(np.uint8)


def _face(points: Points) -> NDArray[np.int_]:
    """Tissue of points under the skin that are not the skull: flesh, airways, eyes."""
    x, y, z = points.T
    fat = np.sin(np.abs(x) / 4 + 2 * np.sin(y / 9)) + np.sin(z / 5 + np.cos(x / 6)) > 1.25
    eye = _ellipsoid(np.stack([np.abs(x), y, z], 1), (31, 74, -38), (12, 12, 12))
    nose = _ellipsoid(points, (0, 66, -55), (13, 34, 14)) + 3 * np.sin(x / 1.6)
    throat = _ellipsoid(points, (0, 12, -95), (9, 7, 45))
    classes = [eye > 0, (nose > 0) | (throat > 0), fat]
    return np.select(classes, [CSF, AIR, SCALP], MUSCLE)


def head_depth(head: Head, points: Points) -> Volume:
    """Depth below the skin, positive inside: skull, face and neck."""
    scaled = points / head.scale
    face = _ellipsoid(scaled, (0, 42, -66), (62, 56, 66))
    neck = _ellipsoid(scaled, (0, -27, -105), (66, 70, 96))
    return np.maximum.reduce([_cranium(scaled) + 14, face, neck])


def brain_depth(head: Head, points: Points) -> Volume:
    """Depth below a smooth shell around the brain, sulci and fissure filled."""
    half, _ = _half(head, points)
    return np.maximum.reduce([_cerebrum(half), _cerebellum(half), _brainstem(half)])


def cortical_depth(head: Head, points: Points) -> Volume:
    """Depth below the shell of the cerebrum alone."""
    return _cerebrum(points / head.scale)


def tissues(head: Head, points: Points) -> NDArray[np.uint8]:
    """Tissue of each point, one of `AIR` … `NUCLEI`."""
    brain = brain_depth(head, points)
    skin = head_depth(head, points)
    classes = [brain > -2.2, (brain > -8) & (skin > 4), skin > 5, skin > 0]
    tissue = np.select(classes, [CSF, SKULL, _face(points / head.scale), SCALP], AIR).astype(
        np.uint8
    )
    inside = np.flatnonzero(brain > 0)
    half, right = _half(head, points[inside])
    cerebellum, stem = _cerebellum(half), _brainstem(half)
    found = _cerebral_tissue(head, half, right)
    lower = _cerebrum(half) <= 0
    found[lower] = _cerebellar_tissue(half[lower], cerebellum[lower])
    found[(stem > 0) & (stem > np.minimum(cerebellum, 8)) & (half[:, 2] < -18)] = WHITE
    tissue[inside] = found
    return tissue


@dataclass(frozen=True)
class Grid:
    """A regular grid, LAS: the first axis runs from right to left."""

    shape: tuple[int, int, int]
    voxel_mm: float

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxel indices to mm, the origin in the middle of the grid."""
        steps = np.array([-1, 1, 1]) * self.voxel_mm
        affine = np.diag([*steps, 1.0])
        affine[:3, 3] = -steps * (np.array(self.shape) - 1) / 2
        return affine

    def points(self, index: NDArray[np.intp]) -> Points:
        """Centres of voxels, given by their flat index in C order."""
        ijk = np.stack(np.unravel_index(index, self.shape), 1)
        return (ijk @ self.affine[:3, :3] + self.affine[:3, 3]).astype(np.float32)

    def slabs(self) -> Iterator[NDArray[np.intp]]:
        """Flat indices of all voxels, in pieces."""
        n_voxels = int(np.prod(self.shape))
        for start in range(0, n_voxels, _SLAB):
            yield np.arange(start, min(start + _SLAB, n_voxels))


@dataclass(frozen=True)
class Anatomy:
    """A head as scanned: flat volumes in C order of the grid."""

    t1w: Volume
    t2w: Volume
    brain: Mask
    head: Mask
    cortex: Volume  # fraction of the voxel


def scan(head: Head, grid: Grid) -> Anatomy:
    """Sample a head on a grid; voxels larger than 2 mm mix the tissues within them."""
    n_voxels = int(np.prod(grid.shape))
    mixed = np.zeros((3, n_voxels), np.float32)
    brain, inside = np.zeros(n_voxels, bool), np.zeros(n_voxels, bool)
    per_axis = int(np.clip(np.ceil(grid.voxel_mm / 2), 1, 3))
    steps = (np.arange(per_axis) - (per_axis - 1) / 2) * grid.voxel_mm / per_axis
    shifts = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3).astype(np.float32)
    looks = np.stack([T1W, T2W, np.arange(T1W.size) == CORTEX]).astype(np.float32) / len(shifts)
    for index in grid.slabs():
        points = grid.points(index)
        brain[index] = brain_depth(head, points) > 0
        inside[index] = head_depth(head, points) > 0
        for shift in shifts:
            mixed[:, index] += looks[:, tissues(head, points + shift)]
        # Coils see what is near them better.
        bias = 1 + 0.1 * np.sin(points @ np.array([0.008, 0.012, -0.01], np.float32) + 0.4)
        mixed[:2, index] *= bias
    rng = stream(head.subject, "scan", str(grid))
    for image in mixed[:2]:
        noise = rng.standard_normal((2, n_voxels), np.float32) * 14
        np.hypot(image + noise[0], noise[1], out=image)  # magnitudes: Rician
    return Anatomy(mixed[0], mixed[1], brain, inside, mixed[2])


def to_mni(head: Head) -> NDArray[np.float64]:
    """Affine from the head's mm to the MNI mm in which its regions are listed."""
    affine = np.diag([*(1 / head.scale.astype(float)), 1.0])
    affine[:3, 3] = -_FROM_MNI
    return affine


def _on_cortex(head: Head, rays: Points, right: bool, depth: float = _MIDDLE) -> Points:
    """Where rays from the centre of a hemisphere reach a depth below its shell."""
    low: Volume = np.zeros(len(rays), np.float32)
    high: Volume = np.full(len(rays), 130, np.float32)
    for _ in range(20):
        middle = (low + high) * np.float32(0.5)
        points: Points = _CENTRE + rays * middle[:, None]
        inside = np.minimum(_cerebrum(points), points[:, 0] - _FISSURE) > depth
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    points = _CENTRE + rays * low[:, None]
    points[:, 0] *= 1 if right else -1
    return (points * head.scale).astype(np.float32)


def _corner_faces(corners: NDArray) -> list[tuple[int, int, int]]:
    """Faces of the icosahedron."""
    near = np.isclose(((corners[:, None] - corners) ** 2).sum(-1), 4)
    return [
        (a, b, c)
        for a, b, c in np.ndindex(12, 12, 12)
        if a < b < c and near[a, b] and near[b, c] and near[a, c]
    ]


def _parts(frequency: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Lattice of a divided triangle: steps to its corners (n, 3), small triangles (m, 3)."""
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
    """Directions of the vertices of a geodesic sphere, and its triangles, seen from outside."""
    golden = (1 + 5**0.5) / 2
    signs = np.array([(a, b) for a in (-1, 1) for b in (-golden, golden)])
    corners = np.concatenate([np.roll(np.c_[np.zeros(4), signs], k, axis=1) for k in range(3)])
    steps, small = _parts(frequency)
    faces = _corner_faces(corners)
    points = np.concatenate([steps / frequency @ corners[list(face)] for face in faces])
    triangles = np.concatenate([small + k * len(steps) for k in range(len(faces))])
    # Faces share their edges: one vertex each, numbered as they first come.
    _, first, which = np.unique(points.round(6), axis=0, return_index=True, return_inverse=True)
    triangles = np.argsort(np.argsort(first))[which.ravel()][triangles]
    points = points[np.sort(first)]
    rays = points / np.linalg.norm(points, axis=1, keepdims=True)
    inwards = np.linalg.det(rays[triangles]) < 0
    triangles[inwards] = triangles[inwards, ::-1]
    return rays.astype(np.float32), triangles


def surface(head: Head, hemi: str, frequency: int, depth: float = _MIDDLE) -> Points:
    """Vertices of a hemisphere's surface: a geodesic sphere laid on the cortex.

    Parameters
    ----------
    head : Head
        Whose cortex.
    hemi : str
        ``"L"`` or ``"R"``.
    frequency : int
        Parts of each edge of the icosahedron: ``10 * frequency**2 + 2`` vertices.
    depth : float
        Below the shell of the cortex, mm.
    """
    return _on_cortex(head, _geodesic_sphere(frequency)[0], hemi == "R", depth)


def surface_faces(hemi: str, frequency: int) -> NDArray[np.intp]:
    """Triangles of a hemisphere's surface, seen from outside."""
    faces = _geodesic_sphere(frequency)[1]
    return faces if hemi == "R" else faces[:, ::-1]


def registered_sphere(hemi: str, frequency: int) -> Points:
    """Vertices of a hemisphere's surface on fsaverage's sphere, of radius 100."""
    points = _geodesic_sphere(frequency)[0] @ _TO_FSAVERAGE
    points *= 100 / np.linalg.norm(points, axis=1, keepdims=True)
    points[:, 0] *= 1 if hemi == "R" else -1
    return points.astype(np.float32)


def region_names(subject: str) -> list[str]:
    """Regions that a subject has."""
    return [name for name, region in REGIONS.items() if subject in region.subjects]


def _distances(head: Head, name: str, points: Points) -> dict[str, Volume]:
    """Distance of points to a region's seed in each hemisphere, in units of its radius."""
    region = REGIONS[name]
    jitter = stream(head.subject, name).uniform(-1.5, 1.5, 3)
    ray = np.asarray(region.seed) + _FROM_MNI + jitter - _CENTRE
    rays = (ray / np.linalg.norm(ray)).astype(np.float32)[None]
    seeds = {hemi: _on_cortex(head, rays, hemi == "R") for hemi in release.HEMIS}
    return {
        hemi: np.linalg.norm(points - seed, axis=1) / region.radius for hemi, seed in seeds.items()
    }


def _with_union(masks: dict[str, Mask]) -> dict[str, Mask]:
    """Add the region that is the union of its category."""
    category = REGIONS[GENERAL].category
    parts = [mask for name, mask in masks.items() if REGIONS[name].category == category]
    return {**masks, GENERAL: np.logical_or.reduce(parts)}


def region_volumes(head: Head, grid: Grid, anatomy: Anatomy) -> dict[str, Mask]:
    """Voxels of each region, flat: the cortex near its seeds, and a little outside of it."""
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
            mask[near[distance.argmin()]] = True  # however coarse the grid
        masks[name] = mask
    return _with_union(masks)


def region_vertices(head: Head, hemi: str, vertices: Points) -> dict[str, Mask]:
    """Vertices of each region in one hemisphere."""
    masks = {}
    for name in region_names(head.subject):
        if name != GENERAL:
            distance = _distances(head, name, vertices)[hemi]
            masks[name] = distance <= max(1, distance.min())  # however coarse the surface
    return _with_union(masks)
