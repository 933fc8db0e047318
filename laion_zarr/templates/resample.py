"""Weights that carry values from voxels to places between them, whatever values are missing.

Weights are sparse matrices (place, source): made once, then applied to any number of trials.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Less is rounding, not a neighbour.
_LEAST_WEIGHT = 1e-6
# Triangles looked at around a point of a sphere, and points looked at in one go.
_NEAR, _AT_ONCE = 24, 16_384


def trilinear(points: np.ndarray, shape: tuple[int, ...]) -> csr_array:
    """Weights of the up to eight voxels around points.

    Parameters
    ----------
    points : numpy.ndarray, (place, 3) float
        Grid indices: whole numbers are voxel centres.
    shape : tuple of int
        The grid.

    Returns
    -------
    scipy.sparse.csr_array, (place, grid)
        By flat C index. Corners outside the grid have no weight.
    """
    from scipy.sparse import csr_array

    low = np.floor(points).astype(np.int64)
    rest = points - low
    rows, cols, weights = [], [], []
    for corner in itertools.product((0, 1), repeat=3):
        voxel = low + corner
        weight = np.where(corner, rest, 1 - rest).prod(axis=1)
        there = ((voxel >= 0) & (voxel < shape)).all(axis=1) & (weight > _LEAST_WEIGHT)
        rows.append(np.flatnonzero(there))
        cols.append(np.ravel_multi_index(tuple(voxel[there].T), shape))
        weights.append(weight[there])
    where = (np.concatenate(rows), np.concatenate(cols))
    return csr_array((np.concatenate(weights), where), shape=(len(points), int(np.prod(shape))))


def along_normals(vertices: np.ndarray, faces: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Points at distances along each vertex's outer normal, (offset, vertex, 3) mm.

    A vertex's normal is the mean of the unit normals of its triangles.
    """
    corners = vertices[faces]
    of_faces = _unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
    normals = np.zeros(vertices.shape)
    for corner in faces.T:
        np.add.at(normals, corner, of_faces)
    return vertices + _unit(normals) * offsets[:, None, None]


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def on_sphere(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> csr_array:
    """Barycentric weights of points of a sphere in the triangles of a mesh on it.

    Parameters
    ----------
    points : numpy.ndarray, (place, 3)
        Seen from the centre of the sphere; of any length.
    vertices : numpy.ndarray, (vertex, 3)
        Of the mesh, of any radius.
    faces : numpy.ndarray, (face, 3) int
        Its triangles.

    Returns
    -------
    scipy.sparse.csr_array, (place, vertex)
        Rows sum to 1.
    """
    from scipy.sparse import csr_array
    from scipy.spatial import KDTree

    points, vertices = _unit(points.astype(float)), _unit(vertices.astype(float))
    tree = KDTree(_unit(vertices[faces].mean(axis=1)))
    rows, weights = [], []
    for lo in range(0, len(points), _AT_ONCE):
        some = points[lo : lo + _AT_ONCE]
        near = faces[tree.query(some, k=min(_NEAR, len(faces)))[1]]
        found = _in_triangles(some[:, None], vertices[near])
        # Inside its triangle a point has no negative weight; elsewhere the nearest to that counts.
        best = found.min(axis=-1).argmax(axis=1)
        rows.append(np.take_along_axis(near, best[:, None, None], axis=1)[:, 0])
        weights.append(np.take_along_axis(found, best[:, None, None], axis=1)[:, 0].clip(0))
    corners, values = np.concatenate(rows), np.concatenate(weights)
    values = np.where(values > _LEAST_WEIGHT, values, 0)
    values /= values.sum(axis=1, keepdims=True)
    place = np.repeat(np.arange(len(points)), 3)
    matrix = csr_array((values.ravel(), (place, corners.ravel())), (len(points), len(vertices)))
    matrix.eliminate_zeros()
    return matrix


def _in_triangles(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Weights of the corners where a ray passes a triangle's plane, (…, 3); -inf if it does not."""
    a, b, c = np.moveaxis(corners, -2, 0)
    volumes = [(points * np.cross(one, other)).sum(-1) for one, other in ((b, c), (c, a), (a, b))]
    found = np.stack(volumes, axis=-1)
    total = found.sum(axis=-1, keepdims=True)
    flat = np.full_like(found, -np.inf)
    found = np.divide(found, total, out=flat, where=np.abs(total) > np.finfo(float).eps)
    # Behind the centre a ray passes the plane backwards.
    ahead = (total * np.linalg.det(corners)[..., None]) > 0
    return np.where(ahead, found, -np.inf)


def strongest(weights: csr_array) -> csr_array:
    """Only the largest weight of each place, as 1: its value is then that of one voxel."""
    from scipy.sparse import csr_array

    entries = weights.tocoo()
    rows, cols = entries.coords
    order = np.lexsort((-cols, entries.data, rows))  # of equal ones, the first voxel
    rows, cols = rows[order], cols[order]
    last = np.flatnonzero(np.diff(rows, append=-1))
    return csr_array((np.ones(last.size), (rows[last], cols[last])), shape=weights.shape)


def carry(values: np.ndarray, weights: Any) -> np.ndarray:
    """Weighted means of the values that are there.

    Parameters
    ----------
    values : numpy.ndarray, (…, source)
        NaN is missing: the others' weights make up for it.
    weights : scipy.sparse.csr_array, (place, source)
        Of the values' type.

    Returns
    -------
    numpy.ndarray, (…, place)
        NaN where no source has a value.
    """
    rows = values.reshape(-1, values.shape[-1])
    missing = np.isnan(rows)
    found = weights @ np.where(missing, 0, rows).T
    total = weights @ (~missing).T.astype(weights.dtype)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
        return (found / total).T.reshape(*values.shape[:-1], weights.shape[0])
