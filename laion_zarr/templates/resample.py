"""Interpolation weights from voxels or vertices to other places, with missing values left out.

Weights are sparse matrices (place, source), computed once and then applied to any number of trials.
A source is a voxel or vertex with a value, a place is a point at which a value is interpolated.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Smaller weights are rounding errors and are dropped.
_LEAST_WEIGHT = 1e-6
# Triangles tested around each point of a sphere, and points processed at a time.
_NEAR, _AT_ONCE = 24, 16_384


def trilinear(points: np.ndarray, shape: tuple[int, ...]) -> csr_array:
    """Trilinear weights of the up to eight voxels around each point.

    Parameters
    ----------
    points : numpy.ndarray, (place, 3) float
        Points in grid indices; whole numbers are voxel centres.
    shape : tuple of int
        Shape of the grid.

    Returns
    -------
    scipy.sparse.csr_array, (place, grid)
        Columns are flat C-order indices. Corners outside the grid have no weight.
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
    """Points at `offsets` (mm) along the outer normal of each vertex, (offset, vertex, 3) mm.

    The normal of a vertex has the direction of the mean of the unit normals of its triangles.
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
    """Barycentric weights of points on a sphere, in the triangles of a mesh on that sphere.

    Parameters
    ----------
    points : numpy.ndarray, (place, 3)
        Vectors from the centre of the sphere, of any length.
    vertices : numpy.ndarray, (vertex, 3)
        Vertices of the mesh, on a sphere of any radius.
    faces : numpy.ndarray, (face, 3) int
        Triangles of the mesh.

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
        # A point has no negative weight in the triangle around it. Without such a triangle, take
        # the one with the least negative weight.
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
    """Barycentric weights of the point where a ray meets a triangle's plane, (…, 3), or -inf."""
    a, b, c = np.moveaxis(corners, -2, 0)
    volumes = [(points * np.cross(one, other)).sum(-1) for one, other in ((b, c), (c, a), (a, b))]
    found = np.stack(volumes, axis=-1)
    total = found.sum(axis=-1, keepdims=True)
    flat = np.full_like(found, -np.inf)
    found = np.divide(found, total, out=flat, where=np.abs(total) > np.finfo(float).eps)
    # Exclude planes that only the opposite ray meets, behind the centre.
    ahead = (total * np.linalg.det(corners)[..., None]) > 0
    return np.where(ahead, found, -np.inf)


def strongest(weights: csr_array) -> csr_array:
    """Nearest-neighbour weights: the largest weight of each place is set to 1, others to 0."""
    from scipy.sparse import csr_array

    entries = weights.tocoo()
    rows, cols = entries.coords
    order = np.lexsort((-cols, entries.data, rows))  # of equal weights, the first voxel
    rows, cols = rows[order], cols[order]
    last = np.flatnonzero(np.diff(rows, append=-1))
    return csr_array((np.ones(last.size), (rows[last], cols[last])), shape=weights.shape)


def carry(values: np.ndarray, weights: Any) -> np.ndarray:
    """Weighted mean of the values that are not missing, at each place.

    Parameters
    ----------
    values : numpy.ndarray, (…, source)
        NaN is a missing value; the weights of the other sources are normalised without it.
    weights : scipy.sparse.csr_array, (place, source)
        Weights of the same dtype as `values`.

    Returns
    -------
    numpy.ndarray, (…, place)
        NaN where no source has a value.
    """
    rows = values.reshape(-1, values.shape[-1])
    missing = np.isnan(rows)
    found = weights @ np.where(missing, 0, rows).T
    total = weights @ (~missing).T.astype(weights.dtype)
    with np.errstate(invalid="ignore"):  # 0 / 0 gives NaN, as intended
        return (found / total).T.reshape(*values.shape[:-1], weights.shape[0])
