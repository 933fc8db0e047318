"""Localizer maps become one part: what is in the files, whatever is damaged, gone or changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from converting import alone
from hypothesis import given
from hypothesis import strategies as st
from localizer_mirror import (
    AFFINE,
    BRAIN,
    FINE_AFFINE,
    FINE_SHAPE,
    SHAPE,
    SUB,
    VERTICES,
    map_file,
    write_map,
    write_masks,
    write_surface,
    write_volume,
)
from random_mirrors import examples
from trees import tree_bytes

from laion_zarr import convert, load_subject, verify
from laion_zarr.conversion.cli.commands import main
from laion_zarr.conversion.options import check_options
from laion_zarr.conversion.parts import localizers
from laion_zarr.conversion.run.pipeline import run_conversion
from laion_zarr.conversion.source.files import open_source
from laion_zarr.conversion.verification.store import run_verification
from laion_zarr.errors import DataNotDownloadedError, LaionZarrError, SourceError

CONTRASTS = ("aVsB", "bVsA", "c")
PLACES = ("1pt8", "1pt5", "L", "R")


@pytest.fixture
def mirror(tmp_path) -> Path:
    root = tmp_path / "mirror"
    rng = np.random.default_rng(3)
    write_masks(root, rng)
    for contrast in CONTRASTS:
        for place in PLACES:
            write_map(root, rng, map_file(contrast, place), place)
    return root


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "store.zarr"


def report_of(mirror: Path, store: Path, parts: object = ("localizers",), **options):
    """Convert; the report, with what failed."""
    asked = check_options(None, None, parts, "both", 1, None, options.pop("overwrite", False))
    return run_conversion(open_source(mirror), store, None, asked, False, False)


def found_in(store: Path, contrast: str, place: str) -> np.ndarray:
    sub = load_subject(SUB, store)
    if place in VERTICES:
        return sub.get_localizer_surface("floc", contrast, place).values
    if place == "1pt8":
        return sub.get_localizer("floc", contrast).values
    return sub.get_localizer_volume("floc", contrast).values


def in_file(mirror: Path, contrast: str, place: str) -> np.ndarray:
    image = nib.load(mirror / map_file(contrast, place))
    if place in VERTICES:
        return image.darrays[0].data
    values = np.asarray(image.dataobj)
    if place == "1pt8":
        brain = nib.load(mirror / f"{BRAIN}_desc-brain_mask.nii.gz")
        return values[np.asarray(brain.dataobj) != 0]
    return values


def check(mirror: Path, store: Path, lacks: set[tuple[str, str]] = frozenset()) -> None:
    """Every map of the mirror is in the store, bit for bit, but for those it lacks."""
    table = load_subject(SUB, store).get_available_localizers()
    there = set(zip(table["contrast"], table["res"] + table["hemi"], strict=True))
    assert there == {(c, p) for c in CONTRASTS for p in PLACES} - lacks
    for contrast, place in there:
        found, wanted = found_in(store, contrast, place), in_file(mirror, contrast, place)
        np.testing.assert_array_equal(found.view("u4"), wanted.view("u4"))


# -- values


@st.composite
def maps(draw: Callable) -> dict[str, list[tuple[np.ndarray, dict[str, float]]]]:
    """Maps of each place: values as in the file, and the header's scaling."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    found: dict[str, list] = {}
    for place in draw(st.sets(st.sampled_from(PLACES), min_size=1)):
        shape = {"1pt8": SHAPE, "1pt5": FINE_SHAPE}.get(place) or (VERTICES[place],)
        found[place] = []
        for _ in range(draw(st.integers(1, 3))):
            dtypes = ("<f4", "<i4") if place in VERTICES else ("<f4", ">f4", "<f8", "<i2", "u1")
            dtype = np.dtype(draw(st.sampled_from(dtypes)))
            values = rng.integers(0, 200, shape).astype(dtype)
            if dtype.kind == "f":
                values = (rng.normal(size=shape) * 10.0 ** draw(st.integers(-3, 3))).astype(dtype)
                share = draw(st.sampled_from([0, 0.1, 0.9, 1]))
                values[rng.random(shape) < share] = np.nan
            scaled = place not in VERTICES and draw(st.booleans())
            scaling = {"slope": draw(st.sampled_from([0.37, -2.0, 0.0])), "inter": 1.5}
            found[place].append((values, scaling if scaled else {}))
    return found


def as_read(values: np.ndarray, scaling: dict[str, float]) -> np.ndarray:
    """The rule: slope and intercept in float64, rounded once; a slope of 0 is none."""
    if scaling.get("slope"):
        values = values.astype("f8") * np.float32(scaling["slope"]) + np.float32(scaling["inter"])
    return values.astype("<f4")


@examples(12, 500)
@given(cases=maps())
def test_what_is_read_is_what_is_in_the_files(cases, tmp_path_factory):
    root = tmp_path_factory.mktemp("maps")
    brain = write_masks(root, np.random.default_rng(0))
    for place, its in cases.items():
        for number, (values, scaling) in enumerate(its):
            path = root / map_file(CONTRASTS[number], place)
            if place in VERTICES:
                write_surface(path, values)
            else:
                affine = AFFINE if place == "1pt8" else FINE_AFFINE
                write_volume(path, values, affine, **scaling)
    alone(root, root / "s", parts=["localizers"])
    for place, its in cases.items():
        for number, (values, scaling) in enumerate(its):
            wanted = as_read(values, scaling)
            found = found_in(root / "s", CONTRASTS[number], place)
            np.testing.assert_array_equal(found, wanted[brain] if place == "1pt8" else wanted)
            if values.dtype == np.dtype("<f4") and not scaling and place != "1pt8":
                assert found.tobytes() == values.tobytes()
    assert not verify(root / "s", root, deep=True, progress=False).notes
    before = tree_bytes(root / "s")
    alone(root, root / "s", parts=["localizers"])
    alone(root, root / "again", parts=["localizers"])
    assert tree_bytes(root / "s") == before == tree_bytes(root / "again")


def test_nan_bits_of_the_source_are_kept(mirror, target):
    path = mirror / map_file("aVsB", "1pt5")
    values = np.asarray(nib.load(path).dataobj).copy()
    values.view("u4")[0, 0, :2] = 0x7FC00123, 0xFFC00001
    write_volume(path, values, FINE_AFFINE)
    alone(mirror, target, parts="localizers")
    check(mirror, target)


# -- damage


def write_wrong(mirror: Path, place: str, shape: tuple[int, ...]) -> Path:
    path = mirror / map_file("bVsA", place)
    values = np.zeros(shape, "<f4")
    if place in VERTICES:
        write_surface(path, values)
    else:
        write_volume(path, values, AFFINE if place == "1pt8" else FINE_AFFINE)
    return path


WRONG = {
    "1pt8 on another grid": ("1pt8", (4, 6, 6), ["(4, 6, 6)", "(4, 6, 5)", "brain_mask"]),
    "1pt5 on another grid": ("1pt5", (5, 7, 5), ["(5, 7, 5)", "(5, 7, 6)", "aVsB"]),
    "other vertices": ("R", (10,), ["10 vertices", "11 vertices", "aVsB"]),
    "no vertices": ("L", (0,), ["one number per vertex"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_map_that_does_not_fit_fails_alone(mirror, target, case):
    place, shape, words = WRONG[case]
    path = write_wrong(mirror, place, shape)
    report = report_of(mirror, target)
    ((what, error),) = report.failed.items()
    assert isinstance(error, SourceError)
    assert "bVsA" in what
    for word in (str(path), *words):
        assert word in str(error)
    check(mirror, target, lacks={("bVsA", place)})
    assert not verify(target, progress=False).problems


def test_an_affine_that_is_off(mirror, target):
    shifted = FINE_AFFINE.copy()
    shifted[0, 3] += 0.01
    path = mirror / map_file("aVsB", "1pt5")
    write_volume(path, np.asarray(nib.load(path).dataobj), shifted)
    report = report_of(mirror, target)
    assert list(report.failed) == [f"{SUB} localizers floc aVsB z 1pt5"]
    assert "0.01 mm off" in str(*report.failed.values())
    check(mirror, target, lacks={("aVsB", "1pt5")})


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("data", [b"", b"<html>", None], ids=["empty", "web page", "cut"])
def test_damaged_file(mirror, target, place, data):
    path = mirror / map_file("c", place)
    path.write_bytes(path.read_bytes()[:-60] if data is None else data)
    report = report_of(mirror, target)
    (error,) = report.failed.values()
    assert str(path) in str(error)
    check(mirror, target, lacks={("c", place)})


def test_damaged_sidecar(mirror, target):
    path = mirror / map_file("c", "L").replace(".func.gii", ".json")
    path.write_text("no JSON")
    assert [str(path) in str(error) for error in report_of(mirror, target).failed.values()] == [
        True
    ]
    check(mirror, target, lacks={("c", "L")})


def test_a_map_of_two_sessions_names_both(mirror, target):
    rng = np.random.default_rng(1)
    write_map(mirror, rng, map_file("aVsB", "1pt8", "other"), "1pt8")
    report = report_of(mirror, target)
    for error in report.failed.values():
        for ses in ("floc", "other"):
            assert map_file("aVsB", "1pt8", ses) in str(error)
    assert report.failed
    check(mirror, target, lacks={("aVsB", "1pt8")})


def test_nothing_stored_is_lost(mirror, target):
    """Damaged and vanished files keep their stored maps; changed ones are read anew."""
    alone(mirror, target, parts="localizers")
    was = Path(shutil.copytree(mirror, mirror.with_name("was")))
    rng = np.random.default_rng(9)
    for place in PLACES:
        (mirror / map_file("c", place)).unlink()
        (mirror / map_file("aVsB", place)).write_bytes(b"damaged")
        write_map(mirror, rng, map_file("bVsA", place), place)
    report = report_of(mirror, target)
    assert len(report.failed) == len(PLACES)
    for place in PLACES:
        for contrast, root in (("aVsB", was), ("bVsA", mirror), ("c", was)):
            found, wanted = found_in(target, contrast, place), in_file(root, contrast, place)
            np.testing.assert_array_equal(found, wanted)
    assert not verify(target, progress=False).problems
    again = report_of(mirror, target, overwrite=True)
    assert set(again.failed) == set(report.failed)
    np.testing.assert_array_equal(found_in(target, "c", "1pt5"), in_file(was, "c", "1pt5"))


def test_a_stored_grid_stays(mirror, target):
    """New maps on another grid do not push out the one that only the store has."""
    alone(mirror, target, parts="localizers")
    (mirror / map_file("c", "1pt5")).unlink()
    for contrast in ("aVsB", "bVsA"):
        path = mirror / map_file(contrast, "1pt5")
        write_volume(path, np.ones((2, 3, 4), "<f4"), FINE_AFFINE)
    report = report_of(mirror, target)
    assert len(report.failed) == 2
    assert all("(5, 7, 6) as in" in str(error) for error in report.failed.values())
    assert np.isfinite(found_in(target, "c", "1pt5")).any()


def test_a_session_that_was_renamed(mirror, target):
    alone(mirror, target, parts="localizers")
    for place in PLACES:
        old, new = (mirror / map_file("c", place, ses) for ses in ("floc", "renamed"))
        new.parent.mkdir(parents=True, exist_ok=True)
        old.rename(new)
    assert not report_of(mirror, target).failed
    table = load_subject(SUB, target).get_available_localizers()
    assert set(table.loc[table["contrast"] == "c", "session"]) == {"ses-renamed"}
    assert len(table) == len(CONTRASTS) * len(PLACES)


def test_effects_and_resolutions_that_nobody_knows(mirror, target):
    rng = np.random.default_rng(2)
    values = write_map(mirror, rng, map_file("face", "1pt5", run=12), "1pt5")
    other = mirror / map_file("c", "1pt5").replace("1pt5", "3pt0")
    other.write_bytes(b"not ours")
    assert not report_of(mirror, target).failed
    found = load_subject(SUB, target).get_localizer_volume("floc", "face", stat="effect", run=12)
    np.testing.assert_array_equal(found.values, values)


# -- with the rest of a store


def test_an_old_store_gets_the_new_parts_alone(bids_root, store, copy_of, tmp_path):
    """What was converted before there were localizers opens, and only they are added."""
    old = tmp_path / "old.zarr"
    convert(bids_root, old, "01", parts=["betas", "anatomy", "surfaces"], progress=False)
    assert "localizer_z" not in load_subject(SUB, old).dataset
    before = {path: path.stat().st_ino for path in old.rglob("*/c/*") if path.is_file()}
    report = convert(bids_root, old, "01", parts=None, progress=False)
    made = [name for name in report.converted if name.startswith(SUB)]
    new = ("localizers", "rois_1pt5", "geometry", "events")
    assert made == [f"{SUB} {part}" for part in new]
    trials = f"{SUB}/trials/"  # joined with the stimuli, which came in the same run
    assert all(
        path.stat().st_ino == inode
        for path, inode in before.items()
        if trials not in path.as_posix()
    )
    assert tree_bytes(old / SUB / "localizers") == tree_bytes(store / SUB / "localizers")
    assert not convert(bids_root, old, "01", progress=False).converted


def test_overwrite_with_other_voxels_rewrites_the_maps(bids_root, store, copy_of, tmp_path):
    fresh, old = tmp_path / "fresh.zarr", copy_of(store)
    convert(bids_root, old, "01", mask="anatomical", overwrite=True, progress=False)
    convert(bids_root, fresh, "01", mask="anatomical", progress=False)
    assert tree_bytes(old / SUB) == tree_bytes(fresh / SUB)
    assert not verify(old, bids_root, deep=True, progress=False).problems


@pytest.mark.parametrize("place", ["res-1pt8", "res-1pt5"])
def test_overwrite_with_other_voxels_loses_no_map(bids_root, store, copy_of, place):
    mirror, old = copy_of(bids_root), copy_of(store)
    (gone,) = mirror.glob(f"derivatives/localizers/{SUB}/ses-31/func/*{place}*Scrambled*.gz")
    gone.unlink()
    before = tree_bytes(old / SUB)
    options = {"mask": "anatomical", "overwrite": True, "progress": False}
    if place == "res-1pt8":  # in an order of voxels that is no more
        with pytest.raises(LaionZarrError, match=r"objectVsScrambled.*could not be converted"):
            convert(mirror, old, "01", **options)
        assert tree_bytes(old / SUB) == before
    else:
        convert(mirror, old, "01", **options)
        sub = load_subject(SUB, old)
        wanted = load_subject(SUB, store).get_localizer_volume("oloc", "objectVsScrambled")
        found = sub.get_localizer_volume("oloc", "objectVsScrambled")
        np.testing.assert_array_equal(found.values, wanted.values)


def test_a_lost_manifest_loses_no_map(mirror, target):
    alone(mirror, target, parts=None)
    (target / SUB / "manifest.json").unlink()
    path = mirror / map_file("c", "L")
    kept = path.read_bytes()
    path.unlink()
    with pytest.raises(LaionZarrError, match=r"hemi-L.*could not be converted again"):
        alone(mirror, target, overwrite=True)
    path.write_bytes(kept)
    alone(mirror, target, overwrite=True)
    check(mirror, target)


def test_what_is_lacking_is_said(mirror, target, capsys):
    for path in mirror.glob("derivatives/localizers/*/*"):
        shutil.rmtree(path)
    command = ["convert", "--source", str(mirror), "--store", str(target), "--quiet"]
    assert main([*command, "--parts", "localizers"]) == 1
    assert f"laion-zarr download --subject {SUB} --include-localizers" in capsys.readouterr().err


def test_maps_without_a_brain_mask(mirror, target):
    for folder in ("anatomical", "glmsingle-tedana"):
        shutil.rmtree(mirror / "derivatives" / folder)
    with pytest.raises(DataNotDownloadedError, match="laion-zarr download"):
        convert(mirror, target, progress=False)
    assert not (target / SUB).exists()


def test_what_a_run_will_do(mirror, target, capsys, monkeypatch):
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", os.fspath(mirror))
    command = ["convert", "--store", str(target), "--parts", "localizers"]
    assert main([*command, "--dry-run"]) == 0
    assert f"{SUB} localizers" in capsys.readouterr().out
    assert not target.exists()
    assert main([*command, "--quiet"]) == 0
    assert main(["info", "--store", str(target)]) == 0
    said = capsys.readouterr().out
    assert "12 localizer maps" in said
    assert "localizer maps: 3 1pt5, 3 1pt8, 3 hemi-L, 3 hemi-R" in said
    report = report_of(mirror, target.with_name("other"))
    stored = sum(path.stat().st_size for path in target.rglob("maps/c/*/*"))
    assert report.disk_nbytes >= stored


# -- the checks find what a faulty converter would do


def faulty_labels(monkeypatch) -> None:
    honest = localizers._attributes

    def reversed_labels(maps):
        found = honest(maps)
        labels = {name: its[::-1] for name, its in found["labels"].items()}
        return found | {"labels": labels}

    monkeypatch.setattr(localizers, "_attributes", reversed_labels)


def faulty_voxels(monkeypatch) -> None:
    monkeypatch.setattr(localizers, "_estimated", lambda maps: np.arange(3, dtype=np.int32)[::-1])


def faulty_estimates(monkeypatch) -> None:
    honest = localizers._estimated
    monkeypatch.setattr(localizers, "_estimated", lambda maps: honest(maps)[:-1])


def faulty_values(monkeypatch) -> None:
    honest = localizers.read_surface_map
    monkeypatch.setattr(localizers, "read_surface_map", lambda *its: honest(*its)[::-1].copy())


@pytest.mark.parametrize(
    ("fault", "deep", "words"),
    [
        (faulty_labels, False, "not sorted"),
        (faulty_voxels, False, "do not ascend"),
        (faulty_estimates, True, "estimates"),
        (faulty_values, True, "values differ"),
    ],
)
def test_verify_finds(mirror, target, monkeypatch, fault, deep, words):
    fault(monkeypatch)
    alone(mirror, target, parts="localizers")
    shallow = run_verification(target, mirror, False, None, False)
    assert bool(shallow.problems) != deep
    report = run_verification(target, mirror, deep, None, False)
    assert report.problems
    assert any(words in problem for problem in report.problems)
