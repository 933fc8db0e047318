"""Pictures of values on the brain: orientation, colours, and what is said where no surfaces are."""

from __future__ import annotations

import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from brain_files import HEMIS, SUB, noise
from brain_files import _mirror as _mirror
from brain_files import old_store as old_store
from nilearn.datasets import fetch_surf_fsaverage
from nilearn.surface import load_surf_mesh

from laion_zarr import load_subject, plots


def bright(figure):
    """The mosaic of the values."""
    return figure.subfigs[0].axes[0].images[1].get_array().filled(np.nan)


def test_picture(sub, tmp_path):
    """The right hemisphere has no value here: it is drawn all the same."""
    ceiling = sub.get_noise_ceiling(desc="NoiseceilingAllrep")
    figure = sub.plot_voxels(ceiling.where((ceiling > 5) & (ceiling["x"] < -20)))
    slices, surfaces = figure.subfigs
    assert [ax.get_title() for ax in surfaces.axes] == [
        "L lateral",
        "L medial",
        "R medial",
        "R lateral",
    ]
    assert "noise ceiling (percent)" in slices.axes[1].get_ylabel()
    assert {text.get_text() for text in slices.axes[0].texts} == {"L", "R"}
    figure.savefig(tmp_path / "brain.png")
    assert (tmp_path / "brain.png").stat().st_size > 20_000


def test_first_picture_of_a_notebook_is_shown(tmp_path):
    """Loading its backend is what teaches a notebook to show figures."""
    backend = "from matplotlib.backends.backend_agg import FigureCanvas\nprint('loaded')\n"
    (tmp_path / "notebook_backend.py").write_text(backend)
    code = (
        "import numpy as np\nfrom laion_zarr import plots\n"
        "volume = np.ones((3, 4, 5))\n"
        "plots.brain(volume, volume, volume > 0, 'no recon', 'title')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"MPLBACKEND": "module://notebook_backend", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "loaded\n"


def test_surfaces_are_drawn_on_their_own_side(sub, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "nilearn.plotting.plot_surf", lambda *args, **options: drawn.append((*args, options))
    )
    values = sub.get_voxel_coordinates().sel(axis="x")
    figure = sub.plot_voxels(values, vmin=-60, cmap="viridis")
    expected = sub.to_template(values, "fsaverage")
    files = fetch_surf_fsaverage()
    assert len(drawn) == 4
    for ax, (mesh, shown, options) in zip(figure.subfigs[1].axes, drawn, strict=True):
        hemi, view = ax.get_title().split()
        side = HEMIS[hemi][1]
        assert (mesh, options["bg_map"]) == (files[f"infl_{side}"], files[f"sulc_{side}"])
        assert (options["hemi"], options["view"], options["axes"]) == (side, view, ax)
        assert (options["vmin"], options["cmap"]) == (-60, "viridis")
        there = np.isfinite(shown)  # where at least half of what is near has a value
        assert there.mean() > 0.5
        its = expected.sel(hemi=hemi).values
        np.testing.assert_allclose(shown[there], its[there], rtol=1e-4, atol=1e-4)
        assert (np.nanmedian(shown) < 0) == (hemi == "L")


def test_values_on_the_surface_are_drawn_where_they_are(sub, monkeypatch):
    """Vertices of the subject with y in mm: the back of the brain is the back of fsaverage."""
    monkeypatch.delenv("LAION_ZARR_DATA_DIR")
    drawn = []
    monkeypatch.setattr(
        "nilearn.plotting.plot_surf", lambda *args, **options: drawn.append((*args, options))
    )
    mm = sub.get_surface("pial", "R")["coordinates"].sel(xyz="y")
    back = mm.rename("y").where(mm < -30)
    figure = sub.plot_voxels({"R": back}, cmap="viridis")
    assert [ax.get_title() for ax in figure.axes[:4]] == [
        "L lateral",
        "L medial",
        "R medial",
        "R lateral",
    ]
    assert figure.axes[4].get_ylabel() == "sub-01: y (mm)"
    pial = load_surf_mesh(fetch_surf_fsaverage()["pial_right"]).coordinates
    shown = {ax.get_title(): values for ax, (_, values, _) in zip(figure.axes, drawn, strict=False)}
    assert np.isnan(shown["L lateral"]).all()
    there = np.isfinite(shown["R medial"])
    assert 0.1 < there.mean() < 0.6
    assert pial[there, 1].mean() < pial[~there, 1].mean() - 40
    assert all(options["cmap"] == "viridis" for *_, options in drawn)


def test_masks_on_the_surface_are_drawn(sub, tmp_path):
    figure = sub.plot_voxels(sub.get_roi_data("laionventral")["laionventral"]["gii"])
    figure.savefig(tmp_path / "roi.png", dpi=40)
    assert (tmp_path / "roi.png").stat().st_size > 5000
    with pytest.raises(ValueError, match='mean\\("trial"\\)'):
        sub.plot_voxels({"L": np.zeros((3, 162))})
    with pytest.raises(ValueError, match="hemi='L'"):
        sub.plot_voxels(xr.DataArray(np.zeros(162), dims="vertex"))


@pytest.mark.parametrize(("hemi", "columns"), [("L", slice(0, 5)), ("R", slice(6, 11))])
def test_left_is_left_in_the_picture(store, tmp_path, monkeypatch, hemi, columns):
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(tmp_path))
    sub = load_subject(SUB, store)
    x = sub.get_voxel_coordinates().sel(axis="x")
    figure = sub.plot_voxels((x < -9) if hemi == "L" else (x > 9))
    tile_width = sub.dataset.attrs["shape"][0]
    drawn = bright(figure)
    for lo in range(0, drawn.shape[1], tile_width):
        tile = np.isfinite(drawn[:, lo : lo + tile_width])
        assert tile[:, columns].any()
        tile[:, columns] = False
        assert not tile.any()


def test_a_picture_without_surfaces_says_why(old_store, tmp_path, monkeypatch):
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(tmp_path))
    sub = load_subject(SUB, old_store)
    figure = sub.plot_voxels(sub.get_roi_mask("laionventral"))
    (text,) = figure.subfigs[1].texts
    assert "No surface view" in text.get_text()
    assert "include_freesurfer=True" in text.get_text()
    figure.savefig(tmp_path / "brain.png", dpi=30)


def test_pictures_are_upright():
    """Whichever way the axes run: x to the right, y to the front, z up."""
    volume = noise((3, 4, 5))
    for affine in (np.diag([-2, 2, 2, 1]), np.diag([2, -2, -2, 1]), np.eye(4)[[1, 2, 0, 3]]):
        found = plots.upright(volume, affine)
        expected = nib.as_closest_canonical(nib.Nifti1Image(volume, affine)).get_fdata()
        np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_colours_follow_the_values():
    assert plots.colours(np.array([np.nan, 0, 5.0])) == {"cmap": "hot", "vmin": 0.0, "vmax": 4.9}
    both = plots.colours(np.array([-4.0, -4, -4, 1]))
    assert (both["vmin"], both["vmax"]) == (-4, 4)
    assert plots.colours(np.zeros(3))["vmax"] == 1
    chosen = {"cmap": "viridis", "vmin": 2.0, "vmax": 3.0}
    assert plots.colours(np.ones(3), **chosen) == chosen


def test_nothing_to_draw(sub):
    with pytest.raises(ValueError, match="no value to draw"):
        sub.plot_voxels(np.full(sub.get_n_voxels(), np.nan))
    with pytest.raises(ValueError, match='mean\\("trial"\\)'):
        sub.plot_voxels(sub.get_betas())


def test_a_series_is_placed_by_its_labels(sub):
    ceiling = sub.get_noise_ceiling(desc="NoiseceilingAllrep")
    shuffled = ceiling.to_series().sort_values()
    assert shuffled.index.name == "voxel"
    np.testing.assert_array_equal(sub.unmask(shuffled), sub.unmask(ceiling))
    strong = ceiling.to_series() > 20
    expected = sub.get_betas(mask=(ceiling > 20))["voxel"].values
    np.testing.assert_array_equal(sub.get_betas(mask=strong.sort_values())["voxel"], expected)


def test_no_voxels_at_all(sub):
    nothing = sub.get_noise_ceiling(desc="NoiseceilingAllrep")[:0]
    with pytest.raises(ValueError, match="values have no voxel"):
        sub.unmask(nothing)
    with pytest.raises(ValueError, match="There is no value to draw"):
        sub.plot_voxels(nothing)
