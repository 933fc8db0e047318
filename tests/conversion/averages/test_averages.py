"""Averages in the store: made of its betas alone, the same however the work is cut, or nothing."""

from __future__ import annotations

import shutil
import warnings
from unittest.mock import MagicMock

import numpy as np
import pytest
import zarr
from statistics_by_hand import means_of, scores
from trees import tree_bytes

from laion_zarr import convert, load_subject, verify
from laion_zarr.analysis.streams import stream
from laion_zarr.conversion import outdated
from laion_zarr.conversion.averages import making, sizes
from laion_zarr.conversion.cli import main
from laion_zarr.conversion.write import writer
from laion_zarr.errors import LaionZarrError, NotConvertedError, StoreError

SUB, PART = "sub-01", "sub-01/averages"
MEND = "laion-zarr convert --parts averages --subject 01"


def make(store, **options):
    """Make the averages of the first subject."""
    return convert(None, store, SUB, parts="averages", progress=False, **options)


# -- what is stored


def test_stored_are_the_averages_of_the_betas_bit_for_bit(averaged, bare):
    """As `get_image_betas` gives them of a store without the part; read with zarr-python."""
    group = zarr.open_group(averaged, mode="r")[PART]
    voxels, mean = group["voxel"][:], group["mean"][:]
    for mask in ("anatomical", "rsquare"):
        expected = load_subject(SUB, bare).get_image_betas(mask_source=mask)
        assert group["image_name"][:].tolist() == expected["image"].values.tolist()
        assert group["n_trials"][:].tolist() == expected["n_trials"].values.tolist()
        where = np.argsort(voxels)[np.isin(np.sort(voxels), expected["voxel"])]
        np.testing.assert_array_equal(mean[:, where], expected)


def test_stored_voxel_by_voxel_are_the_same_bits(averaged, in_blocks):
    for store in (averaged, in_blocks):
        group = zarr.open_group(store, mode="r")[PART]
        swapped = group["mean_by_voxel"]
        assert swapped.chunks == (16, group["image_name"].size)
        assert swapped[:].T.tobytes() == group["mean"][:].tobytes()


def test_stored_noise_is_how_trials_of_an_image_differ(averaged):
    root = zarr.open_group(averaged, mode="r")[SUB]
    sessions = [root[name] for name in ("ses-01", "ses-02")]
    labels = [name for its in sessions for name in its["image_name"][:].tolist()]
    groups = [name for its in sessions for name in its["session"][:].tolist()]
    z = scores(np.concatenate([its["betas"][:].T for its in sessions]), groups)
    expected = np.full(z.shape[1], np.nan)
    for voxel in range(z.shape[1]):
        own = [z[np.array(labels) == name, voxel] for name in set(labels)]
        own = [values[~np.isnan(values)] for values in own]
        variances = [values.var(ddof=1) for values in own if len(values) > 1]
        if variances:
            expected[voxel] = np.sqrt(np.mean(variances))
    found = root["averages/noise"][:]
    assert np.isnan(found).any()
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_stored_are_the_means_of_scores(averaged):
    """Of all voxels, NaN where plain numpy has NaN."""
    root = zarr.open_group(averaged, mode="r")[SUB]
    sessions = [root[name] for name in ("ses-01", "ses-02")]
    betas = np.concatenate([its["betas"][:].T for its in sessions])
    labels = [name for its in sessions for name in its["image_name"][:].tolist()]
    groups = [name for its in sessions for name in its["session"][:].tolist()]
    names, expected = means_of(scores(betas, groups), labels)
    assert root["averages/image_name"][:].tolist() == names
    found = root["averages/mean"][:]
    assert np.isnan(found).any()
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_nothing_depends_on_how_the_work_is_cut(averaged, bare, copy_of, monkeypatch):
    monkeypatch.setattr(stream, "READ_BYTES", 1)
    own = copy_of(bare)
    make(own, n_workers=3)
    assert tree_bytes(own) == tree_bytes(averaged)


def test_blocks_and_shards_hold_what_one_holds(averaged, in_blocks):
    one, several = (zarr.open_group(path, mode="r")[PART]["mean"] for path in (averaged, in_blocks))
    assert one.shards == (256, one.shape[1])
    assert several.shards == (4, 256)
    assert len(tree_bytes(in_blocks, f"{PART}/mean/c/*/*")) == 3 * 3
    np.testing.assert_array_equal(one[:], several[:])
    verify(in_blocks, progress=False)


def test_numpy_alone_gives_the_same_to_its_precision(averaged, bare, copy_of, monkeypatch):
    monkeypatch.setattr(stream, "compiled_loops", lambda: None)
    own = copy_of(bare)
    make(own)
    found, expected = (zarr.open_group(path, mode="r")[PART]["mean"][:] for path in (own, averaged))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_made_without_a_source_and_only_once(averaged, copy_of, capsys):
    own = copy_of(averaged)
    before = tree_bytes(own)
    assert main(["convert", "--parts", "averages", "--subject", "1", "--store", str(own)]) == 0
    assert "1 unchanged" in capsys.readouterr().out
    assert tree_bytes(own) == before
    assert make(own, overwrite=True).converted == [f"{SUB} averages"]
    assert tree_bytes(own) == before
    assert main(["convert", "--parts", "averages", "--dry-run", "--store", str(own)]) == 0
    assert "0 parts to do" in capsys.readouterr().out
    assert tree_bytes(own) == before


def test_with_the_betas_in_one_run(bids_root, averaged, tmp_path):
    parts = ["betas", "averages"]
    report = convert(bids_root, tmp_path / "s.zarr", SUB, parts=parts, progress=False)
    assert report.converted[-1] == f"{SUB} averages"
    assert tree_bytes(tmp_path / "s.zarr" / PART) == tree_bytes(averaged / PART)


def test_averages_of_before_there_was_noise(averaged, bare, copy_of, monkeypatch):
    """They are read image by image as before, and made anew by the next run that names them."""
    own = copy_of(bare)
    with monkeypatch.context() as patch:
        patch.setattr(making, "SwappedWriter", MagicMock())
        patch.setattr(making, "RowWriter", MagicMock())
        make(own)
    assert {p.name for p in (own / PART).iterdir()} & {"mean_by_voxel", "noise"} == set()
    assert verify(own, progress=False).notes == []
    sub, other = load_subject(SUB, own), load_subject(SUB, bare)
    for images in (_first(own), None):
        found, expected = (one.get_image_betas(images=images) for one in (sub, other))
        np.testing.assert_array_equal(found, expected)
    assert make(own).converted == [f"{SUB} averages"]
    assert tree_bytes(own) == tree_bytes(averaged)


# -- what is stale


@pytest.fixture(scope="module")
def stale(bids_root, tmp_path_factory):
    """Averages of one session, to which another session was added; and what was reported."""
    path = tmp_path_factory.mktemp("stale") / "s.zarr"
    convert(bids_root, path, SUB, "ses-01", ["betas"], progress=False)
    make(path)
    return path, convert(bids_root, path, SUB, parts=["betas"], progress=False)


def test_stale_averages_are_told_of(stale, bids_root, capsys):
    path, report = stale
    assert [line for line in report.missing if "averages" in line and MEND in line]
    assert main(["info", "--store", str(path)]) == 0
    assert MEND in capsys.readouterr().out
    assert any("readers refuse them" in note for note in verify(path, progress=False).notes)
    found = outdated(bids_root, path)
    assert found
    (one,) = [one for one in found.differences if one.part == "averages"]
    assert (one.state, one.subject, one.files) == ("stale", SUB, ())
    assert "'laion-zarr convert --parts averages' makes anew what is stale." in str(found)


def test_stale_averages_are_not_read(stale, bare):
    path, image = stale[0], _first(bare)
    with pytest.warns(UserWarning, match="made from other betas") as caught:
        found = load_subject(SUB, path).get_image_betas(images=image)
    assert MEND in str(caught[0].message)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(found, load_subject(SUB, bare).get_image_betas(images=image))


def test_stale_averages_are_made_anew(stale, averaged, tmp_path):
    own = tmp_path / "s.zarr"
    shutil.copytree(stale[0], own)
    assert make(own).converted == [f"{SUB} averages"]
    assert tree_bytes(own / PART) == tree_bytes(averaged / PART)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_subject(SUB, own).get_image_betas(images=_first(own))
    assert not verify(own, progress=False).notes


def _first(store):
    return load_subject(SUB, store).metadata["label"][0]


def test_voxels_in_another_order_make_averages_stale(bids_root, averaged, copy_of):
    """Betas of other voxels take the place of the old ones, though the averages are of those."""
    own = copy_of(averaged)
    options = {"parts": ["betas"], "mask": "rsquare", "overwrite": True, "progress": False}
    report = convert(bids_root, own, SUB, **options)
    assert any(MEND in line for line in report.missing)
    with pytest.warns(UserWarning, match="made from other betas"):
        expected = load_subject(SUB, own).get_image_betas(mask_source="rsquare").compute()
    make(own)
    found = zarr.open_group(own, mode="r")[PART]
    assert found["mean"].shape[1] == expected.sizes["voxel"]
    np.testing.assert_array_equal(found["mean"][:][:, np.argsort(found["voxel"][:])], expected)


# -- what fails


def test_a_run_that_dies_leaves_nothing_that_is_read(in_blocks, bare, tmp_path, monkeypatch):
    """At its first objects, in the middle, and at its last; then the same command is run again."""
    own, put = shutil.copytree(bare, tmp_path / "own"), writer.put
    whole = {key for key in tree_bytes(in_blocks) if key.startswith(PART)}
    for n_written in (0, 1, 7, len(whole) - 1):
        written = []

        def die(store, key, data, written=written, most=n_written):
            if key.startswith(PART) and len(written) == most:
                raise KeyboardInterrupt
            written += [key] * key.startswith(PART)
            put(store, key, data)

        with monkeypatch.context() as patch:
            patch.setattr(writer, "put", die)
            with pytest.raises(KeyboardInterrupt):
                make(own)
        assert "averages" not in load_subject(SUB, own)._handle.stored.parts
    make(own)
    assert tree_bytes(own) == tree_bytes(in_blocks)


def test_a_run_that_dies_while_it_makes_them_anew_keeps_the_old(averaged, copy_of, monkeypatch):
    own = copy_of(averaged)
    before = tree_bytes(own)

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(making.AveragesMaker, "_fill", die)
        with pytest.raises(KeyboardInterrupt):
            make(own, overwrite=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_subject(SUB, own).get_image_betas(images=_first(own)).compute()
    make(own, overwrite=True)
    assert tree_bytes(own) == before


def test_what_cannot_be_made_says_why(bare, tmp_path, copy_of):
    with pytest.raises(NotConvertedError, match="no laion_zarr store"):
        make(tmp_path / "none.zarr")
    assert not (tmp_path / "none.zarr").exists()
    own = copy_of(bare)
    before = tree_bytes(own)
    with pytest.raises(NotConvertedError, match=r"sub-09 is not in the store .* --subject sub-09"):
        convert(None, own, "09", parts="averages", progress=False)
    with pytest.raises(LaionZarrError, match=r"--memory 0\.05 GB is too little: .* need 0\.4"):
        make(own, memory="50MB")
    for option in ({"sessions": "01"}, {"scheduler": "tcp://nowhere:1"}):
        with pytest.raises(ValueError, match="has no meaning for averages"):
            make(own, **option)
    assert tree_bytes(own) == before


def test_memory_says_how_many_threads(monkeypatch):
    """A subject of the release: a block of all images, and what each thread holds."""
    size = sizes.AveragesSize(6204, 275_000, 31_320)
    assert size.shape[1] / size.block_width <= 8
    common, each = size.memory_nbytes
    assert 1.1e9 < common < 1.3e9
    assert each < 100e6
    assert size.n_threads(16, "2GB") == (2 * 10**9 - common) // each
    assert size.n_threads(2, "4GB") == 2


def test_damaged_betas_are_named_and_nothing_is_listed(bare, copy_of):
    own = copy_of(bare)
    (shard,) = (own / SUB / "ses-02" / "betas" / "c").glob("*/*")
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(StoreError, match=r"ses-02/betas/c/0/0 .*checksum differs"):
        make(own)
    assert "averages" not in load_subject(SUB, own)._handle.stored.parts


# -- what verify finds


def test_deep_verification_averages_anew(in_blocks, bids_root, copy_of, monkeypatch):
    own = copy_of(in_blocks)
    report = verify(own, bids_root, deep=True, progress=False)
    mean = zarr.open_group(own, mode="r")[PART]["mean"]
    fill = making.AveragesMaker._fill

    def wrong(self, block, *rest):
        fill(self, block, *rest)
        block[3, 0] += 1e-3

    monkeypatch.setattr(making.AveragesMaker, "_fill", wrong)
    make(own, overwrite=True)
    with pytest.raises(StoreError, match=r"not the averages of the betas.* --parts averages"):
        verify(own, bids_root, deep=True, progress=False)
    assert report.n_values > 2 * mean.size
    assert verify(own, progress=False).problems == []


@pytest.mark.parametrize("what", ["_n_trials", "_images", "_labels"])
def test_labels_that_are_not_those_of_the_betas(bare, copy_of, monkeypatch, what):
    own, wrong = copy_of(bare), making.AveragesMaker.write

    def write(self, *arguments):
        setattr(self, what, getattr(self, what)[::-1])
        return wrong(self, *arguments)

    monkeypatch.setattr(making.AveragesMaker, "write", write)
    make(own)
    with pytest.raises(StoreError, match="other images, trials or voxels than the betas"):
        verify(own, progress=False)
