"""Arrays of a subject's cortical surfaces: meshes, curvature, and where they lie."""

from __future__ import annotations

from laion_zarr.store.schema.specs import MM, T1W_SPACE, VERTEX, ArraySpec

FACE, CORNER, XYZ = "face", "corner", "xyz"
_AFFINE = ("row", "column")

FACES = ArraySpec(
    "faces", (FACE, CORNER), "int32", "vertices of each triangle, of all surfaces of the hemisphere"
)
# Attribute of a surface that its own file places, else an array of the part.
TO_SCANNER = ArraySpec(
    "to_scanner", _AFFINE, "float64", f"affine from mm of the surfaces to mm of the {T1W_SPACE}"
)
TALAIRACH = ArraySpec(
    "talairach", _AFFINE, "float64", f"affine from mm of the {T1W_SPACE} to mm of MNI305"
)
MESH = "mesh"  # attribute: CRC-32 of the faces and the number of vertices, the same for one mesh


def surface_mesh(name: str) -> ArraySpec:
    """Vertices of one surface of one hemisphere, as in its file."""
    return ArraySpec(name, (VERTEX, XYZ), "float32", f"vertices of the surface {name}", MM)


def surface_curvature(name: str) -> ArraySpec:
    """Curvature of the cortex at each vertex, as in its file."""
    text = "curvature at the vertex, positive in sulci"
    return ArraySpec(name, (VERTEX,), "float32", text, f"1/{MM}")


def in_hemi(hemi: str, array: str) -> str:
    """Name within its part of an array of one hemisphere."""
    return f"hemi-{hemi}/{array}"
