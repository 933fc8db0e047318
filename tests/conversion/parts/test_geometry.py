"""The part `geometry`: every value is the file's; what contradicts another file fails alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import zarr
from recon_files import (
    C_RAS,
    INFO,
    MESHES,
    N_FACES,
    TO_MNI,
    faces_of,
    lta_text,
    orig,
    put_orig,
    put_surface,
    surf,
    talairach,
    write_recon,
)
from small_mirror import HTML, put, remove, report_of, shards, teaches
from trees import tree_bytes

from laion_zarr import load_subject, verify
from laion_zarr.conversion.cli import main
from laion_zarr.errors import StoreError

GEOMETRY = "sub-01/geometry"
ALL = {
    *(f"hemi-{hemi}/{name}" for hemi in "LR" for name in (*MESHES, "faces", "curv")),
    *("to_scanner", "talairach"),
}


def arrays(store):
    """Every array of the part, read by zarr alone."""
    root = zarr.open_group(f"{store}/{GEOMETRY}", mode="r", use_consolidated=False)
    found = dict(root.arrays())
    for node in root.group_keys():
        found |= {f"{node}/{name}": array for name, array in root[node].arrays()}
    return found


def check_geometry(root, store, lacks=()):
    """The store has what nibabel reads from the files, but what it lacks."""
    found = arrays(store)
    assert set(found) == ALL - set(lacks)
    for hemi in "LR":
        for name in MESHES:
            if (array := found.get(f"hemi-{hemi}/{name}")) is not None:
                vertices, faces = nib.freesurfer.read_geometry(root / surf(hemi, name))
                assert array.dtype == np.float32
                np.testing.assert_array_equal(array[:], vertices)
                np.testing.assert_array_equal(found[f"hemi-{hemi}/faces"][:], faces)
        if (array := found.get(f"hemi-{hemi}/curv")) is not None:
            curv = nib.freesurfer.read_morph_data(root / surf(hemi, "curv"))
            np.testing.assert_array_equal(array[:], curv)
    assert not verify(store, root, deep=True, progress=False).problems


@pytest.fixture
def small(lean):
    """A mirror with little but a recon, to be damaged."""
    write_recon(lean)
    return lean


def geometry_of(root, store):
    """Failures of a conversion of the geometry, by what failed."""
    report = report_of(root, store, parts=["geometry"])
    return report.failed


def test_every_value(whole, whole_store):
    check_geometry(whole, whole_store)
    found = arrays(whole_store)
    assert found["hemi-R/faces"].shape == (N_FACES["R"], 3)
    assert found["hemi-R/white"].metadata.dimension_names == ("vertex", "xyz")
    for name, array in found.items():
        assert array.attrs["description"]
        assert (array.attrs.get("units") == "mm") == (name.rpartition("/")[2] in MESHES)
    np.testing.assert_array_equal(found["talairach"][:], TO_MNI)
    np.testing.assert_allclose(found["to_scanner"][:3, 3], C_RAS, atol=1e-5)
    assert np.array(found["hemi-L/pial"].attrs["to_scanner"])[:3, 3].tolist() == C_RAS.tolist()


def test_an_old_store_gets_it_and_keeps_the_rest(whole, new):
    report_of(whole, new, parts=["betas", "anatomy", "surfaces"])
    sub = load_subject("sub-01", new)
    assert not sub.has_geometry()
    sub.get_betas().load()
    before, betas = tree_bytes(new, "sub-*/*/**/*"), shards(new)
    report = report_of(whole, new, parts=["betas", "anatomy", "surfaces", "geometry"])
    assert report.converted == ["sub-01 geometry"]
    after = tree_bytes(new, "sub-*/*/**/*")
    assert {name: after[name] for name in before} == before
    assert shards(new) == betas
    assert all("geometry/" in name for name in set(after) - set(before))
    check_geometry(whole, new)
    assert load_subject("sub-01", new).has_geometry()
    assert report_of(whole, new, parts=["geometry"]).converted == []


def test_planned_listed_and_shown(whole, new, capsys):
    command = ["convert", "--source", str(whole), "--store", str(new), "--subject", "01"]
    command += ["--parts", "geometry"]
    assert main([*command, "--dry-run"]) == 0
    assert "sub-01 geometry" in capsys.readouterr().out
    assert not list(new.glob("sub-01/geometry"))
    assert main([*command, "--quiet"]) == 0
    assert main(["info", "--store", str(new)]) == 0
    assert "geometry" in capsys.readouterr().out


# -- meshes that do not go together


def test_another_number_of_vertices(small, new):
    rng = np.random.default_rng(0)
    put_surface(small / surf("L", "pial"), rng.normal(size=(11, 3)), faces_of("L"))
    failed = geometry_of(small, new)
    assert list(failed) == ["sub-01 geometry hemi-L pial"]
    words = (surf("L", "pial"), surf("L", "white"), "11 vertices", "10 vertices")
    teaches(failed["sub-01 geometry hemi-L pial"], *words)
    check_geometry(small, new, lacks={"hemi-L/pial"})
    write_recon(small)
    assert not geometry_of(small, new)
    check_geometry(small, new)


def test_the_first_may_be_the_odd_one(small, new):
    put_surface(small / surf("R", "white"), np.ones((3, 3)), np.array([[0, 1, 2]]))
    failed = geometry_of(small, new)
    words = (surf("R", "white"), surf("R", "pial"), "3 vertices", "12 vertices")
    teaches(failed["sub-01 geometry hemi-R white"], *words)
    check_geometry(small, new, lacks={"hemi-R/white"})


def test_other_triangles(small, new):
    vertices, faces = nib.freesurfer.read_geometry(small / surf("R", "sphere.reg"))
    put_surface(small / surf("R", "sphere.reg"), vertices, faces[:, ::-1])
    failed = geometry_of(small, new)
    words = (surf("R", "sphere.reg"), surf("R", "white"), "other triangles")
    teaches(failed["sub-01 geometry hemi-R sphere.reg"], *words)
    check_geometry(small, new, lacks={"hemi-R/sphere.reg"})


def test_curvature_of_another_mesh(small, new):
    path = small / surf("L", "curv")
    nib.freesurfer.write_morph_data(path, np.ones(12, np.float32), N_FACES["L"])
    failed = geometry_of(small, new)
    words = (surf("L", "curv"), surf("L", "white"), "12 vertices", "10 vertices")
    teaches(failed["sub-01 geometry hemi-L curv"], *words)
    check_geometry(small, new, lacks={"hemi-L/curv"})


def test_curvature_without_a_mesh(small, new):
    remove(small, *(surf("L", name) for name in MESHES))
    failed = geometry_of(small, new)
    teaches(failed["sub-01 geometry hemi-L curv"], surf("L", "curv"), "surface")
    check_geometry(small, new, lacks={name for name in ALL if name.startswith("hemi-L")})


# -- places that do not go together


@pytest.mark.parametrize("name", ["white", "pial"])
def test_another_place_than_the_volume(small, new, name):
    path = small / surf("R", name)
    vertices, faces = nib.freesurfer.read_geometry(path)
    put_surface(path, vertices, faces, INFO | {"cras": C_RAS + np.array([0, 0.01, 0])})
    failed = geometry_of(small, new)
    words = (surf("R", name), "orig.mgz", "-17.113", "-17.123")
    teaches(failed[f"sub-01 geometry hemi-R {name}"], *words)
    check_geometry(small, new, lacks={f"hemi-R/{name}"})


def test_another_place_than_the_other_surfaces(small, new):
    remove(small, orig())
    path = small / surf("R", "white")
    vertices, faces = nib.freesurfer.read_geometry(path)
    turned = {"xras": np.array([1.0, 0, 0])}
    put_surface(path, vertices, faces, INFO | turned)
    failed = geometry_of(small, new)
    teaches(failed["sub-01 geometry hemi-R white"], surf("R", "white"), surf("L", "white"))
    check_geometry(small, new, lacks={"hemi-R/white", "to_scanner"})


def test_surfaces_without_a_place_take_the_volumes(small, new):
    for hemi in "LR":
        for name in MESHES:
            vertices, faces = nib.freesurfer.read_geometry(small / surf(hemi, name))
            put_surface(small / surf(hemi, name), vertices, faces, None)
    assert not geometry_of(small, new)
    check_geometry(small, new)
    sub = load_subject("sub-01", new)
    vertices, _ = nib.freesurfer.read_geometry(small / surf("R", "pial"))
    found = sub.get_surface("pial", "R")["coordinates"]
    np.testing.assert_allclose(found, vertices + C_RAS, atol=1e-4)
    sphere, _ = nib.freesurfer.read_geometry(small / surf("R", "sphere.reg"))
    np.testing.assert_array_equal(sub.get_surface("sphere.reg", "R")["coordinates"], sphere)


def test_surfaces_without_any_place(small, new):
    put(small, orig(), HTML)
    for name in ("white", "sphere.reg"):
        vertices, faces = nib.freesurfer.read_geometry(small / surf("L", name))
        put_surface(small / surf("L", name), vertices, faces, None)
    failed = geometry_of(small, new)
    assert set(failed) == {"sub-01 geometry orig", "sub-01 geometry hemi-L white"}
    teaches(failed["sub-01 geometry orig"], "orig.mgz", "gzip")
    teaches(failed["sub-01 geometry hemi-L white"], surf("L", "white"), "orig.mgz")
    check_geometry(small, new, lacks={"to_scanner", "hemi-L/white"})


# -- damage


DAMAGED = {
    "surface": (surf("L", "inflated"), "hemi-L inflated", "hemi-L/inflated"),
    "curvature": (surf("R", "curv"), "hemi-R curv", "hemi-R/curv"),
    "transform": (talairach(), "talairach", "talairach"),
    "volume": (orig(), "orig", "to_scanner"),
}


@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.parametrize("damage", ["empty", "web page", "cut"])
def test_damaged_files_fail_alone(small, new, case, damage):
    path, what, array = DAMAGED[case]
    raw = (small / path).read_bytes()
    put(small, path, {"empty": b"", "web page": HTML, "cut": raw[: len(raw) // 3]}[damage])
    failed = geometry_of(small, new)
    assert list(failed) == [f"sub-01 geometry {what}"]
    teaches(failed[f"sub-01 geometry {what}"], path)
    check_geometry(small, new, lacks={array})
    put(small, path, raw)
    assert not geometry_of(small, new)
    check_geometry(small, new)


def test_faces_beyond_the_vertices(small, new):
    path = small / surf("L", "white")
    vertices, faces = nib.freesurfer.read_geometry(path)
    put_surface(path, vertices, np.where(faces == faces[0, 0], 10, faces))
    failed = geometry_of(small, new)
    teaches(failed["sub-01 geometry hemi-L white"], surf("L", "white"), "vertex 10", "10 vertices")
    check_geometry(small, new, lacks={"hemi-L/white"})


# -- what is stored stays


def test_gone_and_damaged_files_stay_stored(small, new, tmp_path):
    geometry_of(small, new)
    whole = Path(shutil.copytree(small, tmp_path / "before"))
    remove(small, surf("L", "pial"), talairach(), surf("R", "curv"))
    put(small, surf("L", "inflated"), HTML)
    put(small, talairach(), lta_text(kind=14))
    assert set(geometry_of(small, new)) == {
        "sub-01 geometry hemi-L inflated",
        "sub-01 geometry talairach",
    }
    check_geometry(whole, new)


def test_what_is_stored_of_another_mesh_does_not_stay(small, new):
    """A new recon of which one surface has not come: it is not joined with the old one's."""
    geometry_of(small, new)
    rng = np.random.default_rng(5)
    for name in ("white", "inflated", "sphere.reg"):
        put_surface(small / surf("L", name), rng.normal(size=(10, 3)), faces_of("L")[::-1])
    remove(small, surf("L", "pial"), surf("R", "pial"))
    put(small, surf("L", "curv"), HTML)
    assert list(geometry_of(small, new)) == ["sub-01 geometry hemi-L curv"]
    assert set(arrays(new)) == ALL - {"hemi-L/pial", "hemi-L/curv"}
    assert not verify(new, progress=False).problems


def test_the_same_bytes_however_it_came(small, new, tmp_path):
    late = tmp_path / "late.zarr"
    geometry_of(small, new)
    held = (small / surf("R", "sphere.reg")).read_bytes()
    remove(small, surf("R", "sphere.reg"))
    geometry_of(small, late)
    put(small, surf("R", "sphere.reg"), held)
    geometry_of(small, late)
    assert tree_bytes(late, f"{GEOMETRY}/**/*") == tree_bytes(new, f"{GEOMETRY}/**/*")


# -- verification


CHANGES = {
    "vertices": lambda v, f, info: (v + 1, f, info),
    "triangles": lambda v, f, info: (v, f[::-1], info),
    "place": lambda v, f, info: (v, f, info | {"cras": C_RAS + 0.001}),
}


def identical(store, path, root):
    """Write the changed file's identity into the manifest, as if it had been converted."""
    from laion_zarr.conversion.source.files import open_source
    from laion_zarr.store.manifest import dump_manifest, parse_manifest

    key = Path(store) / "sub-01/manifest.json"
    manifest = parse_manifest(None, "sub-01/manifest.json", key.read_bytes())
    manifest["parts"]["geometry"]["sources"][path] = open_source(root).identity(path)
    key.write_bytes(dump_manifest(manifest))


@pytest.mark.parametrize("change", CHANGES)
def test_deep_verification_finds(small, new, change):
    geometry_of(small, new)
    path = surf("R", "white")
    vertices, faces = nib.freesurfer.read_geometry(small / path)
    put_surface(small / path, *CHANGES[change](vertices, faces, INFO))
    identical(new, path, small)
    verify(new, small, progress=False)
    with pytest.raises(
        StoreError, match="sub-01/geometry/hemi-R/white" if change != "triangles" else "faces"
    ):
        verify(new, small, deep=True, progress=False)


@pytest.mark.parametrize("path", [talairach(), orig(), surf("L", "curv")])
def test_deep_verification_finds_other_files(small, new, path):
    geometry_of(small, new)
    if path == orig():
        put_orig(small / path, C_RAS + 0.01)
    elif path == talairach():
        put(small, path, lta_text(TO_MNI + np.diag([0.001, 0, 0, 0])))
    else:
        nib.freesurfer.write_morph_data(small / path, np.ones(10, np.float32), 7)
    identical(new, path, small)
    with pytest.raises(StoreError, match=r"geometry.*differ"):
        verify(new, small, deep=True, progress=False)


def test_deep_verification_of_transforms_between_voxels(small, new):
    source = nib.load(small / orig()).affine
    target = nib.affines.from_matvec(
        np.array([[-1, 0, 0], [0, 0, 1], [0, -1, 0]]), [128, -128, 128]
    )
    put(small, talairach(), lta_text(np.linalg.inv(target) @ TO_MNI @ source, kind=0))
    assert not geometry_of(small, new)
    np.testing.assert_allclose(arrays(new)["talairach"][:], TO_MNI, atol=1e-4)
    check_geometry(small, new)


def test_verification_finds_surfaces_of_different_meshes(small, new):
    """Such as a store that another program wrote."""
    from laion_zarr.conversion.verification import geometry

    geometry_of(small, new)
    root = zarr.open_group(new, mode="r+", use_consolidated=False)
    problems = []

    class Check:
        def __init__(self):
            self.root = root

        def array(self, path):
            return root[path][...]

        problem = staticmethod(problems.append)

    geometry.check_meshes(Check(), GEOMETRY)
    assert problems == []
    faces = root[f"{GEOMETRY}/hemi-L/faces"]
    faces[0, 0] = 10
    geometry.check_meshes(Check(), GEOMETRY)
    assert len(problems) == 1
    assert "hemi-L" in problems[0]
