"""Preprocessed time series: values as nibabel has them; wrong files are named; nothing is lost."""

from __future__ import annotations

import json
import re
import shutil
from unittest import mock

import numpy as np
import pytest
from bold_mirror import SUB, answer, bold_file, random_run, write_bold, write_run
from converting import alone
from hypothesis import given, settings
from hypothesis import strategies as st
from small_mirror import AFFINE, SHAPE, inside, kept, lean, mask_file, pack, put, volume, whole
from small_mirror import whole_lean as whole_lean
from small_mirror import whole_store as whole_store
from trees import tree_bytes

from laion_zarr import load_subject, verify
from laion_zarr.conversion.cli import main
from laion_zarr.conversion.options import check_options
from laion_zarr.conversion.run import cluster
from laion_zarr.conversion.run.pipeline import run_conversion
from laion_zarr.conversion.source.files import open_source
from laion_zarr.errors import (
    DataNotDownloadedError,
    LaionZarrError,
    NotConvertedError,
    SourceError,
    StoreError,
)
from laion_zarr.store.objects import open_store
from laion_zarr.store.parts import StoredParts

whole, kept, lean = whole, kept, lean
BOLD = f"{SUB}/bold/ses-01"


@pytest.fixture
def mirror(lean):
    """The lean mirror with two runs of the first session."""
    return write_bold(lean)


@pytest.fixture(scope="module")
def stored(whole_lean, tmp_path_factory):
    """The conversion of such a mirror; nothing may change it."""
    folder = tmp_path_factory.mktemp("bold")
    mirror = write_bold(shutil.copytree(whole_lean, folder / "mirror"))
    alone(mirror, folder / "s.zarr")
    alone(mirror, folder / "s.zarr", parts="bold")
    return folder / "s.zarr"


@pytest.fixture
def store(stored, tmp_path):
    """A copy of the store of the mirror."""
    return shutil.copytree(stored, tmp_path / "s.zarr")


def report_of(mirror, store, dry_run=False, parts="bold", **options):
    """Report of a conversion, failures included."""
    given = {"subjects": None, "sessions": None, "mask": "both", "n_workers": 1, "memory": None}
    checked = check_options(**(given | {"parts": parts, "overwrite": False} | options))
    return run_conversion(open_source(mirror), store, None, checked, dry_run, False)


def check(mirror, store, runs=(1, 2), ses="ses-01"):
    """All runs, and each of them, are those of the files."""
    sub = load_subject(SUB, store)
    for source in ("anatomical", "rsquare"):
        mask = inside(mirror, source)
        want = [answer(mirror / bold_file(run, ses), mask) for run in runs]
        found = sub.get_bold(ses, mask_source=source)
        np.testing.assert_array_equal(found.values, np.concatenate(want))
        lengths = [len(one) for one in want]
        np.testing.assert_array_equal(found["run"], np.repeat(runs, lengths))
        np.testing.assert_array_equal(found["time"], np.concatenate([*map(np.arange, lengths)]))
        for run, values in zip(runs, want, strict=True):
            np.testing.assert_array_equal(sub.get_bold(ses, run, mask_source=source), values)


# -- what is stored


def test_values_runs_and_times(mirror, store):
    check(mirror, store)
    verify(store, mirror, deep=True, progress=False)


@settings(max_examples=8)
@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=3),
    dtype=st.sampled_from(["f4", "f8", "i2", "u1"]),
    order=st.sampled_from("<>"),
    slope=st.sampled_from([1.0, 0.37, 0.0]),
    n_kept=st.integers(0, 1),
    seed=st.integers(0, 9),
)
def test_any_runs_and_dtypes(
    whole_lean, tmp_path_factory, lengths, dtype, order, slope, n_kept, seed
):
    """Runs of any length and type, in memory and through the scratch file, bit for bit."""
    root = tmp_path_factory.mktemp("any") / "mirror"
    shutil.copytree(whole_lean, root)
    rng = np.random.default_rng(seed)
    for run, n_volumes in enumerate(lengths, 1):
        values = random_run(rng, n_volumes) if dtype in ("f4", "f8") else None
        if values is None:
            values = rng.integers(0, 200, (*SHAPE, n_volumes))
        # One run of another type than the others.
        kind = dtype if run != 2 else "f4"
        write_run(root, run, values.astype(kind), slope=slope, intercept=slope and 3.5, order=order)
    path = root.parent / "s.zarr"
    with mock.patch("laion_zarr.conversion.budget.WorkPlan.slabs_kept", return_value=n_kept):
        alone(root, path, parts=["betas", "bold"])
    check(root, path, range(1, len(lengths) + 1))


def test_repetition_time_of_header_and_sidecar(lean, tmp_path):
    """The sidecar has decimals, the header float32 and units of its own."""
    rng, runs = np.random.default_rng(0), {"ses-01": (True, 10), "ses-02": (False, 18)}
    for ses, (sidecar, units) in runs.items():
        told = sidecar and {"RepetitionTime": 1.9}
        step = 1.9 if sidecar else 1900
        write_run(lean, 1, random_run(rng, 3), ses, step, told, xyzt_units=units)
    alone(lean, tmp_path / "s.zarr", parts=["betas", "bold"])
    for ses in runs:
        found = load_subject(SUB, tmp_path / "s.zarr").get_bold(ses)
        np.testing.assert_array_equal(found["time"], np.arange(3) * 1.9)
        assert found.attrs["repetition_time"] == 1.9


def test_only_when_asked_for(mirror, tmp_path):
    """The default leaves it out; asked for, it is added and nothing else is touched."""
    path = tmp_path / "s.zarr"
    assert not any("bold" in name for name in alone(mirror, path).converted)
    before = {p: p.stat() for p in path.rglob("ses-0?/**/*") if p.is_file()}
    report = alone(mirror, path, parts="bold")
    assert report.converted == [f"{SUB} bold/ses-01"]
    assert before
    assert all(p.stat() == state for p, state in before.items())
    again = alone(mirror, path, parts="bold")
    assert again.converted == []
    assert f"{SUB} bold/ses-01" in again.unchanged
    assert not any("bold" in name for name in alone(mirror, path).converted)
    check(mirror, path)


def test_a_store_without_it_opens(whole_store):
    with pytest.raises(NotConvertedError, match=r"no session.*--include-bold.*--parts bold"):
        load_subject(SUB, whole_store).get_bold("ses-01")


def test_dry_run_says_how_much(mirror, tmp_path, capsys):
    report = report_of(mirror, tmp_path / "s.zarr", dry_run=True)
    (line,) = [line for line in report.planned if "bold" in line]
    n_voxels = int(inside(mirror, "union").sum())
    assert f"{SUB} bold/ses-01: 11 volumes of 2 runs × {n_voxels} voxels" in line
    assert report.disk_nbytes == int(0.95 * n_voxels * 11 * 4)
    options = ["--source", str(mirror), "--store", str(tmp_path / "s.zarr"), "--parts", "bold"]
    assert main(["convert", *options, "--quiet"]) == 0
    assert main(["info", "--store", str(tmp_path / "s.zarr")]) == 0
    assert "time series: 1 session (ses-01)" in capsys.readouterr().out


def test_same_bytes_by_workers_and_in_a_cluster(mirror, store, tmp_path):
    other = tmp_path / "workers.zarr"
    write_bold(mirror, (3, 2), "ses-02")
    alone(mirror, store, parts="bold")
    alone(mirror, other, parts=["betas", "bold"], n_workers=2)
    wanted = tree_bytes(store, f"{SUB}/bold/**/*")
    assert wanted
    assert tree_bytes(other, f"{SUB}/bold/**/*") == wanted
    # As a worker of a cluster: each try in a staging group of its own.
    part = StoredParts(open_store(store), SUB).parts["bold/ses-01"]
    with mock.patch("laion_zarr.conversion.run.pipeline.run") as run:
        run.side_effect = lambda tasks, *_: [(t, cluster._convert(t)[0]) for t in tasks]
        third = tmp_path / "cluster.zarr"
        alone(mirror, third, parts=["betas", "bold"])
    assert tree_bytes(third, f"{SUB}/bold/**/*") == wanted
    assert StoredParts(open_store(third), SUB).parts["bold/ses-01"] == part


# -- changed files, overwriting


def test_a_changed_run_is_converted_anew(mirror, store):
    write_run(mirror, 2, random_run(np.random.default_rng(8), 5))
    assert alone(mirror, store, parts="bold").converted == [f"{SUB} bold/ses-01"]
    check(mirror, store)
    write_run(mirror, 3, random_run(np.random.default_rng(9), 6))
    alone(mirror, store, parts="bold")
    check(mirror, store, (1, 2, 3))


def test_a_run_that_the_mirror_lost_is_not_lost_in_the_store(mirror, store):
    before = tree_bytes(store)
    (mirror / bold_file(1)).rename(mirror / "elsewhere")
    alone(mirror, store, parts="bold")  # unchanged: what is there is as it was
    assert tree_bytes(store) == before
    write_run(mirror, 2, random_run(np.random.default_rng(8), 5))
    with pytest.raises(DataNotDownloadedError, match=r"run-01.*would lose it.*--include-bold"):
        alone(mirror, store, parts="bold")
    assert tree_bytes(store, f"{BOLD}/**/*")
    assert len(load_subject(SUB, store).get_bold(1)) == 11


def other_mask(mirror):
    """Another brain mask, so that the voxels and their order change."""
    values = np.random.default_rng(3).random(SHAPE) < 0.7
    volume(mirror, mask_file("anatomical"), values.astype(np.uint8))


def test_overwrite_follows_the_voxels(mirror, store):
    """Without --parts, what is stored is converted anew, in the new order of the voxels."""
    other_mask(mirror)
    alone(mirror, store, overwrite=True)
    check(mirror, store)
    verify(store, mirror, deep=True, progress=False)


def test_overwrite_of_betas_alone_would_leave_it_behind(mirror, store):
    other_mask(mirror)
    before = tree_bytes(store)
    with pytest.raises(LaionZarrError, match=r"bold/ses-01 would be left behind.*without --ses"):
        alone(mirror, store, parts="betas", overwrite=True)
    (mirror / bold_file(2)).write_bytes(b"damaged")
    with pytest.raises(LaionZarrError, match="bold/ses-01"):
        alone(mirror, store, overwrite=True)
    assert tree_bytes(store) == before


def test_damaged_manifest(mirror, store):
    before = tree_bytes(store)
    (store / SUB / "manifest.json").write_bytes(b"{}")
    with pytest.raises(StoreError, match="without --ses and --parts"):
        alone(mirror, store, overwrite=True, parts="bold")
    (mirror / bold_file(1)).rename(mirror / "elsewhere")
    with pytest.raises(DataNotDownloadedError, match="run-01"):
        alone(mirror, store, overwrite=True)
    (mirror / "elsewhere").rename(mirror / bold_file(1))
    alone(mirror, store, overwrite=True)
    assert tree_bytes(store) == before


# -- wrong files


def truncated(mirror):
    path = mirror / bold_file(2)
    path.write_bytes(path.read_bytes()[:-100])


def flipped(mirror):
    path = mirror / bold_file(2)
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # in the checksum at the end
    path.write_bytes(data)


def run_2(**options):
    return lambda mirror: write_run(mirror, 2, random_run(np.random.default_rng(1), 7), **options)


def flat_image(mirror):
    put(mirror, bold_file(2), pack((mirror / mask_file("anatomical")).read_bytes()))
    volume(mirror, bold_file(2), np.ones(SHAPE, np.float32))


WRONG = {
    "cut off": (truncated, "cut-off|end in the middle"),
    "checksum": (flipped, "damaged|gzip|CRC"),
    "no gzip": (lambda mirror: put(mirror, bold_file(2), b"<html>"), "web page"),
    "other grid": (
        lambda mirror: write_run(mirror, 2, np.ones((4, 5, 3, 7), np.float32)),
        r"expected \(5, 4, 3\)",
    ),
    "moved": (run_2(affine=AFFINE + 0.01 * np.eye(4, k=3)), "mm off"),
    "3-D": (flat_image, "a 3-D image"),
    "other time": (run_2(step=2.0, sidecar={"RepetitionTime": 2.0}), "2 s"),
    "contradiction": (run_2(step=1.9), r"1\.9 s.*expected 1 s|expected 1 s.*found.*1\.9 s"),
    "no time": (run_2(step=0, sidecar={"RepetitionTime": None}), "no repetition time"),
    "fewer than told": (run_2(sidecar={"NumberOfVolumes": 9}), "expected 9.*found 7 volumes"),
    "sidecar": (
        lambda mirror: put(mirror, bold_file(2, extension="json"), "{"),
        "JSON",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_are_named_and_the_rest_is_converted(mirror, tmp_path, name):
    damage, said = WRONG[name]
    write_bold(mirror, (3, 2), "ses-02")
    damage(mirror)
    path = tmp_path / "s.zarr"
    report = report_of(mirror, path, parts=["betas", "bold"])
    (failed,) = report.failed.items()
    assert failed[0] == f"{SUB} bold/ses-01"
    assert isinstance(failed[1], SourceError)
    message = str(failed[1])
    assert "run-02" in message
    assert re.search(said, message), message
    assert "download it again" in message
    sub = load_subject(SUB, path)
    assert sub.get_sessions() == ["ses-01", "ses-02"]
    with pytest.raises(NotConvertedError, match="but of ses-02"):
        sub.get_bold("ses-01")
    check(mirror, path, ses="ses-02")
    verify(path, progress=False)
    assert not (path / BOLD).exists()
    write_bold(mirror)  # mended
    alone(mirror, path, parts="bold")
    check(mirror, path)


def test_shorter_runs_are_named(mirror, tmp_path, capsys):
    options = ["--source", str(mirror), "--store", str(tmp_path / "s.zarr"), "--parts", "bold"]
    assert main(["convert", *options, "--quiet"]) == 0
    error = capsys.readouterr().err
    assert error.startswith("warning: ")
    for word in (bold_file(1), "(4)", "7 of the longest", "--include-bold"):
        assert word in error
    assert bold_file(2) not in error


@pytest.mark.parametrize("options", [{}, {"sessions": "02"}, {"sessions": "31"}])
def test_nothing_there_is_a_failure_with_the_command(lean, mirror, tmp_path, options):
    if not options:
        shutil.rmtree(lean / "derivatives/tedana")
    report = report_of(lean, tmp_path / "s.zarr", **options)
    (error,) = report.failed.values()
    assert isinstance(error, DataNotDownloadedError)
    assert "--include-bold" in str(error)
    assert all(f"--ses ses-{ses}" in str(error) for ses in options.values())


def test_deep_verification_sees_other_values(mirror, store):
    values = answer(mirror / bold_file(1), np.ones(np.prod(SHAPE), bool)).T.reshape(*SHAPE, -1)
    assert verify(store, mirror, deep=True, progress=False).n_values
    values = values.copy()
    values[2, 2, 1, 3] += 1
    write_run(mirror, 1, values)
    with pytest.raises(StoreError, match="not the file that was converted"):
        verify(store, mirror, deep=True, progress=False)
    with (
        mock.patch("laion_zarr.conversion.verification.checks.Check.sources"),
        pytest.raises(StoreError, match=r"run 1, from volume 0: 1 of .* values differ"),
    ):
        verify(store, mirror, deep=True, progress=False)


def test_verification_sees_other_runs(mirror, store):
    """Labels that do not fit the volumes, with right checksums."""
    with mock.patch("laion_zarr.conversion.parts.bold.np.repeat", return_value=np.arange(11)):
        alone(mirror, store, parts="bold", overwrite=True)
    with pytest.raises(StoreError, match="runs or times that its volumes do not have"):
        verify(store, progress=False)
    assert json.loads((store / BOLD / "bold/zarr.json").read_text())["attributes"]["runs"]


def test_stored_time_series_are_kept_up_to_date(mirror, store):
    """Without --parts, a run that has changed is taken anew; --parts of others leaves it."""
    write_run(mirror, 2, random_run(np.random.default_rng(8), 7))
    before = tree_bytes(store)
    alone(mirror, store, parts="betas")
    assert tree_bytes(store) == before
    alone(mirror, store)
    verify(store, mirror, deep=True, progress=False)
    assert tree_bytes(store) != before
