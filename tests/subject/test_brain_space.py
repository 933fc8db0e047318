"""Values of voxels to volumes and NIfTI files and back; wrong lengths and options."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from brain_files import _mirror as _mirror
from brain_files import affine as affine
from brain_files import image as image
from brain_files import masks as masks
from brain_files import noise
from nibabel.affines import apply_affine

from laion_zarr import templates

MASKS = ("anatomical", "rsquare")


# -- volumes


@pytest.mark.parametrize("mask", MASKS)
def test_volume_to_voxels_to_nifti_to_volume(sub, masks, affine, tmp_path, mask):
    volume = noise(masks[mask].shape)
    volume[np.unravel_index(sub.sel(mask_source=mask)["voxel"].values[3], volume.shape)] = np.nan
    values = volume[masks[mask]]
    unmasked = sub.unmask(values, mask_source=mask)
    np.testing.assert_array_equal(unmasked.values, np.where(masks[mask], volume, np.nan))
    np.testing.assert_array_equal(unmasked.values[masks[mask]], values)
    file = nib.load(sub.to_nifti(values, tmp_path / "out.nii.gz", mask_source=mask))
    np.testing.assert_array_equal(np.asarray(file.dataobj), np.where(masks[mask], volume, 0))
    for found in (file.affine, unmasked.attrs["affine"], sub.dataset.attrs["affine"]):
        np.testing.assert_allclose(np.ravel(found), affine.ravel(), atol=1e-5)


def test_unmask_goes_by_label(sub, masks):
    ceiling = sub.get_noise_ceiling(desc="NoiseceilingAllrep")
    order = np.random.default_rng(1).permutation(ceiling.size)[::2]
    expected = np.full(masks["anatomical"].shape, np.nan, np.float32)
    expected.reshape(-1)[ceiling["voxel"].values[order]] = ceiling.values[order]
    found = sub.unmask(ceiling.isel(voxel=order))
    np.testing.assert_array_equal(found.values, expected)
    assert found.name == ceiling.name
    assert found.attrs["units"] == "percent"


def test_unmask_knows_where_voxels_are(sub, affine):
    positions = sub.get_voxel_coordinates()
    for axis, name in enumerate("xyz"):
        volume = sub.unmask(positions.sel(axis=name))
        i, j, k = (positions[index].values for index in "ijk")
        np.testing.assert_array_equal(volume.values[i, j, k], positions.values[:, axis])
        corner = np.zeros((volume.shape[axis], 3))
        corner[:, axis] = np.arange(volume.shape[axis])
        np.testing.assert_allclose(volume[name], apply_affine(affine, corner)[:, axis])
    there = positions.isel(voxel=100)
    near = dict(
        zip("xyz", there.values + np.array([3.0, -4.0, 5.0]), strict=True)
    )  # voxels are 17 mm
    found = sub.unmask(positions.sel(axis="x")).sel(near, method="nearest")
    assert (int(found["i"]), int(found["j"]), int(found["k"])) == (
        int(there["i"]),
        int(there["j"]),
        int(there["k"]),
    )
    assert float(found) == there.values[0]


def test_oblique_grids_have_no_mm_along_axes():
    shape, voxels = (2, 3, 4), np.array([5, 7])
    values = xr.DataArray([1.0, 2.0], dims="voxel")
    turned = np.eye(4)
    turned[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    assert "x" not in templates.unmask(values, voxels, shape, turned).coords
    leaning = np.diag([-1.8, 1.8, 1.8, 1])
    leaning[0, 1] = 1e-9  # what rounding leaves
    assert "x" in templates.unmask(values, voxels, shape, leaning).coords
    swapped = np.eye(4)[[1, 0, 2, 3]]
    assert "x" not in templates.unmask(values, voxels, shape, swapped).coords


@pytest.mark.parametrize("dtype", [bool, np.int16, np.float16, np.float64])
def test_numbers_of_any_type(sub, masks, dtype):
    values = (noise(masks["anatomical"].sum()) * 100).astype(dtype)
    found = sub.unmask(values)
    assert found.dtype == np.result_type(dtype, np.float32)
    np.testing.assert_array_equal(found.values[masks["anatomical"]], values.astype(float))


# -- errors


def test_wrong_lengths_say_both_and_which_mask(sub, tmp_path):
    n_voxels = {mask: sub.get_n_voxels(mask) for mask in MASKS}
    wrong = np.zeros(n_voxels["rsquare"])
    asks = (
        lambda: sub.unmask(wrong),
        lambda: sub.to_nifti(wrong, tmp_path / "x.nii"),
        lambda: sub.to_template(wrong, "MNI305"),
        lambda: sub.plot_voxels(wrong),
    )
    for ask in asks:
        with pytest.raises(ValueError, match="mask_source='anatomical'; ") as error:
            ask()
        assert f"({n_voxels['rsquare']},)" in str(error.value)
        assert f"{n_voxels['anatomical']} voxels" in str(error.value)
        # The other mask may be what was meant.
        assert f"rsquare has {n_voxels['rsquare']}" in str(error.value)
    with pytest.raises(ValueError, match="roi='EBA'"):
        sub.unmask(wrong, roi="EBA")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"target": "MNI152"}, r"target must be one of \['fsaverage', 'MNI305'\], got 'MNI152'"),
        ({"target": "fsaverage", "hemi": "left"}, "hemi must be one of .*'L', 'R'"),
        ({"target": "MNI305", "hemi": "L"}, "hemi"),
        ({"target": "fsaverage", "surface": "inflated"}, "midthickness"),
        ({"target": "fsaverage", "fsaverage_density": "10k"}, "fsaverage5"),
        ({"target": "fsaverage", "interpolation": "cubic"}, "nearest"),
    ],
)
def test_wrong_options(sub, options, match):
    with pytest.raises(ValueError, match=match):
        sub.to_template(np.zeros(sub.get_n_voxels()), **options)


def test_values_are_numbers_of_voxels(sub):
    with pytest.raises(ValueError, match="must be numbers"):
        sub.unmask(np.full(sub.get_n_voxels(), "a"))
    with pytest.raises(ValueError, match=r"\(voxel,\) or \(trial, voxel\)"):
        sub.unmask(np.zeros((2, 2, sub.get_n_voxels())))


def test_volumes_are_taken_as_the_voxels_that_they_are(sub):
    """What the package hands out as a volume goes back in, on the betas' grid or on its own."""
    by_voxel = sub.get_localizer("floc", "faceVsOthers")
    volume = sub.get_localizer_volume("floc", "faceVsOthers", res="1pt8")
    again = sub.unmask(volume)
    np.testing.assert_array_equal(again, volume)
    np.testing.assert_array_equal(
        again.values.ravel()[by_voxel["voxel"].values], by_voxel.values.astype(again.dtype)
    )
    assert len(sub.plot_voxels(volume).axes) == len(sub.plot_voxels(by_voxel).axes)
    fine = sub.get_roi_volume("FFA1", res="1pt5")
    with pytest.raises(ValueError, match="betas' grid"):
        sub.plot_voxels(fine)
    with pytest.raises(ValueError, match="these are volumes"):
        sub.unmask(volume, roi="face")
    with pytest.raises(ValueError, match="affine"):
        sub.unmask(volume.drop_attrs())


@pytest.mark.parametrize("target", ["fsaverage", "MNI305"])
def test_volumes_reach_templates_from_any_grid(sub, target):
    """A linear field in mm is the same field in a template, whatever the grid it was sampled on."""
    fields, inner = [], []
    for res in ("1pt8", "1pt5"):
        volume = sub.get_roi_volume("FFA1", res=res)
        field = volume.x + 2 * volume.y - volume.z + 0.0 * volume
        inside = (0.0 * field).copy(data=np.pad(np.ones(np.subtract(field.shape, 2)), 1))
        for values, into in ((field, fields), (inside, inner)):
            into.append(sub.to_template(values.assign_attrs(volume.attrs), target).compute())
    known = np.logical_and(*(one > 1 - 1e-6 for one in inner))  # at the edge, voxels are lacking
    assert known.sum() > 100
    np.testing.assert_allclose(*(one.values[known] for one in fields), atol=2e-3)
