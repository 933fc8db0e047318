"""Values on fsaverage and in MNI305, against nilearn, nitransforms and plain numpy."""

from __future__ import annotations

import pickle
import shutil
import sys

import dask
import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from brain_files import HEMIS, SUB, noise
from brain_files import _mirror as _mirror
from brain_files import affine as affine
from brain_files import image as image
from brain_files import masks as masks
from brain_files import old_store as old_store
from nibabel.affines import apply_affine
from nilearn.datasets import fetch_surf_fsaverage
from nilearn.surface import InMemoryMesh, load_surf_mesh, vol_to_surf
from nitransforms.base import SurfaceMesh
from nitransforms.surface import SurfaceResampler

from laion_zarr import load_subject, templates
from laion_zarr.conversion.synthetic.model import cortex, phantom
from laion_zarr.errors import DataNotDownloadedError, NotConvertedError, SourceError
from laion_zarr.templates import recon, resample

RECON = f"derivatives/freesurfer/{SUB}"
LTA = f"{RECON}/mri/transforms/talairach.lta"


def in_mirror(root):
    """The recon of a mirror's files."""
    return recon.Recon(SUB, recon.MirrorMeshes(SUB, lambda path: root / path))


@pytest.fixture
def recon_copy(bids_root, tmp_path, monkeypatch):
    """A mirror with nothing but a recon, which a test may damage."""
    shutil.copytree(bids_root / RECON, tmp_path / RECON)
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(tmp_path))
    return tmp_path


def everywhere(volume):
    """A volume as values of all voxels of the grid, by label."""
    n_grid = int(np.prod(volume.shape[-3:]))
    lead = volume.shape[:-3]
    dims = [*("trial" for _ in lead), "voxel"]
    coords = {"voxel": np.arange(n_grid)}
    return xr.DataArray(volume.reshape(*lead, n_grid), dims=dims, coords=coords)


# -- lazy


@pytest.fixture
def no_computing():
    def refuse(*_, **__):
        raise AssertionError("something was computed")

    return dask.config.set(scheduler=refuse)


WAYS = {
    "unmask": lambda sub, values: sub.unmask(values),
    "fsaverage": lambda sub, values: sub.to_template(values, "fsaverage", hemi="R"),
    "MNI305": lambda sub, values: sub.to_template(values, "MNI305"),
}


@pytest.mark.parametrize("way", WAYS)
def test_trials_stay_trials_and_lazy(sub, way, no_computing, monkeypatch):
    betas = sub.get_betas(roi="laionventral", chunks={"voxel": 7})
    monkeypatch.setattr(templates.templates, "_BLOCK_BYTES", 1)
    with no_computing:
        found = WAYS[way](sub, betas)
    assert found.dims[0] == "trial"
    assert found.chunksizes["trial"] == (1,) * betas.sizes["trial"]
    for name in ("session", "image_name", "trial"):
        np.testing.assert_array_equal(found[name], betas[name])
        assert found[name].chunks is None
    some = found.isel(trial=[0, 30]).compute()
    for trial in some["trial"].values:
        one = WAYS[way](sub, betas.sel(trial=trial).compute())
        np.testing.assert_array_equal(some.sel(trial=trial).values, one.values)
    again = pickle.loads(pickle.dumps(found.isel(trial=0)))
    np.testing.assert_array_equal(again.values, some.isel(trial=0).values)


def test_blocks_follow_sessions(sub, monkeypatch):
    n_first = int((sub.metadata["session"] == "ses-01").sum())
    betas = sub.get_betas(chunks={"trial": n_first})
    n_grid = int(np.prod(sub.dataset.attrs["shape"]))
    monkeypatch.setattr(templates.templates, "_BLOCK_BYTES", 10 * 4 * n_grid)
    sizes = sub.unmask(betas).chunksizes["trial"]
    assert max(sizes) == 10
    assert n_first in np.cumsum(sizes)
    assert sub.unmask(betas[:0]).shape == (0, *sub.dataset.attrs["shape"])


def test_unlabelled_dask_arrays_are_not_computed(sub, no_computing):
    data = dask.array.ones((4, sub.get_n_voxels()), chunks=(2, 50), dtype="float32")
    with no_computing:
        found = sub.unmask(data)
    assert found.dims == ("trial", "x", "y", "z")
    assert float(found.sum()) == data.size


# -- weights


def test_sampling_is_nilearns(bids_root, affine):
    """The mean along the normals, of surfaces that c_ras moved."""
    volume = noise((11, 13, 12))
    for hemi, (side, _) in HEMIS.items():
        vertices, faces = nib.freesurfer.read_geometry(bids_root / RECON / f"surf/{side}.pial")
        c_ras = nib.load(bids_root / RECON / "mri/orig.mgz").header["Pxyz_c"]
        assert np.abs(c_ras).max() > 10
        mesh = InMemoryMesh(vertices + c_ras, faces)
        expected = vol_to_surf(nib.Nifti1Image(volume, affine), mesh)
        moved, its = in_mirror(bids_root).surface(hemi, "pial")
        np.testing.assert_allclose(moved, vertices + c_ras, atol=1e-4)
        points = resample.along_normals(moved, its, templates.templates._OFFSETS)
        index = apply_affine(np.linalg.inv(affine), points)
        found = [resample.trilinear(some, volume.shape) @ volume.ravel() for some in index]
        np.testing.assert_allclose(np.mean(found, axis=0), expected, atol=1e-5)


def test_spheres_are_resampled_as_nitransforms_does(bids_root):
    sphere, faces = nib.freesurfer.read_geometry(bids_root / RECON / "surf/rh.sphere.reg")
    targets = load_surf_mesh(fetch_surf_fsaverage()["sphere_right"]).coordinates[:400]
    reference = SurfaceMesh.from_arrays(targets, np.array([[0, 1, 2]]))
    resampler = SurfaceResampler(reference, SurfaceMesh.from_arrays(sphere, faces))
    values = noise((3, len(sphere)))
    weights = resample.on_sphere(targets, sphere, faces)
    # Near edges it may take the neighbouring triangle, with a weight just below 0.
    inside = resampler.mat.toarray().min(axis=0) >= 0
    assert inside.mean() > 0.95
    found, expected = values @ weights.T, resampler.apply(values)
    np.testing.assert_allclose(found[:, inside], expected[:, inside], atol=1e-4)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert weights.data.min() > 0


def test_flat_triangles_and_points_on_vertices():
    corners = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0], [0.5, 0.5, 0], [-1, -1, -1]], float)
    faces = np.array([[1, 3, 2], [0, 1, 2], [0, 2, 4], [0, 4, 1], [4, 2, 1]])  # the first is flat
    weights = resample.on_sphere(np.eye(3) * 7, corners, faces)
    np.testing.assert_array_equal(weights.toarray()[:, [1, 2, 0]], np.eye(3))


def test_the_strongest_is_the_first_of_the_largest():
    from scipy.sparse import csr_array

    weights = csr_array(np.array([[0, 0.3, 0.3, 0.1], [0, 0, 0, 0], [0.2, 0, 0, 0.9]]))
    expected = [[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(resample.strongest(weights).toarray(), expected)


# -- fsaverage


def native_position(bids_root, hemi, vertex):
    """Scanner mm of a vertex of fsaverage5 on the subject's white surface, triangle by triangle."""
    side, name = HEMIS[hemi]
    sphere, faces = nib.freesurfer.read_geometry(bids_root / RECON / f"surf/{side}.sphere.reg")
    white, _ = nib.freesurfer.read_geometry(bids_root / RECON / f"surf/{side}.white")
    white = white + nib.load(bids_root / RECON / "mri/orig.mgz").header["Pxyz_c"]
    target = load_surf_mesh(fetch_surf_fsaverage()[f"sphere_{name}"]).coordinates[vertex]
    for face in faces:
        weights = np.linalg.solve(sphere[face].T, target.astype(float))
        if (weights > -1e-9).all():
            return weights / weights.sum() @ white[face]
    raise AssertionError("no triangle holds the point")


@pytest.mark.parametrize("hemi", HEMIS)
def test_vertices_are_where_they_are(sub, bids_root, affine, hemi):
    """Values that say where they are: a field that trilinear interpolation gives back exactly."""
    ijk = np.moveaxis(np.indices(sub.dataset.attrs["shape"]), 0, -1)
    fields = everywhere(np.moveaxis(apply_affine(affine, ijk), -1, 0))
    found = sub.to_template(fields, "fsaverage", hemi=hemi).transpose("vertex", "trial").values
    for vertex in np.random.default_rng(2).integers(0, 10242, 60):
        expected = native_position(bids_root, hemi, vertex)
        np.testing.assert_allclose(found[vertex], expected, atol=1e-3)
    # LAS or not: the left hemisphere is where x is negative.
    assert (np.sign(found[:, 0]) == {"L": -1, "R": 1}[hemi]).all()


def test_both_hemispheres_are_labelled(sub):
    ceiling = sub.get_noise_ceiling(desc="NoiseceilingAllrep")
    both = sub.to_template(ceiling, "fsaverage")
    assert both.dims == ("hemi", "vertex")
    assert both.attrs["space"] == "fsaverage5"
    assert both.attrs["units"] == "percent"
    for hemi in HEMIS:
        one = sub.to_template(ceiling, "fsaverage", hemi=hemi)
        assert one.dims == ("vertex",)
        assert one["hemi"] == hemi
        np.testing.assert_array_equal(one, both.sel(hemi=hemi))


def test_midthickness_is_between(sub):
    x = everywhere(np.moveaxis(np.indices(sub.dataset.attrs["shape"]), 0, -1)[..., 0].astype(float))
    found = {
        surface: sub.to_template(x, "fsaverage", hemi="L", surface=surface).values
        for surface in ("white", "midthickness", "pial")
    }
    np.testing.assert_allclose(
        found["midthickness"], (found["white"] + found["pial"]) / 2, atol=1e-3
    )
    assert np.abs(found["white"] - found["pial"]).max() > 0.1


def test_regions_land_where_they_belong(bids_root):
    """The synthetic recon: each region's seed, on the subject and on fsaverage."""
    for hemi, (_, name) in HEMIS.items():
        its = in_mirror(bids_root)
        (vertices, _), (sphere, _) = its.registered(hemi, "pial")
        to_mni = cortex.to_mni(phantom.Head.of(SUB))
        in_mni = apply_affine(to_mni, vertices) * [1 if hemi == "R" else -1, 1, 1]
        files = fetch_surf_fsaverage()
        target, pial = (
            load_surf_mesh(files[f"{part}_{name}"]).coordinates for part in ("sphere", "pial")
        )
        for region in cortex.REGIONS.values():
            seed = np.array(region.seed)
            if not seed.any():
                continue
            nearest = np.linalg.norm(in_mni - seed, axis=1).argmin()
            there = pial[np.linalg.norm(target - sphere[nearest], axis=1).argmin()]
            there = there * [1 if hemi == "R" else -1, 1, 1]
            assert np.linalg.norm(there - seed) < 45


# -- MNI305


def lta_matrix(path):
    lines = path.read_text().splitlines()
    start = lines.index("1 4 4") + 1
    return np.array([line.split() for line in lines[start : start + 4]], float)


def mni_position(bids_root, mm):
    return apply_affine(lta_matrix(bids_root / LTA), mm)


def interpolated(volume, point):
    """Trilinear, over the corners that have a value; corner by corner."""
    low = np.floor(point).astype(int)
    total = value = 0.0
    for corner in np.ndindex(2, 2, 2):
        voxel = low + corner
        weight = np.prod([r if c else 1 - r for c, r in zip(corner, point - low, strict=True)])
        if (voxel < 0).any() or (voxel >= volume.shape).any() or weight < 1e-6:
            continue
        if np.isfinite(volume[tuple(voxel)]):
            total, value = total + weight, value + weight * volume[tuple(voxel)]
    return value / total if total else np.nan


def test_mni305_by_hand(sub, bids_root, masks, affine):
    volume = noise(masks["anatomical"].shape)
    volume[noise(volume.shape, 1) > 1] = np.nan
    volume[~masks["anatomical"]] = np.nan
    found = sub.to_template(volume[masks["anatomical"]], "MNI305")
    values, to_mm = found.values, np.reshape(found.attrs["affine"], (4, 4))
    places = np.argwhere(np.ones(values.shape, bool))[::1009]
    mm = apply_affine(np.linalg.inv(lta_matrix(bids_root / LTA)), apply_affine(to_mm, places))
    index = apply_affine(np.linalg.inv(affine), mm)
    expected = np.array([interpolated(volume, point) for point in index])
    assert 100 < np.isfinite(expected).sum() < expected.size
    np.testing.assert_allclose(values[tuple(places.T)], expected, atol=1e-4)


@pytest.mark.parametrize("hemi", [-1, 1])
def test_a_point_lands_at_its_place_in_mni305(sub, bids_root, masks, hemi):
    positions = sub.get_voxel_coordinates()
    wanted = np.array([hemi * 35.0, -40.0, -5.0])
    chosen = int(np.linalg.norm(positions.values - wanted, axis=1).argmin())
    point = xr.zeros_like(positions.sel(axis="x"))
    point[chosen] = 1
    found = sub.to_template(point, "MNI305").load()
    peak = found.where(found == found.max(), drop=True).squeeze()
    expected = mni_position(bids_root, positions.values[chosen])
    assert np.sign(expected[0]) == hemi
    np.testing.assert_allclose([peak["x"], peak["y"], peak["z"]], expected, atol=1.001)


def test_vox2vox_is_the_same(old_store, recon_copy, masks):
    values = noise(masks["anatomical"].sum())
    expected = load_subject(SUB, old_store).to_template(values, "MNI305").values
    path = recon_copy / LTA
    lines = path.read_text().splitlines()
    source = nib.load(recon_copy / RECON / "mri/orig.mgz").affine
    target = np.array([[-1.0, 0, 0, 128], [0, 0, 1, -128], [0, -1, 0, 128], [0, 0, 0, 1]])
    between = np.linalg.inv(target) @ lta_matrix(path) @ source
    lines[lines.index("type      = 1")] = "type      = 0"
    start = lines.index("1 4 4") + 1
    lines[start : start + 4] = [" ".join(map(repr, row)) for row in between.tolist()]
    path.write_text("\n".join(lines) + "\n")
    found = load_subject(SUB, old_store).to_template(values, "MNI305").values
    np.testing.assert_allclose(found, expected, atol=1e-3)


# -- what is missing


@pytest.mark.parametrize("target", ["fsaverage", "MNI305"])
def test_missing_values_count_for_nothing(sub, target):
    constant = xr.full_like(sub.get_noise_ceiling(desc="NoiseceilingAllrep"), 7)
    holes = constant.where(noise(constant.size) < 0.5)
    whole, found = (sub.to_template(v, target).values for v in (constant, holes))
    there = np.isfinite(found)
    np.testing.assert_allclose(found[there], 7, rtol=1e-6)
    assert (np.isfinite(whole) | ~there).all()
    assert there.sum() > 0.9 * np.isfinite(whole).sum()
    one = constant.where(np.arange(constant.size) != 100)
    near = sub.to_template(one, target).values
    assert (np.isfinite(near) == np.isfinite(whole)).mean() > 0.99
    assert np.isnan(sub.to_template(constant * np.nan, target)).all()
    # Voxels that are not there at all are missing in the same way.
    kept = sub.to_template(holes.dropna("voxel"), target).values
    np.testing.assert_allclose(kept, found, rtol=1e-6)


@pytest.mark.parametrize("target", ["fsaverage", "MNI305"])
def test_labels_stay_labels(sub, target):
    labels = sub.get_betas(session="ses-01").isel(trial=0).load()
    labels[:] = np.arange(labels.size) % 5 + 3
    found = sub.to_template(labels, target, interpolation="nearest").values
    assert set(np.unique(found[np.isfinite(found)])) == {3, 4, 5, 6, 7}
    mixed = sub.to_template(labels, target).values
    assert len(np.unique(mixed[np.isfinite(mixed)])) > 100
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(mixed))


# -- errors


def test_without_a_recon(old_store, tmp_path, monkeypatch):
    sub = load_subject(SUB, old_store)
    values = sub.get_noise_ceiling(desc="NoiseceilingAllrep")
    assert not sub.has_geometry()
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(tmp_path))
    for folder in (str(tmp_path), None):
        if folder is None:
            monkeypatch.delenv("LAION_ZARR_DATA_DIR")
        for target in ("fsaverage", "MNI305"):
            with pytest.raises(NotConvertedError, match=r"include_freesurfer=True.*convert"):
                sub.to_template(values, target)
        with pytest.raises(NotConvertedError, match="derivatives/freesurfer/sub-01"):
            sub.get_surface("white")


def test_damaged_recons(old_store, recon_copy):
    values = np.zeros(load_subject(SUB, old_store).get_n_voxels())
    surf = recon_copy / RECON / "surf"

    def fails(match, target="fsaverage"):
        with pytest.raises(SourceError, match=match):
            load_subject(SUB, old_store).to_template(values, target)

    whole = (surf / "lh.white").read_bytes()
    for content in (b"", b"no surface", whole[:100], whole[: len(whole) // 2]):
        (surf / "lh.white").write_bytes(content)
        fails("lh.white")
    (surf / "lh.white").write_bytes(whole)
    shutil.copy(surf / "rh.sphere.reg", surf / "lh.sphere.reg")
    fails("162 in white and 252 in sphere.reg")
    lta = recon_copy / LTA
    text = lta.read_text()
    for content in ("", "type = 9\n", text.replace("type      = 1", "type      = 14"), text[:200]):
        lta.write_text(content)
        fails("talairach.lta", "MNI305")


def test_surfaces_without_a_footer_follow_the_volume(bids_root, recon_copy):
    path = recon_copy / RECON / "surf/lh.white"
    vertices, faces = nib.freesurfer.read_geometry(path)
    expected, _ = in_mirror(bids_root).surface("L", "white")
    nib.freesurfer.write_geometry(path, vertices, faces)
    found, _ = in_mirror(recon_copy).surface("L", "white")
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_without_the_extra(sub, monkeypatch):
    monkeypatch.setitem(sys.modules, "nilearn", None)
    with pytest.raises(ImportError, match=r'nilearn.*pip install "laion-zarr\[template\]"'):
        sub.to_template(np.zeros(sub.get_n_voxels()), "MNI305")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"laion-zarr\[plot\]"):
        sub.plot_voxels(np.zeros(sub.get_n_voxels()))


def test_denser_fsaverages_come_from_nilearn(store, monkeypatch):
    sub = load_subject(SUB, store)
    values = sub.get_noise_ceiling(desc="NoiseceilingAllrep")
    asked = []

    def offline(mesh):
        asked.append(mesh)
        raise OSError("no route to host")

    monkeypatch.setattr("nilearn.datasets.fetch_surf_fsaverage", offline)
    with pytest.raises(DataNotDownloadedError, match=r"fsaverage6 \(no route.*fsaverage5"):
        sub.to_template(values, "fsaverage", fsaverage_density="fsaverage6")
    assert asked == ["fsaverage6"]
    bundled = dict(fetch_surf_fsaverage())
    monkeypatch.setattr("nilearn.datasets.fetch_surf_fsaverage", lambda mesh: bundled)
    recon.fsaverage_files.cache_clear()
    found = sub.to_template(values, "fsaverage", fsaverage_density="fsaverage7", hemi="L")
    recon.fsaverage_files.cache_clear()
    assert found.attrs["space"] == "fsaverage7"
