"""A made-up head: tissues and folded cortex, as functions of position, and its scans.

Points are in mm, RAS, with the brain around the origin, so that a head can be sampled on any grid.
The hemispheres have the same shape (a function of ``|x|``) but different folds. This module reads
and writes no files.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]  # (n, 3), mm
Mask = NDArray[np.bool_]
Volume = NDArray[np.float32]

AIR, SCALP, MUSCLE, SKULL, CSF, CORTEX, WHITE, NUCLEI = range(8)
T1W = np.array([6, 720, 330, 90, 160, 470, 750, 560], np.float32)
T2W = np.array([6, 420, 190, 60, 980, 540, 330, 450], np.float32)

# Origin of the rays to the cortical surface, in coordinates mirrored to x >= 0, mm.
CENTRE = np.array([24, 0, 2], np.float32)
FISSURE = 1.2  # half the gap between the hemispheres, mm
RIBBON = 3.0  # thickness of the cortex, mm
_FOLD_RADIUS = 50.0  # radius of the sphere on which the folds are defined, mm
_FOLD_LENGTH = 25.0  # wavelength of the folds: twice the distance between sulci, mm
_SLAB = 200_000  # points evaluated at once: bounds the memory of a large grid


def stream(*purpose: str) -> np.random.Generator:
    """Random generator seeded by the given words alone, not by what was generated before."""
    return np.random.default_rng([zlib.crc32(word.encode()) for word in purpose])


@dataclass(frozen=True)
class Head:
    """Parameters that differ between the heads of subjects."""

    subject: str
    scale: Points  # (3,) relative size of the head along each axis, about 1
    waves: Points  # (wave, 3) wave vectors, rad / mm; sulci are the zeros of the sum of the waves
    phases: Points  # (hemisphere, wave) rad

    @classmethod
    def of(cls, subject: str, n_waves: int = 14) -> Head:
        """Random parameters of the head of a subject."""
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
    """Depth below a smooth shell around the brain, narrower in front, mm."""
    tapered = points.copy()
    tapered[:, 0] *= 1 + 0.0012 * points[:, 1]
    return _ellipsoid(tapered, (0, 0, -2), (69.5, 87.5, 67))


def cerebrum(points: Points) -> Volume:
    """Depth below the shell of the cerebrum, mm; flat underneath except at the temporal lobes."""
    x, y, z = points.T
    lobe = np.exp(-(((np.abs(x) - 42) / 22) ** 2) - ((y - 12) / 34) ** 2)
    return np.minimum(_cranium(points), (z + 25 + 24 * lobe) * np.float32(0.8))


def _cerebellum(points: Points) -> Volume:
    halves = _ellipsoid(points, (21, -47, -45), (31, 28, 22))  # both halves: x is mirrored
    return np.minimum(halves, -23.5 - points[:, 2] - 0.12 * np.abs(points[:, 0]))


def _brainstem(points: Points) -> Volume:
    x, y, z = points.T
    axis = -8 - 0.25 * (z + 20)
    radius = np.float32(8.5) + 6 * np.exp(-(((z + 32) / 11) ** 2))  # the pons is the bulge
    return np.minimum.reduce([radius - np.hypot(x, y - axis), -10 - z, z + 72])


def _half(head: Head, points: Points) -> tuple[Points, Mask]:
    """Points of the unscaled head mirrored to x >= 0, and a mask of those on the right side."""
    half = points / head.scale
    right = half[:, 0] > 0
    half[:, 0] = np.abs(half[:, 0])
    return half, right


def _sulci(head: Head, points: Points, right: Mask) -> Volume:
    """Distance to the nearest sulcus, mm; sulci are sheets along rays from the centre."""
    # The sheets are bent a little: straight ones would look like the spokes of a wheel.
    ray = points + 3 * np.sin(points[:, [1, 2, 0]] / 8) - CENTRE
    radius = np.sqrt((ray**2).sum(1)) + np.float32(1e-3)
    unit = ray / radius[:, None]
    angle = (_FOLD_RADIUS * unit) @ head.waves.T + head.phases[right.astype(np.intp)]
    level = np.cos(angle).sum(1)
    slope = np.sin(angle) @ head.waves
    slope -= (slope * unit).sum(1, keepdims=True) * unit
    # The constant keeps sulci narrow at saddle points of the pattern, where the slope is small.
    steep = np.sqrt((slope**2).sum(1) + np.float32(0.08)) * (_FOLD_RADIUS / radius)
    x, y, z = points.T
    sylvian = np.maximum.reduce([np.abs(z + 3 + 0.38 * y) * 0.93, 40 - x, -28 - y, y - 44])
    # No folds within 30 mm of the centre, where the sheets would be too close to each other.
    return np.minimum(np.maximum(np.abs(level) / steep, 30 - radius), sylvian)


def _cerebral_tissue(head: Head, points: Points, right: Mask) -> NDArray[np.uint8]:
    """Tissue of points in the cerebrum."""
    x, y, z = points.T
    # The hemispheres are joined at the corpus callosum and below it.
    joined = _ellipsoid(points, (0, -6, -4), (15, 38, 20))
    depth = np.minimum(cerebrum(points), np.maximum(x - FISSURE, joined))
    floor = 17 + 6 * np.sin(x / 9) * np.sin(y / 12 + 1) * np.cos(z / 10)
    sheet = np.hypot(_sulci(head, points, right), np.maximum(depth - floor, 0)) - 0.5
    pial = np.minimum(depth, sheet)
    tissue = np.select([pial < 0.3, pial < 0.3 + RIBBON], [CSF, CORTEX], WHITE)
    nuclei = np.maximum.reduce(
        [
            _ellipsoid(points, (10, -16, 0), (8, 15, 9)),  # thalamus
            _ellipsoid(points, (25, 3, -3), (7, 18, 11)),  # putamen
            _ellipsoid(points, (14, 18, 6), (6, 11, 11)),  # caudate
        ]
    )
    bend = 10 + 0.006 * y**2  # the horns of the ventricles diverge towards the back
    ventricle = np.maximum(
        _ellipsoid(np.stack([x - bend, y, z - 0.1 * y], 1), (0, -4, 11), (5, 40, 7)),
        _ellipsoid(points, (0, -10, -4), (2, 14, 9)),  # third ventricle
    )
    tissue[nuclei > 0] = NUCLEI
    tissue[ventricle > 0] = CSF
    return tissue.astype(np.uint8)


def _cerebellar_tissue(points: Points, depth: Volume) -> NDArray[np.uint8]:
    """Tissue of points in the cerebellum: a white core with folia around it."""
    x, y, z = points.T
    folia = np.sin(2 * np.pi * np.sqrt(0.3 * x**2 + (y + 30) ** 2 + (z + 36) ** 2) / 5.5)
    core = (depth > 12) | ((depth > 2) & (folia > 0.4))
    return np.where(core, WHITE, np.where(depth < 0.6, CSF, NUCLEI)).astype(np.uint8)


def _face(points: Points) -> NDArray[np.int_]:
    """Tissue of points below the skin and outside of the skull: muscle, fat, airways, eyes."""
    x, y, z = points.T
    fat = np.sin(np.abs(x) / 4 + 2 * np.sin(y / 9)) + np.sin(z / 5 + np.cos(x / 6)) > 1.25
    eye = _ellipsoid(np.stack([np.abs(x), y, z], 1), (31, 74, -38), (12, 12, 12))
    nose = _ellipsoid(points, (0, 66, -55), (13, 34, 14)) + 3 * np.sin(x / 1.6)
    throat = _ellipsoid(points, (0, 12, -95), (9, 7, 45))
    classes = [eye > 0, (nose > 0) | (throat > 0), fat]
    return np.select(classes, [CSF, AIR, SCALP], MUSCLE)


def head_depth(head: Head, points: Points) -> Volume:
    """Depth below the skin of skull, face and neck, mm, positive inside."""
    scaled = points / head.scale
    face = _ellipsoid(scaled, (0, 42, -66), (62, 56, 66))
    neck = _ellipsoid(scaled, (0, -27, -105), (66, 70, 96))
    return np.maximum.reduce([_cranium(scaled) + 14, face, neck])


def brain_depth(head: Head, points: Points) -> Volume:
    """Depth below a smooth shell around the brain, mm, with sulci and fissure filled."""
    half, _ = _half(head, points)
    return np.maximum.reduce([cerebrum(half), _cerebellum(half), _brainstem(half)])


def cortical_depth(head: Head, points: Points) -> Volume:
    """Depth below the shell of the cerebrum, mm, without cerebellum and brainstem."""
    return cerebrum(points / head.scale)


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
    lower = cerebrum(half) <= 0
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
        """Affine (4, 4) from voxel indices to mm, with the origin in the middle of the grid."""
        steps = np.array([-1, 1, 1]) * self.voxel_mm
        affine = np.diag([*steps, 1.0])
        affine[:3, 3] = -steps * (np.array(self.shape) - 1) / 2
        return affine

    def points(self, index: NDArray[np.intp]) -> Points:
        """Centres of voxels given by their flat indices in C order."""
        ijk = np.stack(np.unravel_index(index, self.shape), 1)
        return (ijk @ self.affine[:3, :3] + self.affine[:3, 3]).astype(np.float32)

    def slabs(self) -> Iterator[NDArray[np.intp]]:
        """Flat indices of all voxels, in pieces of limited size."""
        n_voxels = int(np.prod(self.shape))
        for start in range(0, n_voxels, _SLAB):
            yield np.arange(start, min(start + _SLAB, n_voxels))


@dataclass(frozen=True)
class Anatomy:
    """Simulated scans of a head: flat volumes in C order of the grid."""

    t1w: Volume
    t2w: Volume
    brain: Mask
    head: Mask
    cortex: Volume  # fraction of the voxel that is cortex


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
        # Smooth intensity bias: receive coils are more sensitive to tissue near them.
        bias = 1 + 0.1 * np.sin(points @ np.array([0.008, 0.012, -0.01], np.float32) + 0.4)
        mixed[:2, index] *= bias
    rng = stream(head.subject, "scan", str(grid))
    for image in mixed[:2]:
        noise = rng.standard_normal((2, n_voxels), np.float32) * 14
        np.hypot(image + noise[0], noise[1], out=image)  # magnitude: Rician noise
    return Anatomy(mixed[0], mixed[1], brain, inside, mixed[2])
