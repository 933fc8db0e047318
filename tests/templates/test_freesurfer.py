"""Files of a recon, parsed: against nibabel and nitransforms, for meshes and places of any kind."""

from __future__ import annotations

import gzip
import struct

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from nitransforms.linear import Affine
from recon_files import AXES, C_RAS, INFO, TO_MNI, lta_text, orig_affine, put_orig, put_surface
from scipy.spatial.transform import Rotation

from laion_zarr.templates import freesurfer

FACES = np.array([[0, 1, 2], [2, 3, 1]])


def surface(tmp_path, vertices=None, faces=FACES, info=INFO):
    path = tmp_path / "lh.white"
    vertices = np.arange(12, dtype=np.float32).reshape(4, 3) if vertices is None else vertices
    put_surface(path, vertices, faces, info)
    return path


def turned(info, axes, centre):
    columns = zip(("xras", "yras", "zras"), axes.T, strict=True)
    return info | dict(columns) | {"cras": centre}


def in_scanner(info, vertices):
    """Scanner mm by nibabel's header of the volume: surface mm, to voxels, to scanner mm."""
    header = nib.freesurfer.mghformat.MGHHeader()
    header.set_data_shape(info["volume"])
    header["delta"] = info["voxelsize"]
    header["Mdc"] = [info[axis] for axis in ("xras", "yras", "zras")]
    header["Pxyz_c"] = info["cras"]
    voxels = apply_affine(np.linalg.inv(header.get_vox2ras_tkr()), vertices)
    return apply_affine(header.get_affine(), voxels)


@given(
    n_vertices=st.integers(1, 40),
    n_faces=st.integers(1, 30),
    seed=st.integers(0, 2**20),
    sizes=st.tuples(*[st.sampled_from([0.7, 1.0, 2.0])] * 3),
    shape=st.tuples(*[st.integers(2, 9)] * 3),
)
def test_surfaces_are_nibabels(tmp_path_factory, n_vertices, n_faces, seed, sizes, shape):
    """Any mesh, and a volume with axes in any direction."""
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("any") / "rh.pial"
    vertices = rng.normal(0, 50, (n_vertices, 3)).astype(np.float32)
    faces = rng.integers(0, n_vertices, (n_faces, 3))
    axes = Rotation.random(random_state=seed).as_matrix() @ np.diag([1, 1, rng.choice([-1, 1])])
    volume = {"volume": np.array(shape), "voxelsize": np.array(sizes)}
    info = turned(INFO | volume, axes, rng.normal(0, 20, 3))
    put_surface(path, vertices, faces, info)
    found = freesurfer.parse_surface(path.read_bytes())
    assert (found.vertices.dtype, found.faces.dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(found.vertices.view(np.uint32), vertices.view(np.uint32))
    np.testing.assert_array_equal(found.faces, faces)
    moved = apply_affine(found.to_scanner, vertices)
    np.testing.assert_allclose(moved, in_scanner(info, vertices), atol=1e-3)


def test_usual_axes_only_shift(tmp_path):
    found = freesurfer.parse_surface(surface(tmp_path).read_bytes())
    np.testing.assert_array_equal(found.to_scanner, nib.affines.from_matvec(np.eye(3), C_RAS))


def test_footers_that_say_nothing(tmp_path):
    assert freesurfer.parse_surface(surface(tmp_path, info=None).read_bytes()).to_scanner is None
    invalid = surface(tmp_path).read_bytes().replace(b"1  # volume", b"0  # volume")
    assert freesurfer.parse_surface(invalid).to_scanner is None


def test_footers_of_other_kinds(tmp_path):
    whole = surface(tmp_path).read_bytes()
    start = whole.index(struct.pack(">3i", 2, 0, 20))
    short = whole[:start] + whole[start + 8 :]  # without the tag before
    assert freesurfer.parse_surface(short).to_scanner[:3, 3].tolist() == C_RAS.tolist()
    scanner = whole[:start] + struct.pack(">3i", 2, 1, 20) + whole[start + 12 :]
    np.testing.assert_array_equal(freesurfer.parse_surface(scanner).to_scanner, np.eye(4))
    more = whole + struct.pack(">i", 3) + b"mris_remesh -i \xff"  # FreeSurfer adds commands
    assert freesurfer.parse_surface(more).to_scanner is not None


def counts(n_vertices, n_faces):
    """Put other counts into a file of four vertices and two faces."""

    def change(raw):
        at = raw.index(struct.pack(">2i", 4, 2))
        return raw[:at] + struct.pack(">2i", n_vertices, n_faces) + raw[at + 8 :]

    return change


BAD_SURFACES = {
    "empty": (lambda raw: b"", "triangles"),
    "one byte": (lambda raw: raw[:1], "triangles"),
    "a web page": (lambda raw: b"<!DOCTYPE html>\n\n<html>" + raw, "triangles"),
    "another kind": (lambda raw: b"\xff\xff\xfd" + raw[3:], "triangles"),
    "cut in the vertices": (lambda raw: raw[:60], "too early"),
    "cut in the faces": (lambda raw: raw[: raw.index(b"valid") - 16], "too early"),
    "cut in the footer": (lambda raw: raw[: raw.index(b"yras") + 8], "yras"),
    "no vertices": (counts(0, 2), "0 vertices"),
    "minus one vertex": (counts(-1, 2), "-1 vertices"),
    "no triangles": (counts(4, 0), "0 triangles"),
    "too many vertices": (counts(2**31 - 1, 2), "too early"),
    "too many triangles": (counts(4, 2**31 - 1), "too early"),
    "axes that are none": (lambda raw: raw.replace(b"cras", b"dras"), "cras"),
}


@pytest.mark.parametrize("case", BAD_SURFACES)
def test_damaged_surfaces(tmp_path, case):
    change, match = BAD_SURFACES[case]
    with pytest.raises(ValueError, match=match):
        freesurfer.parse_surface(change(surface(tmp_path).read_bytes()))


@pytest.mark.parametrize("vertex", [4, -1, 2**30])
def test_faces_beyond_the_vertices(tmp_path, vertex):
    path = surface(tmp_path, faces=np.array([[0, 1, 2], [1, vertex, 3]]))
    with pytest.raises(ValueError, match="4 vertices"):
        freesurfer.parse_surface(path.read_bytes())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vertices_without_a_place(tmp_path, value):
    vertices = np.ones((4, 3), np.float32)
    vertices[2, 1] = value
    with pytest.raises(ValueError, match="without a place"):
        freesurfer.parse_surface(surface(tmp_path, vertices).read_bytes())


@pytest.mark.parametrize("axes", [np.zeros((3, 3)), np.ones((3, 3)), 2 * np.eye(3)])
def test_axes_that_would_flatten_the_brain(tmp_path, axes):
    with pytest.raises(ValueError, match="right angles"):
        freesurfer.parse_surface(surface(tmp_path, info=turned(INFO, axes, C_RAS)).read_bytes())


def test_curvature(tmp_path):
    path, values = tmp_path / "lh.curv", np.array([0.5, np.nan, -2, 1e-30, 3], np.float32)
    nib.freesurfer.write_morph_data(path, values, 7)
    found = freesurfer.parse_curvature(path.read_bytes())
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values)
    for raw in (b"", b"\xff\xff\xff", path.read_bytes()[:-1], b"x" * 40):
        with pytest.raises(ValueError, match=r"too early|one number"):
            freesurfer.parse_curvature(raw)
    three = path.read_bytes()[:11] + struct.pack(">i", 3) + path.read_bytes()[15:]
    with pytest.raises(ValueError, match="3 values for each of 5"):
        freesurfer.parse_curvature(three)


def test_volumes(tmp_path):
    put_orig(tmp_path / "orig.mgz")
    raw = (tmp_path / "orig.mgz").read_bytes()
    header = nib.load(tmp_path / "orig.mgz").header
    expected = header.get_affine() @ np.linalg.inv(header.get_vox2ras_tkr())
    np.testing.assert_allclose(freesurfer.parse_volume(raw), expected, atol=1e-4)
    np.testing.assert_allclose(freesurfer.parse_volume(raw)[:3, 3], C_RAS, atol=1e-5)
    unplaced = bytearray(gzip.decompress(raw))
    unplaced[28:30] = bytes(2)  # FreeSurfer: then the axes are the usual ones
    found = freesurfer.parse_volume(gzip.compress(bytes(unplaced)))
    np.testing.assert_array_equal(found, np.eye(4))
    for bad in (b"", raw[:20], gzip.decompress(raw), gzip.compress(b"x" * 300)):
        with pytest.raises(ValueError, match=r"gzip|too early|no header"):
            freesurfer.parse_volume(bad)


def test_transforms_are_nitransforms(tmp_path):
    """It reads the matrix in float32."""
    source = orig_affine()
    target = nib.affines.from_matvec(np.array(list(AXES.values())).T, [128, -128, 128])
    between = np.linalg.inv(target) @ TO_MNI @ source
    for kind, matrix in {1: TO_MNI, 0: between}.items():
        text = lta_text(matrix, kind)
        (tmp_path / "talairach.lta").write_text(text)
        found = freesurfer.parse_talairach(text.encode())
        np.testing.assert_allclose(found, TO_MNI, atol=1e-12 if kind == 1 else 1e-9)
        theirs = Affine.from_filename(tmp_path / "talairach.lta", fmt="fs").matrix
        np.testing.assert_allclose(np.linalg.inv(found), theirs, atol=1e-3)
    commented = lta_text(comment="  # LINEAR_RAS_TO_RAS")
    np.testing.assert_array_equal(freesurfer.parse_talairach(commented.encode()), TO_MNI)


BAD_TRANSFORMS = {
    "empty": "",
    "of another type": lta_text(kind=14),
    "cut in the matrix": lta_text()[:180],
    "cut after the matrix": lta_text().partition("src volume")[0],
    "cut before the target": lta_text().partition("dst volume")[0],
    "between voxels of no volume": lta_text(kind=0).replace("cras", "dras"),
    "no numbers": lta_text().replace("1.04", "one"),
    "not a number": lta_text().replace("1.04", "nan"),
    "flat": lta_text(np.diag([1.0, 1, 0, 1])),
    "no affine": lta_text(np.diag([1.0, 1, 1, 2])),
}


@pytest.mark.parametrize("case", BAD_TRANSFORMS)
def test_damaged_transforms(case):
    with pytest.raises(ValueError, match=r"matrix|transform"):
        freesurfer.parse_talairach(BAD_TRANSFORMS[case].encode())
