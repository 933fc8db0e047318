"""Content of a FreeSurfer recon's files -> arrays: surfaces, curvature, volume geometry, transform.

Shared by the converter and by readers of a mirror. All functions take the bytes of a file and raise
ValueError with what was found, if that is not what such a file contains.

Coordinates of surfaces are mm from the centre of the recon's volume, along axes to the right, front
and top of that volume. The *volume geometry* at the end of a surface file, or in ``orig.mgz``, says
where centre (``c_ras``) and axes lie in scanner mm.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# Magic numbers of a mesh of triangles and of a map with one float per vertex.
_TRIANGLES, _MAP = 0xFFFFFE, 0xFFFFFF
# Tags after the faces: whether coordinates are already scanner mm, and the volume geometry.
_IN_SCANNER, _GEOMETRY = 2, 20
# Axes of surface coordinates (rows: right, front, top) along those of a volume (columns).
_AXES = np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
# How far the volume of a volume's axes may be from 1; files state them with six digits.
_SKEW = 1e-3
_MGH = np.dtype(
    [
        *(("version", ">i4"), ("shape", ">i4", 4), ("type", ">i4"), ("dof", ">i4")),
        *(("good", ">i2"), ("delta", ">f4", 3), ("axes", ">f4", (3, 3)), ("centre", ">f4", 3)),
    ]
)
_GZIP = 31  # zlib's wbits for gzip


@dataclass(frozen=True)
class Surface:
    """Mesh of one surface file.

    Attributes
    ----------
    vertices : numpy.ndarray, (vertex, 3) float32, mm
        Coordinates as in the file.
    faces : numpy.ndarray, (face, 3) int32
        Vertices of each triangle.
    to_scanner : numpy.ndarray, (4, 4) float64, or None
        Affine from the coordinates to scanner mm; None if the file has no volume geometry.
    """

    vertices: np.ndarray
    faces: np.ndarray
    to_scanner: np.ndarray | None


def parse_surface(raw: bytes) -> Surface:
    """Parse a surface such as ``lh.white``: a mesh of triangles, and its volume geometry."""
    lines = raw.split(b"\n", 2)  # who made the file, and an empty line
    if int.from_bytes(raw[:3], "big") != _TRIANGLES or len(lines) < 3:
        raise ValueError("no mesh of triangles")
    body = lines[2]
    n_vertices, n_faces = _numbers(body, ">i4", 2, 0).tolist()
    if n_vertices < 1 or n_faces < 1:
        raise ValueError(f"{n_vertices} vertices and {n_faces} triangles")
    vertices = _numbers(body, ">f4", 3 * n_vertices, 8).reshape(-1, 3)
    faces = _numbers(body, ">i4", 3 * n_faces, 8 + vertices.nbytes).reshape(-1, 3)
    if faces.min() < 0 or faces.max() >= n_vertices:
        raise ValueError(f"triangles of vertex {faces.max()}, and {n_vertices} vertices")
    if not np.isfinite(vertices).all():
        raise ValueError("vertices without a place (NaN or infinite)")
    footer = body[8 + vertices.nbytes + faces.nbytes :]
    return Surface(vertices, faces, _placed(footer))


def parse_curvature(raw: bytes) -> np.ndarray:
    """Parse a map such as ``lh.curv``, (vertex,) float32."""
    if int.from_bytes(raw[:3], "big") != _MAP:
        raise ValueError("no map of one number per vertex")
    n_vertices, _, n_values = _numbers(raw, ">i4", 3, 3).tolist()
    if n_vertices < 1 or n_values != 1:
        raise ValueError(f"{n_values} values for each of {n_vertices} vertices")
    return _numbers(raw, ">f4", n_vertices, 15)


def parse_volume(raw: bytes) -> np.ndarray:
    """Parse the header of a volume such as ``orig.mgz``: affine from surface to scanner mm."""
    try:
        head = zlib.decompressobj(_GZIP).decompress(raw, _MGH.itemsize)
    except zlib.error as error:
        raise ValueError(f"no gzip file ({error})") from error
    if len(head) < _MGH.itemsize:
        raise ValueError("the end of the file, too early")
    header = np.frombuffer(head, _MGH)[0]
    if header["version"] != 1:
        raise ValueError("no header of a volume")
    if header["good"] < 1:  # FreeSurfer's own default
        return np.eye(4)
    return _surface_to_scanner(header["axes"].astype(float).T, header["centre"].astype(float))


def parse_talairach(raw: bytes) -> np.ndarray:
    """Parse an affine such as ``talairach.lta``: (4, 4) float64, scanner mm to MNI305 mm."""
    head, _, volumes = raw.decode("utf-8", "replace").partition("src volume info")
    source, _, target = (_fields(text) for text in volumes.partition("dst volume info"))
    options, _, rows = head.partition("\n1 4 4\n")
    kind = _fields(options).get("type")
    try:
        matrix = np.array([line.split() for line in rows.splitlines()[:4]], dtype=float)
        if kind == "0":  # between voxel indices
            matrix = _voxel_to_scanner(target) @ matrix @ np.linalg.inv(_voxel_to_scanner(source))
    except (ValueError, np.linalg.LinAlgError) as error:
        raise ValueError(f"no matrix ({error})") from error
    if not target or kind not in ("0", "1"):  # 1: between scanner mm
        raise ValueError(f"a transform of type {kind}, or without its volumes")
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError("no matrix of four times four numbers")
    if matrix[3].tolist() != [0, 0, 0, 1] or not np.linalg.det(matrix):
        raise ValueError("a matrix that has no inverse, or is no affine")
    return matrix


def _numbers(raw: bytes, dtype: str, count: int, start: int) -> np.ndarray:
    """Numbers of a file, in the byte order of this machine."""
    stated = np.dtype(dtype)
    if len(raw) < start + count * stated.itemsize:
        raise ValueError("the end of the file, too early")
    return np.frombuffer(raw, stated, count, start).astype(stated.newbyteorder("="))


def _fields(text: str) -> dict[str, str]:
    """Lines such as ``valid = 1  # volume info valid`` as a dict."""
    pairs = (line.partition("#")[0].partition("=") for line in text.splitlines())
    return {key.strip(): value.strip() for key, equals, value in pairs if equals}


def _placed(footer: bytes) -> np.ndarray | None:
    """Affine from surface to scanner mm that the end of a surface file states, if it does."""
    tags = np.frombuffer(footer[: len(footer) // 4 * 4][:12], ">i4").tolist()
    if tags[:2] == [_IN_SCANNER, 1]:
        return np.eye(4)
    if tags[:1] == [_GEOMETRY]:
        text = footer[4:]
    elif tags == [_IN_SCANNER, 0, _GEOMETRY]:
        text = footer[12:]
    else:
        return None
    fields = _fields("\n".join(text[:4096].decode("utf-8", "replace").splitlines()[:8]))
    if not fields.get("valid", "1").startswith("1"):
        return None
    return _surface_to_scanner(*_axes_and_centre(fields))


def _three(fields: Mapping[str, str], name: str) -> np.ndarray:
    values = np.array(fields.get(name, "").split(), dtype=float)
    if values.shape != (3,) or not np.isfinite(values).all():
        raise ValueError(f"a volume geometry without {name}")
    return values


def _axes_and_centre(fields: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray]:
    axes = np.stack([_three(fields, f"{axis}ras") for axis in "xyz"], axis=1)
    return axes, _three(fields, "cras")


def _surface_to_scanner(axes: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Affine from surface mm; `axes` are the directions of the volume's axes, as columns."""
    if not abs(abs(np.linalg.det(axes)) - 1) < _SKEW:
        raise ValueError("a volume geometry whose axes are not at right angles, of length 1")
    affine = np.eye(4)
    affine[:3, :3] = axes @ _AXES.T
    affine[:3, 3] = centre
    return affine


def _voxel_to_scanner(fields: Mapping[str, str]) -> np.ndarray:
    axes, centre = _axes_and_centre(fields)
    affine = np.eye(4)
    affine[:3, :3] = axes * _three(fields, "voxelsize")
    affine[:3, 3] = centre - affine[:3, :3] @ _three(fields, "volume") / 2
    return affine
