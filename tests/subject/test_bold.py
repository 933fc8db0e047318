"""Time series of a subject: labels, selections, what is read; scans from the mirror."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from counting_store import CountingStore

from laion_zarr import _release as release
from laion_zarr import compat, convert, load_subject
from laion_zarr.errors import DataNotDownloadedError, NotConvertedError, SourceError

SUB, SES = "sub-01", "ses-01"
SAMPLE = Path(__file__).parents[3] / "shared" / "sample"


@pytest.fixture(scope="module")
def sub(with_bold):
    return load_subject(SUB, with_bold)


@pytest.fixture(scope="module")
def runs(bids_root):
    """Each run of the mirror, (x, y, z, time)."""
    paths = [bids_root / release.bold(SUB, SES, run) for run in (1, 2)]
    return [np.asarray(nib.load(path).dataobj) for path in paths]


@pytest.fixture
def scans(bids_root, tmp_path, monkeypatch):
    """A copy of what the scanner gave, as the mirror that is set."""
    shutil.copytree(bids_root / SUB, tmp_path / SUB)
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(tmp_path))
    return tmp_path


# -- preprocessed


def test_voxels_are_those_of_betas(sub, runs):
    for options in ({}, {"roi": "face"}, {"mask_source": "rsquare", "roi": ["EBA", "place"]}):
        betas, bold = sub.get_betas(SES, **options), sub.get_bold(1, **options)
        assert bold.dims == ("time", "voxel")
        assert bold.dtype == np.float32
        assert bold.chunks is not None
        np.testing.assert_array_equal(bold["voxel"], betas["voxel"])
        at = bold["i"].values, bold["j"].values, bold["k"].values
        want = np.concatenate([run[at].T for run in runs])
        np.testing.assert_array_equal(bold.values, want)


def test_masks_and_runs(sub, runs):
    marked = sub.get_noise_ceiling(SES) > 5
    bold = sub.get_bold(SES, run="02", mask=marked)
    assert bold.sizes == {"time": runs[1].shape[3], "voxel": int(marked.sum())}
    assert set(bold["run"].values.tolist()) == {2}
    both = sub.get_bold(np.int64(1), run=["run-01", 2], mask=marked.values)
    np.testing.assert_array_equal(both[both["run"].values == 2], bold)
    assert both["session"].item() == SES
    assert both["time"].values[0] == both["time"].values[runs[0].shape[3]] == 0


def test_blocks_as_asked_for(sub):
    whole = sub.get_bold(SES, roi="face").load()
    cut = sub.get_bold(SES, roi="face", chunks={"time": 20, "voxel": 3})
    assert cut.chunks[0][:2] == (20, 20)
    assert cut.chunks[1][0] == 3
    np.testing.assert_array_equal(cut, whole)
    with pytest.raises(ValueError, match="'time': -1"):
        sub.get_bold(SES, chunks={"trial": 20})


def test_reads_only_its_chunks(with_bold):
    """Nothing before it is computed; then each chunk of the region, once, in few requests."""
    counting = CountingStore(with_bold)
    sub = load_subject(SUB, counting)
    bold = sub.get_bold(SES, roi="FFA1")
    assert not [key for key, *_ in counting.reads if "/bold/c/" in key]
    bold.load()
    table = sub._handle.stored.load("bold/ses-01", ["bold_chunks"])["bold_chunks"]
    stored = sub._handle.storage_order()[np.isin(sub._query.lazy["voxel"], bold["voxel"])]
    reads = [(key, size) for key, _, size in counting.reads if "/bold/c/" in key]
    assert sum(size for _, size in reads) == table[np.unique(stored // 128), 1].sum()
    assert len(reads) <= len(np.unique(stored // 128))
    assert len(set(reads)) == len(reads)


def test_names_of_blocks_differ(sub):
    """Dask takes equal names for equal data."""
    arrays = [sub.get_bold(SES, *a) for a in ((1, "face"), (2, "face"), (None, "face"), (1, "EBA"))]
    assert len({array.data.name for array in arrays}) == len(arrays)
    assert sub.get_bold(SES, 1, "face").data.name == arrays[0].data.name


def test_pickles(sub):
    bold = sub.get_bold(SES, run=1, roi="face")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(bold)).values, bold.values)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(sub)).get_bold(SES, 1, "face"), bold)


@pytest.mark.parametrize(
    ("session", "run", "error", "said"),
    [
        ("ses-02", None, NotConvertedError, r"ses-02, but of ses-01.*--include-bold.*--parts bold"),
        (SES, 3, NotConvertedError, r"of runs 1, 2, not of run 3.*--parts bold"),
        (SES, 0, ValueError, "run=0"),
        (SES, "one", ValueError, "run='one'"),
        ("", None, ValueError, "no session id"),
    ],
)
def test_wrong_questions(sub, session, run, error, said):
    with pytest.raises(error, match=said):
        sub.get_bold(session, run)


def test_other_methods_take_it(sub):
    bold = sub.get_bold(SES, run=1, roi="face")
    volume = sub.unmask(bold.mean("time"))
    assert int(volume.notnull().sum()) == int(bold.mean("time").notnull().sum())


def test_sample(tmp_path):
    if not SAMPLE.is_dir():
        pytest.skip("the sample is not there")
    convert(SAMPLE / "data", tmp_path / "s.zarr", "01", "01", ["betas", "bold"], progress=False)
    sub = load_subject("01", tmp_path / "s.zarr")
    expected = np.load(SAMPLE / "expected" / "bold.npz")
    assert len(expected.files) == 2
    for name in expected.files:
        _, ses, run = name.split("_")
        found = sub.get_bold(ses, run)[:, ::50]
        np.testing.assert_array_equal(found.values, expected[name])


# -- as scanned


@pytest.mark.parametrize("part", ["mag", "phase"])
def test_scans(sub, scans, part):
    path = scans / release.raw_bold(SUB, SES, 1, 3, part)
    image = nib.load(path)
    found = sub.get_raw_bold(1, "01", 3, part)
    assert found.dims == ("time", "x", "y", "z")
    assert found.dtype == np.float32
    want = np.moveaxis(np.asarray(image.dataobj), -1, 0).astype(np.float32)
    np.testing.assert_array_equal(found.values, want)
    for key in (3, (slice(1, 4), 2), (slice(None), 2, 3, 4), (slice(None, None, 2), -1)):
        np.testing.assert_array_equal(found[key].values, want[key])
    np.testing.assert_array_equal(found["time"], np.arange(len(want)) * 1.9)
    np.testing.assert_array_equal(np.reshape(found.attrs["affine"], (4, 4)), image.affine)
    corner = found.isel(time=0, x=0, y=1, z=2)
    at = image.affine @ [0, 1, 2, 1]
    np.testing.assert_allclose([corner[axis].item() for axis in "xyz"], at[:3], rtol=1e-5)


def test_references_of_both_names(sub, scans):
    second = scans / release.sbrefs(SUB, SES, 1, 2)[1]
    want = np.asarray(nib.load(second).dataobj)
    np.testing.assert_array_equal(sub.get_sbref(SES, 1, "echo-2").values, want)
    first = scans / release.sbrefs(SUB, SES, 1, 2)[0]
    second.rename(first)
    np.testing.assert_array_equal(sub.get_sbref(SES, 1, 2).values, want)


def test_scans_that_are_unpacked_scaled_oblique_and_without_sidecar(sub, scans):
    path = scans / release.raw_bold(SUB, SES, 1, 1, "mag")
    raw = np.asarray(nib.load(path).dataobj)
    affine = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3, 0.2, 0.1) * 3, [1, 2, 3])
    image = nib.Nifti1Image(raw, affine)
    image.header.set_zooms((3, 3, 3, 1900))
    image.header.set_xyzt_units("mm", "msec")
    image.header.set_slope_inter(0.5, 7)
    path.unlink()
    nib.save(image, path.with_suffix(""))
    Path(release.sidecar(str(path))).unlink()
    stored = nib.load(path.with_suffix("")).dataobj
    found = sub.get_raw_bold(SES, 1, 1)
    want = stored.get_unscaled().astype(np.float64) * stored.slope + stored.inter
    np.testing.assert_array_equal(found.values, np.moveaxis(want, -1, 0).astype(np.float32))
    assert found["time"].values[1] == 1.9
    assert "x" not in found.coords


def test_nothing_is_read_before_it_is_computed(sub, scans):
    lazy = sub.get_raw_bold(SES, 1, 1)
    path = scans / release.raw_bold(SUB, SES, 1, 1, "mag")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match=r"echo-1_part-mag.*whole file.*download-raw"):
        lazy.compute()
    path.unlink()
    np.testing.assert_array_equal(lazy["time"], np.arange(len(lazy)) * 1.9)


def test_has_raw(sub, scans, monkeypatch):
    assert sub.has_raw()
    assert sub.has_raw(1)
    assert not sub.has_raw("ses-02")
    shutil.rmtree(scans / SUB / SES)
    assert not sub.has_raw()
    monkeypatch.delenv("LAION_ZARR_DATA_DIR")
    assert not sub.has_raw()


@pytest.mark.parametrize(
    ("ask", "error", "said"),
    [
        (
            lambda sub: sub.get_raw_bold(SES, 7, 1),
            DataNotDownloadedError,
            "run-07_echo-1_part-mag.*download-raw --subject sub-01 --ses 01 --run 7",
        ),
        (lambda sub: sub.get_sbref(SES, 1, 9), FileNotFoundError, "echo-9.*download-raw"),
        (lambda sub: sub.get_raw_bold(SES, 1, 1, "real"), ValueError, "mag.*phase"),
        (lambda sub: sub.get_raw_bold(SES, 1, 0), ValueError, "echo=0"),
        (lambda sub: sub.get_raw_bold(SES, None, 1), ValueError, "run=None"),
    ],
)
def test_wrong_questions_on_scans(sub, scans, ask, error, said):
    with pytest.raises(error, match=said):
        ask(sub)


def test_files_of_another_kind(sub, scans):
    for echo, damage in enumerate((b"<html>", b""), 1):
        (scans / release.raw_bold(SUB, SES, 1, echo, "mag")).write_bytes(damage)
        with pytest.raises(SourceError, match=f"echo-{echo}.*expected a NIfTI file"):
            sub.get_raw_bold(SES, 1, echo)
    reference, series = release.sbrefs(SUB, SES, 1, 3)[1], release.raw_bold(SUB, SES, 1, 3, "mag")
    shutil.copy(scans / reference, scans / series)
    with pytest.raises(SourceError, match="expected one of 4 dims"):
        sub.get_raw_bold(SES, 1, 3)


def test_compat_gives_numpy(with_bold, scans):
    sub = compat.load_subject(SUB, with_bold)
    bold, reference = sub.get_raw_bold(SES, "01", "1"), sub.get_sbref(SES, "01", "1")
    assert type(bold) is type(reference) is np.ndarray
    assert bold.shape[1:] == reference.shape
    assert sub.has_raw(session=SES)
