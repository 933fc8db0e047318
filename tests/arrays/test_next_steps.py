"""What people do next with an xarray object: lazily as in memory, and written as it is."""

from __future__ import annotations

import copy
import pickle

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr

from laion_zarr import load_subject
from laion_zarr.analysis import zscore

# xarray writes metadata that Zarr v3 does not specify yet, and says so.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Consolidated metadata"),
    pytest.mark.filterwarnings("ignore:.*(All-NaN|Degrees of freedom|invalid value).*"),
]
NC = "NoiseceilingAllrep"


ON_BETAS = {
    "accessor": lambda b: b.assign_coords(kind=b["image_name"].str.slice(0, 6)),
    "apply_ufunc": lambda b: xr.apply_ufunc(
        np.ptp,
        b,
        input_core_dims=[["trial"]],
        kwargs={"axis": -1},
        dask="parallelized",
        output_dtypes=[b.dtype],
    ),
    "argmax": lambda b: b.fillna(0).argmax("trial"),
    "arithmetic": lambda b: np.sqrt(abs(b - b.mean("trial"))) / 2,
    "astype": lambda b: b.astype("f8").round(2).clip(-1, 1),
    "broadcast": lambda b: xr.broadcast(b, b.mean("trial"))[1],
    "coarsen": lambda b: b.reset_coords(drop=True).coarsen(trial=4, boundary="trim").mean(),
    "coarsen voxels": lambda b: b.coarsen(voxel=2, boundary="trim").mean(),
    "construct": lambda b: b[:48].coarsen(trial=4).construct(trial=("block", "within")),
    "corr": lambda b: xr.corr(b, b.shift(trial=1), "trial"),
    "count": lambda b: b.count("trial"),
    "cov": lambda b: xr.cov(b, b.mean("voxel"), "trial"),
    "cumsum": lambda b: b.cumsum("trial"),
    "cumulative": lambda b: b.cumulative("trial").sum(),
    "diff": lambda b: b.diff("trial"),
    "differentiate": lambda b: b.differentiate("trial"),
    "dot": lambda b: xr.dot(b, b.rename(trial="other"), dim="voxel"),
    "drop_duplicates": lambda b: b.swap_dims(trial="image_name").drop_duplicates("image_name"),
    "dropna": lambda b: b.dropna("voxel"),
    "expand_dims": lambda b: b.expand_dims(subject=["sub-01"]),
    "ffill": lambda b: b.ffill("trial"),
    "fillna": lambda b: b.fillna(0),
    "groupby": lambda b: b.groupby("image_name").mean(),
    "groupby arithmetic": lambda b: b.groupby("session") - b.groupby("session").mean(),
    "groupby map": lambda b: b.groupby("session").map(lambda one: one - one.mean("trial")),
    "groupby median": lambda b: b.groupby("image_name").median(),
    "groupby two": lambda b: b.groupby(["session", "run"]).mean(),
    "groupby_bins": lambda b: b.groupby_bins("beta_index", 3).mean(),
    "idxmax": lambda b: b.fillna(0).idxmax("voxel"),
    "integrate": lambda b: b.integrate("trial"),
    "interp": lambda b: b.interp(trial=[1.5, 30.25]),
    "isel mask": lambda b: b[b["session"] == "ses-02"],
    "isel points": lambda b: b.isel(trial=xr.DataArray([0, 3], dims="p"), voxel=0),
    "loc": lambda b: b.loc[{"trial": [40, 2]}],
    "map_blocks": lambda b: b.map_blocks(lambda one: one * 2, template=b),
    "median": lambda b: b.median("trial"),
    "pad": lambda b: b.pad(trial=(1, 1)),
    "polyfit": lambda b: b.fillna(0).polyfit("trial", 1),
    "quantile": lambda b: b.quantile([0.1, 0.9], "trial"),
    "reduce": lambda b: b.reduce(np.nanmax, "trial"),
    "reset_coords": lambda b: b.reset_coords("image_name"),
    "roll": lambda b: b.roll(trial=1, roll_coords=True),
    "rolling": lambda b: b.rolling(trial=3).mean(),
    "sel": lambda b: b.sel(trial=slice(3, 30)),
    "set_index": lambda b: b.set_index(trial=["session", "session_trial"]).sel(session="ses-01"),
    "set_xindex": lambda b: b.set_xindex("session").sel(session="ses-01"),
    "sortby": lambda b: b.sortby("image_name"),
    "stack": lambda b: b.stack(sample=("trial", "voxel")),
    "to_dataset": lambda b: b.to_dataset(),
    "unstack": lambda b: b.set_index(trial=["session", "session_trial"]).unstack("trial"),
    "weighted": lambda b: b.weighted(abs(b["x"]) + 1).mean("voxel"),
    "where": lambda b: b.where(b["unique_or_shared"] == "shared", drop=True),
    "zscore": lambda b: zscore(b),
}
ON_DATASET = {
    "assign": lambda d: d.assign(double=d["betas"] * 2),
    "eval": lambda d: d.eval("betas * 2"),
    "fillna": lambda d: d[["betas", "noise_ceiling"]].fillna(0),
    "groupby": lambda d: d[["betas"]].groupby("image_name").mean(),
    "groupby category": lambda d: d[["roi_mask"]].groupby("category").sum(),
    "head": lambda d: d.head(trial=3),
    "map": lambda d: d[["betas", "r2"]].map(abs),
    "map_blocks": lambda d: d.map_blocks(lambda one: one, template=d),
    "mean": lambda d: d.mean("trial"),
    "query": lambda d: d.query(trial="session == 'ses-02' and run == 1"),
    "rename": lambda d: d.rename(voxel="place", betas="b"),
    "sel": lambda d: d.sel(roi="FFA1", session_id="ses-01", nc=NC),
    "sortby": lambda d: d.sortby("image_name"),
    "transpose": lambda d: d.transpose("voxel", ...),
    "weighted": lambda d: d.weighted(d["noise_ceiling"].sel(nc=NC).fillna(0)).mean("voxel"),
    "where": lambda d: d.where(d["in_anatomical"], drop=True),
}


@pytest.fixture(params=[False, True], ids=["xarray alone", "flox"])
def _grouping(request):
    if request.param:
        pytest.importorskip("flox")
    with xr.set_options(use_flox=request.param):
        yield


@pytest.fixture(scope="module")
def betas(sub):
    return sub.get_betas(roi="face")


def same(lazy, expected):
    xr.testing.assert_allclose(lazy.compute(), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("method", ON_BETAS)
def test_betas(betas, method):
    found = ON_BETAS[method](betas)
    assert xr.core.utils.is_duck_dask_array(betas.data), "not loaded by it"
    same(found, ON_BETAS[method](betas.compute()))


@pytest.mark.parametrize("method", [name for name in ON_BETAS if name.startswith("groupby")])
@pytest.mark.usefixtures("_grouping")
def test_groups(betas, method):
    same(ON_BETAS[method](betas), ON_BETAS[method](betas.compute()))


@pytest.mark.parametrize("method", ON_DATASET)
def test_dataset(sub, method):
    same(ON_DATASET[method](sub.dataset), ON_DATASET[method](sub.dataset.load()))


def test_rank(betas):
    pytest.importorskip("bottleneck")
    same(betas.rank("trial"), betas.compute().rank("trial"))


def test_dask_dataframe(sub, betas):
    pytest.importorskip("pyarrow")
    pytest.importorskip("dask.dataframe")
    table = betas.to_dataset().to_dask_dataframe(["trial", "voxel"])
    np.testing.assert_array_equal(table["betas"].compute(), betas.values.ravel())


def test_tables(betas):
    values = betas.values
    np.testing.assert_array_equal(betas.to_pandas(), values)
    np.testing.assert_array_equal(betas.to_series(), values.ravel())
    np.testing.assert_array_equal(betas.to_dataframe()["betas"], values.ravel())
    assert betas.to_dict()["attrs"]["subject"] == "sub-01"


# -- written and read again


@pytest.fixture(params=["dataset", "betas", "region", "sel", "one session", "scores", "wide"])
def result(request, sub):
    return {
        "dataset": lambda: sub.dataset,
        "betas": lambda: sub.get_betas().to_dataset(),
        "region": lambda: sub.get_betas(roi="face", stimuli="shared").to_dataset(),
        "sel": lambda: sub.sel(roi="place", nc_threshold=5),
        "one session": lambda: sub.get_betas(2).to_dataset(),
        "scores": lambda: zscore(sub.get_betas(roi="face")).to_dataset(),
        "wide": lambda: sub.get_betas(chunks={"voxel": 50}).to_dataset(),
    }[request.param]()


def test_to_zarr(result, tmp_path):
    result.to_zarr(tmp_path / "out.zarr")
    with xr.open_zarr(tmp_path / "out.zarr") as again:
        xr.testing.assert_identical(again.compute(), result.compute())


def test_a_data_array_to_zarr(sub, tmp_path):
    sub.get_betas(roi="face").to_zarr(tmp_path / "out.zarr")
    again = xr.open_dataarray(tmp_path / "out.zarr", engine="zarr")
    xr.testing.assert_identical(again.compute(), sub.get_betas(roi="face").compute())


def test_sessions_appended(sub, tmp_path):
    for session in (1, 2):
        mode = {"append_dim": "trial"} if session == 2 else {}
        sub.get_betas(session).to_dataset().to_zarr(tmp_path / "out.zarr", **mode)
    again = xr.open_zarr(tmp_path / "out.zarr")["betas"]
    np.testing.assert_array_equal(again, sub.get_betas())


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4", "scipy"])
def test_to_netcdf(result, engine, tmp_path):
    pytest.importorskip({"netcdf4": "netCDF4"}.get(engine, engine))
    result.to_netcdf(tmp_path / "out.nc", engine=engine)
    with xr.open_dataset(tmp_path / "out.nc", engine=engine) as again:
        xr.testing.assert_equal(again.compute(), result.compute())
        assert again.attrs.keys() == result.attrs.keys()
        if "affine" in again.attrs:
            np.testing.assert_array_equal(again.attrs["affine"], result.attrs["affine"])


def test_several_files(sub, tmp_path):
    pytest.importorskip("h5netcdf")
    paths = [tmp_path / f"{session}.nc" for session in sub.get_sessions()]
    parts = [sub.sel(session=session)[["betas"]] for session in sub.get_sessions()]
    xr.save_mfdataset(parts, paths, engine="h5netcdf")
    with xr.open_mfdataset(paths, engine="h5netcdf", join="outer", data_vars="minimal") as again:
        np.testing.assert_array_equal(again["betas"], sub.dataset["betas"])


def test_a_tree_of_subjects(store, tmp_path):
    pytest.importorskip("h5netcdf")
    tree = xr.DataTree.from_dict({one: load_subject(one, store).dataset for one in ("01", "03")})
    tree.to_zarr(tmp_path / "out.zarr")
    tree.to_netcdf(tmp_path / "out.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "out.zarr", engine="zarr") as again:
        xr.testing.assert_identical(again.load(), tree.load())


# -- put together


def test_joined_by_session(sub):
    whole_axis, parts = sub.get_betas(), list(sub.get_betas([1, 2]).values())
    for found in (
        xr.concat(parts, "trial"),
        xr.combine_by_coords(parts)["betas"],
        xr.combine_nested(parts, "trial"),
    ):
        np.testing.assert_array_equal(found, whole_axis)
        assert found["session"].equals(whole_axis["session"])
    full = [sub.sel(session=session) for session in sub.get_sessions()]
    again = xr.combine_by_coords(full, data_vars="minimal", join="outer", compat="no_conflicts")
    np.testing.assert_array_equal(again["betas"], sub.dataset["betas"])
    assert again.sizes == sub.dataset.sizes


def test_ceilings_are_merged(sub):
    first, second = (sub.get_noise_ceiling(desc=desc) for desc in (NC, "Noiseceiling4rep"))
    options = {"compat": "no_conflicts", "join": "outer"}
    merged = xr.merge([sub.get_betas(), first.rename("nc"), second.rename("few")], **options)
    np.testing.assert_array_equal(merged["nc"], first)
    np.testing.assert_array_equal(merged["few"], second)
    of_session = sub.get_noise_ceiling(1).rename("session_id")
    assert set(xr.merge([merged, of_session], **options)) == {"betas", "nc", "few", "session_id"}
    np.testing.assert_array_equal(first - second, first.values - second.values)


def test_with_another_subject(sub, store):
    other = load_subject("03", store)
    ours, theirs = (one.get_image_betas(roi="face").mean("voxel") for one in (sub, other))
    both = sorted(set(ours["image"].values) & set(theirs["image"].values))
    np.testing.assert_allclose(
        (ours - theirs).sel(image=both), ours.sel(image=both).values - theirs.sel(image=both).values
    )
    aligned = xr.align(sub.get_betas(), other.get_betas(), join="outer", copy=False)
    assert aligned[0].sizes == aligned[1].sizes


def test_aligned_with_other_voxels(sub, betas):
    everywhere = sub.get_betas()
    found = betas.reindex(voxel=everywhere["voxel"])
    inside = np.isin(everywhere["voxel"], betas["voxel"])
    np.testing.assert_array_equal(found[:, inside], betas)
    assert np.isnan(found[:, ~inside]).all()
    assert betas.reindex_like(everywhere).equals(found)


# -- kept, copied, drawn


def test_copies(sub, betas):
    for whole_object in (sub.dataset, betas):
        for other in (
            pickle.loads(pickle.dumps(whole_object)),
            copy.deepcopy(whole_object),
            whole_object.copy(deep=True),
            whole_object.persist(),
            whole_object.compute(),
        ):
            assert other.identical(whole_object)
            assert other.equals(whole_object)


def test_blocks_are_changed(sub, betas):
    for changed in (betas.chunk({"trial": 7}), betas.chunk(), betas.chunk({"voxel": 1})):
        np.testing.assert_array_equal(changed, betas)
        # Dask takes the labels, too, and xarray groups by labels in memory alone.
        named = changed.assign_coords(image_name=betas["image_name"])
        same(named.groupby("image_name").mean(), betas.compute().groupby("image_name").mean())
    assert sub.dataset.unify_chunks().identical(sub.dataset)


def test_plots(sub, betas):
    mpl.use("agg")
    betas.isel(voxel=0).plot()
    betas.plot()
    betas.plot.hist()
    sub.dataset.plot.scatter(x="x", y="y", hue="z")
    mpl.pyplot.close("all")
