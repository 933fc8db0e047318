"""Surfaces of a subject and values on them, by the store alone; as nibabel and nitransforms do."""

from __future__ import annotations

import pickle
import shutil

import dask
import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from brain_files import HEMIS, SUB, noise
from brain_files import old_store as old_store
from converting import quiet
from counting_store import CountingStore
from nilearn.datasets import fetch_surf_fsaverage
from nilearn.surface import load_surf_mesh
from nitransforms.base import SurfaceMesh
from nitransforms.surface import SurfaceResampler

from laion_zarr import load_subject
from laion_zarr.errors import NotConvertedError

RECON = f"derivatives/freesurfer/{SUB}"
NAMES = ("white", "pial", "inflated", "sphere.reg")
N_FSAVERAGE5 = 10242


def file_of(bids_root, hemi, name):
    return bids_root / RECON / f"surf/{HEMIS[hemi][0]}.{name}"


def n_vertices(bids_root, hemi):
    return len(nib.freesurfer.read_geometry(file_of(bids_root, hemi, "white"))[0])


@pytest.fixture(scope="module")
def maps(bids_root):
    """A made-up map of each hemisphere, with labels."""
    return {
        hemi: xr.DataArray(
            noise(n_vertices(bids_root, hemi), seed), dims="vertex", name="z", coords={"hemi": hemi}
        )
        for seed, hemi in enumerate(HEMIS)
    }


# -- the surfaces


@pytest.mark.parametrize("hemi", HEMIS)
@pytest.mark.parametrize("name", NAMES)
def test_surfaces_are_those_of_the_files(sub, bids_root, hemi, name):
    """No test of this file but one knows of a mirror."""
    found = sub.get_surface(name, hemi)
    vertices, faces = nib.freesurfer.read_geometry(file_of(bids_root, hemi, name))
    c_ras = nib.load(bids_root / RECON / "mri/orig.mgz").header["Pxyz_c"]
    assert np.abs(c_ras).max() > 10
    shift = 0 if name == "sphere.reg" else c_ras
    np.testing.assert_allclose(found["coordinates"], vertices + shift, atol=1e-4)
    if name == "sphere.reg":
        np.testing.assert_array_equal(found["coordinates"], vertices)
    np.testing.assert_array_equal(found["faces"], faces)
    curv = nib.freesurfer.read_morph_data(file_of(bids_root, hemi, "curv"))
    np.testing.assert_array_equal(found["curvature"], curv)
    assert {name: found[name].dims for name in found} == {
        "coordinates": ("vertex", "xyz"),
        "faces": ("face", "corner"),
        "curvature": ("vertex",),
    }
    assert found["coordinates"].attrs["units"] == "mm"
    assert found["xyz"].values.tolist() == ["x", "y", "z"]
    assert found["hemi"] == hemi
    assert found.attrs == {"subject": SUB, "surface": name}


def test_midthickness_is_halfway(sub):
    white, middle, pial = (sub.get_surface(name, "R") for name in ("white", "midthickness", "pial"))
    between = (white["coordinates"] + pial["coordinates"]) / 2
    np.testing.assert_allclose(middle["coordinates"], between, atol=1e-12)
    np.testing.assert_array_equal(middle["faces"], pial["faces"])


def test_defaults_and_wrong_names(sub):
    xr.testing.assert_identical(sub.get_surface(), sub.get_surface("pial", "L"))
    assert sub.has_geometry()
    for arguments, match in {("thick",): "midthickness", ("pial", "both"): "'L', 'R'"}.items():
        with pytest.raises(ValueError, match=match):
            sub.get_surface(*arguments)


def test_a_store_without_it_reads_the_mirror(old_store, sub, maps, bids_root, monkeypatch):
    """Stores of before give the same values, as long as the mirror is there."""
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(bids_root))
    old = load_subject(SUB, old_store)
    assert not old.has_geometry()
    for name in (*NAMES, "midthickness"):
        xr.testing.assert_identical(old.get_surface(name, "R"), sub.get_surface(name, "R"))
    ceiling = sub.get_noise_ceiling(desc="NoiseceilingAllrep")
    for target in ("fsaverage", "MNI305"):
        found, expected = (one.to_template(ceiling, target).values for one in (old, sub))
        np.testing.assert_array_equal(found, expected)
    found, expected = (one.surface_to_template(maps).values for one in (old, sub))
    np.testing.assert_array_equal(found, expected)


# -- what is read


def reads(counting):
    """Arrays of the geometry of which a chunk was read."""
    keys = [key for key, _, size in counting.reads if "/geometry/" in key and size]
    return sorted({key.split("/geometry/")[1].partition("/c/")[0] for key in keys if "/c/" in key})


def test_only_what_is_needed_is_read(store, maps):
    counting = CountingStore(store)
    sub = load_subject(SUB, counting)
    ceiling = sub.get_noise_ceiling(desc="NoiseceilingAllrep")
    sub.get_betas(roi="EBA").load()
    assert reads(counting) == []
    assert sub.has_geometry()
    assert not [key for key, _, _ in counting.reads if "/geometry/" in key]
    of = {
        ("hemi-L/faces", "hemi-L/sphere.reg", "hemi-L/white"): lambda: sub.to_template(
            ceiling, "fsaverage", hemi="L"
        ),
        ("hemi-R/faces", "hemi-R/sphere.reg"): lambda: sub.surface_to_template(maps["R"]),
        ("talairach",): lambda: sub.to_template(ceiling, "MNI305"),
        ("hemi-R/curv", "hemi-R/faces", "hemi-R/inflated"): lambda: sub.get_surface(
            "inflated", "R"
        ),
    }
    for expected, ask in of.items():
        counting.reads.clear()
        ask()
        assert tuple(reads(counting)) == expected
    counting.reads.clear()
    sub.to_template(ceiling, "fsaverage", hemi="L", interpolation="nearest").load()
    assert reads(counting) == []  # the weights are there


# -- values on the surface


@pytest.mark.parametrize("hemi", HEMIS)
def test_surface_to_template_is_nitransforms(sub, bids_root, maps, hemi):
    sphere, faces = nib.freesurfer.read_geometry(file_of(bids_root, hemi, "sphere.reg"))
    name = HEMIS[hemi][1]
    targets = load_surf_mesh(fetch_surf_fsaverage()[f"sphere_{name}"]).coordinates[:400]
    reference = SurfaceMesh.from_arrays(targets, np.array([[0, 1, 2]]))
    resampler = SurfaceResampler(reference, SurfaceMesh.from_arrays(sphere, faces))
    # Near edges it may take the neighbouring triangle, with a weight just below 0.
    inside = resampler.mat.toarray().min(axis=0) >= 0
    assert inside.mean() > 0.95
    found = sub.surface_to_template(maps[hemi])
    assert found.shape == (N_FSAVERAGE5,)
    expected = resampler.apply(maps[hemi].values)
    np.testing.assert_allclose(found.values[:400][inside], expected[inside], atol=1e-4)


def test_forms_of_values(sub, maps):
    """A dict, one hemisphere with its label or by hemi=, numbers without labels; to_template."""
    both = sub.surface_to_template(maps)
    assert both.dims == ("hemi", "vertex")
    assert both["hemi"].values.tolist() == ["L", "R"]
    assert both.attrs["space"] == "fsaverage5"
    assert both.name == "z"
    assert both["vertex"].values.tolist() == list(range(N_FSAVERAGE5))
    xr.testing.assert_identical(sub.to_template(maps, "fsaverage"), both)
    for hemi, one in maps.items():
        alone = sub.surface_to_template(one)
        assert alone.dims == ("vertex",)
        assert alone["hemi"] == hemi
        expected = both.sel(hemi=hemi)
        forms = {
            "by label": alone,
            "told": sub.surface_to_template(one.drop_vars("hemi"), hemi=hemi),
            "of a dict": sub.surface_to_template(maps, hemi=hemi),
            "to_template": sub.to_template(one, "fsaverage"),
            "numpy": sub.surface_to_template(one.values, hemi=hemi),
            "list": sub.surface_to_template(one.values.tolist(), hemi=hemi),
        }
        for form, found in forms.items():
            np.testing.assert_allclose(found.values, expected.values, atol=1e-6, err_msg=form)
        single = sub.surface_to_template({f"hemi-{hemi}": one.values})
        assert single.dims == ("hemi", "vertex")
        np.testing.assert_array_equal(single.values[0], expected.values)


def test_rois_reach_fsaverage(sub):
    """A mask on the surface becomes shares; the largest of them are 1."""
    forms = sub.get_roi_data("laionventral")["laionventral"]["gii"]
    share = sub.surface_to_template(forms)
    assert share.dims == ("hemi", "vertex")
    assert set(np.unique(share)) > {0, 1}
    assert (share >= 0).all()
    assert (share <= 1).all()
    mask = {hemi: forms[f"hemi-{hemi}"]["func.gii"] for hemi in HEMIS}
    np.testing.assert_array_equal(sub.surface_to_template(mask), share)
    nearest = sub.surface_to_template(mask, interpolation="nearest")
    assert set(np.unique(nearest)) == {0, 1}
    np.testing.assert_array_equal(nearest.values[share == 1], 1)


def test_localizer_maps_say_their_hemisphere(sub):
    """One hemisphere alone, and what is computed of it, is carried as beside the other one."""
    maps = sub.get_localizer_surface("floc", "faceVsOthers")
    both = sub.surface_to_template(maps)
    for hemi in HEMIS:
        alone = sub.get_localizer_surface("floc", "faceVsOthers", hemi=hemi)
        xr.testing.assert_equal(sub.surface_to_template(alone), both.sel(hemi=hemi))
        share = sub.surface_to_template(alone > 3)
        assert ((share >= 0) & (share <= 1)).all()
    with pytest.raises(ValueError, match="values are of hemi 'R', not 'L'"):
        sub.surface_to_template({"L": maps["R"], "R": maps["L"]})


def test_trials_stay_lazy_and_labelled(sub, maps):
    trials = maps["L"].expand_dims(trial=[7, 3, 5]) * xr.DataArray([1, 2, 3], dims="trial")
    lazy = trials.assign_coords(run=("trial", [1, 1, 2])).chunk(trial=1)

    def refuse(*_, **__):
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=refuse):
        found = sub.surface_to_template({"L": lazy})
    assert found.dims == ("trial", "hemi", "vertex")
    assert found["trial"].values.tolist() == [7, 3, 5]
    assert found["run"].values.tolist() == [1, 1, 2]
    one = sub.surface_to_template(maps["L"])
    np.testing.assert_allclose(found.sel(trial=5, hemi="L"), 3 * one, atol=1e-5)
    again = pickle.loads(pickle.dumps(found.isel(trial=0)))
    np.testing.assert_allclose(again.sel(hemi="L"), one, atol=1e-6)


def test_missing_vertices_count_for_nothing(sub, maps):
    holes = xr.full_like(maps["R"], 7).where(maps["R"] < 0)
    found = sub.surface_to_template(holes).values
    there = np.isfinite(found)
    assert 0.5 < there.mean() < 0.99
    np.testing.assert_allclose(found[there], 7, rtol=1e-6)


WRONG = {
    "another number": (lambda maps: maps["L"][:-3], {}, "159 vertices.* 162"),
    "the other hemisphere's": (lambda maps: maps["R"].values, {"hemi": "L"}, "252 vertices.* 162"),
    "no hemisphere": (lambda maps: maps["L"].values, {}, "hemi='L'"),
    "two hemispheres": (lambda maps: maps["L"], {"hemi": "R"}, "of hemi 'L', not 'R'"),
    "one that is not in it": (lambda maps: {"L": maps["L"]}, {"hemi": "R"}, "without hemi='R'"),
    "other keys": (lambda maps: {"left": maps["L"]}, {}, r"\['left'\]"),
    "no keys": (lambda maps: {}, {}, r"got \[\]"),
    "swapped": (lambda maps: {"R": maps["L"]}, {}, "of hemi 'L', not 'R'"),
    "words": (lambda maps: np.full(162, "a"), {"hemi": "L"}, "must be numbers"),
    "three axes": (lambda maps: np.zeros((2, 2, 162)), {"hemi": "L"}, "must be .vertex,."),
    "a template's": (
        lambda maps: xr.DataArray(np.zeros((2, 162)), dims=("hemi", "vertex")),
        {},
        "'L': …",
    ),
    "a person": (lambda maps: maps["L"].assign_attrs(subject="sub-03"), {}, "sub-03 and of sub-01"),
    "target": (lambda maps: maps["L"], {"target": "MNI305"}, "target must be"),
    "density": (lambda maps: maps["L"], {"fsaverage_density": "10k"}, "fsaverage5"),
    "interpolation": (lambda maps: maps["L"], {"interpolation": "cubic"}, "nearest"),
    "hemi": (lambda maps: maps["L"], {"hemi": "left"}, "hemi must be"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_values(sub, maps, case):
    make, options, match = WRONG[case]
    with pytest.raises(ValueError, match=match):
        sub.surface_to_template(make(maps), **options)


def test_directions_by_name(sub, maps):
    ceiling = sub.get_noise_ceiling(desc="NoiseceilingAllrep")
    found = sub.volume_to_surface(ceiling, hemi="R", surface="pial")
    expected = sub.to_template(ceiling, "fsaverage", hemi="R", surface="pial")
    xr.testing.assert_identical(found, expected)
    found = sub.volume_to_template(ceiling, "MNI305", interpolation="nearest")
    xr.testing.assert_identical(found, sub.to_template(ceiling, "MNI305", interpolation="nearest"))
    asks = {
        "fsaverage": lambda: sub.volume_to_surface(ceiling, "MNI305"),
        "MNI305": lambda: sub.volume_to_template(ceiling, "fsaverage"),
        "surface_to_template": lambda: sub.volume_to_surface(maps["L"]),
        "vertex": lambda: sub.surface_to_template(ceiling, hemi="L"),
        "reach fsaverage": lambda: sub.to_template(maps, "MNI305"),
        "without roi=": lambda: sub.to_template(maps, "fsaverage", roi="EBA"),
    }
    for match, ask in asks.items():
        with pytest.raises(ValueError, match=match):
            ask()


# -- files


def test_files_of_surfaces(sub, maps, tmp_path):
    folder = tmp_path / "made" / "here"
    found = sub.surface_to_template(maps, output_dir=folder, desc="Faces", session="01")
    names = {
        hemi: f"sub-01_ses-01_space-fsaverage_den-10k_hemi-{hemi}_desc-Faces_statmap.func.gii"
        for hemi in HEMIS
    }
    assert {path.name for path in folder.iterdir()} == set(names.values())
    for hemi, name in names.items():
        image = nib.load(folder / name)
        assert image.agg_data().dtype == np.float32
        np.testing.assert_array_equal(image.agg_data(), found.sel(hemi=hemi))
        assert image.meta["AnatomicalStructurePrimary"] == f"Cortex{HEMIS[hemi][1].capitalize()}"
    xr.testing.assert_identical(found, sub.surface_to_template(maps))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    sub.to_template(maps, "fsaverage", output_dir=folder, desc="Faces", session="ses-01")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    sub.surface_to_template(maps, hemi="R", output_dir=str(folder))
    assert (folder / "sub-01_space-fsaverage_den-10k_hemi-R_statmap.func.gii").is_file()
    assert len(list(folder.iterdir())) == 3


def test_files_of_trials(sub, tmp_path):
    """Trials are arrays of a GIFTI file, volumes of a NIfTI file; NaN stays NaN."""
    betas = sub.get_betas(roi="laionventral").isel(trial=[0, 5, 9])
    surface = sub.volume_to_surface(betas, hemi="L", output_dir=tmp_path)
    image = nib.load(tmp_path / "sub-01_space-fsaverage_den-10k_hemi-L_statmap.func.gii")
    assert np.isnan(surface).any()
    np.testing.assert_array_equal(np.array(image.agg_data()), surface)
    volume = sub.volume_to_template(betas, "MNI305", output_dir=tmp_path, desc="Betas")
    assert volume.chunks is not None
    image = nib.load(tmp_path / "sub-01_space-MNI305_desc-Betas_statmap.nii.gz")
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.moveaxis(image.get_fdata(), -1, 0), volume)
    np.testing.assert_allclose(image.affine, np.reshape(volume.attrs["affine"], (4, 4)))
    one = sub.to_template(betas[0], "MNI305", output_dir=tmp_path, session="ses-02")
    image = nib.load(tmp_path / "sub-01_ses-02_space-MNI305_statmap.nii.gz")
    np.testing.assert_array_equal(image.get_fdata(), one)


@pytest.mark.parametrize("options", [{"desc": "../x"}, {"desc": ""}, {"session": "a/b"}])
def test_names_of_files_are_names(sub, maps, tmp_path, options):
    with pytest.raises(ValueError, match=r"desc must|no session id"):
        sub.surface_to_template(maps, output_dir=tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_what_the_store_lacks_is_named(bids_root, tmp_path):
    """A mirror that has but one surface gives a store that has but one."""
    part = tmp_path / "part"
    shutil.copytree(
        bids_root, part, ignore=shutil.ignore_patterns("*.pial", "rh.*", "*.lta", "*.curv")
    )
    quiet(part, tmp_path / "s.zarr", subjects=SUB, parts=["geometry"])
    sub = load_subject(SUB, tmp_path / "s.zarr")
    assert "curvature" not in sub.get_surface("white", "L")
    values = np.zeros(sub.get_n_voxels())
    asks = {
        "hemi-L/pial": lambda: sub.get_surface("midthickness", "L"),
        "hemi-R/white": lambda: sub.to_template(values, "fsaverage"),
        "talairach": lambda: sub.to_template(values, "MNI305"),
    }
    for name, ask in asks.items():
        with pytest.raises(NotConvertedError, match=f"geometry/{name} .*include_freesurfer=True"):
            ask()
